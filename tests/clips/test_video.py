"""Overlay videos and stills: read back, with contours where the masks end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.measured_clips import beating

from nnunet_partial.clips import video
from nnunet_partial.clips.video import Curve, draw_frame, frames_per_second, video_size, write_overlay
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.colors import COLORS

BLUE = video.rgb(COLORS["LV"])


def curve(count: int, fps: float = 25.0, unit: str = "s") -> Curve:
    times = np.arange(count) / (fps if unit == "s" else 1)
    return Curve(times, np.linspace(90, 40, count), np.linspace(91, 39, count), (0,), (count - 1,), unit, "mL", "EF")


@pytest.fixture(params=["libx264", "libvpx-vp9"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    try:
        av.codec.Codec(request.param, "w")
    except ValueError:
        pytest.skip(f"this PyAV has no {request.param}")
    monkeypatch.setattr(video, "choose_encoder", lambda: request.param)
    return str(request.param)


def test_an_overlay_has_all_frames_and_the_curve_running_below(tmp_path: Path, encoder: str) -> None:
    """80 by 144 mm (100 x 0.8 by 90 x 1.6) are shown as 2 round(224 80 / 144) = 248 rows and 448 columns."""
    labels = np.zeros((6, 100, 90), np.uint8)
    labels[:, 30:70, 20:70] = 1
    images = np.full(labels.shape, 60, np.uint8)
    file = write_overlay(tmp_path / "a:b", images, labels, curve(6, 50.0), (0.8, 1.6), {1: BLUE})
    assert file.name == {"libx264": "a:b.mp4", "libvpx-vp9": "a:b.webm"}[encoder]
    with file.open("rb") as opened, av.open(opened) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name in ("h264", "vp9", "libvpx-vp9")
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
        assert stream.average_rate == 50
    assert len(frames) == 6
    assert frames[0].shape == (248 + video.CURVE_HEIGHT, 448, 3)
    edge = frames[3][124, round(448 * 20 / 90) + 1]  # the first column of the mask
    assert np.abs(edge - BLUE).max() < 60
    assert np.abs(frames[3][124, 224] - 60).max() < 15  # inside
    # the line moves from left to right over the curve
    below = [frame[248 + 70 :, :, 0] - frame[248 + 70 :, :, 2] for frame in frames]
    at = [int(part.mean(axis=0).argmax()) for part in below]
    assert at == sorted(at)
    assert at[-1] - at[0] > 300


def test_contours_lie_inside_the_mask_at_its_border() -> None:
    labels = beating(frames=1)[0]
    picture = draw_frame(np.zeros(labels.shape, np.uint8), labels, labels.shape, {1: BLUE})
    drawn = (picture == BLUE).all(axis=2)
    mask = np.pad(labels == 1, 1)
    inner = mask[1:-1, 1:-1] & mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2]
    assert np.array_equal(drawn, (labels == 1) & ~inner)
    assert (picture[~drawn] == 0).all()


def test_a_contour_at_the_border_of_the_image_is_closed() -> None:
    drawn = draw_frame(np.zeros((8, 8), np.uint8), np.ones((8, 8), int), (8, 8), {1: BLUE}).any(axis=2)
    assert np.argwhere(~drawn).min() == 1
    assert (~drawn).sum() == 36  # 6 x 6


def test_images_are_enlarged_to_square_pixels_and_even() -> None:
    assert video_size((112, 112), (1.0, 1.0)) == (448, 448)
    assert video_size((600, 801), (0.3, 0.3)) == (600, 800)  # as it is; 801 becomes even
    assert video_size((2000, 1000), (1.0, 1.0)) == (960, 480)
    assert video_size((100, 100), (0.5, 1.0)) == (224, 448)


def test_the_speed_is_that_of_the_clip() -> None:
    assert frames_per_second(curve(10, 40.0)) == 40
    assert frames_per_second(curve(10, unit="frame")) == frames_per_second(curve(1)) == Fraction(25)
    assert frames_per_second(curve(10, 1000.0)) == 120


def test_gray_values_are_kept_or_stretched() -> None:
    assert video.to_gray(np.array([0.0, 200.0])).tolist() == [0, 200]
    assert video.to_gray(np.array([0.0, 0.2, 1.0], np.float32)).tolist() == [0, 51, 255]
    assert video.to_gray(np.array([-100, 0, 410], np.int16)).tolist() == [0, 50, 255]
    assert video.to_gray(np.array([300, 300])).tolist() == [0, 0]


def test_without_an_encoder_videos_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "ENCODERS", {"none_of_these": ({}, ".mp4")})
    video.choose_encoder.cache_clear()
    with pytest.raises(PartialLabelError, match="--no-overlays"):
        video.choose_encoder()
    video.choose_encoder.cache_clear()


def test_an_encoder_that_does_not_start_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fallback = video.choose_encoder()
    known = {"none_of_these": ({}, ".mp4"), "h264_nvenc": ({}, ".mp4"), fallback: video.ENCODERS[fallback]}
    monkeypatch.setattr(video, "ENCODERS", known)
    video.choose_encoder.cache_clear()
    assert video.choose_encoder() in ("h264_nvenc", fallback)
    video.choose_encoder.cache_clear()
