"""A small sound copy of every data set that can be converted: what all converters must stand is tried on each of them.

A new data set joins by a line in COPIES.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openpyxl
import SimpleITK as sitk
from helpers.source_datasets import (
    CFG,
    CUP,
    camus_split,
    camus_view,
    chords,
    echonet,
    name_of,
    still,
    unity,
    video,
    write_nifti,
    write_pair,
    write_video,
)
from scipy.io import savemat


@dataclass(frozen=True)
class Copy:
    """`make` writes the copy into an empty folder. `broken`: a picture or video of it, which can be spoiled.

    `tables`: its CSV files, each with a column that it cannot do without. `hostile` adds a case whose name would lead
    out of the target folder; None where names are those of files, which cannot.
    """

    make: Callable[[Path], object]
    broken: str
    options: Sequence[str] = ()
    tables: dict[str, str] = field(default_factory=dict)
    hostile: Callable[[Path], None] | None = None


def append(path: Path, *lines: str) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def make_camus(root: Path) -> None:
    for number in (1, 2, 3):
        camus_view(root, f"patient000{number}")
    camus_split(root, "patient0001 patient0002", "", "patient0003")


TRACED = {6: chords(10, 20), 2: chords(12, 18)}


def make_echonet(root: Path) -> None:
    splits = {"0XA": "TRAIN", "0XB": "VAL", "0XC": "TEST"}
    echonet(root, dict.fromkeys(splits, TRACED), splits)


def hostile_echonet(root: Path) -> None:
    append(root / "FileList.csv", "../../0XEVIL,60.5,40,100,32,48,50,8,TRAIN")
    text = (root / "VolumeTracings.csv").read_text()
    append(root / "VolumeTracings.csv", *[line.replace("0XA", "../../0XEVIL") for line in text.splitlines()[1:43]])
    shutil.copy(root / "Videos" / "0XA.avi", root.parent / "0XEVIL.avi")


def make_pediatric(root: Path) -> None:
    for view in ("A4C", "PSAX"):
        (root / view / "Videos").mkdir(parents=True)
        files, rows = ["FileName,EF,Sex,Age,Weight,Height,Split"], ["FileName,X,Y,Frame"]
        for number in (1, 2):
            name = f"CR{number}-CR{number}{view}-00000{number}.avi"
            write_video(root / view / "Videos" / name, 8)
            files.append(f"{name},61.5,F,7,25,120,{number}")
            for frame, left in ((2, 12), (6, 10)):
                rows += [f"{name},{x},{y},{frame}" for x, y in ((left, 5), (20, 5), (20, 24), (left, 24))]
        (root / view / "FileList.csv").write_text("\n".join(files) + "\n")
        (root / view / "VolumeTracings.csv").write_text("\n".join(rows) + "\n")


def hostile_pediatric(root: Path) -> None:
    append(root / "A4C" / "FileList.csv", "../../CR9-CR9-000009.avi,61.5,F,7,25,120,1")
    corners = ("10,5", "20,5", "20,24")
    append(root / "A4C" / "VolumeTracings.csv", *[f"../../CR9-CR9-000009.avi,{corner},2" for corner in corners])


def make_hmc_qu(root: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["ECHO", "Reference Frame", "End of Cycle", "LV Wall Ground-truth Segmentation Masks"])
    masks = root / "LV Ground-truth Segmentation Masks"
    masks.mkdir()
    for number in (1, 2):
        name = f"ES000{number} _4CH_1"
        book.active.append([name, 3, 4, "ü"])
        drawn = np.zeros((2, 224, 224), np.uint8)
        drawn[:, 56:112, :112] = 1
        savemat(masks / f"Mask_{name}.mat", {"predicted": drawn})
        write_video(root / "HMC-QU" / "A4C" / f"{name}.avi", 8)
    book.save(root / "A4C.xlsx")


def hostile_hmc_qu(root: Path) -> None:
    book = openpyxl.load_workbook(root / "A4C.xlsx")
    book.active.append(["../../ES0009", 3, 4, "ü"])
    book.save(root / "A4C.xlsx")


def make_ted(root: Path) -> None:
    for number in (1, 2):
        name = f"patient00{number}"
        folder = root / "database" / name
        folder.mkdir(parents=True)
        mask = np.zeros((3, 10, 8), np.uint8)
        mask[:, 2:5, 3:5], mask[:, 2, 5:7] = 1, 2
        images = np.stack([still(10 * number + frame) for frame in range(3)])
        write_nifti(folder / f"{name}_4CH_sequence.mhd", images, (0.3, 0.15, 1.54))
        write_nifti(folder / f"{name}_4CH_sequence_gt.mhd", mask, (0.3, 0.15, 1.54))
        (folder / f"{name}_4CH_info.cfg").write_text(CFG)


def make_unity(root: Path) -> None:
    labels = {"curve-lv-endo": CUP}
    unity(root, train={name_of("one"): labels, name_of("two"): labels}, ival={name_of("three"): labels})
    (root / "view_index_20220705.csv").write_text(f"file,view\n{name_of('one')},A4C\n")
    sizes = [f"{name_of(video)[:67]},0.03,0.04" for video in ("one", "two")]
    (root / "01_database_physical.csv").write_text("\n".join(["FileHash,PhysicalDeltaX,PhysicalDeltaY", *sizes]) + "\n")


def hostile_unity(root: Path) -> None:
    text = (root / "labels" / "labels-train.json").read_text()
    (root / "labels" / "labels-train.json").write_text(text.replace(name_of("two"), "../../" + "evil.png"))


def make_own(root: Path) -> None:
    lines = ["case,image,mask,annotated,absent,domain,patient"]
    for number in (1, 2):
        for folder, array in (("images", still(10 * number)), ("masks", (still(0) > 0).astype(np.uint8))):
            (root / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(root / folder / f"p{number}.png"))
        lines.append(f"case{number},p{number}.png,p{number}.png,LV,,clinic,pat{number}")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")


#: Videos of different grays: alike ones would be one patient.
def make_cardiacuda(root: Path) -> None:
    for number in (1, 2):
        write_pair(root / "Site_G_20", f"patient-{number}-4", video(60 * number))


def make_echocp(root: Path) -> None:
    for number in (1, 2):
        write_pair(root / "EchoCP_dataset", f"00{number}_r", video(60 * number))


def make_cardiacnet(root: Path) -> None:
    for number in (1, 2):
        write_pair(root / "CardiacNet-PAH" / "PAH", f"00{number}", video(60 * number), ending=".nii")


COPIES = {
    "camus": Copy(make_camus, "database_nifti/patient0001/patient0001_2CH_ED.nii.gz", ["--views", "2CH"]),
    "echonet-dynamic": Copy(
        make_echonet,
        "Videos/0XA.avi",
        tables={"FileList.csv": "FileName", "VolumeTracings.csv": "Frame"},
        hostile=hostile_echonet,
    ),
    "echonet-pediatric": Copy(
        make_pediatric,
        "A4C/Videos/CR1-CR1A4C-000001.avi",
        tables={"A4C/FileList.csv": "FileName", "PSAX/VolumeTracings.csv": "Frame"},
        hostile=hostile_pediatric,
    ),
    "cardiacuda": Copy(make_cardiacuda, "Site_G_20/patient-1-4_image.nii.gz"),
    "echocp": Copy(make_echocp, "EchoCP_dataset/001_r_label.nii.gz"),
    "cardiacnet": Copy(make_cardiacnet, "CardiacNet-PAH/PAH/001_image.nii"),
    "hmc-qu": Copy(make_hmc_qu, "HMC-QU/A4C/ES0001 _4CH_1.avi", hostile=hostile_hmc_qu),
    "ted": Copy(make_ted, "database/patient001/patient001_4CH_sequence.raw"),
    "unity": Copy(
        make_unity,
        f"png-cache/01/{name_of('one')[3:5]}/{name_of('one')[5:7]}/{name_of('one')}",
        tables={"view_index_20220705.csv": "view", "01_database_physical.csv": "PhysicalDeltaX"},
        hostile=hostile_unity,
    ),
    "folder": Copy(
        make_own,
        "images/p1.png",
        ["--classes", "LV"],
        tables={"cases.csv": "image"},
        hostile=lambda root: append(root / "cases.csv", "../../evil,p1.png,p1.png,LV,,clinic,pat9"),
    ),
}
