"""Find the heart beats in a clip from the volume of the left ventricle in each frame, and their ejection fraction.

What makes the numbers of a clip doubtful is said in words, as flags: flagged clips keep their numbers and are left out
of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median, stdev

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunet_partial.biomarkers.definitions import disc_volume, ejection_fraction
from nnunet_partial.biomarkers.geometry import Discs
from nnunet_partial.errors import PartialLabelError

#: From one frame to the next, the area of the ventricle changes by less than this fraction.
MAX_AREA_JUMP = 0.3
#: No heart has an ejection fraction, in percent, outside these.
EF_RANGE_PERCENT = (5.0, 90.0)
#: The rates of two clips of a patient differ by less than this fraction of the larger one.
MAX_RATE_DIFFERENCE = 0.2
#: From one measured frame to the next, at most this many median steps pass, or this time in s if that is longer; no
#: beat spans more. (Bridging three steps leaves 1 in 150 beats of true masks more than 3 points of EF off, ten steps
#: 1 in 10. Just over the end-systole, 60 ms leave 1 in 40, 85 ms 3 in 10.)
MAX_STEP, MAX_STEP_S = 3.5, 0.06
#: Heart rates that are searched, in beats per minute; without times, a cycle has at least this many frames. A clip too
#: short to show a cycle is taken to be at the usual rate.
MIN_RATE_BPM, MAX_RATE_BPM, MIN_CYCLE_FRAMES, USUAL_RATE_BPM = 30.0, 200.0, 6, 75.0
#: Autocorrelation: the longest lag as a fraction of the clip; the least height of a peak; the first peak of this
#: fraction of the highest one is the cycle (where long and short beats alternate, the highest is that of two).
MAX_LAG, MIN_CORRELATION, FIRST_PEAK = 0.85, 0.1, 0.7
#: Where long and short beats alternate, the cycle found may be that of two beats. It is halved where the curve smoothed
#: for half of it has at least half as many more minima, deeper than this fraction of the stroke and this many SD of the
#: noise left in it. The pause before the atrial contraction is not as deep.
DEEP, DEEP_NOISE = 0.5, 2.0
#: Windows of the narrow filter and of the wide one, which is applied twice, as fractions of the cycle. The narrow one
#: grows with the SD of the noise of single frames: by this many cycles where that is as large as the stroke, and up to
#: the largest. A window that clean masks need leaves so much noise in rough ones that their extremes are too far apart.
NARROW, WIDE = 0.27, (0.5, 0.4)
NOISE_WIDENS, MAX_NARROW = 0.5, 0.45
#: The prominence of an end-systole, as a fraction of the stroke; the least interval between two, and how far from the
#: minimum of the wide filter that of the narrow one is searched, as fractions of the cycle.
MIN_PROMINENCE, MIN_INTERVAL, REFINE = 0.28, 0.6, 0.1
#: The first frame is an end-diastole where its volume is below the others by at most this fraction of the stroke, and
#: this many SD of the noise left in the smooth curve (mirrored at the ends, which leaves more noise there).
#: Its systole is at least this fraction of that of the other beats.
ED_TOLERANCE, EDGE_NOISE, MIN_SYSTOLE = 0.1, 2.2, 0.7
#: Where no other end-diastole tells, the ventricle fills again by at least this fraction of what it ejected since the
#: first frame. In a clip that ends before, that frame may lie in the middle of a systole.
MIN_FILLING = 0.6
#: The smooth curve swings by more than this many SD of the noise left in it; of the variance a cubic Savitzky-Golay
#: filter over n frames leaves 9 / (4 n).
MIN_SWING, NOISE_LEFT = 4.0, 9 / 4
#: With fewer frames in a beat the shortest filter flattens its extremes: of true masks an EF of 60 reads on average 1
#: point too low at 15 frames, 3 at 11, 5.5 at 9 and 10 at 7.
MIN_FRAMES_PER_BEAT = 11
#: Beats are searched in at least this many measured frames: fewer cannot be smoothed.
MIN_BEAT_FRAMES = 5

NO_WHOLE_BEAT = "no whole beat: part of a beat"
NO_CLEAR_PEAKS = "no clear peaks"


@dataclass(frozen=True)
class Beat:
    """Hold a beat: its frames of end-diastole and of the end-systole after it, counted from 0, and what they tell.

    Volumes are in mL, or in pixels where the spacing is not known.
    """

    ed: int
    es: int
    edv_ml: float
    esv_ml: float

    @property
    def ef_percent(self) -> float:
        """Return the ejection fraction in percent."""
        return ejection_fraction(self.edv_ml, self.esv_ml)


@dataclass(frozen=True)
class ClipBeats:
    """Hold the beats of a clip.

    Attributes:
        beats: The whole beats in the order of time; without any, the part of a beat that the clip shows; empty where
            the ventricle could be measured in fewer than two frames.
        partial: There is no whole beat.
        smoothed_ml: Volume of the ventricle in each frame (T,), smoothed; NaN where it could not be measured.
        rate_bpm: Heart rate; None where it is not known.
        flags: In words, what makes the numbers doubtful; empty where nothing does.
    """

    beats: tuple[Beat, ...]
    partial: bool
    smoothed_ml: NDArray[np.float64]
    rate_bpm: float | None
    flags: tuple[str, ...] = ()

    @property
    def median_edv_ml(self) -> float | None:
        """Return the median of the beats' end-diastolic volumes; None without a beat."""
        return median(beat.edv_ml for beat in self.beats) if self.beats else None

    @property
    def median_esv_ml(self) -> float | None:
        """Return the median of the beats' end-systolic volumes; None without a beat."""
        return median(beat.esv_ml for beat in self.beats) if self.beats else None

    @property
    def median_ef_percent(self) -> float | None:
        """Return the median of the beats' ejection fractions; None without a beat."""
        return median(beat.ef_percent for beat in self.beats) if self.beats else None

    @property
    def ef_spread_percent(self) -> float | None:
        """Return the standard deviation (n - 1) of the beats' ejection fractions; None for fewer than two."""
        return stdev(beat.ef_percent for beat in self.beats) if len(self.beats) > 1 else None

    @property
    def reference_beat(self) -> Beat | None:
        """Return the beat whose ejection fraction is nearest to the median, the first of such; None without a beat."""
        middle = self.median_ef_percent
        return None if middle is None else min(self.beats, key=lambda beat: abs(beat.ef_percent - middle))


