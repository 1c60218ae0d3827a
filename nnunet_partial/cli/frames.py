"""`nnunet_partial frames`: write the frames of clips as images that a trained model segments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._options import add_processes_option, require_output_folder
from nnunet_partial.cli.convert import show_skipped

if TYPE_CHECKING:
    from nnunet_partial.clips.frames import FramesResult, Options


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "frames",
        help="write the frames of ultrasound clips as images that a trained model segments",
        description="Reads ultrasound clips (DICOM, AVI, MP4, MOV, NIfTI 2-D+t) and writes one image per clip, whose "
        "slices are the frames, with the file ending that the model wants, and clips.json with frame times, "
        "spacing and view. Of DICOM only the ultrasound region is kept, and names are keyed hashes. A clip that cannot "
        "be read is named and left out; exit code 1. If interrupted, the same command continues where it stopped. For "
        "research, not for diagnosis.",
        epilog="Example: nnunet_partial frames -i clips -o in -m MODEL --view 4CH; "
        "nnUNetv2_predict_from_modelfolder -i in -o out -m MODEL -f 0; "
        "nnunet_partial measure -i in --pred out -o results",
    )
    add_clip_options(parser)
    parser.add_argument(
        "--per-frame", action="store_true", help="write a file per frame, instead of volumes of up to 256 frames"
    )
    parser.set_defaults(run=run)


def add_clip_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which clips are read, and how."""
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="FOLDER", help="the clips, or one of them")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="must not exist yet")
    parser.add_argument(
        *("-m", "--model"),
        type=Path,
        required=True,
        metavar="MODEL_FOLDER",
        help="folder of the trained model, TRAINER__PLANS__2d",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--view", help="view of all clips, such as 4CH or 2CH (default: unknown)")
    views.add_argument(
        "--view-table",
        type=Path,
        metavar="TABLE",
        help="CSV with a row per clip: clip (its file), view, patient, exam; the last three may be left out or empty",
    )
    parser.add_argument(
        "--names",
        choices=("hash", "keep"),
        default="hash",
        help="hash (default): keyed hashes of patient and clip; keep: those of the files, which must name nobody",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="key of the hashes, made where it does not exist (default: in your configuration folder); give it to "
        "nobody who gets the images",
    )
    parser.add_argument(
        "--keep-whole-frame",
        action="store_true",
        help="of DICOM, cut nothing, and take files whose header does not say where the image is, or says that names "
        "are written in it; without it such files are refused. Look at the files first",
    )
    parser.add_argument(
        "--depth-mm",
        type=float,
        metavar="MM",
        help="image depth of clips without a spacing, from the top to the bottom row (default: that of the images "
        "the model was trained on, else 150)",
    )
    add_processes_option(parser)


def clip_options(args: argparse.Namespace) -> Options:
    """Collect what `add_clip_options` added."""
    from nnunet_partial.clips.frames import Options

    return Options(
        per_frame=getattr(args, "per_frame", False),
        keep_names=args.names == "keep",
        key_file=args.key,
        view=args.view,
        table=args.view_table,
        keep_whole_frame=args.keep_whole_frame,
        depth_mm=args.depth_mm,
    )


def typed_options(args: argparse.Namespace) -> list[str]:
    """Write the options of `add_clip_options`, but for -i, -o, -m and -np, as they are typed."""
    typed = []
    for option in ("--view", "--view-table", "--key", "--depth-mm"):
        value = getattr(args, option.removeprefix("--").replace("-", "_"))
        typed += [option, str(value)] if value is not None else []
    typed += ["--names", "keep"] if args.names == "keep" else []
    return typed + (["--keep-whole-frame"] if args.keep_whole_frame else [])


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.clips.frames import plan_frames, write_frames

    require_output_folder(args.output)
    result = write_frames(
        plan_frames(args.input, args.output, args.model, clip_options(args)),
        args.output,
        processes=args.processes,
        progress=True,
        log=show_skipped,
    )
    show_frames(result, args)
    return 1 if result.skipped else 0


def show_frames(result: FramesResult, args: argparse.Namespace) -> None:
    """Print what was written: which file has which name, what was noticed, and what was left out."""
    from nnunet_partial.clips.records import NOMINAL_DEPTH
    from nnunet_partial.utils.text import format_names, printable

    keeps_names = args.names == "keep"
    if result.new_key is not None:
        print(f"NOTE: {result.new_key} is a new key. With it the same patient and clip get the same names again.")
    if not keeps_names:
        print("Which file has which name; nothing on disk tells:")
    for file, name in result.files.items():
        if not keeps_names:
            print(f"  {name}  {printable(file)}")
        for flag in result.clips[name].flags:
            print(f"  NOTE: {printable(file)}: {flag}")
    nominal = sum(clip.spacing_from == NOMINAL_DEPTH for clip in result.clips.values())
    timeless = sum(clip.frame_times_s is None for clip in result.clips.values())
    viewless = sum(clip.view is None for clip in result.clips.values())
    for count, text in (
        (nominal, "without a spacing: a nominal image depth is assumed, volumes in mL are not to be trusted"),
        (timeless, "without frame times"),
        (viewless, "of unknown view"),
    ):
        if count:
            print(f"NOTE: {count} clip(s) {text}")
    if args.keep_whole_frame and any(clip.source == "DICOM" for clip in result.clips.values()):
        print("NOTE: whole frames were kept; look for names in the images before anybody else gets them")
    hidden = {name for name in result.others if "/." in f"/{name}"}
    visible = {*result.others} - hidden
    if visible:
        print(f"NOTE: {len(visible)} file(s) are no clips: {format_names(visible, len(visible))}")
    if hidden:
        print(f"NOTE: {len(hidden)} hidden file(s) are left out: {format_names(hidden, 5)}")
    frames = sum(clip.frames for clip in result.clips.values())
    print(f"{result.folder}: {len(result.clips)} clip(s), {frames} frames; {len(result.skipped)} skipped")
