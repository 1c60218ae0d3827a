"""CardiacNet: four-chamber videos of patients with pulmonary hypertension or atrial septal defect, and of controls.

Yang et al., "CardiacNet: Learning to Reconstruct Abnormalities for Cardiac Disease Assessment from Echocardiogram
Videos", ECCV 2024, https://github.com/xmed-lab/CardiacNet
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable, some

from .cardiac_family import ENDINGS, CardiacFamily, ChamberVideo, base_folder, by_stem, pairing_problem
from .data_set import not_found

CUT_OFF_CHOICES = ("skip", "partial")


@dataclass(frozen=True)
class CardiacNet(CardiacFamily):
    """CardiacNet. `cut_off`: of a label file that ends early, "skip" takes nothing, "partial" the frames that are
    whole."""

    cut_off: str = "skip"

    name: ClassVar[str] = "cardiacnet"
    title: ClassVar[str] = "CardiacNet: LV, LA, RV, RA in 4CH"
    description: ClassVar[str] = (
        "CardiacNet (Yang et al. 2024): four-chamber videos of patients with pulmonary arterial hypertension (PAH) or "
        "atrial septal defect (ASD) and of controls, the four chambers drawn in some frames. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/abnormcardiacechovideos (its authors want to be asked "
        "first). Give the unpacked folder CardiacNet with CardiacNet-PAH/ and CardiacNet-ASD/."
    )
    default_name: ClassVar[str] = "CardiacNet"
    reference: ClassVar[str] = "Yang et al. 2024, https://github.com/xmed-lab/CardiacNet"
    license: ClassVar[str] = "unclear: ask the authors; not to be passed on"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cut_off not in CUT_OFF_CHOICES:
            raise ConversionError(f"cut_off is {self.cut_off!r}, expected one of {', '.join(CUT_OFF_CHOICES)}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument(
            "--cut-off",
            choices=CUT_OFF_CHOICES,
            default="skip",
            help="some label files of the Kaggle upload end early. skip: leave those videos out; partial: take the "
            "frames that are whole (default: %(default)s)",
        )

    @property
    def reads_cut_off_labels(self) -> bool:
        return self.cut_off == "partial"

    def videos(self) -> Sequence[ChamberVideo]:
        looked_for = "folders such as CardiacNet-PAH/Non-PAH with NNN_image.nii and NNN_label.nii"
        base = base_folder(self.root, "CardiacNet", looked_for)
        parts = sorted(path for path in base.glob("CardiacNet-*") if path.is_dir())
        groups = [group for part in parts for group in sorted(part.iterdir()) if group.is_dir()]
        found = [video for group in groups for video in _in_group(group)]
        if not found:
            raise not_found(base, looked_for)
        return found


def _in_group(group: Path) -> Iterator[ChamberVideo]:
    """The entries of PAH, Non-PAH, ASD or Non-ASD; each has its own numbers."""
    images, labels = by_stem(group, "image"), by_stem(group, "label")
    for stem in sorted({*images, *labels}):
        name = printable(f"{group.name}/{stem}")
        key = f"cardiacnet_{group.name}_{stem}"
        info = {"group": printable(group.name)}
        problem = pairing_problem(images.get(stem), labels.get(stem))
        image, label = images.get(stem, group), labels.get(stem, group)
        if problem is None:
            try:
                image, label = _file(image), _file(label)
                info["source_name"] = printable(image.name)
            except ConversionError as several:
                problem = str(several)
        yield ChamberVideo(name, key, key, image, label, info=info, problem=problem)


def _file(path: Path) -> Path:
    """The file itself, or the only one in a folder that has a file's name. Raises ConversionError for none, several."""
    if not path.is_dir():
        return path
    inside = [file for file in sorted(path.iterdir()) if file.name.endswith(ENDINGS) and not file.name.startswith(".")]
    if len(inside) != 1:
        names = some([printable(file.name) for file in inside])
        raise ConversionError(f"{printable(path.name)} is a folder with {names}; expected one .nii file in it")
    return inside[0]
