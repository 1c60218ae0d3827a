"""EchoCP: four-chamber videos with contrast bubbles in the right heart, the four chambers drawn in a few frames.

Wang et al., "EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen Ovale
Diagnosis", MICCAI 2021, https://arxiv.org/abs/2105.08267
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nnunet_partial.utils.text import printable

from .cardiac_family import CardiacFamily, ChamberVideo, base_folder, by_stem, pairing_problem
from .data_set import not_found

#: 001_r, 030_v: patient, action.
_NAME = re.compile(r"(\d{3})_([rv])")
_ACTIONS = {"r": "rest", "v": "valsalva"}


@dataclass(frozen=True)
class EchoCP(CardiacFamily):
    """EchoCP. Bubbles change how the right heart looks, so the manifest keeps it as a domain of its own."""

    name: ClassVar[str] = "echocp"
    title: ClassVar[str] = "EchoCP: LV, LA, RV, RA in 4CH with contrast"
    description: ClassVar[str] = (
        "EchoCP (Wang et al. 2021): four-chamber videos of 30 patients at rest and under Valsalva, right heart filled "
        "with contrast bubbles, the four chambers drawn in some frames. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/echocp; shown there under Apache-2.0. Give the unpacked "
        "folder EchoCP_dataset, or the one above it."
    )
    default_name: ClassVar[str] = "EchoCP"
    reference: ClassVar[str] = "Wang et al. 2021, https://arxiv.org/abs/2105.08267"
    license: ClassVar[str] = "Apache-2.0 as shown on Kaggle; as a precaution not to be passed on"

    def videos(self) -> Sequence[ChamberVideo]:
        looked_for = "files such as 001_r_image.nii.gz and 001_r_label.nii.gz"
        folder = base_folder(self.root, "EchoCP_dataset", looked_for)
        found = list(_in_folder(folder))
        if not found:
            raise not_found(folder, looked_for)
        return found


def _in_folder(folder: Path) -> Iterator[ChamberVideo]:
    images, labels = by_stem(folder, "image"), by_stem(folder, "label")
    for stem in sorted({*images, *labels}):
        image, label = images.get(stem), labels.get(stem)
        parsed = _NAME.fullmatch(stem)
        problem = pairing_problem(image, label)
        if parsed is None:
            problem = problem or "its name is not such as 001_r_image.nii.gz or 001_v_image.nii.gz"
        yield ChamberVideo(
            printable(stem),
            f"echocp_{stem}",
            f"echocp_{parsed[1] if parsed else stem}",
            image or folder,
            label or folder,
            info={"action": _ACTIONS[parsed[2]]} if parsed else {},
            problem=problem,
        )
