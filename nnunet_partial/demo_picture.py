"""The demo's picture: for some unseen images the echo, the truth, and what each model finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.demo_scores import Labels
from nnunet_partial.utils.colors import colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = 2.6


@dataclass(frozen=True)
class Row:
    """One case: the image, and labels with a caption for each further column. All of them (rows, cols)."""

    title: str
    image: NDArray[Any]
    labels: Sequence[tuple[Labels, str]]


def draw_picture(
    file: Path, columns: Sequence[str], rows: Sequence[Row], structures: Sequence[str], title: str
) -> None:
    """Writes a PNG: a line of panels per case; `columns` names the image's column and those of the labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES * len(columns), INCHES * 1.08 * len(rows) + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        _draw_row(row, axes, list(colours_of(structures).values()))
    for name, axis in zip(columns, panels[0], strict=True):
        axis.set_title(name, fontsize=11)
    _legend(figure, structures)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _draw_row(row: Row, axes: Sequence[Axes], colours: Sequence[str]) -> None:
    for axis, (labels, caption) in zip(axes, [(None, ""), *row.labels], strict=True):
        axis.imshow(row.image, cmap="gray", vmin=0, vmax=255)
        if labels is not None:
            _paint(axis, labels, colours)
        axis.set_xlabel(caption, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel(row.title, fontsize=10)


def _paint(axis: Axes, labels: Labels, colours: Sequence[str]) -> None:
    """Each structure as a tinted area within its outline."""
    for value, colour in enumerate(colours, start=1):
        here = (labels == value).astype(float)
        if here.any():
            axis.contourf(here, levels=[0.5, 1.5], colors=[colour], alpha=0.4)
            axis.contour(here, levels=[0.5], colors=[colour], linewidths=1.6)


def _legend(figure: Figure, structures: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=colour, label=name) for name, colour in colours_of(structures).items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=11, frameon=False)


def median_case(dices: Mapping[str, Sequence[float]]) -> str:
    """The case in the middle, by the mean of its numbers: neither the best nor the worst. Of two, the lower."""
    means = {case: float(np.nanmean(values)) for case, values in dices.items()}
    ordered = sorted(means, key=lambda case: (means[case], case))
    return ordered[(len(ordered) - 1) // 2]
