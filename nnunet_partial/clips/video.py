"""Draw the contours of the predicted structures on the frames of a clip: overlay videos, stills and thumbnails.

Contours have the colors of all figures and run along the inner side of a structure's border. Below the video runs the
curve of the ventricle's volume, with end-diastole and end-systole marked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import PartialLabelError

Gray = NDArray[np.uint8]
Colors = NDArray[np.uint8]

#: Encoders by preference: H.264, which every player has, else VP9; each with its options and the ending of its files.
#: libx264, in PyAV's wheels, is GPL; the others are Cisco's, Apple's and Microsoft's.
ENCODERS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "libx264": ({"preset": "veryfast", "crf": "20"}, ".mp4"),
    "libopenh264": ({"b": "2000000"}, ".mp4"),
    "h264_videotoolbox": ({"b": "2000000"}, ".mp4"),
    "h264_mf": ({"b": "2000000"}, ".mp4"),
    "libvpx-vp9": ({"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"}, ".webm"),
}
#: Length of the longer side of an image in a video and in a thumbnail, in pixels; larger images keep their size up to
#: the third number.
VIDEO_SIDE, THUMBNAIL_SIDE, LARGEST_SIDE = 448, 144, 960
#: Height of the curve below, in pixels, and its least width.
CURVE_HEIGHT, CURVE_WIDTH = 140, 320
#: Frames per second where the times of the frames are not known, and the range that players can show.
UNKNOWN_FPS, FPS_RANGE = 25, (1, 120)
#: Color of the line that runs along the curve.
CURSOR = (240, 228, 66)
_DPI = 100


@dataclass(frozen=True)
class Curve:
    """Hold the volume of the ventricle in a clip.

    Attributes:
        times: (T,), in seconds, or numbers of frames where the times are not known.
        volumes: (T,), smoothed; NaN where there is none.
        measured: (T,), as measured in each frame; NaN where there is none.
        ed: Frames of end-diastole.
        es: Frames of end-systole.
        time_unit: "s" or "frame".
        volume_unit: Such as "mL" or "relative".
        title: Such as "EF 55 %".
        structures: Color (#RRGGBB) of each contour, by name, for the legend.
    """

    times: NDArray[np.float64]
    volumes: NDArray[np.float64]
    measured: NDArray[np.float64]
    ed: tuple[int, ...]
    es: tuple[int, ...]
    time_unit: str
    volume_unit: str
    title: str
    structures: Mapping[str, str] = field(default_factory=dict)


def rgb(color: str) -> tuple[int, int, int]:
    """Parse a color.

    Args:
        color: As #RRGGBB.

    Returns:
        Red, green and blue, 0 to 255.
    """
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def display_size(shape: Sequence[int], spacing: Sequence[float], side: int) -> tuple[int, int]:
    """Compute the size at which an image is shown: with square pixels, and even, as encoders want it.

    Args:
        shape: Rows and columns of the image.
        spacing: Height and width of a pixel, in any unit.
        side: Length of the longer side.

    Returns:
        Rows and columns.
    """
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = side / max(height, width)
    rows, cols = (max(2, 2 * round(length * scale / 2)) for length in (height, width))
    return rows, cols


def video_size(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int]:
    """Compute the size of the image in a video: small images are enlarged, very large ones reduced.

    Args:
        shape: Rows and columns of the image.
        spacing: Height and width of a pixel, in any unit.

    Returns:
        Rows and columns.
    """
    return display_size(shape, spacing, min(max(VIDEO_SIDE, *shape), LARGEST_SIDE))


def to_gray(images: NDArray[Any]) -> Gray:
    """Convert the pixels of a clip to 8 bits, all frames alike.

    Args:
        images: (T, rows, cols); integers from 0 to 255 are kept, other values, such as those of images that were scaled
            to 0 to 1, are stretched from the smallest to the largest.

    Returns:
        Of the same shape.
    """
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 255 and np.array_equal(images, np.rint(images)):
        return images.astype(np.uint8)
    return np.rint((images - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)


def draw_frame(
    image: Gray, labels: NDArray[Any], size: tuple[int, int], colors: Mapping[int, tuple[int, int, int]]
) -> Colors:
    """Draw the contours of the structures on a frame.

    Args:
        image: (rows, cols).
        labels: Label values (rows, cols).
        size: Rows and columns of the result.
        colors: Of the contours, by label value.

    Returns:
        Red, green and blue (*size, 3).
    """
    picture = np.repeat(_resized(image, size)[:, :, None], 3, axis=2)
    thickness = max(1, round(max(size) / 220))
    for value, color in colors.items():
        mask = labels == value
        if mask.any():
            picture[_inner_border(_resized(mask.astype(np.uint8) * 255, size) > 127, thickness)] = color
    return picture


def _resized(image: Gray, size: tuple[int, int]) -> Gray:
    if image.shape == size:
        return image
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")
    resized: Any = frame.reformat(size[1], size[0], format="gray", interpolation="BILINEAR").to_ndarray()
    return resized


def _inner_border(mask: NDArray[np.bool_], thickness: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask that are no farther than `thickness` from its outside, along rows or columns."""
    padded = np.pad(mask, thickness)
    rows, cols = mask.shape
    inside = mask.copy()
    for step in range(1, thickness + 1):
        for dr, dc in ((step, 0), (-step, 0), (0, step), (0, -step)):
            inside &= padded[thickness + dr : thickness + dr + rows, thickness + dc : thickness + dc + cols]
    return mask & ~inside


def draw_curve(curve: Curve, width: int) -> tuple[Colors, NDArray[np.int64]]:
    """Draw the curve once, as the background on which a line then runs.

    Args:
        curve: What is drawn.
        width: Of the figure, in pixels; even.

    Returns:
        The figure (CURVE_HEIGHT, width, 3), and the column of each frame (T,).
    """
    from nnunet_partial.report.figure_style import new_figure, style

    with style():
        figure = new_figure(width / _DPI, CURVE_HEIGHT / _DPI)
        figure.set_dpi(_DPI)
        figure.set_facecolor("black")
        axes = figure.subplots()
        axes.set_facecolor("black")
        axes.plot(curve.times, curve.measured, color="#777777", linewidth=0.7)
        axes.plot(curve.times, curve.volumes, color="white", linewidth=1.4)
        for frames, marker, label, fill in ((curve.ed, "o", "ED", "white"), (curve.es, "s", "ES", "black")):
            at = list(frames)
            (line,) = axes.plot(curve.times[at], curve.volumes[at], marker, color="white", markersize=5, label=label)
            line.set_markerfacecolor(fill)
        for name, color in curve.structures.items():
            axes.plot([], [], color=color, linewidth=2, label=name)
        axes.margins(x=0.01, y=0.15)
        axes.set_xlabel("time (s)" if curve.time_unit == "s" else "frame", labelpad=1)
        axes.set_ylabel(f"LV ({curve.volume_unit})", labelpad=2)
        axes.set_title(curve.title, loc="right", fontsize=8, color="white", pad=3)
        look: dict[str, Any] = {
            "ncols": 2 + len(curve.structures),
            "borderaxespad": 0.0,
            "handlelength": 1.0,
            "columnspacing": 1.0,
        }
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=7, labelcolor="white", **look)
        axes.tick_params(colors="white", labelsize=7)
        axes.xaxis.label.set(color="white", fontsize=7)
        axes.yaxis.label.set(color="white", fontsize=7)
        axes.spines[:].set_color("white")
        figure.canvas.draw()
        picture = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[attr-defined]
        columns = axes.transData.transform(np.column_stack([curve.times, np.zeros(len(curve.times))]))[:, 0]
    fitted = np.zeros((CURVE_HEIGHT, width, 3), np.uint8)
    rows, cols = min(CURVE_HEIGHT, picture.shape[0]), min(width, picture.shape[1])
    fitted[:rows, :cols] = picture[:rows, :cols]
    return fitted, np.clip(np.rint(columns).astype(np.int64), 0, width - 1)


