"""All pictures of an evaluation, drawn and written one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import Manifest
from nnunet_partial.report.bland_altman import draw_agreement
from nnunet_partial.report.boxplots import draw_boxes
from nnunet_partial.report.chosen_cases import choose_cases
from nnunet_partial.report.drawing import Picture, remove_old
from nnunet_partial.report.knowledge import draw_knowledge, knowledge_of
from nnunet_partial.report.overlays import draw_overlay
from nnunet_partial.report.page import Figure
from nnunet_partial.report.results_folder import Results
from nnunet_partial.report.trained_on import Trained
from nnunet_partial.report.wording import Biomarker

#: Metrics that are drawn as boxes.
BOXES = ("dice", "hd95")


@dataclass
class Pictures:
    """Figures for the page, by kind; `trained`, `evaluated`: who knows what; `overlays`: by domain. `problems`: what
    could not be read, a sentence each."""

    trained: list[Figure] = field(default_factory=list)
    evaluated: list[Figure] = field(default_factory=list)
    boxes: list[Figure] = field(default_factory=list)
    biomarkers: dict[Biomarker, Figure] = field(default_factory=dict)
    overlays: dict[str, list[Figure]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def draw_pictures(results: Results, trained: Sequence[Trained], folder: Path) -> Pictures:
    """Writes every picture as PNG and PDF into the folder, in place of those of an earlier report.

    An image, prediction or manifest that is gone is named in `problems`; what does not need it is drawn.
    """
    remove_old(folder)
    pictures = Pictures()
    pictures.boxes = [picture.figure(folder) for picture in _boxes(results)]
    pictures.biomarkers = {key: picture.figure(folder) for key, picture in _agreement(results)}
    pictures.trained = [picture.figure(folder) for picture in _trained(trained)]
    try:
        manifest = Manifest.read(results.manifest)
    except PartialLabelError as problem:
        pictures.problems.append(f"no overlays: {problem}")
        return pictures
    evaluated = knowledge_of(manifest, sorted({row["case"] for row in results.per_case}), results.classes)
    if evaluated:
        picture = draw_knowledge(evaluated, results.classes, "evaluation", "Evaluated cases")
        pictures.evaluated.append(picture.figure(folder))
    for chosen in choose_cases(results):
        overlay = draw_overlay(results, manifest, chosen, pictures.problems)
        if overlay is not None:
            pictures.overlays.setdefault(chosen.domain, []).append(overlay.figure(folder))
    pictures.problems = list(dict.fromkeys(pictures.problems))
    return pictures


def _trained(trained: Sequence[Trained]) -> Iterator[Picture]:
    """One matrix for each training data set."""
    seen: set[Path] = set()
    for model in trained:
        if model.known and model.manifest is not None and model.manifest not in seen:
            seen.add(model.manifest)
            yield draw_knowledge(
                model.known, model.classes, f"training-{len(seen)}", f"Training and validation cases of {model.dataset}"
            )


def _boxes(results: Results) -> Iterator[Picture]:
    for metric in BOXES:
        units = sorted({row["distance_unit"] for row in results.per_case}) if metric == "hd95" else [""]
        for unit in units:
            picture = draw_boxes(results, metric, unit)
            if picture is not None:
                yield picture


def _agreement(results: Results) -> Iterator[tuple[Biomarker, Picture]]:
    for key in dict.fromkeys((row["biomarker"], row["unit"], row["method"]) for row in results.biomarkers):
        picture = draw_agreement(results, key)
        if picture is not None:
            yield key, picture
