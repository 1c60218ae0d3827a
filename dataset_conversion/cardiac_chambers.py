"""The Guangdong family (CardiacUDA, EchoCP, CardiacNet): four-chamber videos with the chambers drawn in a few frames.

They share their makers, their file format and their label numbers; only folders and names differ.

The drawn frames of a four-chamber video: which there are, whether their numbers make sense, and small mends.

CardiacUDA: four-chamber videos of two hospitals, with all four chambers drawn in about five frames each.

Yang et al., "GraphEcho: Graph-Driven Unsupervised Domain Adaptation for Echocardiogram Video Segmentation", ICCV 2023,
https://github.com/xmed-lab/GraphEcho

CardiacNet: four-chamber videos of patients with pulmonary hypertension or atrial septal defect, and of controls.

Yang et al., "CardiacNet: Learning to Reconstruct Abnormalities for Cardiac Disease Assessment from Echocardiogram
Videos", ECCV 2024, https://github.com/xmed-lab/CardiacNet

EchoCP: four-chamber videos with contrast bubbles in the right heart, the four chambers drawn in a few frames.

Wang et al., "EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen Ovale
Diagnosis", MICCAI 2021, https://arxiv.org/abs/2105.08267
"""

from __future__ import annotations

import argparse
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import format_names, format_values, printable

from .base import (
    DEPTH_MM,
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    add_depth_option,
    not_found,
    require_depth,
    require_folder,
    require_identifier,
)
from .duplicates import FRAME_HASH, frame_hash, link_duplicates
from .readers.nifti_video import NiftiVideo, read_nifti_header
from .readers.orientation import AS_STORED, DOUBTFUL, TRANSPOSED, orientation

#: The four chambers in the common order; written as 1, 2, 3, 4.
CLASSES = ("LV", "LA", "RV", "RA")
#: What the source files mean: 1 LV, 2 LA, 3 RA, 4 RV (https://github.com/xmed-lab/GraphEcho, datasets/cardiac_uda.py).
MEANING = {1: "LV", 2: "LA", 3: "RA", 4: "RV"}

#: The authors ignore frames with fewer drawn pixels than this.
FEWEST_PIXELS = 100

#: An outline that encloses nothing is this thin: two rounds of erosion leave no pixel.
_THIN = 2


@dataclass
class AnnotatedFrame:
    """The frames of a label file that are not empty, by number from 0, as stored; `cut_off`: why it ends early."""

    frames: dict[int, NDArray[Any]] = field(default_factory=dict)
    cut_off: str | None = None


def annotated_frames(video: NiftiVideo) -> AnnotatedFrame:
    """In these videos a frame without any drawn pixel is a frame that nobody annotated, not an empty heart."""
    found = AnnotatedFrame()
    try:
        for number, frame in enumerate(video.frames()):
            if frame.any():
                found.frames[number] = frame
    except ConversionError as problem:
        found.cut_off = str(problem)
    return found


