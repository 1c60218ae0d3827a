"""Simulate clips: several beats of a synthetic heart, regular or not, with the truth of every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.anatomy import Floats, HeartModel, View
from nnunet_partial.phantom.scanner import SCANNER_A, Bytes, Scanner, draw_heart

#: Systole lasts this many seconds at one beat per second, and grows with the square root of the beat's length, as the
#: QT interval does (Bazett).
SYSTOLE_S = 0.32
#: Diastole: fractions of its time at which the early filling ends and the atrial contraction begins, and the fraction
#: of the stroke volume that the latter adds.
EARLY_FILLING_END, ATRIAL_START, ATRIAL_FRACTION = 0.45, 0.75, 0.3


@dataclass(frozen=True)
class Rhythm:
    """Hold the times of end-diastole, in s from the first frame; the first may lie before it, the last after the clip.

    Between two of them lies a beat: systole, then diastole.
    """

    ed_times_s: tuple[float, ...]

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        seconds: float,
        rate_bpm: float = 70.0,
        irregularity: float = 0.0,
        start: float = 0.0,
    ) -> Rhythm:
        """Sample the beats of a clip.

        Args:
            rng: source of all random numbers.
            seconds: length of the clip.
            rate_bpm: mean heart rate.
            irregularity: SD of the length of a beat as a fraction of its mean; lengths stay within 2 SD.
            start: how much of the first beat has passed at the first frame, 0 to below 1: 0 is end-diastole, 0.15 in
                the middle of systole.

        Returns:
            Enough beats for the clip.

        Raises:
            PartialLabelError: for a rate outside 20 to 250, an irregularity outside 0 to 0.4, or a start outside 0 to
                1.
        """
        if not (20.0 <= rate_bpm <= 250.0 and 0.0 <= irregularity <= 0.4 and 0.0 <= start < 1.0):
            raise PartialLabelError(
                f"rate_bpm is {rate_bpm}, irregularity {irregularity} and start {start}; expected a rate from 20 to "
                "250, an irregularity from 0 to 0.4 and a start from 0 to below 1"
            )
        times: list[float] = []
        while not times or times[-1] <= seconds:
            factor = 1.0 + irregularity * float(np.clip(rng.standard_normal(), -2.0, 2.0))
            length = 60.0 / rate_bpm * factor
            times = [*times, times[-1] + length] if times else [-start * length, (1.0 - start) * length]
        return cls(tuple(times))

    @property
    def es_times_s(self) -> tuple[float, ...]:
        """Return the times of end-systole in s; one fewer than of end-diastole."""
        lengths = np.diff(self.ed_times_s)
        systoles = np.minimum(SYSTOLE_S * np.sqrt(lengths), 0.6 * lengths)
        return tuple((np.array(self.ed_times_s[:-1]) + systoles).tolist())

    def contraction(self, times_s: Floats) -> Floats:
        """Compute how far the ventricle is contracted: early filling, a pause and the atrial contraction in diastole.

        Args:
            times_s: (T,), from the first end-diastole to the last.

        Returns:
            (T,), 0 at end-diastole and 1 at end-systole.

        Raises:
            PartialLabelError: for a time outside.
        """
        ed, es = np.array(self.ed_times_s), np.array(self.es_times_s)
        if len(times_s) and not (ed[0] <= times_s.min() and times_s.max() <= ed[-1]):
            raise PartialLabelError(
                f"times from {times_s.min():g} to {times_s.max():g} s, expected {ed[0]:g} to {ed[-1]:g} s (the beats)"
            )
        beat = np.clip(np.searchsorted(ed, times_s, side="right") - 1, 0, len(es) - 1)
        systole = (times_s - ed[beat]) / (es - ed[:-1])[beat]
        diastole = (times_s - es[beat]) / (ed[1:] - es)[beat]
        early = (1.0 - ATRIAL_FRACTION) * _swing(diastole / EARLY_FILLING_END)
        atrial = ATRIAL_FRACTION * _swing((diastole - ATRIAL_START) / (1.0 - ATRIAL_START))
        return np.where(systole < 1.0, _swing(systole), 1.0 - early - atrial).clip(0.0, 1.0)

    def whole_beats(self, times_s: Floats, recovery: float = 0.6, lost: float = 0.1) -> list[tuple[int, int]]:
        """List the beats that the clip shows from end-diastole until the ventricle has begun to fill again.

        Args:
            times_s: of the frames, (T,).
            recovery: fraction of the stroke volume by which it must have filled in the clip after end-systole.
            lost: a clip that begins in systole shows the end-diastole, too, where at most this fraction of the stroke
                volume has left the ventricle.

        Returns:
            The frames nearest to end-diastole and to end-systole.
        """
        beats = []
        for ed, es, following in zip(self.ed_times_s, self.es_times_s, self.ed_times_s[1:], strict=False):
            inside = times_s[(times_s >= ed) & (times_s <= following)]
            if not len(inside) or not (ed >= times_s[0] or self.contraction(inside[:1])[0] <= lost):
                continue
            after = inside[inside > es]
            if inside[0] < es and len(after) and self.contraction(after).min() <= 1.0 - recovery:
                beats.append((int(np.abs(times_s - ed).argmin()), int(np.abs(times_s - es).argmin())))
        return beats


def _swing(fraction: Floats) -> Floats:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(fraction, 0.0, 1.0))


@dataclass(frozen=True)
class SimulatedClip:
    """Hold a clip and its truth: `images` and `labels` (T, rows, cols), the latter complete; times (T,) of frames."""

    images: Bytes
    labels: Bytes
    times_s: Floats
    anatomy: HeartModel
    rhythm: Rhythm


def simulate_clip(
    rng: np.random.Generator,
    *,
    anatomy: HeartModel,
    rhythm: Rhythm,
    frames: int,
    fps: float = 50.0,
    scanner: Scanner = SCANNER_A,
    shape: tuple[int, int] = (112, 112),
    view: View = "4CH",
) -> SimulatedClip:
    """Simulate a clip of a beating heart.

    Args:
        rng: source of the speckle.
        anatomy: the patient; `HeartModel.with_ef` sets the ejection fraction.
        rhythm: the beats.
        frames: number of frames.
        fps: frames per second.
        scanner: the domain.
        shape: of the frames, (rows, cols).
        view: "2CH" or "4CH".

    Returns:
        The clip.

    Raises:
        PartialLabelError: for another view, or a clip longer than its beats.
    """
    times = np.arange(frames) / fps
    drawn = [
        draw_heart(rng, anatomy=anatomy, scanner=scanner, shape=shape, view=view, contraction=float(contraction))
        for contraction in rhythm.contraction(times)
    ]
    images, labels = (np.stack(stack) for stack in zip(*drawn, strict=True))
    return SimulatedClip(images, labels, times, anatomy, rhythm)
