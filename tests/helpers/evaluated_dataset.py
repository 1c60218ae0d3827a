"""A small evaluated data set of drawn hearts: three domains, of which two lack structures, and two models.

All names are hostile: what they hold must be shown, and must do nothing, in HTML, Markdown, LaTeX and pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from nnunet_partial.cli import main
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, draw_heart

CLASSES = ("LV", "MYO", "LA")
FULL, HOSTILE, ABSENT = "camus", 'b<script>document.title="x"</script>|$\\alpha&_%', "ted"
#: What each domain's cases were annotated for, and what is known not to be in them.
KNOWS = {FULL: (CLASSES, ()), HOSTILE: (("LV",), ()), ABSENT: (("LV", "MYO"), ("LA",))}
PLAIN, OURS = "naive", "m<b>_%"
MODELS = (PLAIN, OURS)
SPACING_MM = 1.5


@dataclass(frozen=True)
class Story:
    """`dataset`: the raw data set; `results`: what `nnunet_partial evaluate` wrote; predictions lie in root / model."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "raw" / "Dataset510_Echo"

    @property
    def results(self) -> Path:
        return self.root / "results"


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([SPACING_MM] * array.ndim)
    sitk.WriteImage(image, str(path), True)


def case_name(domain: str, patient: int, phase: str) -> str:
    return f"x<img src=a onerror=b>'$_{patient}_{phase}" if domain == HOSTILE else f"{domain}_{patient}_{phase}"


def draw(story: Story, patients: int = 3, size: int = 64, slices: int = 0) -> None:
    """Draws the data set and "predicts" it; with `slices` as volumes, of which the last one but one shows most."""
    rng = np.random.default_rng(1)
    entries = {}
    for domain, (annotated, absent) in KNOWS.items():
        for patient in range(patients):
            heart, scanner = HeartModel.random(rng), SCANNER_B if domain == HOSTILE else SCANNER_A
            for contraction, phase in ((0.0, "ED"), (1.0, "ES")):
                case = case_name(domain, patient, phase)
                shape = (size, size)
                image, truth = draw_heart(rng, anatomy=heart, scanner=scanner, shape=shape, contraction=contraction)
                truth[np.isin(truth, values(absent))] = 0
                if slices:
                    image, truth = np.stack([image] * slices), np.stack([truth] * slices)
                    truth[np.arange(slices) != slices - 2, size // 2 :] = 0
                write(story.dataset / "imagesTs" / f"{case}_0000.nii.gz", image)
                write(story.dataset / "labelsTs" / f"{case}.nii.gz", truth * np.isin(truth, values(annotated)))
                for model in MODELS:
                    write(story.root / model / f"{case}.nii.gz", predict(rng, truth, model, domain))
                entries[case] = {"annotated": annotated, "absent": absent, "domain": domain}
                entries[case] |= {"patient": f"{domain}_{patient}", "phase": phase}
                entries[case] |= {"view": "4CH"} if phase == "ED" else {}  # biomarkers of one phase are enough here
    labels = {"background": 0, **{name: value for value, name in enumerate(CLASSES, 1)}}
    about = {"channel_names": {"0": "ultrasound"}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (story.dataset / "dataset.json").write_text(json.dumps(about))
    (story.dataset / "partial_labels.json").write_text(json.dumps({"version": 1, "groups": [], "cases": entries}))


def values(names: tuple[str, ...]) -> list[int]:
    return [CLASSES.index(name) + 1 for name in names]


def predict(rng: np.random.Generator, truth: np.ndarray, model: str, domain: str) -> np.ndarray:
    """The truth, shaken: by the plain model more, which also loses what nobody annotated in the domain."""
    strength = 2.5 if model == PLAIN else 1.0
    scale = np.ones(truth.ndim) + rng.normal(0, 0.03 * strength, truth.ndim)
    offset = (1 - scale) * np.array(truth.shape) / 2 + rng.normal(0, strength, truth.ndim)
    if truth.ndim == 3:
        scale[0], offset[0] = 1, 0
    moved = ndimage.affine_transform(truth, np.diag(scale), offset, order=0)
    return moved * np.isin(moved, values(KNOWS[domain][0])) if model == PLAIN else moved


def evaluate(story: Story) -> None:
    predictions = [word for model in MODELS for word in ("--pred", f"{model}={story.root / model}")]
    assert main(["evaluate", "-d", "510", *predictions, "-o", str(story.results), "-np", "1"]) == 0
