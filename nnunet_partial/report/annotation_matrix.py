"""Show who annotated what: per domain and class the cases annotated, known absent, filled by a model, not annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnunet_partial.dataset.summary import AnnotationCount, AnnotationCounts
from nnunet_partial.report.figure_style import (
    SavedFigure,
    add_legend,
    file_name,
    legend_patch,
    new_figure,
    shorten,
    style,
)
from nnunet_partial.report.tables import Table
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Look of the cases that are not annotated for a class, as matplotlib's patches take it.
UNKNOWN: dict[str, Any] = {"facecolor": "#f2f2f2", "edgecolor": "#8a8a8a", "hatch": "////"}
#: Look of the cases that are known not to show a class.
ABSENT: dict[str, Any] = {"facecolor": "white", "edgecolor": "#8a8a8a", "hatch": "...."}
#: Look, beside the color of the class, of the cases in which a model filled a class.
PSEUDO: dict[str, Any] = {"edgecolor": "black", "hatch": "xxxx"}


def annotation_matrix_table(counts: AnnotationCounts, classes: Sequence[str], caption: str) -> Table:
    """Tabulate who annotated what.

    Args:
        counts: as `annotation_counts` returns them.
        classes: names of the classes, a column each.
        caption: of the table.

    Returns:
        A table with a row per domain.
    """
    rows = [
        [domain, str(_n_cases(by_class)), *(by_class[name].text for name in classes)]
        for domain, by_class in counts.items()
    ]
    return Table(["domain", "cases", *classes], rows, caption)


def draw_annotation_matrix(counts: AnnotationCounts, classes: Sequence[str], name: str, title: str) -> SavedFigure:
    """Draw a matrix of domains and classes, each field filled in proportion and labeled with its numbers of cases.

    Args:
        counts: as `annotation_counts` returns them.
        classes: names of the classes, a column each.
        name: part of the file name.
        title: what the cases are, for the caption.

    Returns:
        The figure.
    """
    with style():
        figure = new_figure(2.2 + 1.5 * len(classes), 1.15 + 0.62 * len(counts))
        axes = figure.subplots()
        colors = class_colors(classes)
        for row, by_class in enumerate(counts.values()):
            for column, class_name in enumerate(classes):
                _draw_field(axes, row, column, by_class[class_name], colors[class_name])
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(
            range(len(counts)),
            [f"{shorten(domain, 24)} (n = {_n_cases(by_class)})" for domain, by_class in counts.items()],
        )
        axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=9)
        axes.spines[:].set_visible(False)
        patches = [
            legend_patch("annotated (in its color)", facecolor="#bdbdbd"),
            legend_patch("known to be absent", **ABSENT),
            legend_patch("not annotated: in no number", **UNKNOWN),
        ]
        if any(count.pseudo for by_class in counts.values() for count in by_class.values()):
            patches.insert(2, legend_patch("filled by a model: in no number", facecolor="#bdbdbd", **PSEUDO))
        add_legend(figure, patches, columns=3)
    alt = "; ".join(
        f"{domain}: " + ", ".join(f"{class_name} {by_class[class_name].text}" for class_name in classes)
        for domain, by_class in counts.items()
    )
    return SavedFigure(file_name("annotations", name), figure, f"{title}: {alt}", f"{title}. Numbers are cases.")


def _n_cases(by_class: Mapping[str, AnnotationCount]) -> int:
    return next(iter(by_class.values())).cases if by_class else 0


def _draw_field(axes: Axes, row: int, column: int, count: AnnotationCount, color: str) -> None:
    parts = [
        (count.annotated, {"facecolor": color, "edgecolor": "black"}),
        (count.absent, ABSENT),
        (count.pseudo, {"facecolor": color, **PSEUDO}),
        (count.unknown, UNKNOWN),
    ]
    left, field_width = column - 0.45, 0.9
    for n_cases, look in parts:
        width = field_width * n_cases / max(1, count.cases)
        if n_cases:
            axes.barh(row, width, 0.8, left, linewidth=0.7, **look)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            axes.text(left + width / 2, row, str(n_cases), ha="center", va="center", fontsize=9, bbox=box)
        left += width
