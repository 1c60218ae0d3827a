"""Tiny CAMUS and EchoNet-Dynamic folders, made by hand: a few pixels, every number known, defects on demand.

A tiny copy of Unity, made by hand: stills of 40 x 40 pixels, and label files with whatever a test wants in them.

Tiny four-chamber videos in the layouts of CardiacUDA, EchoCP and CardiacNet: every number known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

ROWS, COLS = 10, 8
CFG = "ED: 1\nES: 3\nNbFrame: 3\nSex: F\nAge: 56\nImageQuality: Good\nEF: 54\nFrameRate: 52.4\n"


def write_nifti(path: Path, array: NDArray[Any], spacing_mm: Sequence[float] = (0.3, 0.3)) -> None:
    """`spacing_mm`: width and height of a pixel, as in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(spacing_mm)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def still(gray: int) -> NDArray[np.uint8]:
    """(10, 8), `gray` all over and a white mark at the top left: row 1, column 2."""
    image = np.full((ROWS, COLS), gray, np.uint8)
    image[1, 2] = 255
    return image


def drawn() -> NDArray[np.uint8]:
    """(10, 8): LV 6 pixels in rows 2-4, MYO 2 beside them, LA 4 in rows 7-8."""
    mask = np.zeros((ROWS, COLS), np.uint8)
    mask[2:5, 3:5] = 1
    mask[2, 5:7] = 2
    mask[7:9, 3:5] = 3
    return mask


def camus_view(
    root: Path, patient: str, view: str = "2CH", cfg: str | None = CFG, spacing_mm: Sequence[float] = (0.3, 0.3)
) -> Path:
    """ED (gray 10), ES (gray 30) and a half sequence of the grays 10, 20, 30. Returns the patient's folder."""
    folder = root / "database_nifti" / patient
    stem = f"{patient}_{view}"
    for phase, gray in (("ED", 10), ("ES", 30)):
        write_nifti(folder / f"{stem}_{phase}.nii.gz", still(gray), spacing_mm)
        write_nifti(folder / f"{stem}_{phase}_gt.nii.gz", drawn(), spacing_mm)
    write_nifti(
        folder / f"{stem}_half_sequence.nii.gz", np.stack([still(g) for g in (10, 20, 30)]), (*spacing_mm, 1.54)
    )
    write_nifti(folder / f"{stem}_half_sequence_gt.nii.gz", np.stack([drawn()] * 3), (*spacing_mm, 1.54))
    if cfg is not None:
        (folder / f"Info_{view}.cfg").write_bytes(cfg.encode())
    return folder


def camus_split(root: Path, training: str = "", validation: str = "", testing: str = "") -> None:
    """Each list as patients separated by spaces."""
    folder = root / "database_split"
    folder.mkdir(parents=True)
    for part, text in (("training", training), ("validation", validation), ("testing", testing)):
        (folder / f"subgroup_{part}.txt").write_text("".join(f"{name}\n" for name in text.split()))


def write_video(
    path: Path,
    frames: int,
    shape: tuple[int, int] = (32, 48),
    codec: str = "mjpeg",
    lost: Collection[int] = (),
    hidden: int = 0,
    aspect: int = 1,
) -> None:
    """Frame i is gray 10 * i all over, stored as brightness (motion JPEG keeps it exactly).

    `lost`: frames that the container lacks; `hidden`: first frames that an edit list of MP4 hides; `aspect`: width of a
    pixel in multiples of its height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols = shape
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    edits = {"avoid_negative_ts": "disabled", "use_editlist": "1"} if hidden else {}
    packets = []
    with av.open(str(path), "w", options=edits) as container:
        stream = container.add_stream(codec, rate=50, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = cols, rows, pixel_format
        stream.sample_aspect_ratio = Fraction(aspect)
        for index in range(frames):
            planes = np.full((rows * 3 // 2, cols), 128, np.uint8)
            planes[:rows] = 10 * index % 256 if codec == "mjpeg" else 16 + round(10 * index % 256 * 219 / 255)
            packets += stream.encode(av.VideoFrame.from_ndarray(planes, format=pixel_format))
        for number, packet in enumerate([*packets, *stream.encode()]):
            if number not in lost:
                packet.pts, packet.dts = packet.pts - hidden, packet.dts - hidden
                container.mux(packet)


def chords(
    left: float = 10, right: float = 20, top: float = 5, bottom: float = 24, number: int = 20
) -> list[list[float]]:
    """A rectangle as EchoNet would trace it: the long axis, then horizontal chords at even steps from top to bottom.

    By default the chords lie on the rows 5, 6, ..., 24 and reach from column 10 to 20: 20 x 11 = 220 pixels.
    """
    middle = (left + right) / 2
    axis = [middle, top - 2, middle, bottom + 1]
    return [axis, *([left, y, right, y] for y in np.linspace(top, bottom, number).tolist())]


Frames = Mapping[int, Sequence[Sequence[float]]]


def tracing_text(tracings: Mapping[str, Frames]) -> str:
    """VolumeTracings.csv for frames by file name."""
    lines = ["FileName,X1,Y1,X2,Y2,Frame"]
    for name, frames in tracings.items():
        for frame, rows in frames.items():
            lines += [",".join([name, *(f"{value:.4f}" for value in row), str(frame)]) for row in rows]
    return "\n".join(lines) + "\n"


def echonet(root: Path, tracings: Mapping[str, Frames], splits: Mapping[str, str], length: int = 8) -> Path:
    """A folder with a video of `length` frames (32, 48) for each stem of `splits`, and the tracings by stem."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    lines += [f"{stem},60.5,40,100,32,48,50,{length},{split}" for stem, split in splits.items()]
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")
    (root / "VolumeTracings.csv").write_text(tracing_text({f"{stem}.avi": frames for stem, frames in tracings.items()}))
    (root / "Videos").mkdir(exist_ok=True)
    for stem in splits:
        write_video(root / "Videos" / f"{stem}.avi", length)
    return root


