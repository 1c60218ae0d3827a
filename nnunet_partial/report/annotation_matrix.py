"""Who knows what: of each domain's cases, how many are annotated for a structure, known not to show it, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.labels import Manifest
from nnunet_partial.report.figure_style import SavedFigure, file_name, new_figure, shortened, style
from nnunet_partial.report.tables import Table
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


UNKNOWN_HATCH, ABSENT_HATCH = "////", "...."
UNKNOWN_FACE, UNKNOWN_EDGE = "#f2f2f2", "#8a8a8a"


@dataclass(frozen=True)
class AnnotationCount:
    """How many cases of a domain are annotated for a structure, known not to show it (absent), or do not know it."""

    annotated: int = 0
    absent: int = 0
    unknown: int = 0

    @property
    def cases(self) -> int:
        return self.annotated + self.absent + self.unknown

    @property
    def words(self) -> str:
        """'40 annotated, 2 absent'; what is 0 is left out."""
        counts = {"annotated": self.annotated, "absent": self.absent, "unknown": self.unknown}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no case"


#: By domain, then by structure.
AnnotationMatrix = Mapping[str, Mapping[str, AnnotationCount]]


def annotation_matrix(manifest: Manifest, cases: Iterable[str], classes: Sequence[str]) -> AnnotationMatrix:
    """Counts the cases that the manifest names, by domain (alphabetically); others are left out. No case: empty."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for case in cases:
        labels = manifest.find(case)
        if labels is None:
            continue
        of_domain = counts.setdefault(labels.domain or NO_DOMAIN, {name: {} for name in classes})
        for name in classes:
            state = "annotated" if name in labels.annotated else "absent" if name in labels.absent else "unknown"
            of_domain[name][state] = of_domain[name].get(state, 0) + 1
    return {d: {name: AnnotationCount(**counts[d][name]) for name in classes} for d in sorted(counts)}


def annotation_table(knowledge: AnnotationMatrix, classes: Sequence[str], caption: str) -> Table:
    """A row per domain: its cases, and for each structure how many of them know it."""
    rows = [[d, str(_cases(shares)), *(shares[name].words for name in classes)] for d, shares in knowledge.items()]
    return Table(["domain", "cases", *classes], rows, caption)


def draw_annotation_matrix(knowledge: AnnotationMatrix, classes: Sequence[str], name: str, title: str) -> SavedFigure:
    """A matrix of domains and structures; each field is filled in proportion, and says how many cases that is."""
    with style():
        drawing = new_figure(2.2 + 1.5 * len(classes), 1.15 + 0.62 * len(knowledge))
        axes = drawing.subplots()
        colours = class_colors(classes)
        for row, shares in enumerate(knowledge.values()):
            for column, structure in enumerate(classes):
                _field(axes, row, column, shares[structure], colours[structure])
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(knowledge) - 0.5, -0.5)
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(
            range(len(knowledge)), [f"{shortened(d, 24)} (n = {_cases(shares)})" for d, shares in knowledge.items()]
        )
        axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=9)
        axes.spines[:].set_visible(False)
        drawing.legend(handles=_legend(), loc="outside lower center", ncols=3)
    alt = "; ".join(
        f"{domain}: " + ", ".join(f"{structure} {shares[structure].words}" for structure in classes)
        for domain, shares in knowledge.items()
    )
    return SavedFigure(file_name("knows", name), drawing, f"{title}: {alt}", f"{title}. Numbers are cases.")


def _cases(shares: Mapping[str, AnnotationCount]) -> int:
    return next(iter(shares.values())).cases if shares else 0


def _field(axes: Axes, row: int, column: int, share: AnnotationCount, colour: str) -> None:
    looks: list[tuple[int, dict[str, Any]]] = [
        (share.annotated, {"facecolor": colour, "edgecolor": "black"}),
        (share.absent, {"facecolor": "white", "edgecolor": UNKNOWN_EDGE, "hatch": ABSENT_HATCH}),
        (share.unknown, {"facecolor": UNKNOWN_FACE, "edgecolor": UNKNOWN_EDGE, "hatch": UNKNOWN_HATCH}),
    ]
    left, width = column - 0.45, 0.9
    for count, look in looks:
        part = width * count / max(1, share.cases)
        if count:
            axes.barh(row, part, 0.8, left, linewidth=0.7, **look)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            axes.text(left + part / 2, row, str(count), ha="center", va="center", fontsize=9, bbox=box)
        left += part


def _legend() -> list[object]:
    from matplotlib.patches import Patch

    return [
        Patch(facecolor="#bdbdbd", edgecolor="black", label="annotated (in its colour)"),
        Patch(facecolor="white", edgecolor=UNKNOWN_EDGE, hatch=ABSENT_HATCH, label="known not to be there"),
        Patch(facecolor=UNKNOWN_FACE, edgecolor=UNKNOWN_EDGE, hatch=UNKNOWN_HATCH, label="unknown: never counted"),
    ]
