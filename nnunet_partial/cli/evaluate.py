"""`nnunet_partial evaluate`: evaluate predictions over the annotated classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_processes_option, require_output_folder
from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import PartialLabelError

if TYPE_CHECKING:
    from nnunet_partial.evaluation.evaluate import Evaluation
    from nnunet_partial.evaluation.results import Tables


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate predictions over the annotated classes: metrics, statistics, warning signs",
        description="Compares predictions with the labels of a dataset, case by case, counting only the classes "
        "that each case is annotated for, and writes tables: per_case.csv, summary.csv, warning_signs.csv, "
        "MODEL/summary.json in "
        "nnU-Net's layout, for several models comparisons.csv and ranks.csv, with --probabilities calibration.csv, and "
        "for apical views at ED and ES biomarkers.csv and biomarker_agreement.csv. Exit code 0: every case was "
        "evaluated; 1: some were not, and are named.",
        epilog="Example: nnunet_partial evaluate -d 510 --pred naive=PRED1 --pred marginal=PRED2 -o results",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    parser.add_argument(
        "--pred",
        action="append",
        required=True,
        metavar="[NAME=]FOLDER",
        help="predictions of one model; repeat the option for further models (default name: that of the folder)",
    )
    parser.add_argument(
        "--ref",
        default="labelsTs",
        metavar="FOLDER",
        help="the reference labels: labelsTs, labelsTr, labelsTr_full, or any folder (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the tables go")
    parser.add_argument(
        "--tolerance-mm",
        type=float,
        default=2.0,
        metavar="T",
        help="tolerance of the surface Dice in mm; in pixels where the spacing is unknown (default: %(default)s)",
    )
    parser.add_argument(
        "--probabilities",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]KIND",
        help="also measure the calibration of the probabilities beside the predictions (CASE.npz, of "
        "nnUNetv2_predict --save_probabilities or nnUNetv2_train --npz): softmax, or sigmoid for nnUNetTrainerABCE",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first prediction that cannot be evaluated")
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.evaluation.calibration import probability_kinds
    from nnunet_partial.evaluation.evaluate import (
        evaluate_folders,
        find_predictions,
        find_reference,
        require_same_classes,
    )
    from nnunet_partial.evaluation.independence import model_independence_text
    from nnunet_partial.evaluation.results import Tables, write_results

    require_output_folder(args.output)
    reference = find_reference(find_dataset(args.dataset), args.ref)
    predictions = find_predictions(args.pred, reference.file_ending)
    require_same_classes(predictions, reference.classes, reference.regions)
    if args.probabilities and reference.regions:
        raise PartialLabelError("--probabilities: calibration is of classes; this dataset has regions. Leave it out.")
    kinds = probability_kinds(args.probabilities, predictions)
    evaluation = evaluate_folders(
        reference, predictions, args.tolerance_mm, args.processes, args.strict, progress=True, probabilities=kinds
    )
    print("intervals and tests ...", flush=True)
    tables = Tables.from_evaluation(evaluation)
    write_results(args.output, evaluation, tables, reference, predictions)
    _show(evaluation, tables)
    if reference.interpolated:
        print(
            f"\n{len(reference.interpolated)} case(s) with interpolated masks, which no human annotated, "
            "were not evaluated on"
        )
    for model, number in evaluation.not_independent.items():
        text = model_independence_text(model, number)
        print(f"\nNOTE: {text} Compare it with others on cases that no filling model saw.")
    print(f"\nAll numbers: {args.output.resolve()}")
    args.document = {
        "output": args.output.resolve(),
        "models": evaluation.models,
        "classes": evaluation.classes,
        "summary": tables.summary,
        "comparisons": tables.comparisons,
        "ranks": tables.ranks,
        "warning_signs": tables.warning_signs,
        "calibration": tables.calibration,
        "biomarker_agreement": tables.biomarkers.agreement,
        "interpolated": sorted(reference.interpolated),
        "not_independent": evaluation.not_independent,
        "findings": evaluation.findings,
    }
    return 1 if evaluation.findings else 0


def _show(evaluation: Evaluation, tables: Tables) -> None:
    from nnunet_partial.evaluation import console

    print("\nMeans over the cases annotated for the class; (all) classes: over all pairs of case and class\n")
    print(console.agreement_table(tables.summary), end="")
    print(console.interval_note(tables.summary), end="")
    if tables.comparisons:
        print(
            "\nDice, paired by patient (Wilcoxon signed-rank; better: where p (Holm) < 0.05, by effect and means; "
            "rank-biserial effect: above 0 where a is better)\n"
        )
        print(console.comparison_table(tables.comparisons), end="")
    if tables.calibration:
        print("\nCalibration: expected calibration error over the voxels of cases that know the class\n")
        print(console.calibration_table(tables.calibration), end="")
    if tables.biomarkers.why_none:
        print(f"\nNo biomarkers: {tables.biomarkers.why_none}.")
    elif tables.biomarkers.agreement:
        print("\nBiomarkers of patients, prediction against reference; lengths and areas: biomarker_agreement.csv\n")
        print(console.biomarker_table(tables.biomarkers.agreement), end="")
    _list("False positives", console.false_positives(evaluation.records))
    signs = [str(row["message"]) for row in tables.warning_signs if row["warning"]]
    _list("Warning signs, where the structure is not annotated", signs)
    _list("Not evaluated", evaluation.findings)


def _list(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}: {len(lines)}")
        for line in lines:
            print(f"  {line}")
