"""Beats: frames, volumes and ejection fractions of clips whose truth is known, and what is flagged."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.measured_hearts import EFS_PERCENT, draw, lv_ml, measure_heart, random_rhythm

from nnunet_partial.biomarkers.geometry import Discs
from nnunet_partial.clips.beats import (
    NO_CLEAR_PEAKS,
    NO_WHOLE_BEAT,
    Beat,
    ClipBeats,
    biplane_ef,
    find_beats,
    frame_flags,
)
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.clips import Rhythm

#: The constants of the finder were chosen with other hearts and other clips (seeds 1 to 41).
SEED = 50


def curve(contractions: np.ndarray, ef_percent: float = 60.0) -> np.ndarray:
    """Volumes in mL, 100 at end-diastole and 100 - EF at end-systole."""
    return 100.0 - ef_percent * contractions


def clip(rhythm: Rhythm, frames: int, fps: float = 50.0, ef_percent: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(frames) / fps
    return curve(rhythm.contraction(times), ef_percent), times


REGULAR = Rhythm((-0.4, 0.4, 1.2, 2.0, 2.8, 3.6))  # 75 beats per minute, first frame in the middle of a beat


# accuracy


@pytest.mark.slow
def test_perfect_masks() -> None:
    """Six clips, each frame measured; EF against that of the anatomy, frames against the rhythm."""
    errors, late = [], []
    for number, (ef_percent, fps) in enumerate([(25, 25), (55, 50), (70, 80), (25, 50), (55, 25), (70, 25)]):
        rng = np.random.default_rng([SEED, number])
        heart = HeartModel.random(rng).with_ef(ef_percent)
        rhythm = Rhythm.random(
            rng, seconds=2.4, rate_bpm=rng.uniform(60, 110), irregularity=0.1, start=(0.0, 0.15, 0.6)[number % 3]
        )
        times = np.arange(int(2.2 * fps)) / fps
        found = find_beats([lv_ml(draw(heart, c)) for c in rhythm.contraction(times)], times)
        truth = rhythm.whole_beats(times)
        assert (len(found.beats), found.partial, found.flags) == (len(truth), False, ())
        errors += [beat.ef_percent - ef_percent for beat in found.beats]
        frames = [(beat.ed, beat.es) for beat in found.beats]
        late.append(np.abs(np.subtract(frames, truth)).max() / max(2, 0.040 * fps))
    assert len(errors) >= 8
    assert np.mean(np.abs(errors)) <= 1
    assert np.max(np.abs(errors)) <= 3
    assert max(late) <= 1


@pytest.mark.no_cover
@pytest.mark.slow
def test_rough_masks() -> None:
    """Six hearts, and 300 clips of them in three sets; a set of 100 needs 95 right."""
    measured = [measure_heart(np.random.default_rng([SEED, number]), EFS_PERCENT[number % 3]) for number in range(6)]
    dice = np.concatenate([heart.dice.ravel() for heart in measured])
    assert 0.93 <= dice.min() <= dice.max() <= 0.95
    spread = np.std([heart.rough_ml / heart.perfect_ml for heart in measured])
    assert spread > 0.08  # such masks scatter the volume of a frame by about a tenth
    right, errors = np.zeros(3, int), np.zeros((3, 100))
    for part, number in np.ndindex(errors.shape):
        rng = np.random.default_rng([SEED, part, number])
        heart = measured[number % len(measured)]
        rhythm, times, _ = random_rhythm(rng, (0.0, 0.05, 0.1, 0.15))
        found = find_beats(heart.rough_curve(rng, rhythm.contraction(times)), times)
        right[part] += len(rhythm.whole_beats(times)) == (0 if found.partial else len(found.beats))
        assert found.median_ef_percent is not None
        errors[part, number] = found.median_ef_percent - heart.ef_percent
    assert right.min() >= 95
    assert np.abs(errors).mean(axis=1).max() <= 4
    assert np.abs(errors[:, ::3]).mean() <= 4  # of the hearts with EF 25


# beats


def test_three_beats_of_a_regular_clip() -> None:
    """ED at 0.4, 1.2 and 2.0 s; ES after 0.32 sqrt(0.8) = 0.286 s; the clip ends in the pause after the third."""
    found = find_beats(*clip(REGULAR, frames=128))
    assert [beat.ed for beat in found.beats] == pytest.approx([20, 60, 100], abs=1)
    assert [beat.es for beat in found.beats] == pytest.approx([34.3, 74.3, 114.3], abs=1)
    assert found.rate_bpm == pytest.approx(75, abs=1)
    assert found.median_ef_percent == pytest.approx(60, abs=1.5)
    assert found.median_edv_ml == pytest.approx(100, abs=1.5)
    assert found.median_esv_ml == pytest.approx(40, abs=1.5)
    assert (found.partial, found.flags) == (False, ())


@pytest.mark.parametrize("lengths_s", [(0.7, 1.0), (0.6, 1.0), (0.55, 1.05), (0.5, 1.1)])
def test_long_and_short_beats_alternate(lengths_s: tuple[float, float]) -> None:
    """Bigeminy: the curve repeats itself after two beats, which are two all the same."""
    rhythm = Rhythm(tuple(np.cumsum([-0.3, *lengths_s * 4]).tolist()))
    volumes, times = clip(rhythm, frames=int(50 * (rhythm.ed_times_s[-1] - 0.1)))
    found = find_beats(volumes, times)
    truth = rhythm.whole_beats(times)
    assert len(truth) == 7
    assert [(beat.ed, beat.es) for beat in found.beats] == [
        (pytest.approx(ed, abs=2), pytest.approx(es, abs=2)) for ed, es in truth
    ]
    assert found.flags == ()


def test_a_loop_of_one_beat_from_ed_to_ed_is_a_whole_beat() -> None:
    found = find_beats(*clip(Rhythm((0.0, 0.8)), frames=41))
    assert [(beat.ed, beat.es) for beat in found.beats] == [(pytest.approx(0, abs=2), pytest.approx(14.3, abs=1))]
    assert (found.partial, found.rate_bpm) == (False, None)


@pytest.mark.parametrize(("seconds", "partial"), [(0.5, True), (1.35, False)])
def test_half_a_beat_from_the_middle_of_systole_is_part_of_a_beat(seconds: float, partial: bool) -> None:
    """40 beats per minute, from 0.15 of 0.39 s of systole on, or from ED: the filling ends at 0.39 + 0.45 x 1.11 s."""
    start = 0.15 if partial else 0.0
    found = find_beats(*clip(Rhythm((-start, 1.5 - start)), frames=int(50 * seconds)))
    assert (found.partial, NO_WHOLE_BEAT in found.flags) == (partial, partial)


def test_a_beat_that_begins_in_systole_is_not_whole() -> None:
    """0.12 of 0.8 s have passed: a third of systole."""
    found = find_beats(*clip(Rhythm((-0.12, 0.68, 1.48)), frames=60))
    assert [beat.ed for beat in found.beats] == [pytest.approx(34, abs=1)]


@pytest.mark.parametrize("frames", [5, 10, 30])
def test_a_half_sequence_is_part_of_a_beat(frames: int) -> None:
    found = find_beats(curve(0.5 - 0.5 * np.cos(np.linspace(0, np.pi, frames))))
    assert [(beat.ed, beat.es) for beat in found.beats] == [(0, frames - 1)]
    assert found.median_ef_percent == pytest.approx(60, abs=3)
    assert (found.partial, found.flags) == (True, (NO_WHOLE_BEAT,))


def test_a_few_frames_without_a_volume_are_bridged() -> None:
    volumes, times = clip(REGULAR, frames=128)
    unknown = [0, 34, 35, 90]
    volumes[unknown] = np.nan
    found = find_beats(volumes, times)
    assert [beat.es for beat in found.beats] == pytest.approx([34, 74, 114], abs=2)
    assert not {beat.es for beat in found.beats} & set(unknown)
    assert np.flatnonzero(np.isnan(found.smoothed_ml)).tolist() == unknown
    assert found.flags == ()


@pytest.mark.parametrize("gap_s", [0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("cut", [75, 84, 96, 108])
def test_no_beat_spans_a_gap(cut: int, gap_s: float) -> None:
    """Between frame 75 (filling after the first ES, at 34) and frame 108 (the third systole) the clock jumps.

    Of beats at 20, 60 and 100, with ES at 34, 74 and 114, only those that lie on one side of the gap are left.
    """
    volumes, times = clip(REGULAR, frames=168)
    times[cut:] += gap_s
    found = find_beats(volumes, times)
    assert found.beats
    assert not [beat for beat in found.beats if beat.ed < cut <= beat.es]
    for beat in found.beats:
        assert abs(beat.es - np.array([34.3, 74.3, 114.3, 154.3])).min() < 2.5
        assert beat.ef_percent == pytest.approx(60, abs=3)
    assert found.rate_bpm is None or found.rate_bpm == pytest.approx(75, abs=3)
    assert len(found.flags) == 1
    assert f"{gap_s + 0.02:.3g} s" in found.flags[0]


def test_no_beat_spans_frames_without_a_volume() -> None:
    """0.5 s without a ventricle, from the second ES to the third ED: the beat that began before is not measured."""
    volumes, times = clip(REGULAR, frames=168)
    volumes[72:97] = np.nan
    found = find_beats(volumes, times)
    assert [beat.es for beat in found.beats] == pytest.approx([34.3, 114.3, 154.3], abs=1)
    assert len(found.flags) == 1
    assert "0.52 s" in found.flags[0]  # 26 steps of 0.02 s
    assert "26 frames" in find_beats(volumes).flags[0]


@pytest.mark.parametrize("frames", [3, 6, 10, 15])
def test_a_piece_that_is_no_whole_beat_holds_none(frames: int) -> None:
    """Pieces of up to half a beat of 1 s at 30 frames per second, between two losses: all beats have EF 58.3, from 120
    to 50 mL. In 3 to 10 frames noise goes up and down; 15 may hold a whole systole, but no ED before it."""
    rng = np.random.default_rng(SEED)
    for _ in range(40):
        at = np.arange(90) + rng.integers(30)
        volumes = 85 + 35 * np.cos(2 * np.pi * at / 30) + rng.normal(0, 1, 90)
        volumes[40:45] = volumes[45 + frames : 50 + frames] = np.nan
        found = find_beats(volumes, np.arange(90) / 30)
        assert not [beat for beat in found.beats if 45 <= beat.ed < 45 + frames]
        assert found.partial or found.median_ef_percent == pytest.approx(58.3, abs=3)


def test_a_few_frames_do_not_hide_that_nothing_is_clear() -> None:
    """Noise, and three frames of it apart."""
    volumes = 100 + np.random.default_rng(SEED).standard_normal(120)
    volumes[100:110] = volumes[113:] = np.nan
    assert find_beats(volumes, np.arange(120) / 50).flags[1:3] == (NO_CLEAR_PEAKS, NO_WHOLE_BEAT)


@pytest.mark.parametrize(
    ("fps", "lost", "gap"),
    [(200, 3, False), (200, 10, False), (200, 12, True), (50, 2, False), (50, 3, True), (25, 2, False), (25, 3, True)],
)
def test_a_gap_is_longer_than_3_5_steps_and_60_ms(fps: int, lost: int, gap: bool) -> None:
    """At 200 frames per second, 10 lost ones are 11 steps of 5 ms: 55 ms; 12 are 65 ms. All after the ED at 1.2 s."""
    volumes, times = clip(REGULAR, frames=round(2.56 * fps), fps=fps)
    keep = np.delete(np.arange(len(times)), np.arange(lost) + round(1.3 * fps))
    found = find_beats(volumes[keep], times[keep])
    assert bool(found.flags) == gap
    if not gap:
        assert [beat.ed / fps for beat in found.beats[:2]] == pytest.approx([0.4, 1.2], abs=0.04)
        assert len(found.beats) == 3
    assert len(find_beats(volumes[keep]).flags) == 0  # nothing is known of the time between frames
    volumes[np.setdiff1d(np.arange(len(times)), keep)] = np.nan
    assert bool(find_beats(volumes).flags) == (lost >= 3)  # without times, in frames


def test_uneven_frames_are_not_a_gap() -> None:
    """Steps that vary by a third, and one frame in ten dropped, of a video with a variable frame rate."""
    volumes, times = clip(REGULAR, frames=168)
    rng = np.random.default_rng(SEED)
    times = times + rng.uniform(-0.003, 0.003, len(times))
    keep = np.arange(168) % 10 != 0
    found = find_beats(volumes[keep], times[keep])
    assert [times[keep][beat.es] for beat in found.beats] == pytest.approx([0.686, 1.486, 2.286, 3.086], abs=0.03)
    assert found.flags == ()


def test_without_times_the_beats_are_the_same_and_the_rate_is_not_known() -> None:
    volumes, times = clip(REGULAR, frames=128)
    without, found = find_beats(volumes), find_beats(volumes, times)
    assert [(beat.ed, beat.es) for beat in without.beats] == [(beat.ed, beat.es) for beat in found.beats]
    assert [beat.edv_ml for beat in without.beats] == pytest.approx([beat.edv_ml for beat in found.beats])
    assert [beat.esv_ml for beat in without.beats] == pytest.approx([beat.esv_ml for beat in found.beats])
    assert without.rate_bpm is None


def test_frames_at_uneven_distances() -> None:
    """Every third frame of the second half: the beats are where their times are."""
    volumes, times = clip(REGULAR, frames=160, fps=60)
    keep = np.concatenate([np.arange(80), np.arange(80, 160, 3)])
    found = find_beats(volumes[keep], times[keep])
    ed_s = [times[keep][beat.ed] for beat in found.beats]
    assert ed_s == pytest.approx([0.4, 1.2, 2.0], abs=0.05)
    assert found.rate_bpm == pytest.approx(75, abs=3)


@pytest.mark.parametrize(
    "times_s",
    [
        [0.0, 0.1],
        [0.0, 0.1, 0.1],
        [0.0, 0.2, 0.1],
        [0.0] * 3,
        [0.0, np.nan, 0.2],
        [0.0, 0.1, np.inf],
        [-np.inf, 0.0, 0.1],
    ],
)
def test_times_that_do_not_fit(times_s: list[float]) -> None:
    with pytest.raises(PartialLabelError, match=f"3 volumes and {len(times_s)} times"):
        find_beats([1.0, 2.0, 3.0], times_s)


def test_times_may_begin_anywhere() -> None:
    volumes, times = clip(REGULAR, frames=128)
    assert [beat.ed for beat in find_beats(volumes, times - 5).beats] == pytest.approx([20, 60, 100], abs=1)


@pytest.mark.parametrize("volumes", [[], [np.nan] * 4, [5.0], [np.nan, 5.0]])
def test_nothing_to_measure(volumes: list[float]) -> None:
    found = find_beats(volumes)
    assert found.beats == ()
    assert (found.median_ef_percent, found.reference_beat, found.rate_bpm) == (None, None, None)
    assert found.flags == (NO_WHOLE_BEAT,)


@pytest.mark.parametrize("frames", range(2, 12))
def test_the_fewest_frames(frames: int) -> None:
    found = find_beats(100 - 5.0 * np.arange(frames), np.arange(frames) / 50)
    assert [(beat.ed, beat.es) for beat in found.beats] == [(0, frames - 1)]


# a clip


def test_median_spread_and_the_beat_nearest_to_the_median() -> None:
    """EF 50, 58 and 60: the median is 58; the variance ((50 - 56)^2 + (58 - 56)^2 + (60 - 56)^2) / 2 = 28."""
    beats = (Beat(0, 5, 100, 50), Beat(10, 15, 100, 42), Beat(20, 25, 110, 44))
    found = ClipBeats(beats, False, np.zeros(30), 60.0)
    assert found.median_ef_percent == pytest.approx(58)
    assert found.ef_spread_percent == pytest.approx(28**0.5)
    assert found.reference_beat == beats[1]
    assert (found.median_edv_ml, found.median_esv_ml) == (100, 44)


# flags


def test_no_clear_peaks() -> None:
    noise = 100 + np.random.default_rng(SEED).standard_normal(120)
    found = find_beats(noise, np.arange(120) / 50)
    assert found.flags[:2] == (NO_CLEAR_PEAKS, NO_WHOLE_BEAT)
    assert found.partial
    assert find_beats([100.0] * 60).flags[:2] == (NO_CLEAR_PEAKS, NO_WHOLE_BEAT)


@pytest.mark.parametrize(("ef_percent", "flagged"), [(3, True), (7, False), (85, False), (97, True)])
def test_ef_outside_what_hearts_have(ef_percent: float, flagged: bool) -> None:
    flags = find_beats(*clip(REGULAR, frames=128, ef_percent=ef_percent)).flags
    assert [flag for flag in flags if flag.startswith("EF outside 5 to 90 %")] == list(flags)
    assert bool(flags) == flagged


@pytest.mark.parametrize(("fps", "flagged"), [(8, True), (12, True), (15, False), (25, False)])
def test_too_few_frames_in_a_beat(fps: int, flagged: bool) -> None:
    """75 beats per minute: 6.4, 9.6, 12 and 20 frames in a beat, whose extremes the shortest filter of 5 flattens."""
    rhythm = Rhythm(tuple(np.arange(-0.3, 6.2, 0.8).tolist()))
    found = find_beats(*clip(rhythm, frames=5 * fps, fps=fps))
    assert any("frames in a beat" in flag for flag in found.flags) == flagged
    assert found.median_ef_percent is not None
    assert (found.median_ef_percent < 57) == flagged  # of 60


def test_flags_of_frames() -> None:
    """From 100 to 131 pixels, and back: + 31 % and - 24 %; 100 to 60: - 40 %. A frame without LV is no jump."""
    pixels = np.array([100, 131, 100, 60, 0, 60, 10])
    flags = frame_flags(pixels, pixels == 131, np.where(pixels > 20, 1.0, np.nan))
    assert [flag.partition(" in ")[::2] for flag in flags] == [
        ("no LV", "1 of 7 frames"),
        ("LV cannot be measured", "1 of 7 frames"),
        ("LV touches the border", "1 of 7 frames"),
        ("the area of LV jumps by more than 30 %", "3 of 7 frames"),
    ]
    assert frame_flags([100, 125, 100], [False] * 3, [1.0] * 3) == ()


# two views


def one_beat(ed: int, es: int, rate_bpm: float | None) -> ClipBeats:
    return ClipBeats((Beat(ed, es, 100, 45),), False, np.zeros(4), rate_bpm)


def test_biplane_combines_disc_by_disc() -> None:
    """ED: pi / 4 x 20 discs x (80 / 20) x 40 x 50 mm3 = 125.66 mL; ES: half the diameters and 64 mm: 25.13 mL."""
    ed2, es2 = Discs(78.0, (40.0,) * 20), Discs(60.0, (20.0,) * 20)
    ed4, es4 = Discs(80.0, (50.0,) * 20), Discs(64.0, (25.0,) * 20)
    both = biplane_ef(one_beat(1, 2, 70), [None, ed2, es2, None], one_beat(0, 3, 80), [ed4, None, None, es4])
    assert both is not None
    assert both.edv_ml == pytest.approx(np.pi / 4 * 80 * 40 * 50 / 1000)
    assert both.esv_ml == pytest.approx(np.pi / 4 * 64 * 20 * 25 / 1000)
    assert both.ef_percent == pytest.approx(80)  # 1 - 25.13 / 125.66
    assert both.flags == ()


def test_biplane_needs_a_beat_and_discs_in_both_views() -> None:
    discs = [Discs(80.0, (50.0,) * 20)] * 4
    assert biplane_ef(one_beat(1, 2, 70), [None] * 4, one_beat(0, 3, 70), discs) is None
    assert biplane_ef(find_beats([]), [], one_beat(0, 3, 70), discs) is None


@pytest.mark.parametrize(("rate_bpm", "flagged"), [(79, True), (81, False), (None, False)])
def test_rates_that_differ_by_more_than_a_fifth(rate_bpm: float | None, flagged: bool) -> None:
    discs = [Discs(80.0, (width,) * 20) for width in (50.0, 50.0, 35.0, 35.0)]
    both = biplane_ef(one_beat(1, 2, rate_bpm), discs, one_beat(0, 3, 100), discs)
    assert both is not None
    assert bool(both.flags) == flagged


@pytest.mark.parametrize(("ef_percent", "flagged"), [(4, True), (6, False), (89, False), (91, True)])
def test_a_biplane_ef_that_no_heart_has_is_flagged(ef_percent: float, flagged: bool) -> None:
    """The volume goes with the square of the width."""
    discs = [Discs(80.0, (50.0 * (1 - share / 100) ** 0.5,) * 20) for share in (0, 0, ef_percent, ef_percent)]
    both = biplane_ef(one_beat(1, 2, 70), discs, one_beat(0, 3, 70), discs)
    assert both is not None
    assert both.ef_percent == pytest.approx(ef_percent)
    assert bool(both.flags) == flagged
