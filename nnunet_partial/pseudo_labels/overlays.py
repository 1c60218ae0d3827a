"""Draw pseudo-labels on the image, hatched, beside the contours that a human annotated, dashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_partial.dataset.images import read_array
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset_conversion.derived.fill import Outcome
from nnunet_partial.report.figure_style import SavedFigure, add_legend, legend_patch, new_figure, shorten, style
from nnunet_partial.report.overlays import (
    FOCUS_POINTS,
    OTHER_POINTS,
    PANEL_INCHES,
    ContourStyle,
    draw_contour,
    draw_hatching,
    rescale,
)
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Number of cases that are drawn.
N_CASES = 10
_COLUMNS = 5
_NAME = "overlays"


def select_by_confidence(accepted: Sequence[Outcome], number: int = N_CASES) -> list[str]:
    """Select cases from the least to the most confident.

    Args:
        accepted: The outcomes that were accepted.
        number: How many cases to select.

    Returns:
        Case identifiers, the least confident first; evenly spread over the order, its ends included.
    """
    lowest: dict[str, float] = {}
    for one in accepted:
        lowest[one.case] = min(one.confidence, lowest.get(one.case, 1.0))
    ordered = sorted(lowest, key=lambda case: (lowest[case], case))
    if len(ordered) <= number:
        return ordered
    return [ordered[round(place * (len(ordered) - 1) / (number - 1))] for place in range(number)]


def draw_overlays(dataset: RawDataset, accepted: Sequence[Outcome], folder: Path) -> list[str]:
    """Draw ten cases of a filled dataset as PNG and PDF.

    Args:
        dataset: The filled dataset.
        accepted: The outcomes that were accepted.
        folder: Receives the files; those of an earlier fill are replaced.

    Returns:
        The cases; without an accepted outcome none, and no file.
    """
    for ending in ("png", "pdf"):
        (folder / f"{_NAME}.{ending}").unlink(missing_ok=True)
    cases = select_by_confidence(accepted)
    if not cases:
        return []
    confidence = {(one.case, one.structure): one.confidence for one in accepted}
    with style():
        rows = -(-len(cases) // _COLUMNS)
        columns = min(len(cases), _COLUMNS)
        figure = new_figure(PANEL_INCHES * columns + 0.3, (PANEL_INCHES + 0.5) * rows + 0.7)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, case in zip(panels, cases, strict=False):
            _draw_case(axes, dataset, case, confidence)
        colors = class_colors(dataset.classes)
        pseudo = {one.structure for one in accepted}
        patches = [
            legend_patch(f"{name}, hatched where filled by a model" if name in pseudo else name, facecolor=colors[name])
            for name in dataset.classes
        ]
        add_legend(figure, patches, columns=4, font_size=8.5)
    SavedFigure(_NAME, figure, f"Pseudo-labels of {', '.join(cases)}", "").save(folder)
    return cases


def _draw_case(axes: Axes, dataset: RawDataset, case: str, confidence: Mapping[tuple[str, str], float]) -> None:
    labels = dataset.manifest.labels_of(case)
    geometry, values = read_array(dataset.label_files()[case])
    _, image = read_array(dataset.image_files()[case][0])
    spacing = geometry.spacing_mm[::-1]
    pseudo = [dataset.classes.index(name) + 1 for name in labels.pseudo]
    image = image.mean(axis=-1) if image.ndim > values.ndim else image
    position = ""
    if values.ndim > 2:
        index = int(np.argmax(np.isin(values, pseudo).reshape(len(values), -1).sum(axis=1)))
        position = f"slice {index + 1} of {len(values)}" if len(values) > 1 else ""
        values, image = values[index], image[index]
    aspect = spacing[-2] / spacing[-1]
    axes.imshow(rescale(image), cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="bilinear")
    point, colors = values.shape[0] / (72 * PANEL_INCHES), class_colors(dataset.classes)
    for value, name in enumerate(dataset.classes, start=1):
        is_filled = value in pseudo
        look = ContourStyle(colors[name], FOCUS_POINTS if is_filled else OTHER_POINTS, point, aspect)
        draw_contour(axes, values == value, look, "solid" if is_filled else "dashed")
        if is_filled:
            draw_hatching(axes, values == value, colors[name])
    sure = ", ".join(f"{name} {confidence[case, name]:.2f}" for name in labels.pseudo if (case, name) in confidence)
    axes.set_title("\n".join(filter(None, [shorten(case, 34), sure, position])), fontsize=8)