def common_numbers(frame: NDArray[Any], also: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """A drawn frame (rows, cols) in the numbers of CLASSES.

    `also`: further source numbers and what they mean. Raises ConversionError for a number that nobody knows.
    """
    meaning = {**MEANING, **(also or {})}
    strange = [value for value in np.unique(frame).tolist() if value not in {0, *meaning}]
    if strange:
        listed = ", ".join(f"{value:g}" for value in strange[:10])
        known = ", ".join(f"{value} {name}" for value, name in MEANING.items())
        raise ConversionError(f"the label holds the value(s) {listed}; expected only 0 background, {known}")
    common = np.zeros(frame.shape, np.uint8)
    for value, name in meaning.items():
        common[frame == value] = CLASSES.index(name) + 1
    return common


def without_holes(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """The mask with the holes of each chamber filled, and how many pixels each gained.

    Only background is filled: what is drawn inside another chamber stays.
    """
    from scipy.ndimage import binary_fill_holes

    filled, gained = mask.copy(), {}
    for value, name in enumerate(CLASSES, start=1):
        hole = binary_fill_holes(mask == value) & (filled == 0)
        if hole.any():
            filled[hole] = value
            gained[name] = int(hole.sum())
    return filled, gained


def open_contours(mask: NDArray[np.uint8]) -> Iterator[str]:
    """The chambers that are nothing but a thin line: an outline with a gap, which no filling makes an area."""
    from scipy.ndimage import binary_erosion

    for value, name in enumerate(CLASSES, start=1):
        here = mask == value
        if here.any() and not binary_erosion(here, iterations=_THIN, border_value=1).any():
            yield name


ENDINGS = (".nii.gz", ".nii")

#: A header says the true spacing where it is not the dummy 1 x 1 mm and lies between these, in mm.
SMALLEST_MM, LARGEST_MM = 0.05, 1.5


@dataclass(frozen=True)
class ChamberVideo(SourceItem):
    """One video with its label file. `problem`: why none of it can be converted.

    `patient` is shared by all videos that begin with the same frame; `own_patient` is what the file's name says.
    """

    stem: str
    own_patient: str
    image: Path
    label: Path
    patient: str = ""
    frame_hash: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    outlines: bool = False
    problem: str | None = None

    def identifier(self, frame: int) -> str:
        """cardiacuda_Site_G_20_patient-5-4_4CH_F012, frames from 0."""
        return f"{self.stem}_4CH_F{frame:03d}"


@dataclass(frozen=True)
class CardiacFamily(DataSet):
    """What the datasets of the family have in common; a subclass finds the files.

    `depth_mm`: how deep a picture is taken to be, from the top to the bottom row, where its header does not say.
    """

    depth_mm: float = DEPTH_MM

    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self) -> None:
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add_depth_option(parser, "where a file does not say its spacing")

    @property
    def reads_cut_off_labels(self) -> bool:
        """Whether the whole frames of a label file that is cut off are taken; else the video is left out."""
        return False

    @abstractmethod
    def videos(self) -> Sequence[ChamberVideo]:
        """Every video with (or, as a `problem`, without) its label file. Raises ConversionError for a wrong folder."""

    def sources(self) -> Sequence[ChamberVideo]:
        """Looks at the beginning of each video, to find those that are there twice."""
        seen = [video if video.problem else replace(video, frame_hash=_hash(video.image)) for video in self.videos()]
        person = link_duplicates((video.own_patient, video.frame_hash) for video in seen)
        return [replace(video, patient=person[video.own_patient]) for video in seen]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, ChamberVideo)
        if source.problem:
            raise ConversionError(source.problem)
        image, label = read_nifti_header(source.image), read_nifti_header(source.label)
        _require_same_size(image, label)
        require_identifier(source.identifier(0))
        if source.patient != source.own_patient:
            text = f"begins with the same frame as a video of {source.patient}: both count as one patient"
            yield Note(source.name, text)
        drawn = annotated_frames(label)
        if drawn.cut_off and not self.reads_cut_off_labels:
            raise ConversionError(drawn.cut_off)
        if drawn.cut_off:
            yield Note(source.name, f"{drawn.cut_off}; the frames before are taken")
        if not drawn.frames:
            raise ConversionError(f"{printable(source.label.name)} has no frame in which anything is drawn")
        yield from self._cases(source, image, drawn)

    def _cases(
        self, source: ChamberVideo, image: NiftiVideo, drawn: AnnotatedFrame
    ) -> Iterator[ConvertedCase | Skipped | Note]:
        pictures, brightest = _pictures(image, drawn)
        way_up = orientation(brightest)
        yield from _about_orientation(source.name, way_up)
        missing: dict[str, list[int]] = {}
        filled: dict[str, list[int]] = {}
        for frame, label in drawn.frames.items():
            try:
                mask, gained = _mask(label, source.outlines)
            except ConversionError as problem:
                yield Skipped(source.identifier(frame), str(problem))
                continue
            pixels = int(np.count_nonzero(mask))
            if pixels < FEWEST_PIXELS:
                text = f"only {pixels} pixels are drawn; the authors ignore frames with fewer than {FEWEST_PIXELS}"
                yield Skipped(source.identifier(frame), text, known_defect=True)
                continue
            for name in gained:
                filled.setdefault(name, []).append(frame)
            for value, name in enumerate(CLASSES, start=1):
                if not (mask == value).any():
                    missing.setdefault(name, []).append(frame)
            yield self._case(source, image, frame, pictures[frame], mask, way_up)
        for name, frames in missing.items():
            yield Note(source.name, f"{name} is not drawn in {_frames(frames)}, though others are: unknown there")
        for name, frames in filled.items():
            yield Note(source.name, f"holes in {name} were filled in {_frames(frames)}")

    def _case(
        self,
        source: ChamberVideo,
        image: NiftiVideo,
        frame: int,
        picture: NDArray[Any],
        mask: NDArray[np.uint8],
        way_up: str,
    ) -> ConvertedCase:
        spacing_mm = _spacing_mm(image)
        if way_up == TRANSPOSED:
            picture, mask = picture.T, mask.T
            spacing_mm = None if spacing_mm is None else (spacing_mm[1], spacing_mm[0])
        pixel_mm = self.depth_mm / picture.shape[0]
        entry = {
            "view": "4CH",
            "frame": frame,
            "interpolated": False,
            "spacing_known": spacing_mm is not None,
            "orientation": way_up,
            "handedness": "as stored",
            FRAME_HASH: source.frame_hash,
            **source.info,
        }
        labels = CaseLabels.from_fields(
            annotated=tuple(name for value, name in enumerate(CLASSES, start=1) if (mask == value).any()),
            domain=self.name,
            patient=source.patient,
            info=entry,
        )
        return ConvertedCase(source.identifier(frame), picture, mask, spacing_mm or (pixel_mm, pixel_mm), labels)


