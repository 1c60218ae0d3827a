"""`nnunet_partial disagreement`: rank the cases whose annotation would help a trained model most."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import require_output_folder
from nnunet_partial.dataset.raw import RawDataset, find_dataset, list_images, nnunet_folder, preprocessed_folder

if TYPE_CHECKING:
    from nnunet_partial.evaluation.records import Row

_SHOWN = 10


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "disagreement",
        help="rank the cases whose annotation would help a trained model most",
        description="Lets each fold of a trained model predict the same cases and measures per case and structure how "
        "far they disagree: mean pairwise Dice, and mean entropy of the averaged probability. next.csv ranks the "
        "cases, with the structure of each to annotate first; where a fold was trained on a case only structures that "
        "are unknown in it. per_case.csv and domains.csv have all numbers. Exit code 0: every image was predicted; 1: "
        "some cannot be read, and are named.",
        epilog="Example: nnunet_partial disagreement -d 510 -tr nnUNetTrainerMarginal -i NEW_IMAGES -o next",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="the trainer")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans identifier (default: %(default)s)")
    parser.add_argument("-c", metavar="CONFIGURATION", help="configuration (default: the only one that was trained)")
    parser.add_argument(
        "-f", nargs="+", action="extend", metavar="FOLD", help="folds, at least two (default: all that were trained)"
    )
    parser.add_argument(
        "-chk",
        default="checkpoint_final.pth",
        choices=("checkpoint_final.pth", "checkpoint_best.pth"),
        help="the checkpoint that predicts (default: %(default)s)",
    )
    parser.add_argument(
        "-i", "--input", type=Path, metavar="FOLDER", help="images, named as in imagesTr (default: the training cases)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where the tables go (default: disagreement/ in the model)"
    )
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: %(default)s")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.active_learning.disagreement import (
        case_disagreements,
        rank_cases,
        summarize_domains,
        write_tables,
    )
    from nnunet_partial.active_learning.folds import (
        FoldPredictor,
        find_model,
        require_channels,
        require_own_names,
        trained_cases,
    )
    from nnunet_partial.dataset_json import channel_names
    from nnunet_partial.errors import DatasetError
    from nnunet_partial.model_selection.candidates import require_same_data
    from nnunet_partial.utils.parallel import progress_bar

    dataset = RawDataset(find_dataset(args.dataset))
    name, manifest = dataset.folder.name, dataset.manifest
    classes, regions = dataset.structures, dataset.regions
    model, folds = find_model(nnunet_folder("nnUNet_results") / name, args.tr, args.c, args.p, args.chk, args.f)
    require_same_data([model], dataset)
    output = args.output or model.folder / "disagreement"
    require_output_folder(output)
    images = list_images(args.input, dataset.file_ending) if args.input else dataset.image_files()
    require_channels(images, len(channel_names(dataset.dataset_json)), args.input or dataset.folder / "imagesTr")
    if args.input:
        require_own_names(images, dataset)
    trained_on = trained_cases(dataset, preprocessed_folder(name), model, folds)
    predictor = FoldPredictor(model, folds, args.device)
    disagreements, problems = [], []
    for case, files in progress_bar(images.items(), len(images), "predicting"):
        try:
            predictions = predictor.predict(files)
        except DatasetError as problem:
            problems.append(f"{case}: {problem}")
            continue
        disagreements += case_disagreements(
            case, manifest.find(case), case in trained_on, predictions, classes, regions
        )
    if not disagreements:
        raise DatasetError(f"None of the {len(problems)} image(s) can be predicted. The first: {problems[0]}.")
    tables = {"domains": summarize_domains(disagreements, classes), "next": rank_cases(disagreements)}
    write_tables(output, disagreements, tables)
    _show(tables["domains"], tables["next"])
    if problems:
        print(f"\nNot predicted: {len(problems)}")
        for line in problems:
            print(f"  {line}")
    print(f"\nAll numbers: {output.resolve()}")
    args.document = {"output": output.resolve(), "model": model.name, "folds": folds, **tables, "problems": problems}
    return 1 if problems else 0


def _show(domains: list[Row], ranked: list[Row]) -> None:
    from nnunet_partial.active_learning.disagreement import DOMAIN_COLUMNS
    from nnunet_partial.utils.text import text_table

    print("\nAgreement of the folds: means over cases; not ranked: a fold was trained on the structure in the case\n")
    head = ["domain", "class", "ranked", "Dice", "entropy (bits)", "cases", "not predicted"]
    print(text_table(head, [[_text(row[key]) for key in DOMAIN_COLUMNS] for row in domains]), end="")
    if not ranked:
        print("\nNothing to rank: every structure of every case was trained on. Give other images with -i.")
        return
    print("\nTo be annotated next\n")
    keys = ["rank", "case", "domain", "class", "dice", "entropy"]
    head = ["rank", "case", "domain", "class", "Dice", "entropy (bits)"]
    print(text_table(head, [[_text(row[key]) for key in keys] for row in ranked[:_SHOWN]]), end="")


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)
