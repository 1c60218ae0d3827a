"""`nnunet_partial measure`: beats, ejection fraction and figures from the predictions of clips."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_processes_option, require_output_folder

if TYPE_CHECKING:
    from nnunet_partial.clips.measure import Measured

_SHOWN = 20


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "measure",
        help="measure predicted clips: beats, ejection fraction, volumes, overlay videos, one HTML page",
        description="Measures the predictions that nnU-Net made of the clips that `nnunet_partial frames` wrote. "
        "Per frame: volumes of LV and LA, areas; per clip: heart beats with their ejection fraction; per "
        "examination with both apical views: the biplane ejection fraction. Writes frames.csv, beats.csv, clips.csv, "
        "biplane.csv, clips.html, stills/ and overlays/. For research, not for diagnosis. Exit code 0: every clip was "
        "measured; 1: some were not, and are named.",
        epilog="Example: nnunet_partial measure -i in --pred out -o results",
    )
    parser.add_argument(
        "-i", "--input", required=True, type=Path, metavar="FOLDER", help="the folder that `frames` wrote"
    )
    parser.add_argument(
        "--pred", required=True, type=Path, metavar="FOLDER", help="the predictions, with nnU-Net's dataset.json"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="new folder for the results")
    parser.add_argument("--no-overlays", action="store_true", help="draw no videos")
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.clips.page import PAGE_NAME
    from nnunet_partial.clips.results import measure_folder

    require_output_folder(args.output)
    measured = measure_folder(args.input, args.pred, args.output, not args.no_overlays, args.processes, progress=True)
    show(measured)
    print(f"\nAll numbers: {args.output.resolve()}; figures: {(args.output / PAGE_NAME).resolve()}")
    args.document = document(measured, args.output)
    return 1 if measured.problems else 0


def document(measured: Measured, folder: Path) -> dict[str, Any]:
    """Return what `--json` prints of the results in a folder."""
    from nnunet_partial.clips.page import PAGE_NAME, mean_rows
    from nnunet_partial.clips.tables import biplane_rows, clip_rows

    return {
        "output": folder.resolve(),
        "page": (folder / PAGE_NAME).resolve(),
        "clips": clip_rows(measured),
        "biplane": list(biplane_rows(measured)),
        "means": [dict(zip(("name", "unit", "mean", "clips"), row, strict=True)) for row in mean_rows(measured)],
        "problems": measured.problems,
        "notes": measured.notes,
    }


def show(measured: Measured) -> None:
    """Print the first clips, the means and what could not be done."""
    from nnunet_partial.clips.page import mean_rows
    from nnunet_partial.evaluation.console import number_text
    from nnunet_partial.utils.text import first_lines, text_table

    rows = [
        [
            clip.name,
            clip.view or "-",
            number_text(clip.ef_percent, 1),
            "part of one" if clip.beats.partial else str(len(clip.beats.beats)),
            number_text(clip.rate_bpm, 0),
            str(len(clip.flags)),
        ]
        for clip in measured.clips
    ]
    head, line, *lines = text_table(["clip", "view", "EF (%)", "beats", "rate (1/min)", "flags"], rows).splitlines()
    print(head, line, *first_lines(lines, _SHOWN), "", sep="\n")
    for name, unit, value, count in mean_rows(measured):
        print(f"mean {name}: {number_text(value, 1)} {unit} over {count} clip(s) without flags")
    for note in measured.notes:
        print(f"NOTE: {note}")
    if measured.problems:
        print(f"\nNot done: {len(measured.problems)}")
        for line in first_lines(measured.problems, _SHOWN):
            print(f"  {line}")