def _hash(path: Path) -> str | None:
    """None where the file cannot be read; `read` says why."""
    try:
        return frame_hash(read_nifti_header(path))
    except ConversionError:
        return None


def _require_same_size(image: NiftiVideo, label: NiftiVideo) -> None:
    if image.shape != label.shape:
        raise ConversionError(f"image and label differ in size: {image.shape} and {label.shape} (rows, columns)")
    if image.length != label.length:
        each = " and ".join("a single picture" if v.is_image else f"{v.length} frames" for v in (image, label))
        raise ConversionError(f"image and label differ in length: {each}")


def _pictures(image: NiftiVideo, drawn: AnnotatedFrame) -> tuple[dict[int, NDArray[Any]], NDArray[Any]]:
    """The frames that are drawn, by number, and the maximum over the whole video (rows, cols)."""
    pictures: dict[int, NDArray[Any]] = {}
    brightest: NDArray[Any] = np.zeros((0, 0))
    for number, frame in enumerate(image.frames()):
        brightest = frame if number == 0 else np.maximum(brightest, frame)
        if number in drawn.frames:
            pictures[number] = frame
    return pictures, brightest


def _about_orientation(name: str, way_up: str) -> Iterator[Note]:
    if way_up == TRANSPOSED:
        yield Note(name, "the sector lay on its side; rows and columns of pictures and labels were exchanged")
    elif way_up == DOUBTFUL:
        yield Note(name, "the sector is not narrow at the top, however it is turned; it stays as stored: look at it")
    else:
        assert way_up == AS_STORED


def _mask(label: NDArray[Any], outlines: bool) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """The chambers of one frame, and what filling holes added. `outlines`: lines are drawn, and 6 means RV, too."""
    mask, gained = without_holes(common_numbers(label, {6: "RV"} if outlines else None))
    gaps = list(open_contours(mask)) if outlines else []
    if gaps:
        raise ConversionError(f"the outline of {format_names(gaps)} is not closed, so that nobody knows its area")
    return mask, {} if outlines else gained


def _spacing_mm(image: NiftiVideo) -> tuple[float, float] | None:
    """The pixel's height and width, or None where the header holds dummies."""
    believable = all(SMALLEST_MM <= mm <= LARGEST_MM for mm in image.spacing_mm)
    return image.spacing_mm if believable and image.spacing_mm != (1.0, 1.0) else None


