"""`nnunet_partial export`: package a trained model for people who have nnU-Net alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._options import add_processes_option, fold, require_output_file
from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import PartialLabelError

if TYPE_CHECKING:
    from nnunet_partial.export.selection import SelectedModel


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "export",
        help="package a trained model for stock nnU-Net, without any name of a case or place",
        description="Writes a zip that nnUNetv2_install_pretrained_model_from_zip installs and nnUNetv2_predict "
        "predicts with, voxel for voxel as here, where this package is not installed. The trainer in it is nnU-Net's "
        "own, and the plans are renamed (nnUNetPlans_Marginal), so that it does not replace a stock model. A model "
        "card (see `card`) and, for the second stage of a cascade, the lower stage come along. Exit code 1: something "
        "is missing, and is named, or the network is not one of nnU-Net's; nothing is written.",
        epilog="Examples: nnunet_partial export -d 510 -c 2d -tr nnUNetTrainerMarginal -o model.zip; "
        "nnunet_partial export -d 510 -c 2d -tr nnUNetTrainerMarginal --as onnx -o exported",
    )
    add_model_options(parser, needs_configuration=True)
    parser.add_argument(
        "--as",
        dest="format",
        choices=("nnunet", "onnx"),
        default="nnunet",
        help="nnunet (default): the zip; onnx: a folder with one network per fold and model.json, for programs without "
        "PyTorch (extra `onnx`)",
    )
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        required=True,
        metavar="FILE",
        help="the zip, or for ONNX the folder; must not exist yet",
    )
    add_processes_option(parser)
    parser.set_defaults(run=run)


def add_model_options(parser: argparse.ArgumentParser, needs_configuration: bool) -> None:
    """Add the options that say which trained model is meant, and which of its folds."""
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    parser.add_argument(
        "-c",
        nargs="+",
        required=needs_configuration,
        metavar="CONFIGURATION",
        help="configurations" + ("" if needs_configuration else " (default: all that were trained)"),
    )
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="name of the trainer")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans identifier (default: nnUNetPlans)")
    parser.add_argument(
        "-f",
        nargs="+",
        type=fold,
        default=[0, 1, 2, 3, 4],
        metavar="FOLD",
        help="folds (default: 0 1 2 3 4), or all",
    )
    parser.add_argument(
        "-chk",
        choices=("checkpoint_final.pth", "checkpoint_best.pth"),
        help="the checkpoint (default: the one that predicted the validation cases)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.export.archive import write_archive
    from nnunet_partial.export.card import CARD_NAME, SUMMARY_NAME, model_card
    from nnunet_partial.export.selection import prediction_commands, select_models

    require_new_file(args.output, "model.zip")
    results = find_dataset(args.dataset, "nnUNet_results")
    selected = select_models(results, args.tr, args.c, args.p, args.f, args.chk)
    if args.format == "onnx":
        return _export_onnx(selected, args.output)
    notes: list[str] = []

    def describe(one: SelectedModel, commands: Sequence[str]) -> dict[str, str]:
        card = model_card(results.name, [one], commands, args.processes)
        notes.extend(card.notes)
        summary = {SUMMARY_NAME: card.annotation_summary} if card.annotation_summary else {}
        return {CARD_NAME: card.text, **summary}

    exported = write_archive(args.output, results.name, selected, describe)
    for note in dict.fromkeys(notes):
        print(f"NOTE: {note}")
    print(f"{args.output.resolve()} ({args.output.stat().st_size / 2**20:.1f} MiB). Where there is only nnU-Net:\n")
    print(f"nnUNetv2_install_pretrained_model_from_zip {args.output.name}")
    print("\n".join(prediction_commands(results.name, exported)))
    return 0


def _export_onnx(selected: Sequence[SelectedModel], folder: Path) -> int:
    from nnunet_partial.inference.onnx import export_onnx

    if len(selected) > 1:
        names = ", ".join(one.model.configuration for one in selected)
        raise PartialLabelError(f"--as onnx: got {names}; expected one, and no second stage of a cascade.")
    (one,) = selected
    for file in export_onnx(one.model.folder, one.folds, folder, one.model.checkpoint):
        print(file)
    return 0


def require_new_file(file: Path, example: str) -> None:
    """Raise PartialLabelError if `file` exists or cannot be written. Creates nothing."""
    require_output_file(file, example)
    if file.exists():
        raise PartialLabelError(f"-o: {file} exists. Remove it, or give another name with -o.")
