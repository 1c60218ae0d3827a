"""The Guangdong family (CardiacUDA, EchoCP, CardiacNet): four-chamber videos with the chambers drawn in a few frames.

They share their makers, their file format and their label numbers; only folders and names differ.
"""

from __future__ import annotations

import argparse
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import printable, some

from .case import Case, Note, Skipped, Source, require_identifier
from .data_set import DataSet, not_found, require_folder
from .four_chambers import CLASSES, FEWEST_PIXELS, Drawn, common_numbers, drawn_frames, open_outlines, without_holes
from .nifti_video import NiftiVideo, nifti_video
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .same_people import FRAME_HASH, frame_hash, groups
from .sector import AS_STORED, DOUBTFUL, TRANSPOSED, orientation

ENDINGS = (".nii.gz", ".nii")

#: A header says the true pixel size where it is not the dummy 1 x 1 mm and lies between these, in mm.
SMALLEST_MM, LARGEST_MM = 0.05, 1.5


@dataclass(frozen=True)
class ChamberVideo(Source):
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
    """What the data sets of the family have in common; a subclass finds the files.

    `depth_mm`: how deep a picture is taken to be, from the top to the bottom row, where its header does not say.
    """

    depth_mm: float = DEPTH_MM

    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self) -> None:
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add_depth_option(parser, "where a file does not say its pixel size")

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
        person = groups((video.own_patient, video.frame_hash) for video in seen)
        return [replace(video, patient=person[video.own_patient]) for video in seen]

    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
        assert isinstance(source, ChamberVideo)
        if source.problem:
            raise ConversionError(source.problem)
        image, label = nifti_video(source.image), nifti_video(source.label)
        _require_same_size(image, label)
        require_identifier(source.identifier(0))
        if source.patient != source.own_patient:
            text = f"begins with the same frame as a video of {source.patient}: both count as one patient"
            yield Note(source.name, text)
        drawn = drawn_frames(label)
        if drawn.cut_off and not self.reads_cut_off_labels:
            raise ConversionError(drawn.cut_off)
        if drawn.cut_off:
            yield Note(source.name, f"{drawn.cut_off}; the frames before are taken")
        if not drawn.frames:
            raise ConversionError(f"{printable(source.label.name)} has no frame in which anything is drawn")
        yield from self._cases(source, image, drawn)

    def _cases(self, source: ChamberVideo, image: NiftiVideo, drawn: Drawn) -> Iterator[Case | Skipped | Note]:
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
    ) -> Case:
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
        labels = CaseLabels(
            annotated=tuple(name for value, name in enumerate(CLASSES, start=1) if (mask == value).any()),
            domain=self.name,
            patient=source.patient,
            info={key: value for key, value in entry.items() if value is not None},
        )
        return Case(source.identifier(frame), picture, mask, spacing_mm or (pixel_mm, pixel_mm), labels)


def _hash(path: Path) -> str | None:
    """None where the file cannot be read; `read` says why."""
    try:
        return frame_hash(nifti_video(path))
    except ConversionError:
        return None


def _require_same_size(image: NiftiVideo, label: NiftiVideo) -> None:
    if image.shape != label.shape:
        raise ConversionError(f"image and label differ in size: {image.shape} and {label.shape} (rows, columns)")
    if image.length != label.length:
        each = " and ".join("a single picture" if v.flat else f"{v.length} frames" for v in (image, label))
        raise ConversionError(f"image and label differ in length: {each}")


def _pictures(image: NiftiVideo, drawn: Drawn) -> tuple[dict[int, NDArray[Any]], NDArray[Any]]:
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
    gaps = list(open_outlines(mask)) if outlines else []
    if gaps:
        raise ConversionError(f"the outline of {some(gaps)} is not closed, so that nobody knows its area")
    return mask, {} if outlines else gained


def _spacing_mm(image: NiftiVideo) -> tuple[float, float] | None:
    """The pixel's height and width, or None where the header holds dummies."""
    believable = all(SMALLEST_MM <= mm <= LARGEST_MM for mm in image.spacing_mm)
    return image.spacing_mm if believable and image.spacing_mm != (1.0, 1.0) else None


def _frames(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"frame {shown}" if len(numbers) == 1 else f"the frames {shown}"


# --- finding files -------------------------------------------------------------------------------------------------


def base_folder(root: Path, place: str, looked_for: str) -> Path:
    """`root`, or the folder `place` in it. Raises ConversionError for no folder, and for an archive in parts."""
    require_folder(root)
    parts = [path.name for path in root.iterdir() if path.suffix.lower() in (".change2zip", ".z01")]
    folder = root / place if (root / place).is_dir() else root
    if folder == root and parts and not any(path.is_dir() for path in root.iterdir()):
        raise ConversionError(
            f"{printable(str(root))} holds an archive in parts ({some([printable(part) for part in parts])}). Rename "
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
