"""Read a video: a few frames, decoding no more of it than needed, or all frames in turn with their times."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

#: No echo clip is larger; a broken header may say so.
_MAX_PIXELS = 1 << 24
#: Share of its frames below which a video is cut off.
_WHOLE = 0.9
#: A frame that comes so many usual steps after the one before comes late.
_LATE = 1.5
#: Pixels may be so wide; a broken header may say anything.
_ASPECT = (0.25, 4.0)


@dataclass(frozen=True)
class Frames:
    """Hold frames of a video.

    Attributes:
        images: Frames by number (from 0), each (rows, cols) uint8, turned as players show it.
        why_missing: Reason by number of each wanted frame that could not be read.
        aspect: Width of a pixel as shown, in multiples of its height.
    """

    images: Mapping[int, NDArray[np.uint8]]
    why_missing: Mapping[int, str]
    aspect: float


def read_frames(path: Path, wanted: Collection[int]) -> Frames:
    """Read frames in one pass that ends at the last of them.

    Where each frame is stored by itself (motion JPEG, as in EchoNet), only the wanted ones are decoded. A damaged frame
    counts. Where frames are lost, those after them are not read: their numbers are not known.

    Args:
        path: Video file.
        wanted: Numbers of the frames, from 0.

    Returns:
        The frames; one beyond the end, broken, or of unknown number is named in `why_missing`.

    Raises:
        ConversionError: If the file is no video, or to be shown in a way that is not supported.
    """
    with _open_video(path) as (container, stream):
        stream.codec_context.thread_count = 1  # cases are converted in parallel
        if stream.codec_context.codec.intra_only:
            decoded, times = _decode_wanted(container, stream, wanted)
            video = _describe(path, container, stream, times)
        else:
            video = read_video_header(path)
            decoded = _decode_all(container, stream, wanted, video)
    end = video.length if video.after_loss is None else video.after_loss
    images: dict[int, NDArray[np.uint8]] = {}
    why_missing: dict[int, str] = {}
    aspect = video.aspect
    for number in wanted:
        frame, problem = decoded.get(number, (None, "of the video is broken")) if number < end else (None, "")
        image = _gray(frame)
        if image is None:
            why_missing[number] = f"frame {number} {problem}" if number < end else _why_unread(number, video)
        else:
            images[number] = image
            aspect = _aspect_shown(path, video.aspect, frame)
    return Frames(images, why_missing, aspect)


def _why_unread(number: int, video: Video) -> str:
    if number >= video.length:
        return f"there is no frame {number}: the video has only {video.length} frames, numbered from 0"
    return (
        f"frame {number} may have had another number: frames are missing before frame {video.after_loss}. If none is, "
        "and only their times are uneven, save the video as MP4"
    )


@dataclass(frozen=True)
class Video:
    """Describe a video before its frames are decoded.

    Attributes:
        path: The file.
        length: Number of frames that the file holds and shows, by its packets.
        lost: Number of frames that the container counts beyond those in the file.
        frames_per_s: Mean frame rate that the container states; None where it does not.
        end_s: Time at which the video ends, of a container that counts no frames; None where it does not say.
        aspect: Width of a stored pixel, in multiples of its height, before it is turned.
        pts: Times of the frames in the order in which they are shown, in the container's unit; empty where not each has
            its own.
        after_loss: Number of the first frame before which others are lost, by the container's count, or by their times
            where it does not count; None where numbers are right.
    """

    path: Path
    length: int
    lost: int
    frames_per_s: float | None
    end_s: float | None = None
    aspect: float = 1.0
    pts: tuple[int, ...] = ()
    after_loss: int | None = None

    def frames(self) -> Iterator[tuple[NDArray[np.uint8], float | None, float]]:
        """Yield all frames in turn; only one is held in memory.

        Yields:
            Gray values (rows, cols), turned as players show them; the time of the frame in s as the container gives it,
            None where it does not; and the width of a pixel as shown, in multiples of its height.

        Raises:
            ConversionError: If a frame cannot be decoded, or the file is cut off.
        """
        import av

        with _open_video(self.path) as (container, stream):
            stream.codec_context.thread_count = 1
            if stream.codec_context.width * stream.codec_context.height > _MAX_PIXELS:
                size = f"{stream.codec_context.height} x {stream.codec_context.width}"
                raise ConversionError(f"{self.path.name} has frames of {size} pixels")
            count = 0
            try:
                for frame in container.decode(stream):
                    image = _gray(frame)
                    if image is None:
                        raise ConversionError(f"frame {count} of {self.path.name} is broken")
                    yield image, frame.time, _aspect_shown(self.path, self.aspect, frame)
                    count += 1
            except (av.FFmpegError, ValueError, ArithmeticError) as problem:
                if isinstance(problem, ConversionError):
                    raise
                text = f"{self.path.name} cannot be decoded after {count} frames: {_reason(problem)}"
                raise ConversionError(text) from problem
        if count < _WHOLE * (self.length + self.lost):
            raise ConversionError(f"{self.path.name} is cut off: it has {count} of {self.length + self.lost} frames")


def read_video_header(path: Path) -> Video:
    """Count the frames of a video by its packets; nothing is decoded.

    Args:
        path: Video file.

    Returns:
        The video.

    Raises:
        ConversionError: If the file is no video.
    """
    with _open_video(path) as (container, stream):
        return _describe(path, container, stream, [packet.pts for packet in _shown(container, stream)])


def _shown(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets that hold frames to be shown."""
    return (packet for packet in container.demux(stream) if packet.size > 0 and not packet.is_discard)


