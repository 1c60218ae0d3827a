"""Find the heart beats in a clip from the volume of the left ventricle in each frame, and their ejection fraction.

What makes the numbers of a clip doubtful is said in words, as flags: flagged clips keep their numbers and are left out
of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunet_partial.biomarkers.definitions import disc_volume, ejection_fraction
from nnunet_partial.biomarkers.geometry import Discs

#: From one frame to the next, the area of the ventricle changes by less than this fraction.
MAX_AREA_JUMP = 0.3
#: No heart has an ejection fraction, in percent, outside these.
EF_RANGE_PERCENT = (5.0, 90.0)
#: The rates of two clips of a patient differ by less than this fraction of the larger one.
MAX_RATE_DIFFERENCE = 0.2

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
        """The ejection fraction in percent."""
        return ejection_fraction(self.edv_ml, self.esv_ml)


@dataclass(frozen=True)
class ClipBeats:
    """Hold the beats of a clip.

    Attributes:
        beats: The whole beats in the order of time; without any, the part of a beat that the clip shows; empty where
            the ventricle could be measured in fewer than two frames.
        partial: There is no whole beat.
        smoothed_ml: Volume of the ventricle in each frame (T,), smoothed; NaN where nothing could be measured.
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
        """The median of the beats' end-diastolic volumes; None without a beat."""
        return median(beat.edv_ml for beat in self.beats) if self.beats else None

    @property
    def median_esv_ml(self) -> float | None:
        """The median of the beats' end-systolic volumes; None without a beat."""
        return median(beat.esv_ml for beat in self.beats) if self.beats else None

    @property
    def median_ef_percent(self) -> float | None:
        """The median of the beats' ejection fractions; None without a beat."""
        return median(beat.ef_percent for beat in self.beats) if self.beats else None

    @property
    def ef_spread_percent(self) -> float | None:
        """The standard deviation (n - 1) of the beats' ejection fractions; None for fewer than two."""
        return stdev(beat.ef_percent for beat in self.beats) if len(self.beats) > 1 else None

    @property
    def reference_beat(self) -> Beat | None:
        """The beat whose ejection fraction is nearest to the median, the first of such; None without a beat."""
        middle = self.median_ef_percent
        return None if middle is None else min(self.beats, key=lambda beat: abs(beat.ef_percent - middle))


def find_beats(volumes_ml: ArrayLike, times_s: ArrayLike | None = None) -> ClipBeats:
    """Find the beats of a clip.

    Args:
        volumes_ml: Volume of the left ventricle in each frame (T,); NaN where it could not be measured. Any unit.
        times_s: Time of each frame (T,), increasing; None where it is not known: the heart rate then is not, either.

    Returns:
        The beats.
    """
    volumes = np.asarray(volumes_ml, dtype=np.float64)
    if np.isfinite(volumes).sum() < 2:
        return ClipBeats((), True, np.full(volumes.shape, np.nan), None, (NO_WHOLE_BEAT,))
    ed, es = int(np.nanargmax(volumes)), int(np.nanargmin(volumes))
    return ClipBeats((Beat(ed, es, float(volumes[ed]), float(volumes[es])),), True, volumes, None, (NO_WHOLE_BEAT,))


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
        """The ejection fraction in percent."""
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
    flags = (f"heart rates differ: {rates[0]:.0f} in 2CH, {rates[1]:.0f} in 4CH",) if differ else ()
    return BiplaneBeat(*volumes, flags)
