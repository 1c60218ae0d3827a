"""Taking a few frames out of a video, decoding no more of it than needed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError


@dataclass(frozen=True)
class Frames:
    """Frames by number (from 0), each (rows, cols) uint8, grey values as stored; and why the others are missing."""

    found: dict[int, NDArray[np.uint8]]
    why_missing: dict[int, str]


def read_frames(path: Path, wanted: Collection[int]) -> Frames:
    """The frames `wanted`, by number from 0, in one pass that ends at the last of them.

    Where each frame is stored by itself (motion JPEG, as in EchoNet) only the wanted ones are decoded. A frame that is
    beyond the end or broken is named in `why_missing`. Raises ConversionError where the file is no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ConversionError(f"{path.name} holds no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the cases are what runs in parallel
            pick = _pick_packets if stream.codec_context.codec.intra_only else _decode_all
            return pick(container, stream, wanted)
    except (av.FFmpegError, OSError, ValueError) as problem:
        if isinstance(problem, ConversionError):
            raise
        raise ConversionError(f"{path.name} cannot be read as a video: {_reason(problem)}") from problem


def _pick_packets(container: Any, stream: Any, wanted: Collection[int]) -> Frames:
    """For videos in which a packet is a frame."""
    import av

    last, count = max(wanted, default=-1), 0
    result = Frames({}, {})
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if count in wanted:
            try:
                _keep(result, count, packet.decode())
            except av.FFmpegError as problem:
                result.why_missing[count] = f"frame {count} cannot be decoded: {_reason(problem)}"
        count += 1
        if count > last:
            break
    return _explain(result, wanted, f"the video has only {count} frames, numbered from 0")


def _decode_all(container: Any, stream: Any, wanted: Collection[int]) -> Frames:
    """For videos in which a frame builds on earlier ones."""
    import av

    last, count = max(wanted, default=-1), 0
    result = Frames({}, {})
    try:
        for frame in container.decode(stream):
            if count in wanted:
                _keep(result, count, [frame])
            count += 1
            if count > last:
                break
    except av.FFmpegError as problem:
        return _explain(result, wanted, f"the video cannot be decoded after {count} frames: {_reason(problem)}")
    return _explain(result, wanted, f"the video has only {count} frames, numbered from 0")


def _keep(result: Frames, number: int, frames: list[Any]) -> None:
    if not frames or frames[0].is_corrupt:
        result.why_missing[number] = f"frame {number} of the video is broken"
    else:
        result.found[number] = _grey(frames[0])


def _grey(frame: Any) -> NDArray[np.uint8]:
    """(rows, cols): the brightness. Motion JPEG stores it as a plane of its own, in the whole range from 0 to 255."""
    if not frame.format.name.startswith("yuvj"):
        return frame.to_ndarray(format="gray")
    plane = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    return plane[: frame.height, : frame.width].copy()


def _explain(result: Frames, wanted: Collection[int], reason: str) -> Frames:
    for number in wanted:
        if number not in result.found:
            result.why_missing.setdefault(number, f"there is no frame {number}: {reason}")
    return result


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "strerror", None) or problem or type(problem).__name__)


def frame_count(path: Path) -> int:
    """The number of frames, by counting packets: nothing is decoded, and what the header claims is not believed.

    Raises ConversionError where the file is no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ConversionError(f"{path.name} holds no video")
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except (av.FFmpegError, OSError, ValueError) as problem:
        if isinstance(problem, ConversionError):
            raise
        raise ConversionError(f"{path.name} cannot be read as a video: {_reason(problem)}") from problem
