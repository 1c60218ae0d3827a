"""Draw contours on the gray image, dashed for the reference, solid for the prediction.

A figure has a row per model and a column per case. The cases are the worst, the median and the best of a structure in a
domain, the same for all models. Contours run along the inner side of a structure's border, so that both are visible
where two structures touch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import Geometry, read_array
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.evaluation.metrics import FOUND, MISSED, without_thin_axes
from nnunet_partial.labels import Manifest
from nnunet_partial.report.figure_style import (
    SavedFigure,
    add_legend,
    file_name,
    legend_patch,
    new_figure,
    shorten,
    style,
)
from nnunet_partial.report.results import Results, number
from nnunet_partial.report.training_info import source_folder
from nnunet_partial.utils.colors import class_colors
from nnunet_partial.utils.tables import TextRow

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Hatching of predictions where a structure is not annotated.
HATCH = "/////"
#: Width of the black rim of a line, half of it on either side, so that the line shows on white and on black.
RIM_POINTS = 0.7
#: Gray values beyond these percentiles are shown as black and white.
WINDOW_PERCENTILES = (0.5, 99.5)
PANEL_INCHES = 2.5
#: Widths of the contours of the structure in focus, and of the others.
FOCUS_POINTS, OTHER_POINTS = 2.0, 1.1
#: Margin around all labels, as a fraction of their size.
CROP_MARGIN = 0.15
GrayImage = NDArray[np.float64]
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class SelectedCase:
    """Hold the cases shown for a structure in a domain.

    Attributes:
        domain: name of the domain.
        structure: name of the class.
        cases: case identifiers by "worst", "median" and "best".
        dice: by (model, case).
        n: number of cases to choose from.
    """

    domain: str
    structure: str
    cases: Mapping[str, str]
    dice: Mapping[tuple[str, str], float]
    n: int


def select_cases(results: Results) -> list[SelectedCase]:
    """Select for each domain and structure the cases with the worst, median and best mean Dice over all models.

    Only cases that show the structure and that every model predicted are candidates. With fewer than three, each
    appears once. Ties go to the first name.

    Args:
        results: the evaluation.

    Returns:
        One entry per domain and structure; none where no case shows the structure.
    """
    cases = []
    for domain in results.domains:
        for structure in results.classes:
            rows = [row for row in results.per_case if (row["domain"], row["class"]) == (domain, structure)]
            dice = _dice_of_common_cases(
                [row for row in rows if row["outcome"] in (FOUND, MISSED)], list(results.models)
            )
            if dice:
                cases.append(_select(domain, structure, dice, list(results.models)))
    return cases


def draw_overlay(
    results: Results, manifest: Manifest, selected: SelectedCase, problems: list[str]
) -> SavedFigure | None:
    """Draw the overlays of a structure in a domain.

    Args:
        results: the evaluation.
        manifest: what each case was annotated for.
        selected: the cases to show.
        problems: receives what cannot be read, a sentence each; the panel says so as well.

    Returns:
        The figure; None if no reference can be read.
    """
    styles = _ClassStyles(results.values, class_colors(results.classes), selected.structure)
    slices = {}
    for name, case in selected.cases.items():
        shown = read_slice(results, case, styles.values[selected.structure])
        if isinstance(shown, str):
            problems.append(shown)
        else:
            problems += shown.problems
            slices[name] = shown
    if not slices:
        return None
    with style():
        figure = _draw_panels(results, manifest, selected, slices, styles)
    return SavedFigure(
        file_name("overlay", selected.domain, selected.structure),
        figure,
        _overlay_alt(selected, results),
        _overlay_caption(selected, slices),
    )


@dataclass(frozen=True)
class Slice:
    """Hold what is shown of a case, arrays of (rows, cols).

    Attributes:
        image: gray values from 0 to 1; None if it cannot be read.
        reference: label map.
        predictions: label maps by model; None if they cannot be read.
        aspect: height of a pixel / its width.
        position: "slice 12 of 40"; empty in 2-D.
        problems: what could not be read, a sentence each.
    """

    image: GrayImage | None
    reference: Labels
    predictions: Mapping[str, Labels | None]
    aspect: float
    position: str
    problems: Sequence[str]


def read_slice(results: Results, case: str, values: Sequence[int]) -> Slice | str:
    """Read image, reference and predictions of a case; of a volume, one slice along the first axis.

    Args:
        results: the evaluation.
        case: case identifier.
        values: labels of a structure; the slice with most of it in the reference is read.

    Returns:
        The slice; if the reference cannot be read, a sentence that says why.
    """
    try:
        geometry, reference = read_array(_reference_file(results, case))
    except OSError as problem:
        return f"{case}: the reference cannot be read: {problem}"
    reference, spacing = without_thin_axes(reference, geometry.spacing_mm[::-1])
    problems: list[str] = []
    files = {f"{case}: the image": _image_file(results, case)}
    for model, folder in results.models.items():
        files[f"{case}: the prediction of {model}"] = folder / f"{case}{results.file_ending}"
    arrays = [_read_if_fitting(path, what, geometry, problems) for what, path in files.items()]
    arrays = [None if array is None else array.reshape(reference.shape) for array in arrays]
    position = ""
    if reference.ndim > 2:
        index = int(np.argmax(np.isin(reference, values).reshape(len(reference), -1).sum(axis=1)))
        position = f"slice {index + 1} of {len(reference)}"
        reference, *arrays = (None if array is None else array[index] for array in (reference, *arrays))
    return Slice(
        None if arrays[0] is None else rescale(arrays[0]),
        reference,
        dict(zip(results.models, arrays[1:], strict=True)),
        spacing[-2] / spacing[-1],
        position,
        problems,
    )


def image_folders(results: Results) -> list[Path]:
    """List the folders that may hold the images.

    Args:
        results: the evaluation.

    Returns:
        The folders in the order in which they are searched: beside the labels, in the dataset of the manifest, where
        the predictions were made from.
    """
    part = results.reference.name.removeprefix("labels").removesuffix("_full")
    folders = [
        results.reference.parent / f"images{part}",
        *(results.manifest.parent / f"images{p}" for p in ("Ts", "Tr")),
    ]
    folders += [source for folder in results.models.values() if (source := source_folder(folder)) is not None]
    return folders


@dataclass(frozen=True)
class ContourStyle:
    """Describe how a contour is drawn.

    Attributes:
        color: of the structure.
        width: in points.
        point: height of a point in rows of the image.
        aspect: height of a pixel / its width.
    """

    color: str
    width: float
    point: float
    aspect: float


def draw_contour(axes: Axes, mask: NDArray[np.bool_], look: ContourStyle, line_style: str) -> None:
    """Draw the contour of a mask wholly inside it, its edge on the border of the mask.

    Args:
        axes: of the image.
        mask: bool (rows, cols); an empty one has no contour.
        look: color and width.
        line_style: "solid" or "dashed".
    """
    from matplotlib.patheffects import Normal, Stroke

    if mask.any():
        cols, rows, cut = _crop(mask)
        inner = inset_depth(cut, (look.width + RIM_POINTS) / 2 * look.point, look.aspect)
        options: dict[str, Any] = {"colors": [look.color], "linewidths": look.width, "linestyles": line_style}
        lines = axes.contour(cols, rows, inner, levels=[0], **options)
        lines.set_path_effects([Stroke(linewidth=look.width + RIM_POINTS, foreground="black"), Normal()])


def draw_hatching(axes: Axes, mask: NDArray[np.bool_], color: str) -> None:
    """Hatch the area of a mask.

    Args:
        axes: of the image.
        mask: bool (rows, cols); may be empty.
        color: of the hatching.
    """
    if mask.any():
        cols, rows, cut = _crop(mask)
        area = axes.contourf(cols, rows, cut.astype(np.float64), levels=[0.5, 1.5], colors="none", hatches=[HATCH])
        area.set_edgecolor(color)
        area.set_linewidth(0)


def inset_depth(mask: NDArray[np.bool_], inset: float, aspect: float = 1.0) -> NDArray[np.float64]:
    """Compute how much deeper than an inset the center of each pixel lies inside a mask.

    In a part that is too thin for the inset, the line of 0 lies half way to its middle, so that no part is lost.

    Args:
        mask: bool (rows, cols) with a rim that is False.
        inset: distance from the border, in rows.
        aspect: height of a pixel / its width.

    Returns:
        Depths (rows, cols) in rows; below 0 where nearer to the border than the inset, or outside.
    """
    from scipy import ndimage

    pixel = (1.0, 1.0 / aspect)  # in rows
    half = min(pixel) / 2  # from the border to the first centers
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(mask, pixel) - half
    outside = ndimage.distance_transform_edt(~mask, pixel) - half
    parts, count = ndimage.label(mask)
    deepest = ndimage.maximum(depth, parts, np.arange(count + 1))
    return np.where(mask, depth - np.minimum(inset, deepest / 2)[parts], -outside - inset)


def _select(domain: str, structure: str, dice: Mapping[tuple[str, str], float], models: Sequence[str]) -> SelectedCase:
    cases = sorted({case for _, case in dice})
    ordered = sorted(cases, key=lambda case: math.fsum(dice[model, case] for model in models))
    ranks = {"worst": 0, "best": len(ordered) - 1, "median": (len(ordered) - 1) // 2}
    shown: dict[str, str] = {}
    for name, rank in ranks.items():
        if ordered[rank] not in shown.values():
            shown[name] = ordered[rank]
    return SelectedCase(
        domain,
        structure,
        {name: shown[name] for name in ("worst", "median", "best") if name in shown},
        dice,
        len(cases),
    )


def _dice_of_common_cases(rows: Sequence[TextRow], models: Sequence[str]) -> dict[tuple[str, str], float]:
    """Return Dice by (model, case), for cases that all models have."""
    dice = {(row["model"], row["case"]): number(row, "dice") for row in rows}
    return {key: value for key, value in dice.items() if all((model, key[1]) in dice for model in models)}


@dataclass(frozen=True)
class _ClassStyles:
    """Hold what a panel needs besides its case: label values and colors by structure, and the structure in focus."""

    values: Mapping[str, Sequence[int]]
    colors: Mapping[str, str]
    structure: str


def _draw_panels(
    results: Results, manifest: Manifest, selected: SelectedCase, slices: Mapping[str, Slice], styles: _ClassStyles
) -> Figure:
    models = list(results.models)
    figure = new_figure(PANEL_INCHES * len(slices) + 0.3, (PANEL_INCHES + 0.27) * len(models) + 0.85)
    panels = figure.subplots(len(models), len(slices), squeeze=False)
    unknown: set[str] = set()
    for row, model in zip(panels, models, strict=True):
        row[0].set_ylabel(shorten(model, 30))
        for axes, (name, shown) in zip(row, slices.items(), strict=True):
            case = selected.cases[name]
            labels = manifest.find(case)
            not_annotated = [s for s in results.classes if labels is not None and s not in labels.known]
            unknown.update(not_annotated)
            _draw_panel(axes, shown, model, not_annotated, styles)
            title = "\n".join(filter(None, [name, shorten(case, 34), shown.position]))
            axes.set_title(title if model == models[0] else "", fontsize=9)
            axes.set_xlabel(f"Dice {selected.dice[model, case]:.2f}", fontsize=9)
    add_legend(figure, _legend_handles(results.classes, unknown, styles), columns=5, font_size=8.5)
    return figure


def _draw_panel(axes: Axes, shown: Slice, model: str, unknown: Sequence[str], styles: _ClassStyles) -> None:
    background = np.full(shown.reference.shape, 0.35) if shown.image is None else shown.image
    axes.imshow(background, cmap="gray", vmin=0, vmax=1, aspect=shown.aspect, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("black")
    prediction = shown.predictions[model]
    _crop_view(axes, shown)
    point = abs(np.ptp(axes.get_ylim())) / (72 * PANEL_INCHES)  # in rows
    for name, values in sorted(styles.values.items(), key=lambda item: item[0] == styles.structure):
        look = ContourStyle(
            styles.colors[name], FOCUS_POINTS if name == styles.structure else OTHER_POINTS, point, shown.aspect
        )
        if prediction is not None:
            predicted = np.isin(prediction, values)
            draw_contour(axes, predicted, look, "solid")
            if name in unknown:
                draw_hatching(axes, predicted, styles.colors[name])
        if name not in unknown:
            draw_contour(axes, np.isin(shown.reference, values), look, "dashed")
    missing = [what for what, array in (("image", shown.image), ("prediction", prediction)) if array is None]
    if missing:
        text = f"{' and '.join(missing)} not found"
        axes.text(0.5, 0.02, text, transform=axes.transAxes, ha="center", va="bottom", color="white", fontsize=8)


def _crop_view(axes: Axes, shown: Slice) -> None:
    """Show the square around all labels of reference and predictions; the whole image if there are none."""
    labeled = np.any([shown.reference > 0, *(p > 0 for p in shown.predictions.values() if p is not None)], axis=0)
    if not labeled.any():
        return
    rows, cols = (np.flatnonzero(labeled.any(axis=axis)) for axis in (1, 0))
    side = (1 + 2 * CROP_MARGIN) * max(np.ptp(rows) + 1, (np.ptp(cols) + 1) / shown.aspect)  # in rows
    axes.set_xlim(*_interval_within(cols[0], cols[-1], side * shown.aspect, labeled.shape[1]))
    axes.set_ylim(*_interval_within(rows[0], rows[-1], side, labeled.shape[0])[::-1])


def _interval_within(first: float, last: float, side: float, length: int) -> tuple[float, float]:
    """Return an interval of length `side` around first to last, inside the image (-0.5 to length - 0.5) if it fits."""
    start = (first + last - side) / 2
    if side <= length:
        start = min(max(start, -0.5), length - 0.5 - side)
    return start, start + side


def _legend_handles(structures: Sequence[str], unknown: set[str], styles: _ClassStyles) -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        *(
            legend_patch(
                f"{name}, hatched where not annotated" if name in unknown else name,
                facecolor=styles.colors[name],
                linewidth=0.5,
                hatch=HATCH if name in unknown else "",
            )
            for name in structures
        ),
        Line2D([], [], color="black", linestyle="dashed", label="reference"),
        Line2D([], [], color="black", label="prediction"),
    ]


def _overlay_alt(selected: SelectedCase, results: Results) -> str:
    shown = "; ".join(
        f"{name} case {case}: "
        + ", ".join(f"{model} Dice {selected.dice[model, case]:.2f}" for model in results.models)
        for name, case in selected.cases.items()
    )
    return f"Contours of {selected.structure} in {selected.domain}. {shown}"


def _overlay_caption(selected: SelectedCase, slices: Mapping[str, Slice]) -> str:
    text = (
        f"{selected.structure} in {selected.domain}: {', '.join(selected.cases)} of the {selected.n} case(s) that show "
        "it and that all models predicted, by their mean Dice. Dashed: reference, solid: prediction; thick: the "
        "structure in focus. Hatched: predicted where it is not annotated, so there is no reference and no number."
    )
    return text + " Dice is that of the whole volume." if any(shown.position for shown in slices.values()) else text


def _read_if_fitting(path: Path, what: str, reference: Geometry, problems: list[str]) -> NDArray[Any] | None:
    """Return the values (the mean of color channels); None if they cannot be used, which `problems` then says."""
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        problems.append(f"{what} cannot be read: {problem}")
        return None
    if geometry.with_axes_of(reference).size != reference.with_axes_of(geometry).size:
        problems.append(f"{what} has another size than the reference: {path}")
        return None
    return array.mean(axis=-1) if geometry.components > 1 else array


def _listed(results: Results, case: str) -> tuple[list[Path], Path] | None:
    """Return the files of a training case where dataset.json lists them; else None."""
    home = results.reference.parent
    if results.reference.name != "labelsTr" or not (home / "dataset.json").is_file():
        return None
    return (RawDataset(home).listed or {}).get(case)


def _reference_file(results: Results, case: str) -> Path:
    listed = _listed(results, case)
    return listed[1] if listed else results.reference / f"{case}{results.file_ending}"


def _image_file(results: Results, case: str) -> Path:
    """Return the first channel of a case: as its dataset lists it, or in the first folder that has it."""
    listed = _listed(results, case)
    if listed:
        return listed[0][0]
    name = f"{case}_0000{results.file_ending}"
    files = [folder / name for folder in image_folders(results)]
    return next((file for file in files if file.is_file()), files[0])


def rescale(image: NDArray[Any]) -> GrayImage:
    """Rescale gray values to 0 to 1.

    Args:
        image: (rows, cols).

    Returns:
        Of the same shape; a constant image becomes black.
    """
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    gray: GrayImage = np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros(image.shape)
    return gray


def _crop(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return columns, rows and content of a nonempty mask, cropped to it with a rim that is False."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cut = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return np.arange(cols[0] - 1, cols[-1] + 2), np.arange(rows[0] - 1, rows[-1] + 2), np.pad(cut, 1)