def write_overlay(
    stem: Path,
    images: Gray,
    labels: NDArray[Any],
    curve: Curve,
    spacing: Sequence[float],
    colors: Mapping[int, tuple[int, int, int]],
) -> Path:
    """Write the overlay video of a clip.

    Args:
        stem: The file without ending.
        images: Frames (T, rows, cols).
        labels: Label values of the same shape.
        curve: The volume of the ventricle.
        spacing: Height and width of a pixel, in any unit.
        colors: Of the contours, by label value.

    Returns:
        The file: .mp4 with H.264, .webm with VP9.

    Raises:
        PartialLabelError: The installed PyAV has no encoder for either.
    """
    name = choose_encoder()
    file = stem.with_name(stem.name + ENCODERS[name][1])
    size = video_size(images.shape[1:], spacing)
    width = max(size[1], CURVE_WIDTH)
    background, columns = draw_curve(curve, width)

    def frames() -> Iterator[Colors]:
        left = (width - size[1]) // 2
        picture = np.zeros((size[0] + CURVE_HEIGHT, width, 3), np.uint8)
        for index in range(len(images)):
            picture[: size[0], left : left + size[1]] = draw_frame(images[index], labels[index], size, colors)
            picture[size[0] :] = background
            picture[size[0] :, columns[index]] = CURSOR
            yield picture

    with file.open("wb") as stream:  # as a stream: FFmpeg takes names such as "a:b" for protocols
        _encode(stream, name, frames(), (size[0] + CURVE_HEIGHT, width), frames_per_second(curve))
    return file


