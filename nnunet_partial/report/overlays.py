"""Outlines on the grey image, dashed the reference, solid the prediction; a row per model, a column per case.

Lines along the inner side of a structure's border: where two structures touch, both lines are seen.

The files of one case, read for a picture: grey image, reference, and what each model predicted, on one slice.

Which cases are shown: the worst, the middle and the best of a structure in a domain, the same for all models.
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
from nnunet_partial.evaluation.metrics import FOUND, MISSED, without_thin_axes
from nnunet_partial.labels import Manifest
from nnunet_partial.report.figure_style import SavedFigure, file_name, new_figure, shortened, style
from nnunet_partial.report.results import Results, Row, number
from nnunet_partial.report.training_info import source_folder
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


HATCH = "/////"
RIM = 0.7  # points of black, half of them on either side of a line, so that it shows on white and on black


@dataclass(frozen=True)
class Line:
    """How a structure is drawn. `width` in points; `point`: the height of a point in rows of the picture; `aspect`:
    height of a pixel / its width."""

    colour: str
    width: float
    point: float
    aspect: float


def draw_contour(axes: Axes, mask: NDArray[np.bool_], line: Line, stroke: str) -> None:
    """Draws the line (`stroke`: "solid", "dashed") wholly inside the mask (rows, cols), its edge on the mask's border.

    An empty mask has none.
    """
    from matplotlib.patheffects import Normal, Stroke

    if mask.any():
        cols, rows, cut = _cut_out(mask)
        inner = depth_beyond(cut, (line.width + RIM) / 2 * line.point, line.aspect)
        look: dict[str, Any] = {"colors": [line.colour], "linewidths": line.width, "linestyles": stroke}
        lines = axes.contour(cols, rows, inner, levels=[0], **look)
        lines.set_path_effects([Stroke(linewidth=line.width + RIM, foreground="black"), Normal()])


def hatch(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    """Hatches the mask (rows, cols)."""
    if mask.any():
        cols, rows, cut = _cut_out(mask)
        area = axes.contourf(cols, rows, cut.astype(np.float64), levels=[0.5, 1.5], colors="none", hatches=[HATCH])
        area.set_edgecolor(colour)
        area.set_linewidth(0)


def depth_beyond(mask: NDArray[np.bool_], inset: float, aspect: float = 1.0) -> NDArray[np.float64]:
    """How much deeper than `inset` each pixel's centre lies inside the mask's border, below 0 nearer to it or outside.

    Lengths are in rows, the mask (rows, cols) has a rim that is False. In a part that is too thin for the inset, the
    line of 0 lies half way to its middle, so that no part is lost.
    """
    from scipy import ndimage

    pixel = (1.0, 1.0 / aspect)  # in rows
    half = min(pixel) / 2  # from the border to the first centres
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(mask, pixel) - half
    outside = ndimage.distance_transform_edt(~mask, pixel) - half
    parts, count = ndimage.label(mask)
    deepest = ndimage.maximum(depth, parts, np.arange(count + 1))
    return np.where(mask, depth - np.minimum(inset, deepest / 2)[parts], -outside - inset)


def _cut_out(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Columns, rows and what lies there of a mask that is not empty: all of it with a rim that is False, also where
    the picture ends."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cut = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return np.arange(cols[0] - 1, cols[-1] + 2), np.arange(rows[0] - 1, rows[-1] + 2), np.pad(cut, 1)


Grey = NDArray[np.float64]
Labels = NDArray[np.integer]

#: Grey values beyond these percentiles are shown as black and white.
WINDOW = (0.5, 99.5)


@dataclass(frozen=True)
class Slice:
    """What is shown of a case, each (rows, cols). `image`, from 0 to 1, and predictions are None where they cannot be
    read. `aspect`: height of a pixel / its width; `where`: "slice 12 of 40", empty in 2-D; `problems`: what could not
    be read, a sentence each."""

    image: Grey | None
    reference: Labels
    predictions: Mapping[str, Labels | None]
    aspect: float
    where: str
    problems: Sequence[str]


def read_slice(results: Results, case: str, value: int) -> Slice | str:
    """The picture, or of a volume the slice (along the first axis) that shows most of label `value` in the reference.

    Where the reference cannot be read: why, as a sentence.
    """
    try:
        geometry, reference = read_array(results.reference / f"{case}{results.file_ending}")
    except OSError as problem:
        return f"{case}: the reference cannot be read: {problem}"
    reference, spacing = without_thin_axes(reference, geometry.spacing_mm[::-1])
    problems: list[str] = []
    files = {f"{case}: the image": _image_file(results, case)}
    for model, folder in results.models.items():
        files[f"{case}: the prediction of {model}"] = folder / f"{case}{results.file_ending}"
    arrays = [_read(path, what, geometry, problems) for what, path in files.items()]
    arrays = [None if array is None else array.reshape(reference.shape) for array in arrays]
    where = ""
    if reference.ndim > 2:
        index = int(np.argmax((reference == value).reshape(len(reference), -1).sum(axis=1)))
        where = f"slice {index + 1} of {len(reference)}"
        reference, *arrays = (None if array is None else array[index] for array in (reference, *arrays))
    return Slice(
        None if arrays[0] is None else _windowed(arrays[0]),
        reference,
        dict(zip(results.models, arrays[1:], strict=True)),
        spacing[-2] / spacing[-1],
        where,
        problems,
    )


def _read(path: Path, what: str, reference: Geometry, problems: list[str]) -> NDArray[Any] | None:
    """The values, of colours their mean; None where they cannot be read or do not fit, which is added to `problems`."""
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        problems.append(f"{what} cannot be read: {problem}")
        return None
    if geometry.size != reference.size:
        problems.append(f"{what} has another size than the reference: {path}")
        return None
    return array.mean(axis=-1) if geometry.components > 1 else array


def _image_file(results: Results, case: str) -> Path:
    """Its first channel, in the first folder that has it."""
    name = f"{case}_0000{results.file_ending}"
    files = [folder / name for folder in image_folders(results)]
    return next((file for file in files if file.is_file()), files[0])


def image_folders(results: Results) -> list[Path]:
    """Where images may lie: beside the labels, in the data set of the manifest, where predictions were made from."""
    part = results.reference.name.removeprefix("labels").removesuffix("_full")
    folders = [
        results.reference.parent / f"images{part}",
        *(results.manifest.parent / f"images{p}" for p in ("Ts", "Tr")),
    ]
    folders += [source for folder in results.models.values() if (source := source_folder(folder)) is not None]
    return folders


def _windowed(image: NDArray[Any]) -> Grey:
    """Grey values (rows, cols) from 0 to 1; a picture of one value is black."""
    low, high = np.percentile(image, WINDOW)
    grey: Grey = np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros(image.shape)
    return grey


@dataclass(frozen=True)
class SelectedCase:
    """Case by "worst", "median", "best"; `dice`: by (model, case); `n`: how many cases there were to choose from."""

    domain: str
    structure: str
    cases: Mapping[str, str]
    dice: Mapping[tuple[str, str], float]
    n: int


def select_cases(results: Results) -> list[SelectedCase]:
    """For each domain and structure, by the mean Dice of all models; a domain that never shows a structure has none.

    Chosen from are the cases that show the structure and that every model predicted. With less than three, each of
    them appears once. Of equal ones the first by name.
    """
    chosen = []
    for domain in results.domains:
        for structure in results.classes:
            rows = [row for row in results.per_case if (row["domain"], row["class"]) == (domain, structure)]
            dice = _dice([row for row in rows if row["outcome"] in (FOUND, MISSED)], list(results.models))
            if dice:
                chosen.append(_of(domain, structure, dice, list(results.models)))
    return chosen


def _dice(rows: Sequence[Row], models: Sequence[str]) -> dict[tuple[str, str], float]:
    """By (model, case), for cases that all models have."""
    dice = {(row["model"], row["case"]): number(row, "dice") for row in rows}
    return {key: value for key, value in dice.items() if all((model, key[1]) in dice for model in models)}


def _of(domain: str, structure: str, dice: Mapping[tuple[str, str], float], models: Sequence[str]) -> SelectedCase:
    cases = sorted({case for _, case in dice})
    ordered = sorted(cases, key=lambda case: math.fsum(dice[model, case] for model in models))
    places = {"worst": 0, "best": len(ordered) - 1, "median": (len(ordered) - 1) // 2}
    shown: dict[str, str] = {}
    for name, place in places.items():
        if ordered[place] not in shown.values():
            shown[name] = ordered[place]
    return SelectedCase(
        domain,
        structure,
        {name: shown[name] for name in ("worst", "median", "best") if name in shown},
        dice,
        len(cases),
    )


PANEL = 2.5  # inches
THICK, THIN = 2.0, 1.1  # the structure that is looked at, and the others
CROP_MARGIN = 0.15  # around what is drawn, in parts of its size


@dataclass(frozen=True)
class _Look:
    """What a panel needs to know beside its case: label values by structure, their colours, and the one looked at."""

    values: Mapping[str, int]
    colours: Mapping[str, str]
    structure: str


def draw_overlay(results: Results, manifest: Manifest, chosen: SelectedCase, problems: list[str]) -> SavedFigure | None:
    """One picture for a structure in a domain; None where no reference can be read. What cannot be read is added to
    `problems`, a sentence each, and said in its panel."""
    look = _Look(_values(results.classes), class_colors(results.classes), chosen.structure)
    slices = {}
    for name, case in chosen.cases.items():
        found = read_slice(results, case, look.values[chosen.structure])
        if isinstance(found, str):
            problems.append(found)
        else:
            problems += found.problems
            slices[name] = found
    if not slices:
        return None
    with style():
        drawing = _draw(results, manifest, chosen, slices, look)
    return SavedFigure(
        file_name("overlay", chosen.domain, chosen.structure), drawing, _alt(chosen, results), _caption(chosen, slices)
    )


def _draw(
    results: Results, manifest: Manifest, chosen: SelectedCase, slices: Mapping[str, Slice], look: _Look
) -> Drawing:
    models = list(results.models)
    drawing = new_figure(PANEL * len(slices) + 0.3, (PANEL + 0.27) * len(models) + 0.85)
    panels = drawing.subplots(len(models), len(slices), squeeze=False)
    unknown: set[str] = set()
    for row, model in zip(panels, models, strict=True):
        row[0].set_ylabel(shortened(model, 30))
        for axes, (name, shown) in zip(row, slices.items(), strict=True):
            case = chosen.cases[name]
            labels = manifest.find(case)
            not_known = [s for s in results.classes if labels is not None and s not in labels.known]
            unknown.update(not_known)
            _panel(axes, shown, model, not_known, look)
            title = "\n".join(filter(None, [name, shortened(case, 34), shown.where]))
            axes.set_title(title if model == models[0] else "", fontsize=9)
            axes.set_xlabel(f"Dice {chosen.dice[model, case]:.2f}", fontsize=9)
    drawing.legend(handles=_legend(results.classes, unknown, look), loc="outside lower center", ncols=5, fontsize=8.5)
    return drawing


def _panel(axes: Axes, shown: Slice, model: str, unknown: Sequence[str], look: _Look) -> None:
    background = np.full(shown.reference.shape, 0.35) if shown.image is None else shown.image
    axes.imshow(background, cmap="gray", vmin=0, vmax=1, aspect=shown.aspect, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("black")
    prediction = shown.predictions[model]
    _zoom(axes, shown)
    point = abs(np.ptp(axes.get_ylim())) / (72 * PANEL)  # in rows
    for name, value in sorted(look.values.items(), key=lambda item: item[0] == look.structure):
        line = Line(look.colours[name], THICK if name == look.structure else THIN, point, shown.aspect)
        if prediction is not None:
            draw_contour(axes, prediction == value, line, "solid")
            if name in unknown:
                hatch(axes, prediction == value, look.colours[name])
        if name not in unknown:
            draw_contour(axes, shown.reference == value, line, "dashed")
    missing = [what for what, there in (("image", shown.image), ("prediction", prediction)) if there is None]
    if missing:
        text = f"{' and '.join(missing)} not found"
        axes.text(0.5, 0.02, text, transform=axes.transAxes, ha="center", va="bottom", color="white", fontsize=8)


def _zoom(axes: Axes, shown: Slice) -> None:
    """Shows the square around everything drawn in the reference or by any model, the whole picture where nothing is."""
    drawn = np.any([shown.reference > 0, *(p > 0 for p in shown.predictions.values() if p is not None)], axis=0)
    if not drawn.any():
        return
    rows, cols = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    side = (1 + 2 * CROP_MARGIN) * max(np.ptp(rows) + 1, (np.ptp(cols) + 1) / shown.aspect)  # in rows
    axes.set_xlim(*_within(cols[0], cols[-1], side * shown.aspect, drawn.shape[1]))
    axes.set_ylim(*_within(rows[0], rows[-1], side, drawn.shape[0])[::-1])


def _within(first: float, last: float, side: float, length: int) -> tuple[float, float]:
    """A stretch as long as `side` around first to last, moved into the picture (-0.5 to length - 0.5) if it fits."""
    start = (first + last - side) / 2
    if side <= length:
        start = min(max(start, -0.5), length - 0.5 - side)
    return start, start + side


def _legend(structures: Sequence[str], unknown: set[str], look: _Look) -> list[object]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[object] = [
        Patch(
            facecolor=look.colours[name],
            edgecolor="black",
            linewidth=0.5,
            hatch=HATCH if name in unknown else "",
            label=f"{name}, hatched where unknown" if name in unknown else name,
        )
        for name in structures
    ]
    handles.append(Line2D([], [], color="black", linestyle="dashed", label="reference"))
    return [*handles, Line2D([], [], color="black", label="prediction")]


def _values(classes: Sequence[str]) -> dict[str, int]:
    return {name: value for value, name in enumerate(classes, start=1)}


def _alt(chosen: SelectedCase, results: Results) -> str:
    shown = "; ".join(
        f"{name} case {case}: " + ", ".join(f"{model} Dice {chosen.dice[model, case]:.2f}" for model in results.models)
        for name, case in chosen.cases.items()
    )
    return f"Outlines of {chosen.structure} in {chosen.domain}. {shown}"


def _caption(chosen: SelectedCase, slices: Mapping[str, Slice]) -> str:
    text = (
        f"{chosen.structure} in {chosen.domain}: {', '.join(chosen.cases)} of the {chosen.n} case(s) that show it and "
        "that all models predicted, by their mean Dice. Dashed: reference, solid: prediction; thick: the structure "
        "looked at. Hatched: predicted where nobody annotated it, so there is no reference and no number."
    )
    return text + " Dice is that of the whole volume." if any(shown.where for shown in slices.values()) else text
