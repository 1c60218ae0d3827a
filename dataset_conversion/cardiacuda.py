"""CardiacUDA: four-chamber videos of two hospitals, with all four chambers drawn in about five frames each.

Yang et al., "GraphEcho: Graph-Driven Unsupervised Domain Adaptation for Echocardiogram Video Segmentation", ICCV 2023,
https://github.com/xmed-lab/GraphEcho
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable

from .cardiac_family import CardiacFamily, ChamberVideo, base_folder, by_stem, pairing_problem
from .case import Note
from .data_set import not_found

#: The folder whose masks are lines and have a number of their own.
OUTLINES = "label_all_frame"
OUTLINES_CHOICES = ("skip", "fill")
#: Nobody drew anything in this folder of the official release.
UNLABELLED = "Site_R_73"

#: patient-5-4, patient5-4, normal-23-4: kind, number, view.
_NAME = re.compile(r"(patient|normal)[-_]?(\d+)[-_](\d)", re.IGNORECASE)
#: 1 parasternal long axis, 2 pulmonary artery, 3 short axis, 4 apical four-chamber, 5 to 7 others.
_FOUR_CHAMBER = "4"


@dataclass(frozen=True)
class CardiacUDA(CardiacFamily):
    """CardiacUDA as released under the name CardiacUDC. `label_all_frame`: "skip" leaves that folder out, "fill" takes
    its lines as outlines, fills them, and takes the number 6 as RV."""

    label_all_frame: str = "skip"

    name: ClassVar[str] = "cardiacuda"
    title: ClassVar[str] = "CardiacUDA: LV, LA, RV, RA in 4CH"
    description: ClassVar[str] = (
        "CardiacUDA (Yang et al. 2023), on Kaggle as CardiacUDC: four-chamber videos of two hospitals, the four "
        "chambers drawn in about five frames each, their walls not. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/cardiacudc-dataset; shown there under Apache-2.0. Give the "
        f"unpacked folder cardiacUDC_dataset with Site_G_100/ and the others. {OUTLINES}/ is drawn otherwise and left "
        f"out, unless --label-all-frame fill."
    )
    default_name: ClassVar[str] = "CardiacUDA"
    reference: ClassVar[str] = "Yang et al. 2023, https://github.com/xmed-lab/GraphEcho"
    license: ClassVar[str] = "Apache-2.0 as shown on Kaggle; as a precaution not to be passed on"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_all_frame not in OUTLINES_CHOICES:
            raise ConversionError(
                f"label_all_frame is {self.label_all_frame!r}, expected one of {', '.join(OUTLINES_CHOICES)}"
            )

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument(
            "--label-all-frame",
            choices=OUTLINES_CHOICES,
            default="skip",
            help=f"skip: leave the folder {OUTLINES} out; fill: take its lines as closed outlines, fill them, and take "
            "its number 6 as RV (default: %(default)s)",
        )

    def videos(self) -> Sequence[ChamberVideo]:
        return [
            video
            for folder in self._folders()
            if folder.name != OUTLINES or self.label_all_frame == "fill"
            for video in _in_folder(folder)
        ]

    def remarks(self) -> Iterator[Note]:
        for folder in self._folders():
            images, labels = by_stem(folder, "image"), by_stem(folder, "label")
            if folder.name == OUTLINES and self.label_all_frame == "skip":
                text = f"{len(images)} video(s) left out: lines with other numbers (--label-all-frame fill)"
                yield Note(OUTLINES, text)
            elif folder.name == UNLABELLED and not labels:
                yield Note(UNLABELLED, f"{len(images)} video(s) that nobody drew in are left out")

    def _folders(self) -> list[Path]:
        """The folders with images or labels. Raises ConversionError where there is none."""
        looked_for = "folders such as Site_G_100 with *_image.nii.gz and *_label.nii.gz"
        base = base_folder(self.root, "cardiacUDC_dataset", looked_for)
        below = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
        found = [path for path in below if by_stem(path, "image") or by_stem(path, "label")]
        if not found:
            raise not_found(base, looked_for)
        return found


def _in_folder(folder: Path) -> Iterator[ChamberVideo]:
    """The videos of one export of one hospital; numbers of patients restart in each."""
    images, labels = by_stem(folder, "image"), by_stem(folder, "label")
    if folder.name == UNLABELLED and not labels:
        return
    for stem in sorted({*images, *labels}):
        name = printable(f"{folder.name}/{stem}")
        image, label = images.get(stem), labels.get(stem)
        problem = pairing_problem(image, label)
        patient = f"cardiacuda_{folder.name}_{stem}"
        parsed = _NAME.fullmatch(stem)
        if parsed is None:
            problem = problem or "its name is not such as patient-5-4_image.nii.gz or normal-23-4_image.nii.gz"
        else:
            patient = f"cardiacuda_{folder.name}_{parsed[1].lower()}{int(parsed[2])}"
            if parsed[3] != _FOUR_CHAMBER:
                problem = problem or f"it shows view {parsed[3]}, not 4: the numbers mean something else there"
        yield ChamberVideo(
            name,
            f"cardiacuda_{folder.name}_{stem}",
            patient,
            image or folder,
            label or folder,
            info={"site": printable(folder.name)},
            outlines=folder.name == OUTLINES,
            problem=problem,
        )
