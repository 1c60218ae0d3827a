"""`nnunet_partial analyze`: from ultrasound clips to ejection fraction, with a model that is loaded once."""

from __future__ import annotations

import argparse
import time
from typing import Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import require_output_folder
from nnunet_partial.cli.convert import show_skipped
from nnunet_partial.cli.frames import add_clip_options, clip_options, show_frames, typed_options
from nnunet_partial.cli.measure import document, show


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "analyze",
        help="frames, prediction and measure in one, with the model loaded once",
        description="Reads ultrasound clips, segments every frame with a trained model and measures beats and "
        "ejection fraction: the same as the commands `frames`, `nnUNetv2_predict_from_modelfolder` and `measure`, "
        "which are printed at the end. Writes their folders frames, predictions and measured. A clip that cannot be "
        "read or measured is named; exit code 1. If interrupted, the same command continues where it stopped. For "
        "research, not for diagnosis.",
        epilog="Example: nnunet_partial analyze -i clips -m MODEL -o results --view 4CH",
    )
    add_clip_options(parser)
    parser.add_argument(
        "-f", nargs="+", metavar="FOLD", help="folds whose predictions are averaged, or all (default: all numbered)"
    )
    parser.add_argument(
        "-chk",
        default="checkpoint_final.pth",
        choices=("checkpoint_final.pth", "checkpoint_best.pth"),
        help="the checkpoint that predicts (default: %(default)s)",
    )
    parser.add_argument(
        "-device", choices=("cuda", "cpu", "mps"), help="default: a GPU with CUDA if there is one, else the CPU"
    )
    parser.add_argument("--no-overlays", action="store_true", help="draw no videos")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.clips.analyze import MEASURED, Prediction, analyze, three_commands
    from nnunet_partial.clips.page import PAGE_NAME

    require_output_folder(args.output)
    folds = None if args.f is None else tuple(args.f)
    prediction = Prediction(folds, args.chk, args.device)
    started = time.monotonic()
    analysis = analyze(
        args.input,
        args.output,
        args.model,
        clip_options(args),
        prediction,
        overlays=not args.no_overlays,
        processes=args.processes,
        progress=True,
        log=show_skipped,
    )
    minutes = (time.monotonic() - started) / 60
    show_frames(analysis.frames, args)
    print()
    show(analysis.measured)
    print(f"\n{len(analysis.frames.clips) / minutes:.1f} clips per minute, the loading of the model included")
    print("\nThe same, step by step:")
    paths, of_measure = (args.input, args.output, args.model), ["--no-overlays"] if args.no_overlays else []
    for line in three_commands(*paths, typed_options(args), analysis, prediction, of_measure):
        print(f"  {line}")
    measured = args.output / MEASURED
    print(f"\nAll numbers: {measured.resolve()}; figures: {(measured / PAGE_NAME).resolve()}")
    args.document = {
        **document(analysis.measured, measured),
        "names": analysis.frames.files,
        "skipped": [{"file": one.case, "reason": one.reason} for one in analysis.frames.skipped],
        "others": analysis.frames.others,
    }
    return 1 if analysis.frames.skipped or analysis.measured.problems else 0