def find_beats(volumes_ml: ArrayLike, times_s: ArrayLike | None = None) -> ClipBeats:
    """Find the beats of a clip.

    The autocorrelation of the volume gives the length of a cycle. Savitzky-Golay filters smooth the curve: with a wide
    window to find end-systoles as minima of enough prominence, with a narrow one to place them and the end-diastoles
    between them, and to read the volumes. Both windows are fractions of the cycle.

    A whole beat has its end-diastole in the clip, its end-systole, and filling after it. Where the clip begins at an
    end-diastole, its first frame counts as that: the volume there is within a tenth of the stroke of that of the
    other end-diastoles; where there is no other, the ventricle must fill again by `MIN_FILLING` of what it ejected.
    Without a whole beat, ED and ES are the largest and the smallest smoothed volume, end frames included.

    Gaps between measured frames (`longest_step`) cut the clip and flag it: each piece is searched alone, so that no
    beat spans what was not seen. Cycle and noise are those of the longest piece, the stroke that of all pieces. Pieces
    shorter than a beat are not searched.

    Args:
        volumes_ml: Volume of the left ventricle in each frame (T,); NaN where it could not be measured. Any unit.
        times_s: Time of each frame (T,), increasing; None where it is not known: the heart rate then is not, either.

    Returns:
        The beats.

    Raises:
        PartialLabelError: There is not one time for each frame, or times do not increase or are not finite.
    """
    volumes = np.asarray(volumes_ml, dtype=np.float64)
    times = np.asarray(np.arange(len(volumes)) if times_s is None else times_s, dtype=np.float64)
    if times.shape != volumes.shape or not (np.isfinite(times).all() and np.all(np.diff(times) > 0)):
        raise PartialLabelError(
            f"find_beats: {len(volumes)} volumes and {len(times)} times, expected one increasing time for each volume"
        )
    known = np.flatnonzero(np.isfinite(volumes))
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    steps = np.diff(times[known])
    gaps = steps > (MAX_STEP * usual if times_s is None else longest_step(usual))
    pieces = [frames for frames in np.split(known, np.flatnonzero(gaps) + 1) if len(frames) > 1]
    smoothed = np.full(volumes.shape, np.nan)
    whole: list[Beat] = []
    found: list[Beat] = []
    intervals: list[float] = []
    clear = True
    cycle = inf
    if pieces:
        runs = [_Run.evenly(volumes[frames], times[frames], usual) for frames in pieces]
        longest = max(runs, key=lambda run: len(run.curve))
        wave = _wave(runs, longest, times_s is not None)
        clear, cycle = wave.is_clear(longest.curve), wave.cycle
        curves = [wave.narrow(run.curve) for run in runs]
        beats, intervals = _whole_beats(runs, curves, wave)
        for run, frames, narrow, of_run in zip(runs, pieces, curves, beats, strict=True):
            smoothed[frames] = np.interp(times[frames], run.times, narrow)
            at = frames[np.searchsorted((times[frames[1:]] + times[frames[:-1]]) / 2, run.times)].tolist()
            whole += [Beat(at[ed], at[es], float(narrow[ed]), float(narrow[es])) for ed, es in of_run]
            if run is longest:
                ed, es = int(narrow.argmax()), int(narrow.argmin())
                found = [Beat(at[ed], at[es], float(narrow[ed]), float(narrow[es]))]
    found = whole or found
    flags = []
    if gaps.any():
        unit = "frames" if times_s is None else "s"
        flags.append(f"no beat is measured across gaps between frames, of up to {steps.max():.3g} {unit}")
    if not clear:
        flags.append(NO_CLEAR_PEAKS)
    if not whole:
        flags.append(NO_WHOLE_BEAT)
    elif cycle < MIN_FRAMES_PER_BEAT:
        flags.append(f"only {cycle:g} frames in a beat: EF reads too low")
    low, high = EF_RANGE_PERCENT
    outside = [beat.ef_percent for beat in found if not low <= beat.ef_percent <= high]
    if outside:
        flags.append(f"EF outside {low:g} to {high:g} % in {len(outside)} of {len(found)} beats")
    return ClipBeats(tuple(found), not whole, smoothed, None if times_s is None else _rate_bpm(intervals), tuple(flags))


