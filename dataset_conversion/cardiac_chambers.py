"""CardiacUDA, CardiacNet and EchoCP: four-chamber videos with the four chambers annotated in a few frames.

The three share their makers, file format and label values; only folders and names differ. CardiacUDA holds videos of
two hospitals, CardiacNet patients with pulmonary hypertension or atrial septal defect and controls, EchoCP videos with
contrast bubbles in the right heart.

References:
    Yang et al., "GraphEcho: Graph-Driven Unsupervised Domain Adaptation for Echocardiogram Video Segmentation", ICCV
    2023, https://github.com/xmed-lab/GraphEcho

    Yang et al., "CardiacNet: Learning to Reconstruct Abnormalities for Cardiac Disease Assessment from Echocardiogram
    Videos", ECCV 2024, https://github.com/xmed-lab/CardiacNet

    Wang et al., "EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen
    Ovale Diagnosis", MICCAI 2021, https://arxiv.org/abs/2105.08267
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

from nnunet_partial.dataset.images import NIFTI_ENDINGS
from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import FRAME_HASH, CaseLabels
from nnunet_partial.utils.text import format_names, format_values, printable

from .base import (
    DEPTH_MM,
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    SourceScan,
    add_depth_option,
    classes_in_mask,
    nominal_spacing_mm,
    not_found,
    require_depth,
    require_folder,
    require_identifier,
)
from .duplicates import frame_hash, link_duplicates
from .readers.nifti_video import NiftiVideo, read_nifti_header
from .readers.orientation import AS_STORED, DOUBTFUL, TRANSPOSED, orientation

#: The four chambers in the common order; written as 1, 2, 3, 4.
CHAMBERS = ("LV", "LA", "RV", "RA")

#: Meaning of the source values (https://github.com/xmed-lab/GraphEcho, datasets/cardiac_uda.py).
SOURCE_VALUES = {1: "LV", 2: "LA", 3: "RA", 4: "RV"}

#: The authors ignore frames with fewer annotated pixels than this.
MIN_ANNOTATED_PIXELS = 100

#: A spacing in a header is true where it is not the placeholder 1 x 1 mm and lies between these.
MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 1.5


@dataclass(frozen=True)
class CardiacFamily(DataSet):
    """Convert a dataset of the family; a subclass finds the files.

    Attributes:
        depth_mm: Nominal depth in mm, from the top to the bottom row, for videos whose header has no spacing.
    """

    depth_mm: float = DEPTH_MM

    classes: ClassVar[tuple[str, ...]] = CHAMBERS

    def __post_init__(self) -> None:
        """Check the options."""
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --depth-mm; see `DataSet.add_options`."""
        add_depth_option(parser, "where a file does not say its spacing")

    @property
    def reads_cut_off_labels(self) -> bool:
        """Return whether the complete frames of a label file that is cut off are converted."""
        return False

    @abstractmethod
    def find_videos(self) -> tuple[list[ChamberVideo], list[Note]]:
        """Find the videos.

        Returns:
            Every video with (or, as a `problem`, without) its label file; and notes about the folder.

        Raises:
            ConversionError: If the folder is not one of this dataset.
        """

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`.

        Reads the beginning of each video, to find those that occur more than once.
        """
        found, notes = self.find_videos()
        videos = [video if video.problem else replace(video, frame_hash=_hash(video.image)) for video in found]
        patients = link_duplicates((video.named_patient, video.frame_hash) for video in videos)
        return SourceScan([replace(video, patient=patients[video.named_patient]) for video in videos], notes)

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read the annotated frames of one video; see `DataSet.read`."""
        assert isinstance(source, ChamberVideo)
        if source.problem:
            raise ConversionError(source.problem)
        video, label = read_nifti_header(source.image), read_nifti_header(source.label)
        _require_same_size(video, label)
        require_identifier(source.identifier(0))
        if source.patient != source.named_patient:
            text = f"begins with the same frame as a video of {source.patient}: both count as one patient"
            yield Note(source.name, text)
        annotated = read_annotated_frames(label)
        if annotated.cut_off and not self.reads_cut_off_labels:
            raise ConversionError(annotated.cut_off)
        if annotated.cut_off:
            yield Note(source.name, f"{annotated.cut_off}; the frames before are converted")
        if not annotated.frames:
            raise ConversionError(f"{printable(source.label.name)} has no annotated frame")
        yield from self._cases(source, video, annotated)

    def _cases(
        self, source: ChamberVideo, video: NiftiVideo, annotated: AnnotatedFrames
    ) -> Iterator[ConvertedCase | Skipped | Note]:
        images, brightest = _annotated_images(video, annotated)
        stored = orientation(brightest)
        yield from _orientation_notes(source.name, stored)
        missing: dict[str, list[int]] = {}
        filled: dict[str, list[int]] = {}
        for frame, label in annotated.frames.items():
            try:
                mask, gained = _mask(label, source.contours)
            except ConversionError as problem:
                yield Skipped(source.identifier(frame), str(problem))
                continue
            pixels = int(np.count_nonzero(mask))
            if pixels < MIN_ANNOTATED_PIXELS:
                text = f"only {pixels} pixels are annotated; the authors ignore fewer than {MIN_ANNOTATED_PIXELS}"
                yield Skipped(source.identifier(frame), text, known_defect=True)
                continue
            for name in gained:
                filled.setdefault(name, []).append(frame)
            for value, name in enumerate(CHAMBERS, start=1):
                if not (mask == value).any():
                    missing.setdefault(name, []).append(frame)
            yield self._case(source, video, frame, images[frame], mask, stored)
        for name, frames in missing.items():
            yield Note(
                source.name, f"{name} is not annotated in {_frame_names(frames)}, though others are: unknown there"
            )
        for name, frames in filled.items():
            yield Note(source.name, f"holes in {name} were filled in {_frame_names(frames)}")

    def _case(
        self,
        source: ChamberVideo,
        video: NiftiVideo,
        frame: int,
        image: NDArray[Any],
        mask: NDArray[np.uint8],
        stored: str,
    ) -> ConvertedCase:
        header_mm = _spacing_mm(video)
        if stored == TRANSPOSED:
            image, mask = image.T, mask.T
            header_mm = None if header_mm is None else (header_mm[1], header_mm[0])
        spacing_mm = header_mm or nominal_spacing_mm(self.depth_mm, image.shape[0])
        entry = {
            "view": "4CH",
            "frame": frame,
            "interpolated": False,
            "spacing_known": header_mm is not None,
            "orientation": stored,
            "handedness": "as stored",
            FRAME_HASH: source.frame_hash,
            **source.info,
        }
        labels = CaseLabels.from_fields(
            annotated=classes_in_mask(mask, CHAMBERS),
            domain=self.name,
            patient=source.patient,
            info=entry,
        )
        return ConvertedCase(source.identifier(frame), image, mask, spacing_mm, labels)


#: Folder whose masks are lines, with a value of their own for RV.
CONTOUR_FOLDER = "label_all_frame"
LABEL_ALL_FRAME_CHOICES = ("skip", "fill")

#: Folder of the official release without annotations.
UNLABELED_FOLDER = "Site_R_73"

#: patient-5-4, patient5-4, normal-23-4: kind, number, view.
_CARDIACUDA_NAME = re.compile(r"(patient|normal)[-_]?(\d+)[-_](\d)", re.IGNORECASE)

#: 1 parasternal long axis, 2 pulmonary artery, 3 short axis, 4 apical four-chamber, 5 to 7 others.
_FOUR_CHAMBER = "4"


@dataclass(frozen=True)
class CardiacUDA(CardiacFamily):
    """Convert CardiacUDA, as released under the name CardiacUDC.

    Attributes:
        label_all_frame: "skip" leaves out the folder of this name; "fill" takes its lines as contours, fills them, and
            takes the value 6 as RV.
    """

    label_all_frame: str = "skip"

    name: ClassVar[str] = "cardiacuda"
    title: ClassVar[str] = "CardiacUDA: LV, LA, RV, RA in 4CH"
    description: ClassVar[str] = (
        "CardiacUDA (Yang et al. 2023), on Kaggle as CardiacUDC: four-chamber videos of two hospitals, the four "
        "chambers annotated in about five frames each, their walls not. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/cardiacudc-dataset; shown there under Apache-2.0. Give the "
        f"unpacked folder cardiacUDC_dataset with Site_G_100/ and the others. {CONTOUR_FOLDER}/ is annotated "
        "differently and left out, unless --label-all-frame fill."
    )
    default_name: ClassVar[str] = "CardiacUDA"
    reference: ClassVar[str] = "Yang et al. 2023, https://github.com/xmed-lab/GraphEcho"
    license: ClassVar[str] = "Apache-2.0 as shown on Kaggle; as a precaution not to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.label_all_frame not in LABEL_ALL_FRAME_CHOICES:
            raise ConversionError(
                f"label_all_frame is {self.label_all_frame!r}, expected one of {', '.join(LABEL_ALL_FRAME_CHOICES)}"
            )

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --depth-mm and --label-all-frame; see `DataSet.add_options`."""
        super().add_options(parser)
        parser.add_argument(
            "--label-all-frame",
            choices=LABEL_ALL_FRAME_CHOICES,
            default="skip",
            help=f"skip: leave the folder {CONTOUR_FOLDER} out; fill: take its lines as closed contours, fill them, "
            "and take its value 6 as RV (default: %(default)s)",
        )

    def find_videos(self) -> tuple[list[ChamberVideo], list[Note]]:
        """Find the videos of all folders; see `CardiacFamily.find_videos`."""
        videos: list[ChamberVideo] = []
        notes: list[Note] = []
        for folder, images, labels in self._folders():
            if folder.name == CONTOUR_FOLDER and self.label_all_frame == "skip":
                text = f"{len(images)} video(s) left out: lines with other values (--label-all-frame fill)"
                notes.append(Note(CONTOUR_FOLDER, text))
            elif folder.name == UNLABELED_FOLDER and not labels:
                notes.append(Note(UNLABELED_FOLDER, f"{len(images)} video(s) without annotations are left out"))
            else:
                videos += _cardiacuda_videos(folder, images, labels)
        return videos, notes

    def _folders(self) -> list[tuple[Path, dict[str, Path], dict[str, Path]]]:
        """List the folders with their images and labels. Raises ConversionError where there are none."""
        looked_for = "folders such as Site_G_100 with *_image.nii.gz and *_label.nii.gz"
        base = base_folder(self.root, "cardiacUDC_dataset", looked_for)
        below = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
        listed = [(folder, *_files_by_stem(folder)) for folder in below]
        folders = [(folder, images, labels) for folder, images, labels in listed if images or labels]
        if not folders:
            raise not_found(base, looked_for)
        return folders


def _cardiacuda_videos(folder: Path, images: Mapping[str, Path], labels: Mapping[str, Path]) -> Iterator[ChamberVideo]:
    """List the videos of one export of one hospital; numbers of patients restart in each."""
    for stem in sorted({*images, *labels}):
        name = printable(f"{folder.name}/{stem}")
        image, label = images.get(stem), labels.get(stem)
        problem = _pairing_problem(image, label)
        patient = f"cardiacuda_{folder.name}_{stem}"
        parsed = _CARDIACUDA_NAME.fullmatch(stem)
        if parsed is None:
            problem = problem or "its name is not such as patient-5-4_image.nii.gz or normal-23-4_image.nii.gz"
        else:
            patient = f"cardiacuda_{folder.name}_{parsed[1].lower()}{int(parsed[2])}"
            if parsed[3] != _FOUR_CHAMBER:
                problem = problem or f"it shows view {parsed[3]}, not 4: the label values mean something else there"
        yield ChamberVideo(
            name,
            f"cardiacuda_{folder.name}_{stem}",
            patient,
            image or folder,
            label or folder,
            info={"site": printable(folder.name)},
            contours=folder.name == CONTOUR_FOLDER,
            problem=problem,
        )


CUT_OFF_CHOICES = ("skip", "partial")


@dataclass(frozen=True)
class CardiacNet(CardiacFamily):
    """Convert CardiacNet.

    Attributes:
        cut_off: Of a label file that ends early, "skip" converts nothing, "partial" the complete frames.
    """

    cut_off: str = "skip"

    name: ClassVar[str] = "cardiacnet"
    title: ClassVar[str] = "CardiacNet: LV, LA, RV, RA in 4CH"
    description: ClassVar[str] = (
        "CardiacNet (Yang et al. 2024): four-chamber videos of patients with pulmonary arterial hypertension (PAH) or "
        "atrial septal defect (ASD) and of controls, the four chambers annotated in some frames. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/abnormcardiacechovideos (its authors want to be asked "
        "first). Give the unpacked folder CardiacNet with CardiacNet-PAH/ and CardiacNet-ASD/."
    )
    default_name: ClassVar[str] = "CardiacNet"
    reference: ClassVar[str] = "Yang et al. 2024, https://github.com/xmed-lab/CardiacNet"
    license: ClassVar[str] = "unclear: ask the authors; not to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.cut_off not in CUT_OFF_CHOICES:
            raise ConversionError(f"cut_off is {self.cut_off!r}, expected one of {', '.join(CUT_OFF_CHOICES)}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --depth-mm and --cut-off; see `DataSet.add_options`."""
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
        """Return whether the option asks for the complete frames."""
        return self.cut_off == "partial"

    def find_videos(self) -> tuple[list[ChamberVideo], list[Note]]:
        """Find the videos of all groups; see `CardiacFamily.find_videos`."""
        looked_for = "folders such as CardiacNet-PAH/Non-PAH with NNN_image.nii and NNN_label.nii"
        base = base_folder(self.root, "CardiacNet", looked_for)
        parts = sorted(path for path in base.glob("CardiacNet-*") if path.is_dir())
        groups = [group for part in parts for group in sorted(part.iterdir()) if group.is_dir()]
        videos = [video for group in groups for video in _cardiacnet_videos(group)]
        if not videos:
            raise not_found(base, looked_for)
        return videos, []


def _cardiacnet_videos(group: Path) -> Iterator[ChamberVideo]:
    """List the entries of PAH, Non-PAH, ASD or Non-ASD; each has its own numbers."""
    images, labels = _files_by_stem(group)
    for stem in sorted({*images, *labels}):
        name = printable(f"{group.name}/{stem}")
        key = f"cardiacnet_{group.name}_{stem}"
        info = {"group": printable(group.name)}
        problem = _pairing_problem(images.get(stem), labels.get(stem))
        image, label = images.get(stem, group), labels.get(stem, group)
        if problem is None:
            try:
                image, label = _single_file(image), _single_file(label)
                info["source_name"] = printable(image.name)
            except ConversionError as several:
                problem = str(several)
        yield ChamberVideo(name, key, key, image, label, info=info, problem=problem)


def _single_file(path: Path) -> Path:
    """Return the file itself, or the only one in a folder that has a file's name."""
    if not path.is_dir():
        return path
    inside = [
        file for file in sorted(path.iterdir()) if file.name.endswith(NIFTI_ENDINGS) and not file.name.startswith(".")
    ]
    if len(inside) != 1:
        names = format_names([printable(file.name) for file in inside])
        raise ConversionError(f"{printable(path.name)} is a folder with {names}; expected one .nii file in it")
    return inside[0]


#: 001_r, 030_v: patient, action.
_ECHOCP_NAME = re.compile(r"(\d{3})_([rv])")
_ACTIONS = {"r": "rest", "v": "valsalva"}


@dataclass(frozen=True)
class EchoCP(CardiacFamily):
    """Convert EchoCP.

    Bubbles change how the right heart looks, so it is a domain of its own in the manifest.
    """

    name: ClassVar[str] = "echocp"
    title: ClassVar[str] = "EchoCP: LV, LA, RV, RA in 4CH with contrast"
    description: ClassVar[str] = (
        "EchoCP (Wang et al. 2021): four-chamber videos of 30 patients at rest and under Valsalva, right heart filled "
        "with contrast bubbles, the four chambers annotated in some frames. Ask for it at "
        "https://www.kaggle.com/datasets/xiaoweixumedicalai/echocp; shown there under Apache-2.0. Give the unpacked "
        "folder EchoCP_dataset, or the one above it."
    )
    default_name: ClassVar[str] = "EchoCP"
    reference: ClassVar[str] = "Wang et al. 2021, https://arxiv.org/abs/2105.08267"
    license: ClassVar[str] = "Apache-2.0 as shown on Kaggle; as a precaution not to be passed on"

    def find_videos(self) -> tuple[list[ChamberVideo], list[Note]]:
        """Find the videos of the folder; see `CardiacFamily.find_videos`."""
        looked_for = "files such as 001_r_image.nii.gz and 001_r_label.nii.gz"
        folder = base_folder(self.root, "EchoCP_dataset", looked_for)
        videos = list(_echocp_videos(folder))
        if not videos:
            raise not_found(folder, looked_for)
        return videos, []


def _echocp_videos(folder: Path) -> Iterator[ChamberVideo]:
    images, labels = _files_by_stem(folder)
    for stem in sorted({*images, *labels}):
        image, label = images.get(stem), labels.get(stem)
        parsed = _ECHOCP_NAME.fullmatch(stem)
        problem = _pairing_problem(image, label)
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


@dataclass(frozen=True)
class ChamberVideo(SourceItem):
    """Represent one video with its label file.

    Attributes:
        stem: Beginning of the identifiers of its cases.
        named_patient: Patient by the file name.
        image: Image file, or its folder where it is missing.
        label: Label file, or its folder where it is missing.
        patient: Patient for the manifest, shared by all videos that begin with the same frame.
        frame_hash: Hash of the first frame; see `duplicates.frame_hash`.
        info: Further entries for the manifest.
        contours: Whether the label file holds lines, which are filled.
        problem: Why nothing of the video can be converted; None if it can.
    """

    stem: str
    named_patient: str
    image: Path
    label: Path
    patient: str = ""
    frame_hash: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    contours: bool = False
    problem: str | None = None

    def identifier(self, frame: int) -> str:
        """Return the identifier of a case.

        Args:
            frame: Number, from 0.

        Returns:
            Such as cardiacuda_Site_G_20_patient-5-4_4CH_F012.
        """
        return f"{self.stem}_4CH_F{frame:03d}"


def base_folder(root: Path, place: str, looked_for: str) -> Path:
    """Find the folder of the dataset.

    Args:
        root: Folder that the user names.
        place: Folder of the dataset below it.
        looked_for: What was expected, for the error.

    Returns:
        `root`, or the folder `place` in it.

    Raises:
        ConversionError: If there is no such folder, it is empty, or it holds an archive in parts.
    """
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


def _stem(path: Path, what: str) -> str | None:
    """Return patient-5-4 for patient-5-4_image.nii.gz, if `what` is "image"; None for other names and hidden files."""
    for ending in NIFTI_ENDINGS:
        if path.name.endswith(f"_{what}{ending}") and not path.name.startswith("."):
            return path.name.removesuffix(f"_{what}{ending}")
    return None


def _files_by_stem(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """List images and labels by stem, sorted. Raises ConversionError for one that exists both compressed and not."""
    files: dict[str, dict[str, Path]] = {"image": {}, "label": {}}
    for path in sorted(folder.iterdir()):
        for what, listed in files.items():
            stem = _stem(path, what)
            if stem is not None and listed.setdefault(stem, path) != path:
                other = printable(listed[stem].name)
                raise ConversionError(f"{printable(folder.name)} holds {other} and {printable(path.name)}. Leave one.")
    return files["image"], files["label"]


def _pairing_problem(image: Path | None, label: Path | None) -> str | None:
    """Say which file of a pair is missing; None if both exist."""
    if image is None:
        return "there is a label file, but no image file"
    return "there is no label file" if label is None else None


def _hash(path: Path) -> str | None:
    """Hash the first frame; None where the file cannot be read, which `read` then reports."""
    try:
        return frame_hash(read_nifti_header(path))
    except ConversionError:
        return None


def _require_same_size(video: NiftiVideo, label: NiftiVideo) -> None:
    if video.shape != label.shape:
        raise ConversionError(f"image and label differ in size: {video.shape} and {label.shape} (rows, columns)")
    if video.length != label.length:
        each = " and ".join("a single image" if v.is_image else f"{v.length} frames" for v in (video, label))
        raise ConversionError(f"image and label differ in length: {each}")


#: Rounds of erosion that leave no pixel of a contour that encloses nothing.
_EROSIONS = 2


@dataclass(frozen=True)
class AnnotatedFrames:
    """Hold the frames of a label file that are not empty.

    Attributes:
        frames: Label values (rows, cols) as stored, by number from 0.
        cut_off: Why the file ends early; None if it is complete.
    """

    frames: Mapping[int, NDArray[Any]]
    cut_off: str | None = None


def read_annotated_frames(label: NiftiVideo) -> AnnotatedFrames:
    """Read the annotated frames of a label file.

    In these videos a frame without any labeled pixel was not annotated; it is not an empty heart.

    Args:
        label: The label file.

    Returns:
        The frames; empty if nothing is annotated.
    """
    frames: dict[int, NDArray[Any]] = {}
    try:
        for number, frame in enumerate(label.frames()):
            if frame.any():
                frames[number] = frame
    except ConversionError as problem:
        return AnnotatedFrames(frames, str(problem))
    return AnnotatedFrames(frames)


def relabel_chambers(frame: NDArray[Any], further: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """Replace the source values of a frame by those of CHAMBERS.

    Args:
        frame: Label values (rows, cols) as stored.
        further: Further source values and their meaning.

    Returns:
        Mask of the same shape.

    Raises:
        ConversionError: If the frame has another value.
    """
    meaning = {**SOURCE_VALUES, **(further or {})}
    unexpected = [value for value in np.unique(frame).tolist() if value not in {0, *meaning}]
    if unexpected:
        known = ", ".join(f"{value} {name}" for value, name in SOURCE_VALUES.items())
        raise ConversionError(
            f"the label holds the value(s) {format_values(unexpected)}; expected only 0 background, {known}"
        )
    mask = np.zeros(frame.shape, np.uint8)
    for value, name in meaning.items():
        mask[frame == value] = CHAMBERS.index(name) + 1
    return mask


def fill_holes(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Fill the holes of each chamber.

    Only background is filled: what is annotated inside another chamber stays.

    Args:
        mask: Values of CHAMBERS (rows, cols).

    Returns:
        The filled mask, and the number of pixels that each chamber gained; chambers without a hole are left out.
    """
    from scipy.ndimage import binary_fill_holes

    filled, gained = mask.copy(), {}
    for value, name in enumerate(CHAMBERS, start=1):
        hole = binary_fill_holes(mask == value) & (filled == 0)
        if hole.any():
            filled[hole] = value
            gained[name] = int(hole.sum())
    return filled, gained


def open_contours(mask: NDArray[np.uint8]) -> Iterator[str]:
    """Find the chambers that are only a thin line: a contour with a gap, which cannot be filled.

    Args:
        mask: Values of CHAMBERS (rows, cols).

    Yields:
        Name of a chamber.
    """
    from scipy.ndimage import binary_erosion

    for value, name in enumerate(CHAMBERS, start=1):
        chamber = mask == value
        if chamber.any() and not binary_erosion(chamber, iterations=_EROSIONS, border_value=1).any():
            yield name


def _annotated_images(video: NiftiVideo, annotated: AnnotatedFrames) -> tuple[dict[int, NDArray[Any]], NDArray[Any]]:
    """Return the annotated frames by number, and the maximum over the whole video (rows, cols)."""
    images: dict[int, NDArray[Any]] = {}
    brightest: NDArray[Any] = np.zeros((0, 0))
    for number, frame in enumerate(video.frames()):
        brightest = frame if number == 0 else np.maximum(brightest, frame)
        if number in annotated.frames:
            images[number] = frame
    return images, brightest


def _orientation_notes(name: str, stored: str) -> Iterator[Note]:
    if stored == TRANSPOSED:
        yield Note(name, "the sector lay on its side; rows and columns of images and labels were exchanged")
    elif stored == DOUBTFUL:
        yield Note(name, "the sector is not narrow at the top, however it is turned; it stays as stored: check it")
    else:
        assert stored == AS_STORED


def _mask(label: NDArray[Any], contours: bool) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Return the chambers of one frame, and what filling holes added.

    `contours`: the labels are lines, and the value 6 means RV, too.
    """
    mask, gained = fill_holes(relabel_chambers(label, {6: "RV"} if contours else None))
    gaps = list(open_contours(mask)) if contours else []
    if gaps:
        raise ConversionError(f"the contour of {format_names(gaps)} is not closed, so that its area is unknown")
    return mask, {} if contours else gained


def _spacing_mm(video: NiftiVideo) -> tuple[float, float] | None:
    """Return the height and width of a pixel; None where the header holds placeholders."""
    spacing_mm = video.spacing_mm
    plausible = spacing_mm is not None and all(MIN_SPACING_MM <= mm <= MAX_SPACING_MM for mm in spacing_mm)
    return spacing_mm if plausible else None


def _frame_names(numbers: Sequence[int]) -> str:
    return format_names([f"F{number:03d}" for number in numbers], 5)
