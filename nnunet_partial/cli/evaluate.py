"""`nnunet_partial evaluate`: evaluate predictions over the annotated classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_processes_option, require_output_folder
from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import PartialLabelError

#: How many findings about clips are shown.
_SHOWN = 20

if TYPE_CHECKING:
    from nnunet_partial.evaluation.evaluate import Evaluation
    from nnunet_partial.evaluation.results import Tables


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate predictions over the annotated classes: metrics, statistics, warning signs; or EF of clips",
        description="Compares predictions with the labels of a dataset, case by case, counting only the classes "
        "that each case is annotated for, and writes tables: per_case.csv, summary.csv, warning_signs.csv, "
        "MODEL/summary.json in "
        "nnU-Net's layout, for several models comparisons.csv and ranks.csv, with --probabilities calibration.csv, and "
        "for apical views at ED and ES biomarkers.csv and biomarker_agreement.csv. Of clips it compares the EF that "
        "`measure` wrote with that of a table, and writes these two and Bland-Altman plots. Exit code 0: every case "
        "was evaluated; 1: some were not, and are named.",
        epilog="Example: nnunet_partial evaluate -d 510 --pred naive=PRED1 --pred marginal=PRED2 -o results",
    )
    parser.add_argument("-d", "--dataset", metavar="DATASET", help="id or name of the dataset (not of clips)")
    parser.add_argument(
        "--pred",
        action="append",
        required=True,
        metavar="[NAME=]FOLDER",
        help="predictions of one model, or the clips.csv or biplane.csv of `measure`; repeat the option for further "
        "models (default name: that of the folder)",
    )
    parser.add_argument(
        "--ref",
        default="labelsTs",
        metavar="FOLDER",
        help="the reference labels: labelsTs, labelsTr, labelsTr_full, or any folder (default: %(default)s); or a CSV "
        "with the columns clip (or FileName) and EF, or of biplane EF patient (and exam) and EF",
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
        "nnUNetv2_predict --save_probabilities or nnUNetv2_train --npz): softmax, or sigmoid for nnUNetTrainerABCE and "
        "for regions",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first prediction that cannot be evaluated")
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if any(map(_is_table, [*args.pred, args.ref])):
        return _run_on_tables(args)
    if args.dataset is None:
        args.parser.error("the following arguments are required: -d/--dataset")
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
    kinds = probability_kinds(args.probabilities, predictions, bool(reference.regions))
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
        print(f"\nNOTE: {text} Compare it with others on cases that none of these saw.")
    for text in evaluation.cautions:
        print(f"\nNOTE: {text}.")
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
        "cautions": evaluation.cautions,
        "findings": evaluation.findings,
    }
    return 1 if evaluation.findings else 0


def _is_table(path: str) -> bool:
    return path.lower().endswith(".csv")


def _run_on_tables(args: argparse.Namespace) -> int:
    from nnunet_partial.clips.agreement import compare_with_table, require_no_label_evaluation, write_agreement
    from nnunet_partial.evaluation import console
    from nnunet_partial.evaluation.evaluate import named_paths
    from nnunet_partial.utils.text import first_lines

    others = [path for path in (*args.pred, args.ref) if not _is_table(path)]
    if others:
        raise PartialLabelError(f"{others[0]} is no table (.csv), others are; expected --pred and --ref of one kind.")
    if args.dataset is not None or args.probabilities:
        raise PartialLabelError("-d and --probabilities belong to label files; leave them out with tables of EF.")
    require_output_folder(args.output)
    require_no_label_evaluation(args.output)
    models, reference = named_paths(args.pred), Path(args.ref).expanduser()
    result = compare_with_table(models, reference)
    if args.strict and result.findings:
        raise PartialLabelError(f"--strict: {result.findings[0]}.")
    write_agreement(args.output, models, reference, result)
    print("EF, measured against the table; n: patients\n")
    print(console.biomarker_table(result.biomarkers.agreement), end="")
    for model, count in result.left_out.items():
        print(f"\n{model}: {count} clip(s) with flags left out")
    if result.findings:
        print(f"\nNot compared: {len(result.findings)}")
        for line in first_lines(result.findings, _SHOWN, f"; all of them: {args.output / 'evaluation.json'}"):
            print(f"  {line}")
    print(f"\nAll numbers and plots: {args.output.resolve()}")
    args.document = {
        "output": args.output.resolve(),
        "models": list(models),
        "biomarker_agreement": result.biomarkers.agreement,
        "left_out": result.left_out,
        "findings": result.findings,
    }
    return 1 if result.findings else 0


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
        print(console.format_comparisons(tables.comparisons), end="")
    if tables.calibration:
        print("\nCalibration: expected calibration error over the voxels of cases in which the class is known\n")
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
