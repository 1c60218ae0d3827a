"""`nnunet_partial fill`: let a trained model fill what is not annotated."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_overwrite_option, add_processes_option
from nnunet_partial.dataset.raw import RawDataset, dataset_name, find_dataset, nnunet_folder, plain_name, short_name
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.utils.files import read_json

if TYPE_CHECKING:
    from nnunet_partial.dataset_conversion.derived.fill import FillResult


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "fill",
        help="fill structures that are not annotated with a trained model (pseudo-labels)",
        description="Makes a dataset in which a trained model has filled structures that were not annotated: where it "
        "is sure, in one piece and of a usual size, and only where the label is 0. They are used "
        "in training and never in evaluation. Each fold fills the cases that it validates, from the probabilities of "
        "nnUNetv2_train --val --npz, which is run where they are missing. Their model has seen the cases that other "
        "folds validate: compare such a training with others on "
        "test cases alone, or make a clean fold with --fold.",
        epilog="Example: nnunet_partial fill -i 510 -d 611 -tr nnUNetTrainerMarginal -c 2d",
    )
    parser.add_argument("-i", "--input", required=True, metavar="DATASET", help="id or name of the source dataset")
    parser.add_argument(
        "-d", "--dataset-id", type=int, required=True, metavar="ID", help="id of the new dataset, 1 to 999"
    )
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="the trainer of the model that fills")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="its configuration, such as 2d")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="its plans (default: %(default)s)")
    folds = parser.add_mutually_exclusive_group()
    folds.add_argument(
        "-f",
        type=int,
        nargs="+",
        action="extend",
        metavar="FOLD",
        help="the folds that fill, each the cases that it validates (default: all that were trained)",
    )
    folds.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="make a clean fold: the model of fold K fills the training cases of fold K alone, and the new dataset has "
        "this fold alone, as fold 0; its validation cases were seen by no model that filled",
    )
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.9,
        metavar="P",
        help="mean probability inside the predicted voxels, at least (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=float,
        nargs=2,
        default=(0.5, 2.0),
        metavar=("LOW", "HIGH"),
        help="smallest and largest size, in times the median where the class is annotated (default: 0.5 2)",
    )
    parser.add_argument("--name", help="name of the new dataset (default: such as Echo_filled)")
    add_overwrite_option(parser)
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: %(default)s")
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset_conversion.derived.fill import TABLES, FillOptions, fill, open_source
    from nnunet_partial.dataset_conversion.staging import refuse_existing
    from nnunet_partial.evaluation.independence import cases_seen_in_training, independence_text
    from nnunet_partial.pseudo_labels.overlays import draw_overlays
    from nnunet_partial.pseudo_labels.predictions import FoldSource

    options = FillOptions(args.min_confidence, tuple(args.size))
    source = open_source(find_dataset(args.input)).dataset
    name = dataset_name(args.dataset_id, args.name or plain_name(f"{short_name(source.folder.name)}_filled"))
    refuse_existing(name, args.overwrite)
    results, preprocessed = (
        nnunet_folder(variable) / source.folder.name for variable in ("nnUNet_results", "nnUNet_preprocessed")
    )
    model = FoldSource.find(source, results, preprocessed, (args.tr, args.p, args.c), args.device, args.f, args.fold)
    made = fill(
        source.folder,
        name,
        model.filling,
        model.predict,
        options,
        overwrite=args.overwrite,
        processes=args.processes,
        progress=True,
    )
    tables = made.folder / TABLES
    drawn = draw_overlays(RawDataset(made.folder), made.accepted, tables)
    print(f"\n{made.folder} is {source.folder.name} with pseudo-labels\n")
    _show(made)
    if args.fold is None:
        print(
            "Not independent: models that filled were trained on validation cases of other folds. Compare trainings on "
            "this dataset with others on test cases (imagesTs) alone, or make a clean fold with --fold."
        )
    else:
        filled = RawDataset(made.folder)
        validated = read_json(made.folder / SPLITS_NAME)[0]["val"]
        seen = cases_seen_in_training(filled.manifest, validated)
        said = independence_text(seen, validated) or "No model that filled saw its validation cases."
        print(f"Fold {args.fold} of {source.folder.name} is the only fold, number 0. {said}")
    print(f"Tables{' and overlays' if drawn else ''}: {tables}")
    args.document = {
        "folder": made.folder,
        "tables": tables,
        "accepted": [one.row() for one in made.accepted],
        "summary": [dict(zip(("domain", "class", "outcome", "n_cases"), row, strict=True)) for row in made.summary],
        "overlays": drawn,
        "warnings": made.warnings,
    }
    return 0


def _show(made: FillResult) -> None:
    from nnunet_partial.utils.text import text_table

    rows = [[*row[:3], str(row[3])] for row in made.summary]
    print(text_table(["domain", "class", "outcome", "cases"], rows))
    for warning in made.warnings:
        print(f"Warning: {warning}")