def longest_step(usual_step_s: float) -> float:
    """Return how much time may pass from one frame to the next; more is a gap.

    Args:
        usual_step_s: Median of the steps.

    Returns:
        MAX_STEP usual steps, or MAX_STEP_S where that is longer.
    """
    return max(MAX_STEP * usual_step_s, MAX_STEP_S)


@dataclass(frozen=True)
class _Run:
    """Hold frames without a gap, at equal distances: what the filters want. `measured`: number of volumes behind it."""

    times: NDArray[np.float64]
    curve: NDArray[np.float64]
    measured: int

    @classmethod
    def evenly(cls, volumes: NDArray[np.float64], times: NDArray[np.float64], usual_step: float) -> _Run:
        """Interpolate the volumes of frames (n,), two or more, that all have one."""
        count = max(round((times[-1] - times[0]) / usual_step) + 1, 2)
        even = np.linspace(times[0], times[-1], count)
        return cls(even, np.interp(even, times, volumes), len(volumes))

    @property
    def step(self) -> float:
        """Return the time from frame to frame."""
        return float(self.times[1] - self.times[0])


@dataclass(frozen=True)
class _Wave:
    """Describe the curve of a whole clip: a piece of a few frames tells neither its cycle nor its noise.

    `cycle` and `shortest`, the least that a cycle can be, are in frames; `noise` is the SD of single frames.
    """

    cycle: float
    shortest: float
    stroke: float
    noise: float

    def narrow(self, curve: NDArray[np.float64]) -> NDArray[np.float64]:
        """Smooth so that volumes can be read."""
        widened = NARROW + NOISE_WIDENS * self.noise / self.stroke if self.stroke else NARROW
        return _smooth(curve, min(widened, MAX_NARROW) * self.cycle)

    @property
    def reach(self) -> int:
        """Return the frames from a minimum of the wide curve in which that of the narrow one is searched."""
        return max(1, round(REFINE * self.cycle))

    def noise_left(self, curve: NDArray[np.float64]) -> float:
        """Return the SD of the noise left in the wide curve."""
        return self.noise * _noise_left(curve, WIDE[0] * self.cycle) ** 0.5

    def is_clear(self, curve: NDArray[np.float64]) -> bool:
        """Tell whether the stroke stands out from the noise left in a curve."""
        return self.stroke > MIN_SWING * self.noise_left(curve)

    def may_hold_beat(self, run: _Run) -> bool:
        """Tell whether a beat can be found in a run: enough is smoothed, and it is as long as a beat."""
        long = len(run.curve) >= max(self.shortest, MIN_INTERVAL * self.cycle)
        return long and run.measured >= MIN_BEAT_FRAMES and self.is_clear(run.curve)