def frames_per_second(curve: Curve) -> Fraction:
    """Compute the speed of an overlay video, which is the same in all of it: the median of the clip.

    Args:
        curve: With the times of the frames.

    Returns:
        Frames per second; 25 where the times are not known.
    """
    if curve.time_unit != "s" or len(curve.times) < 2:
        return Fraction(UNKNOWN_FPS)
    step = float(np.median(np.diff(curve.times)))
    return Fraction(min(max(1 / step, FPS_RANGE[0]), FPS_RANGE[1])).limit_denominator(1000)


@cache
def choose_encoder() -> str:
    """Find the first encoder that works here.

    Returns:
        One of ENCODERS.

    Raises:
        PartialLabelError: There is none.
    """
    import av

    for name in ENCODERS:
        try:
            _encode(io.BytesIO(), name, iter([np.zeros((64, 64, 3), np.uint8)]), (64, 64), Fraction(25))
        except (av.FFmpegError, ValueError):  # not built in, or not on this machine
            continue
        return name
    raise PartialLabelError(
        f"The installed PyAV has none of the encoders {', '.join(ENCODERS)}. Leave the videos out with --no-overlays."
    )


def _encode(stream: Any, encoder: str, frames: Iterator[Colors], size: tuple[int, int], fps: Fraction) -> None:
    """Write RGB frames of `size` (rows, cols) to an open file."""
    import av

    options, ending = ENCODERS[encoder]
    with av.open(stream, "w", format={".mp4": "mp4", ".webm": "webm"}[ending]) as container:
        video: Any = container.add_stream(encoder, rate=fps, options=dict(options))
        video.height, video.width = size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1  # clips are written side by side
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())


def picture_bytes(picture: Colors, file_format: str) -> bytes:
    """Compress an image.

    Args:
        picture: (rows, cols, 3).
        file_format: "png" or "jpg".

    Returns:
        The bytes of the file; the same image has the same bytes.
    """
    from matplotlib.image import imsave

    content = io.BytesIO()
    metadata: Any = {"Software": None} if file_format == "png" else None
    imsave(content, picture, format=file_format, metadata=metadata)
    return content.getvalue()
