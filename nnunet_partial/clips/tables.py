"""Write the tables of measured clips: frames.csv, beats.csv, clips.csv and biplane.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from nnunet_partial.biomarkers.measure import LA, LV, MYO
from nnunet_partial.clips.measure import FailedClip, Measured, MeasuredClip
from nnunet_partial.clips.records import normal_view
from nnunet_partial.evaluation.records import Row
from nnunet_partial.utils.tables import write_csv

FRAME_COLUMNS = (
    *("clip", "frame", "time_s", "phase"),
    *("lv_volume_ml", "lv_volume_smoothed_ml", "lv_volume_smoothed_percent", "lv_length_mm", "lv_area_cm2"),
    *("la_volume_ml", "la_area_cm2", "myo_area_cm2"),
    *("lv_area_pixels", "la_area_pixels", "myo_area_pixels", "spacing_from", "problem"),
)
BEAT_COLUMNS = (
    *("clip", "patient", "view", "beat", "whole", "ed_frame", "es_frame", "ed_s", "es_s"),
    *("edv_ml", "esv_ml", "ef_percent", "spacing_from"),
)
CLIP_COLUMNS = (
    *("clip", "patient", "exam", "view", "method", "ef_percent", "ef_spread_percent", "edv_ml", "esv_ml"),
    *("whole_beats", "rate_bpm", "ed_frame", "es_frame", "frames", "frames_per_s", "frame_times_from"),
    *("row_spacing_mm", "column_spacing_mm", "spacing_from", "source", "flags"),
)
BIPLANE_COLUMNS = (
    *("patient", "exam", "method", "clip_4ch", "clip_2ch", "ef_percent", "edv_ml", "esv_ml", "spacing_from", "flags"),
)
TABLE_NAMES = ("frames.csv", "beats.csv", "clips.csv", "biplane.csv")
#: Between the flags of a cell.
SEPARATOR = "; "
#: Begins the flag of a clip that could not be measured.
NOT_MEASURED = "not measured: "


def write_clip_tables(folder: Path, measured: Measured) -> None:
    """Write the four tables.

    Args:
        folder: The results folder.
        measured: What is written.

    Raises:
        OSError: A file cannot be written.
    """
    clips = measured.clips
    contents = (
        ([row for clip in clips for row in frame_rows(clip)], FRAME_COLUMNS),
        ([row for clip in clips for row in beat_rows(clip)], BEAT_COLUMNS),
        (clip_rows(measured), CLIP_COLUMNS),
        (biplane_rows(measured), BIPLANE_COLUMNS),
    )
    for name, (rows, columns) in zip(TABLE_NAMES, contents, strict=True):
        write_csv(folder / name, rows, columns)


def frame_rows(clip: MeasuredClip) -> Iterator[Row]:
    """Yield the rows of frames.csv.

    Args:
        clip: What was measured.

    Yields:
        A row per frame; lengths, areas and volumes are NaN where the spacing is not known.
    """
    frames, smoothed = clip.frames, clip.beats.smoothed_ml
    times = clip.clip.frame_times_s
    phases = {beat.es: "ES" for beat in clip.beats.beats} | {beat.ed: "ED" for beat in clip.beats.beats}
    sized = {
        "lv_volume_ml": frames.lv_volume,
        "lv_volume_smoothed_ml": smoothed,
        "lv_length_mm": frames.lv_length,
        "lv_area_cm2": frames.area(LV),
        "la_volume_ml": frames.la_volume,
        "la_area_cm2": frames.area(LA),
        "myo_area_cm2": frames.area(MYO),
    }
    for index in range(clip.clip.frames):
        yield {
            "clip": clip.name,
            "frame": index,
            "time_s": math.nan if times is None else times[index],
            "phase": phases.get(index, ""),
            **{name: float(values[index]) if clip.sized else math.nan for name, values in sized.items()},
            "lv_volume_smoothed_percent": 100 * float(smoothed[index]) / clip.largest_volume,
            **{
                f"{name.lower()}_area_pixels": int(frames.pixels[name][index]) if name in frames.pixels else ""
                for name in (LV, LA, MYO)
            },
            "spacing_from": clip.clip.spacing_from or "",
            "problem": frames.problems[index],
        }


def beat_rows(clip: MeasuredClip) -> Iterator[Row]:
    """Yield the rows of beats.csv.

    Args:
        clip: What was measured.

    Yields:
        A row per beat; volumes are NaN where the spacing is not known.
    """
    times = clip.clip.frame_times_s
    for number, beat in enumerate(clip.beats.beats, start=1):
        yield {
            "clip": clip.name,
            "patient": patient_of(clip),
            "view": clip.view,
            "beat": number,
            "whole": "no" if clip.beats.partial else "yes",
            "ed_frame": beat.ed,
            "es_frame": beat.es,
            "ed_s": math.nan if times is None else times[beat.ed],
            "es_s": math.nan if times is None else times[beat.es],
            "edv_ml": beat.edv_ml if clip.sized else math.nan,
            "esv_ml": beat.esv_ml if clip.sized else math.nan,
            "ef_percent": beat.ef_percent,
            "spacing_from": clip.clip.spacing_from or "",
        }


def clip_rows(measured: Measured) -> list[Row]:
    """Return the rows of clips.csv.

    Args:
        measured: All results.

    Returns:
        A row per clip, also of those that could not be measured, in the order of names.
    """
    rows = [*map(clip_row, measured.clips), *map(failed_row, measured.failed)]
    return sorted(rows, key=lambda row: str(row["clip"]))


def clip_row(clip: MeasuredClip) -> Row:
    """Return the row of clips.csv of a measured clip.

    Args:
        clip: What was measured.

    Returns:
        The row; NaN where there is no value.
    """
    beats, beat = clip.beats, clip.beats.reference_beat
    return {
        **_about(clip),
        "ef_percent": clip.ef_percent,
        "ef_spread_percent": clip.ef_spread_percent,
        "edv_ml": clip.edv_ml,
        "esv_ml": clip.esv_ml,
        "whole_beats": 0 if beats.partial else len(beats.beats),
        "rate_bpm": clip.rate_bpm,
        "ed_frame": beat.ed if beat else "",
        "es_frame": beat.es if beat else "",
        "flags": SEPARATOR.join(clip.flags),
    }


def failed_row(failed: FailedClip) -> Row:
    """Return the row of clips.csv of a clip that could not be measured.

    Args:
        failed: The clip.

    Returns:
        The row, without numbers.
    """
    return {**_about(failed), "flags": NOT_MEASURED + failed.problem}


def _about(clip: MeasuredClip | FailedClip) -> Row:
    about = clip.clip
    times, spacing = about.frame_times_s, about.spacing_mm or (math.nan, math.nan)
    return {
        "clip": clip.name,
        "patient": patient_of(clip),
        "exam": about.exam or "",
        "view": normal_view(about.view),
        "method": f"single-plane {normal_view(about.view)}".rstrip(),
        "frames": about.frames,
        "frames_per_s": (len(times) - 1) / (times[-1] - times[0]) if times and len(times) > 1 else math.nan,
        "frame_times_from": about.frame_times_from or "",
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "spacing_from": about.spacing_from or "",
        "source": about.source,
    }


def patient_of(clip: MeasuredClip | FailedClip) -> str:
    """Identify the patient of a clip as the evaluation does.

    Args:
        clip: Measured or not.

    Returns:
        The key; a clip without one is a patient by itself.
    """
    return clip.clip.patient or clip.name


def biplane_rows(measured: Measured) -> Iterator[Row]:
    """Yield the rows of biplane.csv.

    Args:
        measured: All results.

    Yields:
        A row per examination with both apical views.
    """
    for pair in measured.biplane:
        yield {
            "patient": pair.patient or "",
            "exam": pair.exam,
            "method": "biplane",
            "clip_4ch": pair.four_chamber,
            "clip_2ch": pair.two_chamber,
            "ef_percent": pair.beat.ef_percent,
            "edv_ml": pair.beat.edv_ml,
            "esv_ml": pair.beat.esv_ml,
            "spacing_from": pair.spacing_from,
            "flags": SEPARATOR.join(pair.flags),
        }
