"""Which of several trained models is best on the cases that it did not train on, counting only what is known?

What `nnUNetv2_find_best_configuration` does: folds together, every model and every pair of models compared, the best
one's post-processing chosen, its commands written. nnU-Net compares with the label files, where a structure that nobody
drew is background; here a (case, structure) pair counts only where the case knows it.

How to predict with what was found best: the commands, as text and as nnU-Net's inference_information.json.
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

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.evaluate import Evaluation, Reference, evaluate_folders, find_reference
from nnunet_partial.evaluation.results import Tables, nnunet_summary, write_results
from nnunet_partial.model_selection import postprocessing
from nnunet_partial.model_selection.candidates import (
    Candidate,
    TrainedModel,
    Validation,
    ensemble_of,
    fill,
    require_same_data,
    together,
)
from nnunet_partial.utils.files import read_json, write_json, write_text


def information(
    dataset: str,
    folds: Sequence[int],
    models: Sequence[TrainedModel],
    ensembles: bool,
    scores: Mapping[str, float],
    best: Candidate,
    postprocessed: float,
) -> dict[str, Any]:
    """The content of inference_information.json, with nnU-Net's keys."""
    return {
        "folds": list(folds),
        "dataset_name_or_id": dataset,
        "considered_models": [
            {"plans": model.plans, "configuration": model.configuration, "trainer": model.trainer} for model in models
        ],
        "ensembling_allowed": ensembles,
        "all_results": dict(scores),
        "best_model_or_ensemble": {
            "result_on_crossval_pre_pp": scores[best.name],
            "result_on_crossval_post_pp": postprocessed,
            "postprocessing_file": str(best.folder / "postprocessing.pkl"),
            "some_plans_file": str(best.folder / "plans.json"),
            "selected_model_or_models": [
                {"configuration": model.configuration, "trainer": model.trainer, "plans_identifier": model.plans}
                for model in best.members
            ],
        },
    }


def instructions(dataset: str, folds: Sequence[int], best: Candidate, processes: int, postprocessed: bool) -> str:
    """The commands from images to labels; INPUT_FOLDER and OUTPUT_FOLDER are the user's. `postprocessed`: whether a
    post-processing was chosen."""
    several = len(best.members) > 1
    lines = ["***Run inference like this:***", ""]
    outputs = []
    for number, model in enumerate(best.members, start=1):
        outputs.append(f"OUTPUT_FOLDER_MODEL_{number}" if several else "OUTPUT_FOLDER")
        lines += _prediction(dataset, folds, model, model.configuration, outputs[-1], several)
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
    dataset: str, folds: Sequence[int], model: TrainedModel, configuration: str, output: str, probabilities: bool
) -> list[str]:
    """One command; before it that of the lower stage, where the configuration is the second of a cascade."""
    lower = _previous_stage(read_json(model.folder / "plans.json")["configurations"], configuration)
    lines, more = [], ""
    if lower is not None:
        more = f" -prev_stage_predictions {output}_PREV_STAGE"
        lines = _prediction(dataset, folds, model, lower, f"{output}_PREV_STAGE", False)
    more += " --save_probabilities" if probabilities else ""
    chosen = " ".join(str(fold) for fold in folds)
    return [
        *lines,
        f"nnUNetv2_predict -d {dataset} -i INPUT_FOLDER -o {output} -f {chosen} -tr {model.trainer} "
        f"-c {configuration} -p {model.plans}{more}",
    ]


def _previous_stage(configurations: Mapping[str, Any], name: str) -> str | None:
    """The configuration whose predictions this one starts from; plans may say so in what they inherit from."""
    settings = configurations.get(name, {})
    if "previous_stage" in settings:
        return str(settings["previous_stage"])
    return _previous_stage(configurations, settings["inherits_from"]) if "inherits_from" in settings else None


#: Of the surface Dice, in mm, as in `evaluate`; the choice goes by Dice.
TOLERANCE_MM = 2.0

#: The folder of our tables, in the results folder of the data set.
TABLES = "find_best"

#: What nnU-Net calls the commands, for people and for programs.
INSTRUCTIONS = ("inference_instructions.txt", "inference_information.json")