def _frames(numbers: Sequence[int]) -> str:
    return f"frame {numbers[0]}" if len(numbers) == 1 else f"the frames {format_values(numbers, 5)}"


# --- finding files -------------------------------------------------------------------------------------------------


def base_folder(root: Path, place: str, looked_for: str) -> Path:
    """`root`, or the folder `place` in it. Raises ConversionError for no folder, and for an archive in parts."""
    require_folder(root)
    parts = [path.name for path in root.iterdir() if path.suffix.lower() in (".change2zip", ".z01")]
    folder = root / place if (root / place).is_dir() else root
    if folder == root and parts and not any(path.is_dir() for path in root.iterdir()):
        raise ConversionError(
            f"{printable(str(root))} holds an archive in parts "
            f"({format_names([printable(part) for part in parts])}). Rename "
            "the .change2zip to .zip, join the parts with `zip -s 0 NAME.zip --out whole.zip`, unpack that, and give "
            "the folder."
        )
    if not any(folder.iterdir()):
        raise not_found(folder, looked_for)
    return folder


def stem_of(path: Path, what: str) -> str | None:
    """patient-5-4 for patient-5-4_image.nii.gz, if `what` is "image"; None for other names and hidden files."""
    for ending in ENDINGS:
        if path.name.endswith(f"_{what}{ending}") and not path.name.startswith("."):
            return path.name.removesuffix(f"_{what}{ending}")
    return None


def by_stem(folder: Path, what: str) -> dict[str, Path]:
    """Images ("image") or labels ("label") of a folder by stem, sorted. Raises ConversionError for one that is there
    twice, compressed and not."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = stem_of(path, what)
        if stem is not None and found.setdefault(stem, path) != path:
            raise ConversionError(
                f"{printable(folder.name)} holds {printable(found[stem].name)} and {printable(path.name)}. Leave one."
            )
    return found


def pairing_problem(image: Path | None, label: Path | None) -> str | None:
    """What is missing of a pair, in words."""
    if image is None:
        return "there is a label file, but no image file"
    return "there is no label file" if label is None else None


#: The folder whose masks are lines and have a number of their own.
OUTLINES = "label_all_frame"
OUTLINES_CHOICES = ("skip", "fill")
#: Nobody drew anything in this folder of the official release.
UNLABELLED = "Site_R_73"

#: patient-5-4, patient5-4, normal-23-4: kind, number, view.
_UDA_NAME = re.compile(r"(patient|normal)[-_]?(\d+)[-_](\d)", re.IGNORECASE)
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
            for video in _uda_in_folder(folder)
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


def _uda_in_folder(folder: Path) -> Iterator[ChamberVideo]:
    """The videos of one export of one hospital; numbers of patients restart in each."""
    images, labels = by_stem(folder, "image"), by_stem(folder, "label")
    if folder.name == UNLABELLED and not labels:
        return
    for stem in sorted({*images, *labels}):
        name = printable(f"{folder.name}/{stem}")
        image, label = images.get(stem), labels.get(stem)
        problem = pairing_problem(image, label)
        patient = f"cardiacuda_{folder.name}_{stem}"
        parsed = _UDA_NAME.fullmatch(stem)
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
        names = format_names([printable(file.name) for file in inside])
        raise ConversionError(f"{printable(path.name)} is a folder with {names}; expected one .nii file in it")
    return inside[0]


#: 001_r, 030_v: patient, action.
_ECHOCP_NAME = re.compile(r"(\d{3})_([rv])")
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
        found = list(_echocp_in_folder(folder))
        if not found:
            raise not_found(folder, looked_for)
        return found


def _echocp_in_folder(folder: Path) -> Iterator[ChamberVideo]:
    images, labels = by_stem(folder, "image"), by_stem(folder, "label")
    for stem in sorted({*images, *labels}):
        image, label = images.get(stem), labels.get(stem)
        parsed = _ECHOCP_NAME.fullmatch(stem)
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
