"""Find the best of several trained models on their validation cases, counting only annotated classes.

Does what `nnUNetv2_find_best_configuration` does: joins the folds, compares every model and every pair of models,
chooses the post-processing of the best one and writes the commands that predict with it. nnU-Net compares with the
label files, in which an unannotated structure is background; here a (case, class) pair counts only where the case is
annotated for the class.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any

from nnunet_partial.dataset.plans import configuration_settings
from nnunet_partial.dataset_json import is_filled
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.evaluation.evaluate import Evaluation, Reference, evaluate_folders, find_reference
from nnunet_partial.evaluation.independence import cases_seen_at_start, require_comparable, was_filled_as
from nnunet_partial.evaluation.results import FINAL_CHECKPOINT, Tables, nnunet_summary, write_results
from nnunet_partial.model_selection import postprocessing
from nnunet_partial.model_selection.candidates import (
    Candidate,
    TrainedModel,
    Validation,
    ensemble_candidate,
    require_same_data,
    single_candidate,
    write_predictions,
)
from nnunet_partial.model_selection.checkpoints import find_checkpoint, with_checkpoints
from nnunet_partial.utils.files import read_json, write_json, write_text
from nnunet_partial.utils.text import first_lines

#: Tolerance of the surface Dice, as in `evaluate`; the choice is by Dice.
TOLERANCE_MM = 2.0
#: The folder of the evaluation's tables, in the results folder of the dataset.
TABLES = "find_best"
#: nnU-Net's names of the files with the commands, for people and for programs.
INSTRUCTIONS = ("inference_instructions.txt", "inference_information.json")


@dataclass(frozen=True)
class BestModel:
    """Hold the result of a comparison.

    `models`: those that were compared, each with its checkpoint. `scores`: foreground mean Dice by candidate, over
    annotated pairs. `postprocessed`: that of the best after post-processing. `steps`: the post-processing.
    `instructions`: the commands.
    """

    models: Sequence[TrainedModel]
    candidates: Sequence[Candidate]
    best: Candidate
    scores: Mapping[str, float]
    postprocessed: float
    steps: postprocessing.PostprocessingSteps
    instructions: str
    evaluation: Evaluation
    tables: Tables


def find_best(
    validation: Validation,
    models: Sequence[TrainedModel],
    ensembles: bool = True,
    overwrite: bool = True,
    processes: int = 1,
    checkpoint: str | None = None,
) -> BestModel:
    """Compare trained models, and write what nnU-Net's command writes.

    Into the folder of each candidate: its predictions and summary.json; for the best also postprocessing.pkl, .json and
    the folder postprocessed; beside the models inference_instructions.txt and inference_information.json; and the
    tables of an evaluation in find_best. The best candidate has the highest foreground mean Dice, of equal ones the
    first (single models come first).

    Args:
        validation: The cases.
        models: Trained on the same dataset.
        ensembles: Also compare each pair of models, as an ensemble.
        overwrite: Without it, ensembled predictions that exist are kept.
        processes: How many cases to work on at a time.
        checkpoint: File name of the checkpoint that predicted the validation cases; None: as it is found.

    Returns:
        The result.

    Raises:
        DatasetError: A model was trained on another dataset, or one with other labels.
        PartialLabelError: Before anything is written, a fold, a prediction or the probabilities of an ensemble are
            missing, the folds of a model were validated with different checkpoints, or models behind
            some of which others saw the cases would be ranked beside the rest; later, a file cannot be measured: scores
            over different cases cannot be compared. Or no candidate has a Dice.
    """
    folder, dataset = models[0].folder.parent, validation.dataset.folder.name
    models = with_checkpoints(models, dataset, validation.folds, checkpoint)
    pairs = list(combinations(models, 2)) if ensembles else []
    _require(validation, models, probabilities=bool(pairs))
    _remove(folder, INSTRUCTIONS)
    candidates = [single_candidate(model, validation.folds) for model in models]
    candidates += [ensemble_candidate(first, second, validation.folds) for first, second in pairs]
    predictions = _predictions(candidates, validation, processes, overwrite)
    reference = validation_reference(validation)
    seen = {one.name: _seen_behind_any(one.members, validation) for one in candidates}
    evaluation = _evaluate(reference, predictions, processes, seen)
    summaries = {name: _summary(evaluation, name, reference, files) for name, files in predictions.items()}
    scores = {name: float(summary["foreground_mean"]["Dice"]) for name, summary in summaries.items()}
    for candidate in candidates:
        write_json(candidate.folder / "summary.json", summaries[candidate.name])
    best = _best(candidates, scores)
    steps, score = _postprocess(best, predictions[best.name], reference, summaries[best.name], processes, seen)
    tables = Tables.from_evaluation(evaluation)
    write_results(folder / TABLES, evaluation, tables, reference, predictions)
    commands = inference_instructions(dataset, validation.folds, best, processes, postprocessed=bool(steps.labels))
    write_text(folder / INSTRUCTIONS[0], commands)
    content = inference_information(dataset, validation.folds, models, ensembles, scores, best, score)
    write_json(folder / INSTRUCTIONS[1], content)
    return BestModel(models, candidates, best, scores, score, steps, commands, evaluation, tables)


def inference_information(
    dataset: str,
    folds: Sequence[int],
    models: Sequence[TrainedModel],
    ensembles: bool,
    scores: Mapping[str, float],
    best: Candidate,
    postprocessed: float,
) -> dict[str, Any]:
    """Build the content of inference_information.json, with nnU-Net's keys.

    Args:
        dataset: Its name.
        folds: Numbers of folds.
        models: Those that were compared.
        ensembles: Whether pairs of them were compared, too.
        scores: Foreground mean Dice by candidate.
        best: The best candidate.
        postprocessed: Foreground mean Dice of the best after post-processing.

    Returns:
        The content.
    """
    return {
        "folds": list(folds),
        "dataset_name_or_id": dataset,
        "considered_models": [
            {
                "plans": model.plans,
                "configuration": model.configuration,
                "trainer": model.trainer,
                "checkpoint": model.checkpoint,
            }
            for model in models
        ],
        "ensembling_allowed": ensembles,
        "all_results": dict(scores),
        "best_model_or_ensemble": {
            "result_on_crossval_pre_pp": scores[best.name],
            "result_on_crossval_post_pp": postprocessed,
            "postprocessing_file": str(best.folder / "postprocessing.pkl"),
            "some_plans_file": str(best.folder / "plans.json"),
            "selected_model_or_models": [
                {
                    "configuration": model.configuration,
                    "trainer": model.trainer,
                    "plans_identifier": model.plans,
                    "checkpoint": model.checkpoint,
                }
                for model in best.members
            ],
        },
    }


def inference_instructions(
    dataset: str, folds: Sequence[int], best: Candidate, processes: int, postprocessed: bool
) -> str:
    """Write out the commands from images to labels; INPUT_FOLDER and OUTPUT_FOLDER are to be replaced by the user.

    Args:
        dataset: Its name.
        folds: Numbers of folds.
        best: The best candidate.
        processes: Of the post-processing.
        postprocessed: Whether a post-processing was chosen.

    Returns:
        The text.
    """
    several = len(best.members) > 1
    lines = ["***Run inference like this:***", ""]
    outputs = []
    for number, model in enumerate(best.members, start=1):
        outputs.append(f"OUTPUT_FOLDER_MODEL_{number}" if several else "OUTPUT_FOLDER")
        configurations = read_json(model.folder / "plans.json")["configurations"]
        lines += _prediction(dataset, folds, model, configurations, outputs[-1], several)
    if several:
        lines += ["", "***Then average the two:***", ""]
        lines.append(f"nnUNetv2_ensemble -i {' '.join(outputs)} -o OUTPUT_FOLDER -np {processes}")
    if postprocessed:
        lines += ["", "***Once inference is completed, run postprocessing like this:***", ""]
        steps, plans = (quote(str(best.folder / name)) for name in ("postprocessing.pkl", "plans.json"))
        lines.append(
            f"nnUNetv2_apply_postprocessing -i OUTPUT_FOLDER -o OUTPUT_FOLDER_PP -pp_pkl_file {steps} -np {processes} "
            f"-plans_json {plans}"
        )
    return "\n".join(lines) + "\n"


def _prediction(
    dataset: str,
    folds: Sequence[int | str],
    model: TrainedModel,
    configurations: Mapping[str, Any],
    output: str,
    probabilities: bool,
) -> list[str]:
    """Return the command; before it that of the lower stage, where the configuration is the second of a cascade."""
    lower = previous_stage(configurations, model.configuration)
    lines, options = [], ""
    if lower is not None:
        options = f" -prev_stage_predictions {output}_PREV_STAGE"
        lower_folds, lower_model = lower_stage(model, lower, folds)
        lines = _prediction(dataset, lower_folds, lower_model, configurations, f"{output}_PREV_STAGE", False)
    options += " --save_probabilities" if probabilities else ""
    return [*lines, model.prediction_command(dataset, folds, output, options)]


def lower_stage(
    model: TrainedModel, configuration: str, folds: Sequence[int | str]
) -> tuple[Sequence[int | str], TrainedModel]:
    """Find the lower stage of a cascade, which may be trained as fold all alone.

    Args:
        model: The second stage.
        configuration: Of the lower stage.
        folds: Of the second stage.

    Returns:
        Folds and model of the lower stage, which need not exist.
    """
    folder = model.folder.parent / f"{model.trainer}__{model.plans}__{configuration}"
    lower = TrainedModel(folder, model.trainer, model.plans, configuration)
    if not any(lower.fold(fold).is_dir() for fold in folds) and lower.fold("all").is_dir():
        folds = ["all"]
    found = (find_checkpoint(lower, fold) for fold in folds)
    return folds, replace(lower, checkpoint=next((name for name in found if name), FINAL_CHECKPOINT))


def previous_stage(configurations: Mapping[str, Any], name: str) -> str | None:
    """Find the configuration whose predictions this one starts from, also where it is inherited.

    Args:
        configurations: Those of the plans.
        name: Of the configuration.

    Returns:
        The lower stage of a cascade; None where there is none.
    """
    stage = configuration_settings(configurations, name).get("previous_stage")
    return None if stage is None else str(stage)


def _require(validation: Validation, models: Sequence[TrainedModel], probabilities: bool) -> None:
    require_same_data(models, validation.dataset)
    require_comparable({model.name: cases_seen_behind(model, validation) for model in models})
    validation.require_predicted(models)
    if probabilities:
        validation.require_probabilities(models)


def cases_seen_behind(model: TrainedModel, validation: Validation) -> list[str]:
    """Find the validation cases that a model behind a training has seen: by its pseudo-labels, or as its start.

    Args:
        model: The trained model.
        validation: The cases.

    Returns:
        Their identifiers; empty where it was trained on no pseudo-label and started from no model. All of them where
        the dataset was filled again after the training; those of a fold where it is not known what its start has seen.
    """
    dataset_json, manifest = read_json(model.folder / "dataset.json", DatasetError), validation.dataset.manifest
    seen: set[str] = set()
    for fold in validation.folds:
        cases = [case for case, by in validation.fold_of.items() if by == fold]
        seen |= {*cases_seen_at_start(model.fold(fold), manifest, cases)}
    if is_filled(dataset_json):
        is_same = was_filled_as(dataset_json, manifest)
        seen |= {*(manifest.seen_by_filling_model(validation.fold_of) if is_same else validation.fold_of)}
    return [case for case in validation.fold_of if case in seen]


def _seen_behind_any(models: Sequence[TrainedModel], validation: Validation) -> list[str]:
    seen = {case for model in models for case in cases_seen_behind(model, validation)}
    return [case for case in validation.fold_of if case in seen]


def _predictions(
    candidates: Sequence[Candidate], validation: Validation, processes: int, overwrite: bool
) -> dict[str, dict[str, Path]]:
    """Fill the folders of the candidates.

    Returns:
        Predicted file by candidate and case.
    """
    for candidate in candidates:
        _remove(candidate.folder, ("summary.json", "postprocessing.pkl", "postprocessing.json"))
        shutil.rmtree(candidate.folder / "postprocessed", ignore_errors=True)
        write_predictions(candidate, validation, processes, overwrite)
    return {candidate.name: candidate.files(validation) for candidate in candidates}


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove files of an earlier comparison, so that none is taken for a result of this one."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def validation_reference(validation: Validation) -> Reference:
    """Find the label files of the validation cases.

    Args:
        validation: The cases.

    Returns:
        The reference, of these cases alone.
    """
    reference = find_reference(validation.dataset.folder, "labelsTr")
    return replace(reference, files={case: reference.files[case] for case in validation.fold_of})


def _evaluate(
    reference: Reference,
    predictions: Mapping[str, Mapping[str, Path]],
    processes: int,
    seen: Mapping[str, list[str]],
) -> Evaluation:
    seen = {name: seen[name] for name in predictions}
    evaluation = evaluate_folders(reference, predictions, TOLERANCE_MM, processes, progress=True, seen=seen)
    if evaluation.findings:
        shown = "\n".join(first_lines(evaluation.findings, 20))
        raise PartialLabelError(f"Some cases cannot be measured, so the models cannot be compared.\n{shown}")
    return evaluation


def _summary(evaluation: Evaluation, name: str, reference: Reference, files: Mapping[str, Path]) -> dict[str, Any]:
    records = [record for record in evaluation.records if record.model == name]
    summary = nnunet_summary(records, evaluation.classes, reference.files, files, reference.keys)
    seen = evaluation.not_independent.get(name)
    return {**summary, "not_independent": seen} if seen else summary


def _best(candidates: Sequence[Candidate], scores: Mapping[str, float]) -> Candidate:
    scored = [candidate for candidate in candidates if not math.isnan(scores[candidate.name])]
    if not scored:
        raise PartialLabelError(
            "Dice is undefined for every candidate: no annotated class occurs in the reference or the predictions."
        )
    return max(scored, key=lambda candidate: scores[candidate.name])  # the first of equal ones


def _postprocess(
    best: Candidate,
    files: Mapping[str, Path],
    reference: Reference,
    before: Mapping[str, Any],
    processes: int,
    seen: Mapping[str, list[str]],
) -> tuple[postprocessing.PostprocessingSteps, float]:
    """Choose and save the post-processing of the best candidate.

    Returns:
        The steps and the foreground mean Dice after them.
    """
    steps = postprocessing.choose(files, reference, processes)
    changed = {best.name: postprocessing.apply(steps, files, best.folder / "postprocessed", processes)}
    after = _summary(_evaluate(reference, changed, processes, seen), best.name, reference, changed[best.name])
    write_json(best.folder / "postprocessed" / "summary.json", after)
    postprocessing.save(steps, best.folder, before, after)
    return steps, float(after["foreground_mean"]["Dice"])