@dataclass(frozen=True)
class BestModel:
    """What came of it. `scores`: foreground mean Dice by candidate, over known pairs; `postprocessed`: that of the best
    after post-processing; `steps`: what the post-processing does; `instructions`: the commands."""

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
) -> BestModel:
    """Compares the models, and with `ensembles` each pair of them, and writes what nnU-Net's command writes.

    Into each candidate's folder: its predictions and summary.json; for the best also postprocessing.pkl, .json and the
    folder postprocessed; beside the models inference_instructions.txt and inference_information.json; and our tables
    in find_best. The best is the one with the highest foreground mean Dice, of equal ones the first (single models come
    first). Raises PartialLabelError, before anything is written, where a fold, a prediction or the probabilities of an
    ensemble are missing, and later where a file cannot be measured: scores over different cases cannot be compared.
    """
    pairs = list(combinations(models, 2)) if ensembles else []
    _require(validation, models, probabilities=bool(pairs))
    folder, dataset = models[0].folder.parent, validation.dataset.folder.name
    _forget(folder, INSTRUCTIONS)
    candidates = [together(model, validation.folds) for model in models]
    candidates += [ensemble_of(first, second, validation.folds) for first, second in pairs]
    predictions = _predictions(candidates, validation, processes, overwrite)
    reference = _reference(validation)
    evaluation = _measured(reference, predictions, processes)
    summaries = {name: _summary(evaluation, name, reference, files) for name, files in predictions.items()}
    scores = {name: float(summary["foreground_mean"]["Dice"]) for name, summary in summaries.items()}
    for candidate in candidates:
        write_json(candidate.folder / "summary.json", summaries[candidate.name])
    best = _best(candidates, scores)
    steps, after = _postprocess(best, predictions[best.name], reference, summaries[best.name], processes)
    tables = Tables.from_evaluation(evaluation)
    write_results(folder / TABLES, evaluation, tables, reference, predictions)
    commands = instructions(dataset, validation.folds, best, processes, postprocessed=bool(steps.labels))
    write_text(folder / INSTRUCTIONS[0], commands)
    about = information(dataset, validation.folds, models, ensembles, scores, best, after)
    write_json(folder / INSTRUCTIONS[1], about)
    return BestModel(candidates, best, scores, after, steps, commands, evaluation, tables)


def _require(validation: Validation, models: Sequence[TrainedModel], probabilities: bool) -> None:
    require_same_data(models, validation.dataset)
    validation.require_predicted(models)
    if probabilities:
        validation.require_probabilities(models)


def _predictions(
    candidates: Sequence[Candidate], validation: Validation, processes: int, overwrite: bool
) -> dict[str, dict[str, Path]]:
    """Fills the folders; files by candidate and case."""
    for candidate in candidates:
        _forget(candidate.folder, ("summary.json", "postprocessing.pkl", "postprocessing.json"))
        shutil.rmtree(candidate.folder / "postprocessed", ignore_errors=True)
        fill(candidate, validation, processes, overwrite)
    return {candidate.name: candidate.files(validation) for candidate in candidates}


def _forget(folder: Path, names: Sequence[str]) -> None:
    """What an earlier choice, ours or nnU-Net's, left must not be taken for a result of this one."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _reference(validation: Validation) -> Reference:
    whole = find_reference(validation.dataset.folder, "labelsTr")
    return replace(whole, files={case: whole.files[case] for case in validation.fold_of})


def _measured(reference: Reference, predictions: Mapping[str, Mapping[str, Path]], processes: int) -> Evaluation:
    evaluation = evaluate_folders(reference, predictions, TOLERANCE_MM, processes, progress=True)
    if evaluation.findings:
        shown = "\n".join(evaluation.findings[:20])
        raise PartialLabelError(f"Not everything can be measured, so the models cannot be compared.\n{shown}")
    return evaluation


def _summary(evaluation: Evaluation, name: str, reference: Reference, files: Mapping[str, Path]) -> dict[str, Any]:
    records = [record for record in evaluation.records if record.model == name]
    return nnunet_summary(records, evaluation.classes, reference.files, files)


def _best(candidates: Sequence[Candidate], scores: Mapping[str, float]) -> Candidate:
    scored = [candidate for candidate in candidates if not math.isnan(scores[candidate.name])]
    if not scored:
        raise PartialLabelError("No candidate has a Dice: nothing that the cases know is drawn or predicted in them.")
    return max(scored, key=lambda candidate: scores[candidate.name])  # the first of equal ones


def _postprocess(
    best: Candidate, files: Mapping[str, Path], reference: Reference, before: Mapping[str, Any], processes: int
) -> tuple[postprocessing.PostprocessingSteps, float]:
    """Chooses and saves the post-processing of the best candidate; gives it and the score with it."""
    steps = postprocessing.choose(files, reference, processes)
    changed = {best.name: postprocessing.apply(steps, files, best.folder / "postprocessed", processes)}
    after = _summary(_measured(reference, changed, processes), best.name, reference, changed[best.name])
    write_json(best.folder / "postprocessed" / "summary.json", after)
    postprocessing.save(steps, best.folder, before, after)
    return steps, float(after["foreground_mean"]["Dice"])
