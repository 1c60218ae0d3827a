"""The results folder: every table of an evaluation, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nnunet_partial
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation import comparisons, summary, warning_signs
from nnunet_partial.evaluation.biomarkers import Biomarkers
from nnunet_partial.evaluation.folders import Evaluation, Predictions
from nnunet_partial.evaluation.metrics import METRICS
from nnunet_partial.evaluation.nnunet_layout import nnunet_summary
from nnunet_partial.evaluation.records import write_csv
from nnunet_partial.evaluation.reference import Reference, is_plain
from nnunet_partial.evaluation.statistics import FEWEST
from nnunet_partial.evaluation.summary import Row
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.versions import versions

PER_CASE_COLUMNS = (
    *("model", "case", "domain", "patient", "view", "phase", "class", "state", "outcome", *METRICS),
    *("predicted_size", "reference_size", "size_unit", "distance_unit", "tolerance"),
)


@dataclass(frozen=True)
class Tables:
    """The rows of summary.csv, comparisons.csv, ranks.csv, warning_signs.csv and of the biomarkers' two tables; see the
    modules that make them."""

    summary: Sequence[Row]
    comparisons: Sequence[Row]
    ranks: Sequence[Row]
    warning_signs: Sequence[Row]
    biomarkers: Biomarkers

    @classmethod
    def of(cls, evaluation: Evaluation) -> Tables:
        several = len(evaluation.models) > 1
        records, classes = evaluation.records, evaluation.classes
        return cls(
            summary.summarise(records, classes),
            comparisons.compare_models(records, classes) if several else [],
            comparisons.rank_models(records, classes) if several else [],
            warning_signs.warning_signs(evaluation.sizes, classes),
            Biomarkers.of(evaluation),
        )


def write_results(
    folder: Path, evaluation: Evaluation, tables: Tables, reference: Reference, predictions: Predictions
) -> None:
    """Writes per_case.csv, summary.csv, warning_signs.csv, evaluation.json, MODEL/summary.json, and with several models
    comparisons.csv and ranks.csv; with one model these two, left there by an earlier evaluation, are removed. Likewise
    biomarkers.csv and biomarker_agreement.csv, where the data give biomarkers, and MODEL/summary.json of models that
    only the earlier one had."""
    _forget_other_models(folder, evaluation.models)
    write_csv(folder / "per_case.csv", [record.row() for record in evaluation.records], PER_CASE_COLUMNS)
    write_csv(folder / "summary.csv", tables.summary, summary.COLUMNS)
    write_csv(folder / "warning_signs.csv", tables.warning_signs, warning_signs.COLUMNS)
    for name, rows, columns in (
        ("comparisons.csv", tables.comparisons, comparisons.COMPARISON_COLUMNS),
        ("ranks.csv", tables.ranks, comparisons.RANK_COLUMNS),
    ):
        if len(evaluation.models) > 1:
            write_csv(folder / name, rows, columns)
        else:
            (folder / name).unlink(missing_ok=True)
    tables.biomarkers.write(folder)
    for model in evaluation.models:
        of_model = [record for record in evaluation.records if record.model == model]
        content = nnunet_summary(of_model, evaluation.classes, reference.files, predictions[model])
        write_json(folder / model / "summary.json", content)
    write_json(folder / "evaluation.json", _about(evaluation, reference, predictions))


def _forget_other_models(folder: Path, models: Sequence[str]) -> None:
    """Removes what an earlier evaluation wrote into folders of models that are not among these."""
    try:
        content = read_json(folder / "evaluation.json")
    except PartialLabelError:  # there is none
        return
    earlier = content.get("models") if isinstance(content, dict) else None
    for model in earlier if isinstance(earlier, dict) else ():
        if model not in models and is_plain(model):
            with contextlib.suppress(OSError):  # it is gone already, or the folder holds something else
                (folder / model / "summary.json").unlink(missing_ok=True)
                (folder / model).rmdir()


def _about(evaluation: Evaluation, reference: Reference, predictions: Predictions) -> dict[str, object]:
    """What was compared with what, and how: enough to repeat it."""
    return {
        "nnunet_partial": nnunet_partial.__version__,
        "reference": str(reference.folder.absolute()),
        "manifest": str(reference.manifest_file.absolute()),
        "file_ending": reference.file_ending,
        "models": {model: str(next(iter(files.values())).parent.absolute()) for model, files in predictions.items()},
        "classes": list(evaluation.classes),
        "surface_dice_tolerance": next((record.tolerance for record in evaluation.records), None),
        "interval": f"95 %, Student's t over patients (overlaps by logit, distances by log), none below {FEWEST}",
        "findings": evaluation.findings,
        "versions": versions(),
    }
