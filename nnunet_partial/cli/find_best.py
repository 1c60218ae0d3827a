"""`nnunet_partial find-best`: choose between trained models over the annotated classes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_processes_option, fold
from nnunet_partial.dataset.raw import RawDataset, find_dataset, nnunet_folder
from nnunet_partial.dataset_json import stored_values

if TYPE_CHECKING:
    from nnunet_partial.model_selection.find_best import BestModel


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "find-best",
        help="choose between trained models by cross-validation over the annotated classes",
        description="Does what nnUNetv2_find_best_configuration does, counting only the classes that each case is "
        "annotated "
        "for: collects the validation predictions of all folds, compares trainers, plans, configurations and ensembles "
        "of two, chooses the post-processing of the best and writes the commands to predict with it. Exit code 1: "
        "something is missing, and is named.",
        epilog="Example: nnunet_partial find-best -d 510 -c 2d -tr nnUNetTrainerMarginal nnUNetTrainerACCE",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    parser.add_argument(
        "-tr", nargs="+", action="extend", metavar="TRAINER", help="trainers (default: all that were trained)"
    )
    parser.add_argument(
        "-p", nargs="+", default=["nnUNetPlans"], metavar="PLANS", help="plans identifiers (default: nnUNetPlans)"
    )
    parser.add_argument(
        "-c",
        nargs="+",
        action="extend",
        metavar="CONFIGURATION",
        help="configurations (default: all that were trained)",
    )
    parser.add_argument(
        "-f",
        nargs="+",
        action="extend",
        type=fold,
        metavar="FOLD",
        help="folds (default: those of the cross-validation)",
    )
    parser.add_argument(
        "-chk",
        choices=("checkpoint_final.pth", "checkpoint_best.pth"),
        help="the checkpoint that predicted the validation cases, where the trainer did not record it (default: the "
        "final one, or the best one where only that is left)",
    )
    parser.add_argument("--disable-ensembling", action="store_true", help="compare single models only")
    parser.add_argument(
        "--no-overwrite",
        action="store_true",
        help="keep existing ensemble predictions, even if the trainings are newer",
    )
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.evaluation.independence import model_independence_text
    from nnunet_partial.model_selection.candidates import (
        describe_untrained,
        find_models,
        refuse_fold_all,
        validated_cases,
    )
    from nnunet_partial.model_selection.checkpoints import describe_checkpoints
    from nnunet_partial.model_selection.find_best import INSTRUCTIONS, TABLES, cases_seen_behind, find_best

    dataset = RawDataset(find_dataset(args.dataset))
    results, preprocessed = (
        nnunet_folder(variable) / dataset.folder.name for variable in ("nnUNet_results", "nnUNet_preprocessed")
    )
    models = find_models(results, args.tr, args.c, args.p)
    refuse_fold_all(models, dataset, args.f)
    validation = validated_cases(dataset, preprocessed, args.f)
    notes = [*validation.describe_excluded(models), *describe_untrained(results, args.tr, args.c, args.p)]
    best_model = find_best(
        validation, models, not args.disable_ensembling, not args.no_overwrite, args.processes, args.chk
    )
    for model in models:
        seen = cases_seen_behind(model, validation)
        notes += [model_independence_text(model.name, len(seen))] if seen else []
    notes += best_model.evaluation.cautions
    notes += describe_checkpoints(best_model.models, best_model.best.members, validation.folds)
    values = stored_values(dataset.structures, dataset.regions)
    _show(best_model, {stored: name for name, stored in values.items()})
    for note in notes:
        print(f"NOTE: {note}")
    print(f"\n{best_model.instructions}\nThe same: {results / INSTRUCTIONS[0]}; all numbers: {results / TABLES}")
    args.document = {
        "best": best_model.best.name,
        "scores": best_model.scores,
        "postprocessing": best_model.steps.labels,
        "postprocessed": best_model.postprocessed,
        "summary": best_model.tables.summary,
        "comparisons": best_model.tables.comparisons,
        "notes": notes,
        "instructions": results / INSTRUCTIONS[0],
        "information": results / INSTRUCTIONS[1],
        "tables": results / TABLES,
    }
    return 0


def _show(best_model: BestModel, names: Mapping[tuple[int, ...], str]) -> None:
    from nnunet_partial.evaluation import console
    from nnunet_partial.utils.text import text_table

    short, best = _short_names(best_model), best_model.best.name
    print("\nMeans over the cases annotated for the class; (all) classes: over all pairs of case and class\n")
    print(
        console.agreement_table([{**row, "model": short[str(row["model"])]} for row in best_model.tables.summary]),
        end="",
    )
    print(console.interval_note(best_model.tables.summary), end="")
    against = [row for row in best_model.tables.comparisons if best in (row["model_a"], row["model_b"])]
    if against:
        print("\nThe best against each other one: Dice, paired by patient (Wilcoxon signed-rank, p corrected for all")
        print("pairs, rank-biserial effect: above 0 where a is better)\n")
        columns = ("model_a", "model_b", "better")
        rows = [{**row, **{key: short.get(str(row[key]), "") for key in columns}} for row in against]
        print(console.format_comparisons(rows), end="")
    print("\nForeground mean Dice (mean of the structures' means)\n")
    scores = [
        [short[name], f"{score:.4f}", "best" if name == best else ""] for name, score in best_model.scores.items()
    ]
    print(text_table(["candidate", "Dice", ""], scores), end="")
    print(f"\nPost-processing of the best: {_steps(best_model, names)} (Dice then {best_model.postprocessed:.4f})")


def _short_names(best_model: BestModel) -> dict[str, str]:
    """Shorten names for the screen: of trainer, plans and configuration only what differs between candidates."""
    parts = {
        candidate.name: [(model.trainer, model.plans, model.configuration) for model in candidate.members]
        for candidate in best_model.candidates
    }
    columns = zip(*(model for members in parts.values() for model in members), strict=True)
    differs = [len(set(column)) > 1 for column in columns]
    shown = differs if any(differs) else [True, False, False]
    return {
        name: "+".join(" ".join(part for part, show in zip(model, shown, strict=True) if show) for model in members)
        for name, members in parts.items()
    }


def _steps(best_model: BestModel, names: Mapping[tuple[int, ...], str]) -> str:
    """Describe the chosen steps; the names of classes or regions by their stored values."""
    steps = [
        "the largest component of all structures together"
        if isinstance(labels, list)
        else f"the largest component of {names[labels if isinstance(labels, tuple) else (labels,)]}"
        for labels in best_model.steps.labels
    ]
    return "keep " + ", then ".join(steps) if steps else "none"
