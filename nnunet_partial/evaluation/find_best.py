"""Which of several trained models is best on the cases that it did not train on, counting only what is known?

What `nnUNetv2_find_best_configuration` does: folds together, every model and every pair of models compared, the best
one's post-processing chosen, its commands written. nnU-Net compares with the label files, where a structure that nobody
drew is background; here a (case, structure) pair counts only where the case knows it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation import find_best_postprocessing as postprocessing
from nnunet_partial.evaluation.find_best_folders import Candidate, ensemble_of, fill, together
from nnunet_partial.evaluation.find_best_folds import Validation
from nnunet_partial.evaluation.find_best_instructions import information, instructions
from nnunet_partial.evaluation.find_best_models import Trained, require_same_data
from nnunet_partial.evaluation.folders import Evaluation, evaluate_folders
from nnunet_partial.evaluation.nnunet_layout import nnunet_summary
from nnunet_partial.evaluation.reference import Reference, find_reference
from nnunet_partial.evaluation.results import Tables, write_results
from nnunet_partial.utils.files import write_json, write_text

#: Of the surface Dice, in mm, as in `evaluate`; the choice goes by Dice.
TOLERANCE_MM = 2.0

#: The folder of our tables, in the results folder of the data set.
TABLES = "find_best"

#: What nnU-Net calls the commands, for people and for programs.
INSTRUCTIONS = ("inference_instructions.txt", "inference_information.json")


@dataclass(frozen=True)
class Found:
    """What came of it. `scores`: foreground mean Dice by candidate, over known pairs; `postprocessed`: that of the best
    after post-processing; `steps`: what the post-processing does; `instructions`: the commands."""

    candidates: Sequence[Candidate]
    best: Candidate
    scores: Mapping[str, float]
    postprocessed: float
    steps: postprocessing.Chosen
    instructions: str
    evaluation: Evaluation
    tables: Tables


def find_best(
    validation: Validation,
    models: Sequence[Trained],
    ensembles: bool = True,
    overwrite: bool = True,
    processes: int = 1,
) -> Found:
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
    tables = Tables.of(evaluation)
    write_results(folder / TABLES, evaluation, tables, reference, predictions)
    commands = instructions(dataset, validation.folds, best, processes, postprocessed=bool(steps.labels))
    write_text(folder / INSTRUCTIONS[0], commands)
    about = information(dataset, validation.folds, models, ensembles, scores, best, after)
    write_json(folder / INSTRUCTIONS[1], about)
    return Found(candidates, best, scores, after, steps, commands, evaluation, tables)


def _require(validation: Validation, models: Sequence[Trained], probabilities: bool) -> None:
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
) -> tuple[postprocessing.Chosen, float]:
    """Chooses and saves the post-processing of the best candidate; gives it and the score with it."""
    steps = postprocessing.choose(files, reference, processes)
    changed = {best.name: postprocessing.apply(steps, files, best.folder / "postprocessed", processes)}
    after = _summary(_measured(reference, changed, processes), best.name, reference, changed[best.name])
    write_json(best.folder / "postprocessed" / "summary.json", after)
    postprocessing.save(steps, best.folder, before, after)
    return steps, float(after["foreground_mean"]["Dice"])
