"""Plot the agreement of predicted biomarkers with the reference: difference over mean (Bland and Altman)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nnunet_partial.evaluation.statistics import MIN_PATIENTS
from nnunet_partial.report.figure_style import (
    SavedFigure,
    add_legend,
    axes_grid,
    file_name,
    new_figure,
    shorten,
    style,
)
from nnunet_partial.report.formatting import Biomarker, biomarker_name, decimal, pretty_unit
from nnunet_partial.report.results import number
from nnunet_partial.utils.tables import TextRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Color and marker of each domain, which also differ in black and white; after the last the colors begin again, with
#: the marker of the next.
_MARKERS = (("#0072B2", "o"), ("#D55E00", "^"), ("#009E73", "s"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P"))


def agreement_figures(
    models: Sequence[str], biomarkers: Sequence[TextRow], agreement: Sequence[TextRow]
) -> Iterator[tuple[Biomarker, SavedFigure]]:
    """Draw the Bland-Altman plots of all biomarkers.

    Args:
        models: names, in the order of the panels.
        biomarkers: rows of biomarkers.csv.
        agreement: rows of biomarker_agreement.csv.

    Yields:
        Biomarker, unit and method, and the figure, where a patient has both numbers.
    """
    for key in dict.fromkeys((row["biomarker"], row["unit"], row["method"]) for row in biomarkers):
        figure = draw_agreement(models, biomarkers, agreement, key)
        if figure is not None:
            yield key, figure


def draw_agreement(
    models: Sequence[str], biomarkers: Sequence[TextRow], agreement: Sequence[TextRow], key: Biomarker
) -> SavedFigure | None:
    """Draw the Bland-Altman plot of a biomarker, a panel per model.

    Lines show the mean difference and the limits of agreement as biomarker_agreement.csv has them: over all domains
    where it has a row "(all)", or of the only domain.

    Args:
        models: names, in the order of the panels.
        biomarkers: rows of biomarkers.csv.
        agreement: rows of biomarker_agreement.csv.
        key: biomarker, unit and method.

    Returns:
        The figure; None if no patient has both numbers.

    References:
        Bland and Altman 1986, https://doi.org/10.1016/S0140-6736(86)90837-8
    """
    rows = [row for row in biomarkers if (row["biomarker"], row["unit"], row["method"]) == key]
    pairs = [row for row in rows if math.isfinite(_difference(row))]
    models = [model for model in models if any(row["model"] == model for row in pairs)]
    if not models:
        return None
    domains = sorted({row["domain"] for row in pairs})
    with style():
        columns = min(3, len(models))
        figure = new_figure(3.3 * columns + 0.4, 2.9 * math.ceil(len(models) / columns) + 0.6)
        panels = axes_grid(figure, len(models), columns, sharex=True, sharey=True)
        for axes, model in zip(panels, models, strict=True):
            of_model = [row for row in pairs if row["model"] == model]
            _plot_patients(axes, of_model, domains)
            _plot_limits(axes, _agreement(agreement, model, key, domains))
            axes.set_title(f"{shorten(model, 30)} (n = {len({row['patient'] for row in of_model})})")
            axes.set_xlabel(f"mean of prediction and reference ({pretty_unit(key[1])})")
            axes.tick_params(labelbottom=True)
        for axes in panels[::columns]:
            axes.set_ylabel(f"prediction \N{MINUS SIGN} reference ({pretty_unit(key[1])})")
        if len(domains) > 1:
            add_legend(figure, panels[0].get_legend_handles_labels()[0], columns=len(domains))
    of_domain = len({(row["model"], row["patient"], row["domain"]) for row in pairs})
    repeated = len({(row["model"], row["patient"]) for row in pairs}) < len(pairs)
    point = "clip" if of_domain < len(pairs) else "patient and domain" if repeated else "patient"
    return SavedFigure(
        file_name("bland_altman", *key),
        figure,
        f"Bland-Altman plot of {biomarker_name(key)}: "
        + "; ".join(_agreement_text(agreement, model, key, domains) for model in models),
        f"{biomarker_name(key)}: one point per {point}. Solid line: mean difference"
        f"{' over patients' if repeated else ''}; dashed: limits of agreement (\N{PLUS-MINUS SIGN} 1.96 SD), from "
        f"{MIN_PATIENTS} patients.",
    )


def _difference(row: TextRow) -> float:
    return number(row, "prediction") - number(row, "reference")


def _plot_patients(axes: Axes, rows: Sequence[TextRow], domains: Sequence[str]) -> None:
    for index, domain in enumerate(domains):
        again, at = divmod(index, len(_MARKERS))
        color, marker = _MARKERS[at][0], _MARKERS[(at + again) % len(_MARKERS)][1]
        of_domain = [row for row in rows if row["domain"] == domain]
        means = [(number(row, "prediction") + number(row, "reference")) / 2 for row in of_domain]
        axes.scatter(
            means,
            [_difference(row) for row in of_domain],
            s=16,
            marker=marker,
            facecolor=color,
            edgecolor="black",
            linewidth=0.4,
            alpha=0.8,
            label=shorten(domain, 24),
            zorder=3,
        )
    axes.axhline(0, color="#b0b0b0", linewidth=0.8)


def _agreement(agreement: Sequence[TextRow], model: str, key: Biomarker, domains: Sequence[str]) -> TextRow | None:
    rows = [row for row in agreement if row["model"] == model and (row["biomarker"], row["unit"], row["method"]) == key]
    by_domain = {row["domain"]: row for row in rows}
    return by_domain.get("(all)") or (by_domain.get(domains[0]) if len(domains) == 1 else None)


def _plot_limits(axes: Axes, row: TextRow | None) -> None:
    if row is None:
        return
    for name, line_style, position in (
        ("bias", "solid", "center"),
        ("loa_low", "dashed", "top"),
        ("loa_high", "dashed", "bottom"),
    ):
        value = number(row, name)
        if math.isfinite(value):
            axes.axhline(value, color="black", linewidth=1.0, linestyle=line_style)
            axes.annotate(
                decimal(value, 1).replace("-", "\N{MINUS SIGN}"),
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va=position,
                fontsize=8,
            )


def _agreement_text(agreement: Sequence[TextRow], model: str, key: Biomarker, domains: Sequence[str]) -> str:
    row = _agreement(agreement, model, key, domains)
    if row is None:
        return model
    bias, low, high = (decimal(number(row, name), 2) for name in ("bias", "loa_low", "loa_high"))
    limits = f", limits {low} to {high}" if row["loa_low"] else ""
    return f"{model} bias {bias} {pretty_unit(key[1])}{limits}, n {row['n']}"