def _wave(runs: Sequence[_Run], longest: _Run, timed: bool) -> _Wave:
    """Return cycle and noise of the longest run, and the stroke of all."""
    curve, step = longest.curve, longest.step
    shortest, most = _cycle_range(len(curve), step if timed else None)
    usual = float(min(len(curve), 60 / USUAL_RATE_BPM / step if timed else inf))
    cycle = _cycle_length(curve, shortest, most) or usual
    if cycle / 2 >= shortest and _deep_minima(curve, cycle / 2) >= max(2, 1.5 * _deep_minima(curve, cycle)):
        cycle /= 2
    stroke = _stroke(np.concatenate([_wide(run.curve, cycle) for run in runs]))
    return _Wave(cycle, shortest, stroke, _noise(curve, NARROW * cycle))


def _cycle_range(count: int, step: float | None) -> tuple[float, float]:
    """Return the shortest and the longest length of a cycle in frames; without times, the clip limits the latter."""
    if step is None:
        return MIN_CYCLE_FRAMES, count
    return 60 / MAX_RATE_BPM / step, 60 / MIN_RATE_BPM / step


def _cycle_length(curve: NDArray[np.float64], shortest: float, longest: float) -> float | None:
    """Return the length of a cycle in frames, the first high peak of the autocorrelation; None without one.

    It is not corrected for the fewer frames at longer lags, so one cycle is preferred to several.
    """
    from scipy.signal import detrend, find_peaks

    centered = detrend(curve)
    power = float(centered @ centered)
    if not power:
        return None
    lags = int(min(longest, MAX_LAG * len(curve))) + 2
    correlation = np.correlate(centered, centered, "full")[len(curve) - 1 :][:lags] / power
    peaks = find_peaks(correlation, height=MIN_CORRELATION)[0]
    peaks = peaks[peaks >= shortest]
    return float(peaks[correlation[peaks] >= FIRST_PEAK * correlation[peaks].max()][0]) if len(peaks) else None


def _deep_minima(curve: NDArray[np.float64], cycle: float) -> int:
    """Return the number of minima that are too deep for the pause of a diastole."""
    from scipy.signal import find_peaks

    wide = _wide(curve, cycle)
    noise = _noise(curve, NARROW * cycle) * _noise_left(curve, WIDE[0] * cycle) ** 0.5
    depth = DEEP * _stroke(wide) + DEEP_NOISE * noise
    return len(find_peaks(-wide, prominence=depth, distance=max(1.0, MIN_INTERVAL * cycle))[0])


def _rate_bpm(intervals_s: list[float]) -> float | None:
    """Return the rate of the median interval; None without one.

    Where beats were missed, it may be below MIN_RATE_BPM: then it is not known, either.
    """
    rate = 60.0 / median(intervals_s) if intervals_s else 0.0
    return rate if rate >= MIN_RATE_BPM else None