def _describe(path: Path, container: Any, stream: Any, times: Sequence[int | None]) -> Video:
    """Describe a video by its header and the times of the packets of `_shown`."""
    import av

    stated = stream.frames  # 0 where the container does not count
    rate = float(stream.average_rate) if stream.average_rate else None
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if _ASPECT[0] <= aspect <= _ASPECT[1] else 1.0
    says_end = not stated and container.duration and len(container.streams) == 1
    end_s = container.duration / av.time_base if says_end else None
    stored = shown = len(times)
    if stated > shown:  # hidden by an edit list, or lost?
        with _open_video(path, {"ignore_editlist": "1"}) as (whole, of_whole):
            stored = sum(packet.size > 0 for packet in whole.demux(of_whole))
    lost = max(0, stated - max(stored, shown))
    pts = tuple(sorted({time for time in times if time is not None}))
    pts = pts if len(pts) == shown else ()
    return Video(path, shown, lost, rate, end_s, aspect, pts, _after_loss(pts) if lost or not stated else None)


def _after_loss(pts: Sequence[int]) -> int | None:
    """Return the number of the first frame that comes later than usual after the one before; None without one."""
    steps = np.diff(pts)
    late = np.flatnonzero(steps >= _LATE * np.median(steps)) if len(steps) else steps
    return int(late[0]) + 1 if len(late) else None


@contextlib.contextmanager
def _open_video(path: Path, options: Mapping[str, str] | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield the container and its first video stream. Raises ConversionError where the file is no video."""
    import av

    try:
        with av.open(str(path), options=dict(options or {})) as container:
            if not container.streams.video:
                raise ConversionError(f"{path.name} holds no video")
            if container.streams.video[0].codec_context is None:
                raise ConversionError(f"{path.name} is compressed in a way that FFmpeg does not know")
            yield container, container.streams.video[0]
    except ConversionError:
        raise
    except (av.FFmpegError, OSError, ValueError) as problem:
        raise ConversionError(f"{path.name} cannot be read as a video: {_reason(problem)}") from problem


def _decode_wanted(
    container: Any, stream: Any, wanted: Collection[int]
) -> tuple[dict[int, tuple[Any, str]], list[int | None]]:
    """Decode single packets, for videos in which a packet is a frame.

    Returns frame and problem by number, and the times of all packets.
    """
    import av

    decoded: dict[int, tuple[Any, str]] = {}
    times = []
    for number, packet in enumerate(_shown(container, stream)):
        times.append(packet.pts)
        if number in wanted:
            try:
                decoded[number] = next(iter(packet.decode()), None), "of the video is broken"
            except av.FFmpegError as problem:
                decoded[number] = None, f"cannot be decoded: {_reason(problem)}"
    return decoded, times


def _decode_all(container: Any, stream: Any, wanted: Collection[int], video: Video) -> dict[int, tuple[Any, str]]:
    """Decode up to the last wanted frame, for videos in which a frame builds on earlier ones.

    The decoder may leave out a damaged frame; then the times tell which frame is which. They must not be asked where
    all frames come: an AVI gives those of H.264 in the order in which the frames are stored, not shown. Returns frame
    and problem by number.
    """
    import av

    numbers = {time: number for number, time in enumerate(video.pts)}
    wanted = {number for number in wanted if number < video.length}
    by_count: dict[int, tuple[Any, str]] = {}
    by_time: dict[int, tuple[Any, str]] = {}
    agree = rise = True
    last, count, failure = -1, 0, "of the video is broken"
    try:
        for frame in container.decode(stream) if wanted else ():
            number = numbers.get(frame.pts, -1) if numbers else count
            agree, rise, last = agree and number == count, rise and number > last, number
            for found, into in ((count, by_count), (number, by_time)):
                if found in wanted:
                    into[found] = frame, "of the video is broken"
            count += 1
            if agree and len(by_count) == len(wanted):
                return by_count
    except av.FFmpegError as problem:
        failure = f"cannot be decoded: {_reason(problem)}"
    decoded = by_count if agree or count == video.length else by_time if rise else {}
    return dict.fromkeys(wanted, (None, failure)) | decoded


def _aspect_shown(path: Path, aspect: float, frame: Any) -> float:
    """Return the width of a pixel of a turned frame, in multiples of its height; `aspect`: before it is turned.

    Raises ConversionError where the frame is turned and stretched at once: which axis FFmpeg's aspect is of is then not
    clear.
    """
    a, b, c, d = _matrix(frame)
    if a or d:
        return aspect
    if not math.isclose(abs(b), abs(c), rel_tol=1e-3):
        raise ConversionError(f"{path.name} is to be shown turned and stretched")
    return 1 / aspect


def _gray(frame: Any) -> NDArray[np.uint8] | None:
    """Return the luma (rows, cols), turned as players show it; None for a frame that is missing or broken.

    Motion JPEG stores it as a plane of its own, in the full range from 0 to 255.
    """
    if frame is None or frame.is_corrupt:
        return None
    if not frame.format.name.startswith("yuvj"):
        return _as_shown(frame.to_ndarray(format="gray"), frame)
    plane = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    return _as_shown(plane[: frame.height, : frame.width].copy(), frame)


def _as_shown(image: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Turn and mirror an image as the container says, such as a telephone held upright does.

    Raises ConversionError where pixels would not come to lie on pixels.
    """
    a, b, c, d = _matrix(frame)
    if a == d == 0 != b * c:
        image, a, d = image.T, c, b
    elif b or c:
        raise ConversionError("the video is to be shown turned, but not by 90, 180 or 270 degrees")
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c, d by which the point (x, y) is shown at (a x + c y, b x + d y)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return a, b, c, d


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "strerror", None) or problem or type(problem).__name__)
