"""Make the figures of a study: Dice against the share of fully labeled patients, and the validation losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from nnunet_partial.report.figure_style import SavedFigure, add_legend, file_name, new_figure, style
from nnunet_partial.study.config import METHODS, Scenario, Study
from nnunet_partial.study.results import Value, describe_dice, learning_curves
from nnunet_partial.study.tables import is_hidden

#: Color (after Okabe and Ito), line style and marker of each method: distinct in black and white too.
_LINE_STYLES = (
    *(("#000000", "-", "o"), ("#E69F00", "--", "s"), ("#56B4E9", "-.", "^"), ("#009E73", ":", "D")),
    *(
        ("#CC79A7", "-", "v"),
        ("#D55E00", "--", "P"),
        ("#0072B2", "-.", "X"),
        ("#999933", ":", "*"),
        ("#882255", "-", "h"),
        ("#332288", "--", "p"),
        ("#661100", "-.", "<"),
    ),
)
#: Markers of methods that are mirrored along all axes, none, and axes 0 and 1, in the order of METHODS.
_FILL_STYLES = ("full", "none", "left")


def proportion_figures(study: Study, values: Sequence[Value]) -> Iterator[SavedFigure]:
    """Plot Dice of the hidden structures against the share of patients who keep all labels.

    Structures that were hidden in a domain without test cases are left out.

    Args:
        study: The study.
        values: The values of its finished models.

    Yields:
        A figure for each network and each group of scenarios that differ only in their fraction.
    """
    for (source, domain, missing), group in groupby(
        sorted(study.scenarios, key=_without_fraction), key=_without_fraction
    ):
        scenarios = sorted(group, key=lambda scenario: -scenario.fraction)
        for architecture in study.architectures:
            selected = [
                v for v in values if v.model.scenario in scenarios and v.model.architecture_name == architecture
            ]
            measured = {v.model.scenario for v in selected}
            if len(measured) > 1 and _hidden_structures(study, scenarios[0], selected):
                title = f"{' and '.join(missing)} missing in {domain or source} ({architecture})"
                name = file_name("proportion", source, domain or "all", *missing, architecture)
                yield _proportions(study, [s for s in scenarios if s in measured], selected, title, name)


def learning_figure(study: Study) -> SavedFigure | None:
    """Plot validation loss against epoch, with a panel for each scenario and network.

    Args:
        study: The study.

    Returns:
        The figure; None if nothing was trained.
    """
    curves = list(learning_curves(study))
    panels = sorted({(model.scenario.name, model.architecture_name) for model, _ in curves})
    if not panels:
        return None
    with style():
        figure = new_figure(6.6, 2.6 * ((len(panels) + 1) // 2))
        axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
        for panel, axis in zip(panels, axes, strict=False):
            for model, losses in curves:
                if (model.scenario.name, model.architecture_name) == panel:
                    line = {**_line_style(model.method_name), "markevery": max(1, len(losses) // 5)}
                    axis.plot(range(1, len(losses) + 1), losses, **line, markersize=3, linewidth=0.9)
            axis.set_title(" - ".join(panel) if len(study.architectures) > 1 else panel[0])
            axis.set_xlabel("epoch")
            axis.set_ylabel("validation loss")
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        _legend(figure, study, {model.method_name for model, _ in curves})
    return SavedFigure(
        "learning",
        figure,
        "Line plots of validation loss against epoch",
        "Validation loss while training, each fold and seed a line. Values of different losses cannot be "
        "compared; each curve should have leveled off.",
    )


def _without_fraction(scenario: Scenario) -> tuple[str, str, tuple[str, ...]]:
    return scenario.source, scenario.domain or "", scenario.missing


def _hidden_structures(study: Study, scenario: Scenario, values: Sequence[Value]) -> list[tuple[str, str]]:
    """List the measured (domain, structure) that training cases lacked."""
    pairs = {(value.domain, value.structure) for value in values}
    return sorted(pair for pair in pairs if is_hidden(scenario, *pair, study.by_domain))


def _proportions(
    study: Study, scenarios: Sequence[Scenario], values: Sequence[Value], title: str, name: str
) -> SavedFigure:
    hidden = _hidden_structures(study, scenarios[0], values)
    seeds = {
        (scenario, method): {
            v.model.seed for v in values if (v.model.scenario, v.model.method_name) == (scenario, method)
        }
        for scenario in scenarios
        for method in study.losses
    }
    most = max(map(len, seeds.values()))
    with style():
        figure = new_figure(max(3.4, 2.6 * len(hidden)), 2.9)
        axes = figure.subplots(1, len(hidden), squeeze=False, sharey=True)[0]
        for axis, (domain, structure) in zip(axes, hidden, strict=True):
            for method in study.losses:
                values_of = {
                    scenario: [
                        v
                        for v in values
                        if (v.model.scenario, v.model.method_name) == (scenario, method)
                        and (v.domain, v.structure) == (domain, structure)
                    ]
                    for scenario in scenarios
                }
                points = {s: (_kept(s), describe_dice(group).mean) for s, group in values_of.items() if group}
                if points:
                    axis.plot(*zip(*points.values(), strict=True), **_line_style(method), markersize=4)
                for scenario, point in points.items():
                    if len(seeds[scenario, method]) < most:
                        text = f"{len(seeds[scenario, method])}/{most}"
                        axis.annotate(text, point, (3, 3), textcoords="offset points", fontsize=6)
            axis.set_title(f"{domain}: {structure}")
            axis.set_xlabel("fully labeled patients (%)")
        axes[0].set_ylabel("Dice")
        _legend(figure, study, {value.model.method_name for value in values})
    fewer = [
        f"{METHODS[method].title} at {_kept(scenario):g} % ({len(finished)} of {most})"
        for (scenario, method), finished in seeds.items()
        if 0 < len(finished) < most
    ]
    note = f" Fewer seeds have finished of {'; '.join(fewer)}." if fewer else ""
    return SavedFigure(name, figure, f"Line plots: {title}", f"{title}: mean Dice over test cases and seeds.{note}")


def _kept(scenario: Scenario) -> float:
    """Return the share of patients who keep all labels, in percent."""
    return 100 * (1 - scenario.fraction)


def _line_style(method: str) -> dict[str, Any]:
    """Return color, line style and marker of a method: the same in every figure of the study.

    A loss keeps its color and line; the marker is filled where nnU-Net mirrors, and hollow or half filled where not.
    """
    mirroring, loss = divmod(list(METHODS).index(method), len(_LINE_STYLES))
    color, line, marker = _LINE_STYLES[loss]
    return {"color": color, "linestyle": line, "marker": marker, "fillstyle": _FILL_STYLES[mirroring]}


def _legend(figure: Any, study: Study, shown: set[str]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for method in (name for name in study.losses if name in shown):
        handles.append(Line2D([], [], **_line_style(method), markersize=4, label=METHODS[method].title))
    add_legend(figure, handles, columns=3, font_size=8)
