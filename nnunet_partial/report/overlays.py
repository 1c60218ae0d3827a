"""Outlines on the grey image, dashed the reference, solid the prediction; a row per model, a column per case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnunet_partial.labels import Manifest
from nnunet_partial.report.case_files import Slice, read_slice
from nnunet_partial.report.chosen_cases import Chosen
from nnunet_partial.report.drawing import Picture, file_name, new_drawing, shortened, style
from nnunet_partial.report.outlines import HATCH, Line, hatch, outline
from nnunet_partial.report.results_folder import Results
from nnunet_partial.utils.colors import colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL = 2.5  # inches
THICK, THIN = 2.0, 1.1  # the structure that is looked at, and the others
MARGIN = 0.15  # around what is drawn, in parts of its size


@dataclass(frozen=True)
class _Look:
    """What a panel needs to know beside its case: label values by structure, their colours, and the one looked at."""

    values: Mapping[str, int]
    colours: Mapping[str, str]
    structure: str


def draw_overlay(results: Results, manifest: Manifest, chosen: Chosen, problems: list[str]) -> Picture | None:
    """One picture for a structure in a domain; None where no reference can be read. What cannot be read is added to
    `problems`, a sentence each, and said in its panel."""
    look = _Look(_values(results.classes), colours_of(results.classes), chosen.structure)
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
    return Picture(
        file_name("overlay", chosen.domain, chosen.structure), drawing, _alt(chosen, results), _caption(chosen, slices)
    )


def _draw(results: Results, manifest: Manifest, chosen: Chosen, slices: Mapping[str, Slice], look: _Look) -> Drawing:
    models = list(results.models)
    drawing = new_drawing(PANEL * len(slices) + 0.3, (PANEL + 0.27) * len(models) + 0.85)
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
            outline(axes, prediction == value, line, "solid")
            if name in unknown:
                hatch(axes, prediction == value, look.colours[name])
        if name not in unknown:
            outline(axes, shown.reference == value, line, "dashed")
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
    side = (1 + 2 * MARGIN) * max(np.ptp(rows) + 1, (np.ptp(cols) + 1) / shown.aspect)  # in rows
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


def _alt(chosen: Chosen, results: Results) -> str:
    shown = "; ".join(
        f"{name} case {case}: " + ", ".join(f"{model} Dice {chosen.dice[model, case]:.2f}" for model in results.models)
        for name, case in chosen.cases.items()
    )
    return f"Outlines of {chosen.structure} in {chosen.domain}. {shown}"


def _caption(chosen: Chosen, slices: Mapping[str, Slice]) -> str:
    text = (
        f"{chosen.structure} in {chosen.domain}: {', '.join(chosen.cases)} of the {chosen.n} case(s) that show it and "
        "that all models predicted, by their mean Dice. Dashed: reference, solid: prediction; thick: the structure "
        "looked at. Hatched: predicted where nobody annotated it, so there is no reference and no number."
    )
    return text + " Dice is that of the whole volume." if any(shown.where for shown in slices.values()) else text