def _window(curve: NDArray[np.float64], frames: float) -> int:
    """Return the nearest odd number of frames, at least 5 where the clip has them."""
    return min(max(5, 2 * round((frames - 1) / 2) + 1), 2 * ((len(curve) - 1) // 2) + 1)


def _noise(curve: NDArray[np.float64], frames: float) -> float:
    """Return the SD of the noise of single frames: of what the filter over a number of frames takes away."""
    return float(np.std(curve - _smooth(curve, frames)) / (1 - _noise_left(curve, frames)) ** 0.5)


def _noise_left(curve: NDArray[np.float64], frames: float) -> float:
    """Return the fraction of the variance of noise that the filter over a number of frames leaves."""
    return min(NOISE_LEFT / _window(curve, frames), 0.5)


def _smooth(curve: NDArray[np.float64], window: float) -> NDArray[np.float64]:
    """Smooth by a cubic Savitzky-Golay filter over an odd number of frames; too few frames stay as they are."""
    from scipy.signal import savgol_filter

    frames = _window(curve, window)
    return curve if frames < 5 else savgol_filter(curve, frames, 3, mode="mirror")


def _wide(curve: NDArray[np.float64], cycle: float) -> NDArray[np.float64]:
    """Smooth so that minima are end-systoles."""
    return _smooth(_smooth(curve, WIDE[0] * cycle), WIDE[1] * cycle)


def _stroke(wide: NDArray[np.float64]) -> float:
    """Return the swing of the smooth curve."""
    return float(np.ptp(np.percentile(wide, (5, 95))))


def _whole_beats(
    runs: Sequence[_Run], curves: Sequence[NDArray[np.float64]], wave: _Wave
) -> tuple[list[list[tuple[int, int]]], list[float]]:
    """Return ED and ES, in frames, of the whole beats of each run, and the intervals between EDs and between ESs.

    `curves` are those of the runs, smoothed by the narrow filter. Intervals are in the unit of the times.
    """
    wides = [_wide(run.curve, wave.cycle) for run in runs]
    found = [
        _extremes(narrow, wide, wave) if wave.may_hold_beat(run) else []
        for run, narrow, wide in zip(runs, curves, wides, strict=True)
    ]
    levels = [float(wide[ed]) for wide, beats in zip(wides, found, strict=True) for ed, _ in beats[1:]]
    ends = [wide[beats[-1][1] if beats else 0 :].max() for wide, beats in zip(wides, found, strict=True)]
    level = median(levels) if levels else float(max(ends))
    systoles = [es - ed for beats in found for ed, es in beats[1:]]
    systole = median(systoles) if systoles else 0.0
    whole: list[list[tuple[int, int]]] = []
    intervals: list[float] = []
    for run, narrow, wide, beats in zip(runs, curves, wides, found, strict=True):
        of_run = beats
        if beats:
            ed, es = beats[0]
            high = wide[ed] >= level - ED_TOLERANCE * wave.stroke - EDGE_NOISE * wave.noise_left(run.curve)
            filled = levels or narrow[es:].max() - narrow[es] >= MIN_FILLING * (narrow[ed] - narrow[es])
            if ed <= wave.reach and not (high and filled and es >= MIN_SYSTOLE * systole):
                of_run = beats[1:]
        whole.append(of_run)
        eds, ess = [ed for ed, _ in of_run], [es for _, es in beats]
        intervals += [run.step * interval for interval in [*np.diff(ess).tolist(), *np.diff(eds).tolist()]]
    return whole, intervals


def _extremes(narrow: NDArray[np.float64], wide: NDArray[np.float64], wave: _Wave) -> list[tuple[int, int]]:
    """Return the frames of each ES with filling after it, and of the largest volume before it (ED, ES)."""
    from scipy.signal import find_peaks

    distance = max(1.0, MIN_INTERVAL * wave.cycle, wave.shortest)
    minima = find_peaks(-wide, prominence=MIN_PROMINENCE * wave.stroke, distance=distance)[0]
    es = [_extreme(-narrow, at - wave.reach, at + wave.reach) for at in minima.tolist()]
    return [(_extreme(narrow, start, end), end) for start, end in zip([0, *es[:-1]], es, strict=False)]


def _extreme(curve: NDArray[np.float64], first: int, last: int) -> int:
    """Return the frame of the largest value from `first` to `last`."""
    first = max(first, 0)
    return first + int(curve[first : last + 1].argmax())


def frame_flags(lv_pixels: ArrayLike, at_border: ArrayLike, volumes_ml: ArrayLike) -> tuple[str, ...]:
    """Say what is wrong with the left ventricle in the frames of a clip.

    Args:
        lv_pixels: Number of pixels of the ventricle in each frame (T,).
        at_border: Whether it touches the border of the image (T,).
        volumes_ml: Its volume (T,); NaN where it could not be measured.

    Returns:
        Flags in words, with the number of frames; empty where nothing is wrong.
    """
    pixels, volumes = np.asarray(lv_pixels, dtype=np.float64), np.asarray(volumes_ml, dtype=np.float64)
    before, after = pixels[:-1], pixels[1:]
    jumps = (before > 0) & (after > 0) & (np.abs(after - before) > MAX_AREA_JUMP * before)
    counts = {
        "no LV": pixels == 0,
        "LV cannot be measured": (pixels > 0) & ~np.isfinite(volumes),
        "LV touches the border": np.asarray(at_border, dtype=bool),
        "the area of LV jumps by more than 30 %": jumps,
    }
    return tuple(
        f"{text} in {np.count_nonzero(frames)} of {len(pixels)} frames"
        for text, frames in counts.items()
        if frames.any()
    )


@dataclass(frozen=True)
class BiplaneBeat:
    """Hold the volumes of a patient from two views: a beat of a 2CH and of a 4CH clip, combined disc by disc.

    `flags`: in words, what makes the numbers doubtful.
    """

    edv_ml: float
    esv_ml: float
    flags: tuple[str, ...] = ()

    @property
    def ef_percent(self) -> float:
        """Return the ejection fraction in percent."""
        return ejection_fraction(self.edv_ml, self.esv_ml)


def biplane_ef(
    two_chamber: ClipBeats,
    two_chamber_discs: Sequence[Discs | None],
    four_chamber: ClipBeats,
    four_chamber_discs: Sequence[Discs | None],
) -> BiplaneBeat | None:
    """Combine the beats of both clips that are nearest to each clip's median ejection fraction (biplane discs).

    Args:
        two_chamber: Beats of the 2CH clip.
        two_chamber_discs: Discs of the ventricle in each of its frames (T,), in mm; None where it has none.
        four_chamber: Beats of the 4CH clip.
        four_chamber_discs: As of the 2CH clip.

    Returns:
        Volumes in mL; None where a clip has no beat, or a frame of its beat no discs.
    """
    first, second = two_chamber.reference_beat, four_chamber.reference_beat
    if first is None or second is None:
        return None
    volumes = []
    for frames in ((first.ed, second.ed), (first.es, second.es)):
        views = [two_chamber_discs[frames[0]], four_chamber_discs[frames[1]]]
        known = [discs for discs in views if discs is not None]
        if len(known) < 2:
            return None
        volumes.append(disc_volume(known) / 1000)
    rates = [clip.rate_bpm for clip in (two_chamber, four_chamber) if clip.rate_bpm is not None]
    differ = len(rates) == 2 and max(rates) - min(rates) > MAX_RATE_DIFFERENCE * max(rates)
    flags = [f"heart rates differ: {rates[0]:.0f} in 2CH, {rates[1]:.0f} in 4CH"] if differ else []
    edv_ml, esv_ml = volumes
    low, high = EF_RANGE_PERCENT
    if not low <= ejection_fraction(edv_ml, esv_ml) <= high:
        flags.append(f"biplane EF outside {low:g} to {high:g} %")
    return BiplaneBeat(edv_ml, esv_ml, tuple(flags))
