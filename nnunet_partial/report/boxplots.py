"""Draw box plots of a metric: a panel per structure, within it the domains, within these the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnunet_partial.evaluation.console import stars
from nnunet_partial.evaluation.metrics import OVERLAPS
from nnunet_partial.report.figure_style import (
    HATCHES,
    SavedFigure,
    add_legend,
    axes_grid,
    file_name,
    legend_patch,
    new_figure,
    shorten,
    style,
)
from nnunet_partial.report.formatting import METRIC_NAMES, metric_name, pretty_unit
from nnunet_partial.report.results import Results, number
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: With more models only the brackets to the best-ranked one are shown.
MAX_MODELS_FOR_ALL_BRACKETS = 4
#: With more values a box shows outliers only, with at most this many it shows every value.
MAX_POINTS_PER_BOX = 30
LINES = {"color": "black", "linewidth": 0.9}


def draw_boxes(results: Results, metric: str, unit: str) -> SavedFigure | None:
    """Draw box plots of a metric over the cases.

    Boxes end at the quartiles, the line is the median, whiskers reach to the last value within 1.5 box heights, circles
    lie beyond. Brackets join models that differ (comparisons.csv, p corrected by Holm's method).

    Args:
        results: the evaluation.
        metric: a metric of per_case.csv.
        unit: of a distance; only cases with this unit count. Empty for other metrics.

    Returns:
        The figure; None if no value is finite.
    """
    values = _finite_values(results, metric, unit)
    structures = [name for name in results.classes if any(key[0] == name for key in values)]
    if not structures:
        return None
    domains = [domain for domain in results.domains if any(key[1] == domain for key in values)]
    models = list(results.models)
    with style():
        columns = min(len(structures), 3 if len(domains) * len(models) <= 6 else 2)
        rows = math.ceil(len(structures) / columns)
        width = min(10.5, columns * (1.0 + 0.42 * len(domains) * len(models)) + 0.8)
        figure = new_figure(max(width, 4.2), 3.3 * rows + 0.5)
        panels = axes_grid(figure, len(structures), columns, sharey=True)
        colors = class_colors(results.classes)
        for axes, structure in zip(panels, structures, strict=True):
            of_structure = {key[1:]: value for key, value in values.items() if key[0] == structure}
            _plot_boxes(axes, of_structure, domains, models, colors[structure])
            known_domains = {row["domain"] for row in results.per_case if row["class"] == structure}
            counts = [[len(of_structure.get((domain, model), ())) for model in models] for domain in domains]
            ticks = [_tick_label(domain, n, domain in known_domains) for domain, n in zip(domains, counts, strict=True)]
            axes.set_xticks(range(len(domains)), ticks)
            axes.set_title(structure, fontweight="bold")
        low, high = _y_limits(values)
        for axes, structure in zip(panels, structures, strict=True):
            pairs = _significant_pairs(results, metric, unit, structure)
            of_structure = {key[1:]: value for key, value in values.items() if key[0] == structure}
            high = max(high, _add_brackets(axes, pairs, of_structure, domains, models, 0.06 * (high - low)))
        panels[0].set_ylim(low, high)  # shared by all
        if metric in OVERLAPS:  # brackets extend above 1, values do not
            panels[0].set_yticks([tick for tick in panels[0].get_yticks() if low <= tick <= 1])
        for axes in panels[::columns]:
            axes.set_ylabel(metric_name(metric, unit))
        if len(models) > 1:
            patches = [
                legend_patch(shorten(model, 40), facecolor="#d9d9d9", hatch=HATCHES[index % len(HATCHES)])
                for index, model in enumerate(models)
            ]
            add_legend(figure, patches, columns=min(4, len(models)))
    name = file_name("boxplot", metric, unit)
    return SavedFigure(name, figure, _boxplot_alt(values, metric), _boxplot_caption(metric, unit, len(models)))


#: By (structure, domain, model).
_Values = Mapping[tuple[str, str, str], Sequence[float]]


def _finite_values(results: Results, metric: str, unit: str) -> dict[tuple[str, str, str], list[float]]:
    """Return the finite values by (structure, domain, model)."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in results.per_case:
        value = number(row, metric)
        if math.isfinite(value) and unit in ("", row["distance_unit"]):
            values.setdefault((row["class"], row["domain"], row["model"]), []).append(value)
    return values


def _position(domain: int, model: int, models: int) -> float:
    """Return the place on the x axis: a domain is 1 wide, its models share 0.8 of it."""
    return domain + 0.8 * ((model + 0.5) / models - 0.5)


def _plot_boxes(
    axes: Axes,
    values: Mapping[tuple[str, str], Sequence[float]],
    domains: Sequence[str],
    models: Sequence[str],
    color: str,
) -> None:
    rng = np.random.default_rng(0)
    for d, domain in enumerate(domains):
        for m, model in enumerate(models):
            chosen = values.get((domain, model))
            if not chosen:
                continue
            at = _position(d, m, len(models))
            width = 0.62 / len(models)
            axes.boxplot(
                [chosen], positions=[at], widths=width, patch_artist=True, manage_ticks=False,
                boxprops={"facecolor": color, "hatch": HATCHES[m % len(HATCHES)], "linewidth": 0.9},
                medianprops={"color": "black", "linewidth": 1.8}, whiskerprops=LINES, capprops=LINES,
                flierprops={"marker": "o", "markersize": 2.6, "markeredgewidth": 0.6},
                showfliers=len(chosen) > MAX_POINTS_PER_BOX,
            )  # fmt: skip
            if len(chosen) <= MAX_POINTS_PER_BOX:
                spread = rng.uniform(-width / 4, width / 4, len(chosen))
                axes.scatter(at + spread, chosen, s=6, facecolor="white", edgecolor="black", linewidth=0.5, zorder=3)
    axes.set_xlim(-0.55, len(domains) - 0.45)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", linewidth=0.4, color="#d0d0d0")
    axes.set_axisbelow(True)


def _tick_label(domain: str, counts: Sequence[int], known: bool) -> str:
    """Return the domain and the number of values of each model; n = 0 where known but without a value."""
    if not known:
        return f"{shorten(domain, 14)}\nunknown"
    same = len(set(counts)) == 1
    return f"{shorten(domain, 14)}\nn = {counts[0] if same else ' / '.join(map(str, counts))}"


def _significant_pairs(results: Results, metric: str, unit: str, structure: str) -> list[tuple[str, str, str, float]]:
    """Return (domain, model, model, corrected p) of the pairs that differ."""
    pairs = []
    for row in results.comparisons:
        p = number(row, "p_holm")
        if (row["metric"], row["unit"], row["class"]) == (metric, unit, structure) and stars(p):
            pairs.append((row["domain"], row["model_a"], row["model_b"], p))
    if len(results.models) <= MAX_MODELS_FOR_ALL_BRACKETS:
        return pairs
    best = {
        row["domain"]: row["model"]
        for row in results.ranks
        if (row["metric"], row["unit"], row["class"], row["rank"]) == (metric, unit, structure, "1")
    }
    return [pair for pair in pairs if best.get(pair[0]) in pair[1:3]]


def _y_limits(values: _Values) -> tuple[float, float]:
    """Return the limits of the y axis, with a margin around all values."""
    all_values = np.concatenate([np.asarray(chosen) for chosen in values.values()])
    margin = 0.04 * (float(np.ptp(all_values)) or 1.0)
    return float(all_values.min()) - margin, float(all_values.max()) + margin


def _add_brackets(
    axes: Axes,
    pairs: Sequence[tuple[str, str, str, float]],
    values: Mapping[tuple[str, str], Sequence[float]],
    domains: Sequence[str],
    models: Sequence[str],
    step: float,
) -> float:
    """Draw a bracket over each pair, one `step` above the other; return the height that they reach."""
    top = -math.inf
    for d, domain in enumerate(domains):
        of_domain = sorted(
            (pair for pair in pairs if pair[0] == domain),
            key=lambda pair: abs(models.index(pair[1]) - models.index(pair[2])),
        )
        y = max((max(values[domain, m]) for m in models if values.get((domain, m))), default=0.0) + 0.4 * step
        for _, a, b, p in of_domain:
            left, right = sorted(_position(d, models.index(m), len(models)) for m in (a, b))
            ends = [y, y + 0.25 * step, y + 0.25 * step, y]
            axes.plot([left, left, right, right], ends, color="black", linewidth=0.8)
            axes.text((left + right) / 2, y + 0.15 * step, stars(p), ha="center", va="bottom", fontsize=9)
            y += 1.1 * step
            top = max(top, y + 0.4 * step)
    return top


def _boxplot_alt(values: _Values, metric: str) -> str:
    medians = [
        f"{structure}, {domain}, {model}: median {np.median(chosen):.3g} of {len(chosen)}"
        for (structure, domain, model), chosen in sorted(values.items())
    ]
    return f"Box plots of {METRIC_NAMES[metric]}. " + "; ".join(medians)


def _boxplot_caption(metric: str, unit: str, models: int) -> str:
    text = (
        f"{METRIC_NAMES[metric]}{f' in {pretty_unit(unit)}' if unit else ''}, one value per case with the "
        "structure annotated or known absent; n: values. Line: median, box: quartiles, whiskers: 1.5 box heights."
    )
    if metric not in OVERLAPS:
        text += " Infinite distances (structure missed, or predicted where there is none) cannot be shown."
    if models > 1:
        text += " Brackets: * p < 0.05, ** p < 0.01, *** p < 0.001 (Wilcoxon over patients, corrected by Holm)."
    if models > MAX_MODELS_FOR_ALL_BRACKETS:
        text += " Only those to the best-ranked model are shown; the table has all."
    return text
