"""Write the page of measured clips: a row per clip with an image, the curve of its volume, its numbers and flags."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from nnunet_partial.clips.measure import FailedClip, Measured, MeasuredClip
from nnunet_partial.clips.records import NOMINAL_DEPTH, normal_view
from nnunet_partial.clips.tables import NOT_MEASURED, patient_of
from nnunet_partial.evaluation.records import mean
from nnunet_partial.report.formatting import decimal
from nnunet_partial.report.html import (
    Block,
    BulletList,
    Page,
    Paragraph,
    PictureRow,
    PictureTable,
    Section,
    Sparkline,
    page_html,
)
from nnunet_partial.report.tables import Cell, Table
from nnunet_partial.utils.files import write_text

PAGE_NAME = "clips.html"
HEAD = ("clip", "ED", "LV volume", "EF (%)", "EDV (mL)", "ESV (mL)", "beats", "rate (1/min)", "flags")
NOT_A_DIAGNOSIS = (
    "For research, not for diagnosis: no number here was checked by a human. Look at the contours before you use one."
)


def write_page(folder: Path, measured: Measured) -> None:
    """Write the page, with all its figures inside.

    Args:
        folder: The results folder.
        measured: What is shown.
    """
    flagged = sum(bool(clip.flags) for clip in measured.clips)
    failed = f"; {len(measured.failed)} could not be measured" if measured.failed else ""
    lead = f"{len(measured.clips)} clip(s) measured, {flagged} of them flagged{failed}."
    blocks: list[Block] = [Paragraph(NOT_A_DIAGNOSIS, "warning"), _means(measured), _clips(measured)]
    if measured.biplane:
        blocks.insert(2, _biplane(measured))
    if measured.problems:
        blocks.insert(1, BulletList(measured.problems, "warning"))
    page = Page("Ejection fraction of clips", lead, [Section("Clips", blocks)])
    write_text(folder / PAGE_NAME, page_html(page))


def mean_rows(measured: Measured) -> list[tuple[str, str, float, int]]:
    """Average over the clips without flags.

    Args:
        measured: All results.

    Returns:
        Name, unit, mean and number of clips, of ejection fraction and volumes; volumes only of clips whose spacing was
        not guessed. The mean is NaN over no clip.
    """
    clips = [clip for clip in measured.clips if not clip.flags]
    sized = [clip for clip in clips if clip.sized and not clip.guessed]
    return [
        (name, unit, mean(values), len(values))
        for name, unit, values in (
            ("EF", "%", [clip.ef_percent for clip in clips]),
            ("EDV", "mL", [clip.edv_ml for clip in sized]),
            ("ESV", "mL", [clip.esv_ml for clip in sized]),
        )
    ]


def _means(measured: Measured) -> Table:
    rows = [[name, unit, decimal(value, 1), str(count)] for name, unit, value, count in mean_rows(measured)]
    return Table(
        ["mean", "unit", "value", "clips"],
        rows,
        caption="Means over the clips without flags",
        note="Volumes only of clips whose spacing is known, not taken from a nominal depth.",
        left=2,
    )


def _biplane(measured: Measured) -> Table:
    rows: list[list[Cell | str]] = [
        [
            pair.patient or "-",
            Cell(pair.exam, more="\n".join(pair.flags)),
            *(decimal(value, 1) for value in (pair.beat.ef_percent, pair.beat.edv_ml, pair.beat.esv_ml)),
        ]
        for pair in measured.biplane
    ]
    head = ["patient", "examination", "EF (%)", "EDV (mL)", "ESV (mL)"]
    return Table(head, rows, caption="Biplane, of examinations with clips of both apical views", left=2)


def _clips(measured: Measured) -> PictureTable:
    rows = {clip.name: _row(clip) for clip in measured.clips} | {clip.name: _failed(clip) for clip in measured.failed}
    return PictureTable(
        HEAD,
        [rows[name] for name in sorted(rows)],
        "Clips",
        "Filled marks: end-diastole; open marks: end-systole. EF, EDV and ESV are medians over the whole beats. "
        "Clips with flags keep their numbers and are left out of means.",
    )


def _row(clip: MeasuredClip) -> PictureRow:
    beats = "part of one" if clip.beats.partial else str(len(clip.beats.beats))
    spread = f" \N{PLUS-MINUS SIGN} {clip.ef_spread_percent:.1f}" if not math.isnan(clip.ef_spread_percent) else ""
    guessed = f" ({NOMINAL_DEPTH})" if clip.guessed else ""
    return PictureRow(
        clip.name,
        _about(clip),
        clip.overlay or "",
        clip.thumbnail,
        _curve(clip),
        [
            decimal(clip.ef_percent, 1) + spread,
            *(decimal(volume, 1) + guessed for volume in (clip.edv_ml, clip.esv_ml)),
            beats if clip.beats.beats else "none",
            decimal(clip.rate_bpm, 0),
        ],
        clip.flags,
    )


def _failed(clip: FailedClip) -> PictureRow:
    return PictureRow(clip.name, _about(clip), "", None, None, [""] * (len(HEAD) - 4), [NOT_MEASURED + clip.problem])


def _about(clip: MeasuredClip | FailedClip) -> str:
    """Say what the clip is of."""
    patient = patient_of(clip)
    view = normal_view(clip.clip.view) or "view not known"
    return ", ".join([*([f"patient {patient}"] if patient != clip.name else []), view, f"{clip.clip.frames} frames"])


def _curve(clip: MeasuredClip) -> Sparkline | None:
    curve = clip.curve
    finite = curve.volumes[np.isfinite(curve.volumes)]
    if not len(finite):
        return None
    unit = f" {curve.volume_unit}" if clip.sized else ""
    digits = 0 if clip.sized else 2
    marks = [
        (float(curve.times[frame]), float(curve.volumes[frame]), phase)
        for phase, frames in (("ED", curve.ed), ("ES", curve.es))
        for frame in frames
        if math.isfinite(curve.volumes[frame])
    ]
    end = f"{curve.times[-1]:.2f} s" if curve.time_unit == "s" else f"{len(curve.times)} frames"
    return Sparkline(
        list(zip(curve.times.tolist(), curve.volumes.tolist(), strict=True)),
        marks,
        f"{finite.min():.{digits}f}",
        f"{finite.max():.{digits}f}{unit}",
        end,
        f"Volume of the ventricle in {clip.name}: {len(clip.beats.beats)} beat(s), {curve.title}",
    )