def read_nifti(path: Path) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Array and spacing (height, width)."""
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), tuple(reversed(image.GetSpacing()))


#: An open outline from hinge to hinge; closed below, its points are the corners of columns 10 to 30, rows 10 to 30.
CUP = {"type": "curve", "x": "10 10 10 20 30 30 30", "y": "30 20 10 10 10 20 30"}
OFF = {"type": "off", "x": "", "y": ""}
BLURRED = {"type": "blurred", "x": "", "y": ""}


def name_of(video: str, frame: int = 1) -> str:
    """The file name of a picture, with a hash made of `video`."""
    return f"01-{hashlib.sha256(video.encode()).hexdigest()}-{frame:04d}.png"


def place_of(root: Path, name: str) -> Path:
    """Where a picture lies: below the source and the first two pairs of digits of its hash."""
    return root / "png-cache" / name[:2] / name[3:5] / name[5:7] / name


def write_still(path: Path, gray: int = 50) -> None:
    """(40, 40), `gray` all over, a white mark in row 1, column 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((40, 40), gray, np.uint8)
    image[1, 2] = 255
    sitk.WriteImage(sitk.GetImageFromArray(image), str(path))


def unity(root: Path, **parts: Mapping[str, Mapping[str, Any]]) -> Path:
    """`parts`: for train, tune, ival (or all) the labels by picture, with a picture for each."""
    (root / "png-cache").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    for part, pictures in parts.items():
        content = {name: {"labels": labels} for name, labels in pictures.items()}
        (root / "labels" / f"labels-{part}.json").write_text(json.dumps(content))
        for name in pictures:
            write_still(place_of(root, name.split(".")[0].split("_")[0] + ".png"))
    return root


VIDEO_ROWS, VIDEO_COLS = 40, 48
#: Where the chambers are, as the files number them: 1 LV, 2 LA, 3 RA, 4 RV; 6 x 8 = 48 pixels each.
PLACES = {
    1: (slice(14, 20), slice(26, 34)),
    2: (slice(28, 34), slice(26, 34)),
    3: (slice(28, 34), slice(14, 22)),
    4: (slice(14, 20), slice(14, 22)),
}


def sector(gray: int) -> NDArray[np.uint8]:
    """(40, 48): a sector with its tip at the top, `gray`, and a white mark in row 30, column 38; black around it."""
    rows, cols = np.indices((VIDEO_ROWS, VIDEO_COLS))
    image = np.where(np.abs(cols - 24) <= rows / 2, gray, 0).astype(np.uint8)
    image[30, 38] = 255
    return image


def chambers(values: Sequence[int] = (1, 2, 3, 4)) -> NDArray[np.int8]:
    """(40, 48), signed as in the real files."""
    mask = np.zeros((VIDEO_ROWS, VIDEO_COLS), np.int8)
    for value in values:
        mask[PLACES[value]] = value
    return mask


def video(start: int = 60, frames: int = 5) -> NDArray[np.uint8]:
    """(frames, 40, 48): frame i has the gray start + i."""
    return np.stack([sector(start + index) for index in range(frames)])


def sparse(drawn: dict[int, NDArray[np.int8]], frames: int = 5) -> NDArray[np.int8]:
    """(frames, 40, 48): what is drawn in some frames, zero in the others."""
    return np.stack([drawn.get(index, np.zeros((VIDEO_ROWS, VIDEO_COLS), np.int8)) for index in range(frames)])


def write_pair(
    folder: Path,
    stem: str,
    image: NDArray[Any] | None = None,
    label: NDArray[np.int8] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    ending: str = ".nii.gz",
) -> None:
    """By default a video of five frames, of which 1 and 3 are drawn, with the dummy pixel size of the real files."""
    write_nifti(folder / f"{stem}_image{ending}", video() if image is None else image, spacing_mm)
    drawn = sparse({1: chambers(), 3: chambers()}) if label is None else label
    write_nifti(folder / f"{stem}_label{ending}", drawn, spacing_mm)
