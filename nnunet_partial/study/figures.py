"""The pictures of a study: Dice against the share of fully labelled patients, and how the trainings learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from nnunet_partial.report.figure_style import SavedFigure, add_legend, file_name, new_figure, style
from nnunet_partial.study.config import METHODS, Scenario, Study
from nnunet_partial.study.results import Value, described, learning_curves
from nnunet_partial.study.tables import hidden_in

#: Okabe and Ito's colours, with a stroke and a marker each, so that black and white will do.
_LINES = (
    *(("#000000", "-", "o"), ("#E69F00", "--", "s"), ("#56B4E9", "-.", "^"), ("#009E73", ":", "D")),
    *(
        ("#CC79A7", "-", "v"),
        ("#D55E00", "--", "P"),
        ("#0072B2", "-.", "X"),
        ("#999933", ":", "*"),
        ("#882255", "-", "h"),
    ),
)


def proportion_figures(study: Study, values: Sequence[Value]) -> Iterator[SavedFigure]:
    """For each group of scenarios that differ in their fraction alone: Dice of what was hidden against what was not.

    None for structures that were hidden in a domain without test cases.
    """
    for (source, domain, missing), group in groupby(sorted(study.scenarios, key=_but_fraction), key=_but_fraction):
        scenarios = sorted(group, key=lambda scenario: -scenario.fraction)
        for architecture in study.architectures:
            chosen = [v for v in values if v.model.scenario in scenarios and v.model.architecture_name == architecture]
            measured = {v.model.scenario for v in chosen}
            if len(measured) > 1 and _hidden(scenarios[0], chosen):
                title = f"{' and '.join(missing)} missing in {domain or source} ({architecture})"
                name = file_name("proportion", source, domain or "all", *missing, architecture)
                yield _proportions(study, [s for s in scenarios if s in measured], chosen, title, name)


def learning_figure(study: Study) -> SavedFigure | None:
    """Validation loss per epoch, a panel for each scenario and network; None where nothing was trained."""
    curves = list(learning_curves(study))
    panels = sorted({(model.scenario.name, model.architecture_name) for model, _ in curves})
    if not panels:
        return None
    with style():
        drawing = new_figure(6.6, 2.6 * ((len(panels) + 1) // 2))
        axes = drawing.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
        for panel, axis in zip(panels, axes, strict=False):
            for model, losses in curves:
                if (model.scenario.name, model.architecture_name) == panel:
                    colour, stroke, _ = _line(study, model.method_name)
                    axis.plot(range(1, len(losses) + 1), losses, color=colour, linestyle=stroke, linewidth=0.9)
            axis.set_title(" - ".join(panel) if len(study.architectures) > 1 else panel[0])
            axis.set_xlabel("epoch")
            axis.set_ylabel("validation loss")
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        _legend(drawing, study, {model.method_name for model, _ in curves})
    return SavedFigure(
        "learning",
        drawing,
        "Line plots of validation loss against epoch",
        "Validation loss while training, each seed a line. Losses of different kinds are not to be compared with each "
        "other; each should have levelled off.",
    )


def _but_fraction(scenario: Scenario) -> tuple[str, str, tuple[str, ...]]:
    return scenario.source, scenario.domain or "", scenario.missing


def _hidden(scenario: Scenario, values: Sequence[Value]) -> list[tuple[str, str]]:
    """Of what was measured the (domain, structure) that training cases lacked."""
    return sorted({(v.domain, v.structure) for v in values if hidden_in(scenario, v.domain, v.structure)})


def _proportions(
    study: Study, scenarios: Sequence[Scenario], values: Sequence[Value], title: str, name: str
) -> SavedFigure:
    hidden = _hidden(scenarios[0], values)
    with style():
        drawing = new_figure(max(3.4, 2.6 * len(hidden)), 2.9)
        axes = drawing.subplots(1, len(hidden), squeeze=False, sharey=True)[0]
        for axis, (domain, structure) in zip(axes, hidden, strict=True):
            for method in study.losses:
                points = [
                    (100 * (1 - scenario.fraction), described(found).mean)
                    for scenario in scenarios
                    if (
                        found := [
                            v
                            for v in values
                            if v.model.scenario == scenario
                            and v.model.method_name == method
                            and (v.domain, v.structure) == (domain, structure)
                        ]
                    )
                ]
                if points:
                    colour, stroke, marker = _line(study, method)
                    axis.plot(*zip(*points, strict=True), color=colour, linestyle=stroke, marker=marker, markersize=4)
            axis.set_title(f"{domain}: {structure}")
            axis.set_xlabel("fully labelled patients (%)")
        axes[0].set_ylabel("Dice")
        _legend(drawing, study, {value.model.method_name for value in values})
    return SavedFigure(name, drawing, f"Line plots: {title}", f"{title}: mean Dice over test cases and seeds.")


def _line(study: Study, method: str) -> tuple[str, Any, str]:
    """The same for a method in every picture of the study."""
    return _LINES[list(METHODS).index(method) % len(_LINES)]


def _legend(drawing: Any, study: Study, shown: set[str]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for method in (name for name in study.losses if name in shown):
        colour, stroke, marker = _line(study, method)
        handles.append(
            Line2D([], [], color=colour, linestyle=stroke, marker=marker, markersize=4, label=METHODS[method].title)
        )
    add_legend(drawing, handles, columns=3, font_size=8)
