"""Write a model card: what was trained on what, how good it is where that is known, and what was not measured.

Everything in it is taken from files that exist: nnU-Net's plans, the manifest, the validation predictions, logs and the
record of the run. It names structures and domains, but no case, patient, computer, user or folder. What only people
know (license, intended users, contact) is left for them to fill in.

References:
    Mitchell et al., "Model Cards for Model Reporting", 2019, https://arxiv.org/abs/1810.03993.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.plans import configuration_settings
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.dataset.summary import AnnotationCounts
from nnunet_partial.dataset_json import channel_names
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.evaluation.evaluate import evaluate_folders
from nnunet_partial.evaluation.independence import NOT_INDEPENDENT, WIDENED_NAME
from nnunet_partial.evaluation.results import FINAL_CHECKPOINT, Tables, write_results
from nnunet_partial.export.selection import SelectedModel
from nnunet_partial.labels import Manifest
from nnunet_partial.model_selection.candidates import TrainedModel, require_same_data, validated_cases
from nnunet_partial.model_selection.find_best import TOLERANCE_MM, cases_seen_behind, validation_reference
from nnunet_partial.report.annotation_matrix import annotation_matrix_table
from nnunet_partial.report.evaluation_tables import agreement_tables, false_positive_table, warning_table
from nnunet_partial.report.results import read_results
from nnunet_partial.report.tables import Table, one_line, to_markdown
from nnunet_partial.report.training_info import TrainingInfo, training_info
from nnunet_partial.training.run_record import RECORD_NAME, TRAINED_ON_NAME, read_record
from nnunet_partial.utils.files import read_json, read_object
from nnunet_partial.utils.versions import versions

CARD_NAME = "MODEL_CARD.md"
SUMMARY_NAME = "annotation_summary.json"
#: What a person has to write.
BLANK = "_to be filled in_"

INTENDED_USE = """\
Research on image segmentation. It is no medical device: it was not cleared for diagnosis or treatment.

- It was made for images like those under "Training data": same channels, views and scanners. Elsewhere it is untested.
- It may label a structure in an image that does not show it.
- Where a domain is not annotated for a structure, it is not measured how well the model finds it there. "Warning
  signs" has all that can be said: whether its size is plausible."""


@dataclass(frozen=True)
class ModelCard:
    """Hold a card.

    Attributes:
        text: The card, as Markdown.
        annotation_summary: Cases per domain and structure, as JSON; empty where the manifest is not known.
        notes: For the user alone, as they may name files and cases: what the card lacks and why.
    """

    text: str
    annotation_summary: str
    notes: tuple[str, ...]


def model_card(dataset: str, selected: Sequence[SelectedModel], commands: Sequence[str], processes: int) -> ModelCard:
    """Write the card of one or several models of a trainer.

    Args:
        dataset: Name of the dataset.
        selected: The models; at least one.
        commands: That predict with them.
        processes: How many validation cases to measure at a time.

    Returns:
        The card. What cannot be found out is said in it, and why in `notes`.

    Raises:
        DatasetError: A model's plans.json or dataset.json is missing or broken.
    """
    notes: list[str] = []
    first = selected[0].model
    dataset_json = read_json(first.folder / "dataset.json", DatasetError)
    info = training_info(first.validation(selected[0].folds[0]), first.folder)
    if info.annotations is None:
        notes.append(f"the card does not say who annotated what: {dict(info.facts)['annotations']}")
    sections = [
        f"# {dataset}: {_code(first.trainer)}",
        _people(),
        "## Intended use and limits\n",
        INTENDED_USE,
        *_missing_annotations(info),
        "\n## How to predict\n",
        "\n".join(["```bash", *commands, "```\n"]),
        *_input(dataset_json),
        "## Training data\n",
        *_training_data(selected, info),
        *_start(selected),
    ]
    for one in selected:
        sections += [f"## Configuration {_code(one.model.configuration)}\n", _network(one)]
        sections += [f"### Cross-validation of {_code(one.model.configuration)}\n", *_scores(one, processes, notes)]
        sections += [f"### Training of {_code(one.model.configuration)}\n", _length(one)]
    rows = [[name, version] for name, version in versions().items()]
    sections += [
        "## Versions\n",
        "When this card was written.\n",
        to_markdown(Table(["package", "version"], rows, left=2)),
    ]
    sections += ["## License and citation\n", _license()]
    return ModelCard("\n".join(sections), _summary(info), tuple(notes))


def _code(text: str) -> str:
    return f"`{one_line(text)}`"


def _people() -> str:
    fields = ("Developed by", "Contact", "Date of the training", "Intended users", "Ethical approval of the data")
    return "\n" + "\n".join(f"- {field}: {BLANK}" for field in fields) + "\n"


def _license() -> str:
    return "\n".join(
        [
            f"- License of the weights: {BLANK}",
            f"- License and terms of the training data: {BLANK}",
            f"- To be cited for this model: {BLANK}",
            "- To be cited as well: nnU-Net (Isensee et al., Nature Methods 18, 2021, 203-211), and nnunet-partial "
            "(CITATION.cff).",
            "",
        ]
    )


def _missing_annotations(info: TrainingInfo) -> Iterator[str]:
    for domain, by_class in (info.annotations or {}).items():
        missing = [name for name in info.classes if not by_class[name].annotated]
        if missing:
            yield f"- In no case of {_code(domain)} is annotated: {', '.join(map(_code, missing))}."


def _input(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    channels = channel_names(dataset_json)
    files = ", ".join(
        f"`CASE_{number:04d}{dataset_json['file_ending']}`: {_code(name)}"
        for number, name in enumerate(channels.values())
    )
    yield f"An image is one file per channel ({files}).\n"
    rows = [[name, json.dumps(value)] for name, value in dataset_json["labels"].items()]
    yield to_markdown(Table(["label", "value in the prediction"], rows))


def _training_data(selected: Sequence[SelectedModel], info: TrainingInfo) -> Iterator[str]:
    if info.annotations is None or info.manifest is None:
        yield "The manifest (who annotated which structure) was not available when this card was written.\n"
        return
    caption = (
        "Training and validation cases by domain: annotated by a human, known to be absent, unknown (not annotated)"
    )
    yield to_markdown(annotation_matrix_table(info.annotations, info.classes, caption))
    if any(count.pseudo for by_class in info.annotations.values() for count in by_class.values()):
        yield (
            "Pseudo: another model filled the structure where no human had annotated it, and this model was trained on "
            "that. Models trained so tend to more false positives.\n"
        )
    now = Manifest.read(info.manifest).content_hash
    if any(_manifest_hash(one.model, fold) not in (None, now) for one in selected for fold in one.folds):
        yield "The manifest was edited after the training, which may have seen other annotations than this table has.\n"


def _start(selected: Sequence[SelectedModel]) -> Iterator[str]:
    """Say that a training started from another model, and whether it is known on which cases that was trained."""
    files = [one.model.fold(fold) / WIDENED_NAME for one in selected for fold in one.folds]
    records = [read_object(file) for file in files if file.is_file()]
    if not records:
        return
    known = all(isinstance(record.get("seen"), list) for record in records)
    yield (
        f"**{len(records)} of {len(files)} fold(s) started from the weights of another model** (`widen`). "
        + ("It is on record" if known else "It is **not known**")
        + " on which cases that was trained; no test on one of them, or on their patients, is independent.\n"
    )


def _manifest_hash(model: TrainedModel, fold: int | str) -> str | None:
    """Return the hash of the manifest that a fold was trained under; None where it is not on record."""
    entry = read_object(model.fold(fold) / TRAINED_ON_NAME).get(model.checkpoint)
    return entry.get("manifest") if isinstance(entry, dict) else None


def _summary(info: TrainingInfo) -> str:
    return "" if info.annotations is None else json.dumps(annotation_summary(info.annotations), indent=1) + "\n"


def annotation_summary(annotations: AnnotationCounts) -> dict[str, Any]:
    """Summarize the manifest without naming a case.

    Args:
        annotations: Who annotated what among the training and validation cases.

    Returns:
        By domain the number of cases and, by structure, in how many of them it is annotated, absent, pseudo (left out
        where there is none) and unknown.
    """
    return {
        domain: {
            "cases": max((count.cases for count in by_class.values()), default=0),
            "structures": {
                name: {state: n for state, n in asdict(count).items() if n or state != "pseudo"}
                for name, count in by_class.items()
            },
        }
        for domain, by_class in annotations.items()
    }


# ---- a configuration -------------------------------------------------------------------------------------------------


def _network(one: SelectedModel) -> str:
    """Tabulate what the plans say of a configuration."""
    plans = read_json(one.model.folder / "plans.json", DatasetError)
    settings = configuration_settings(plans["configurations"], one.model.configuration)
    architecture = settings.get("architecture", {})
    arguments = architecture.get("arch_kwargs", {})
    facts = {
        "trainer": one.model.trainer,
        "plans, planner": f"{one.model.plans}, {plans.get('experiment_planner_used', 'unknown')}",
        "folds, checkpoint": f"{', '.join(map(str, one.folds))}; {one.model.checkpoint}",
        "lower stage of the cascade": one.lower,
        "patch size (voxels)": _times(settings.get("patch_size")),
        "spacing": _times(settings.get("spacing")),
        "batch size": settings.get("batch_size"),
        "normalization": ", ".join(settings.get("normalization_schemes", ())),
        "planned network": str(architecture.get("network_class_name", "")).rpartition(".")[2],
        "stages, features": _times(arguments.get("features_per_stage"), ", "),
    }
    rows = [[name, str(value)] for name, value in facts.items() if value]
    return to_markdown(Table(["setting", "value"], rows, left=2))


def _times(values: Sequence[float] | None, between: str = " x ") -> str:
    return between.join(f"{value:g}" for value in values or ())


def _scores(one: SelectedModel, processes: int, notes: list[str]) -> Iterator[str]:
    """Measure the validation predictions of the folds; where that is not possible, say so, and why in `notes`."""
    model, folds = one.model, [fold for fold in one.folds if isinstance(fold, int)]
    if not folds:
        yield "Not measured: fold all is trained on the very cases that it validates.\n"
        return
    try:
        tables, not_independent = validation_tables(one, folds, processes)
    except PartialLabelError as problem:
        notes.append(f"the card has no scores of {model.configuration}. {problem}")
        yield "Not measured: label files or validation predictions were not available when this card was written.\n"
        return
    yield (
        f"Each case is predicted by the one of the folds {', '.join(map(str, folds))} that validates it, and compared "
        "only where it is annotated, or a structure is known to be absent.\n"
    )
    if not_independent:
        yield (
            f"**{NOT_INDEPENDENT.capitalize()}**: models that filled labels of the training data, or that the training "
            f"started from, were trained on {not_independent} of these cases or on their patients, or it is not known. "
            "Do not compare these numbers with those of models that learned from human annotations of other cases "
            "alone.\n"
        )
    signs = tables[-1]
    yield from (to_markdown(table) for table in tables[:-1] if table.rows)
    yield f"### Warning signs of {_code(model.configuration)}\n"
    yield (
        to_markdown(signs)
        if signs.rows
        else "Every case is annotated for every structure; there is nothing to warn of.\n"
    )


def validation_tables(one: SelectedModel, folds: Sequence[int], processes: int) -> tuple[list[Table], int]:
    """Measure the predictions that each fold made of its validation cases.

    Args:
        one: The model.
        folds: Numbers of its folds.
        processes: How many cases to measure at a time.

    Returns:
        Tables of agreement per domain, then of false positives, and last the warning signs; these may have no rows. And
        the number of cases that a model behind it has seen, by pseudo-labels or as the start of the training.

    Raises:
        PartialLabelError: Data, a split or a prediction is missing or cannot be read, folds share a case, or the
            classes of the dataset are not those of the training.
    """
    name = one.model.folder.parent.name
    validation = validated_cases(
        RawDataset(nnunet_folder("nnUNet_raw") / name), nnunet_folder("nnUNet_preprocessed") / name, folds
    )
    require_same_data([one.model], validation.dataset)
    validation.require_predicted([one.model])
    reference = validation_reference(validation)
    predictions = {
        one.model.configuration: {case: validation.prediction(one.model, case) for case in validation.fold_of}
    }
    seen = {one.model.configuration: cases_seen_behind(one.model, validation)}
    evaluation = evaluate_folders(
        reference, predictions, TOLERANCE_MM, processes, strict=True, progress=True, seen=seen
    )
    with tempfile.TemporaryDirectory() as folder:
        write_results(Path(folder), evaluation, Tables.from_evaluation(evaluation), reference, predictions)
        results = read_results(Path(folder))
    agreement = agreement_tables(results)
    once = [replace(table, note="") for table in agreement[:-1]]  # all of them have the same note
    tables = [*once, *agreement[-1:], false_positive_table(results, by_name=False), warning_table(results)]
    return tables, evaluation.not_independent.get(one.model.configuration, 0)


def _length(one: SelectedModel) -> str:
    """Tabulate length, seed and hardware of each fold, as far as nnU-Net and its trainers recorded them."""
    head = ("fold", "epochs", "iterations", "seed", "ended", "s per epoch", "GPU", "peak GiB", "PyTorch")
    return to_markdown(Table(head, [_run(one.model, fold) for fold in one.folds]))


def _run(model: TrainedModel, fold: int | str) -> list[str]:
    folder, unknown = model.fold(fold), "not recorded"
    record = read_record(folder / RECORD_NAME) if (folder / RECORD_NAME).is_file() else []
    run = record[-1] if record else {}
    log = "\n".join(file.read_text(errors="replace") for file in sorted(folder.glob("training_log_*.txt")))
    seconds = [float(value) for value in re.findall(r"Epoch time: ([\d.]+) s", log)]
    peaks = [float(value) for value in re.findall(r"Peak memory of the GPU: ([\d.]+) GiB", log)]
    debug = read_object(folder / "debug.json")
    device = str(debug.get("device", ""))
    return [
        str(fold),
        ", then ".join(str(entry["epochs"]) for entry in record) or unknown,
        str(run.get("iterations", unknown)),
        "none" if run and run["seed"] is None else str(run.get("seed", unknown)),
        "yes" if (folder / FINAL_CHECKPOINT).is_file() else "no",
        f"{statistics.median(seconds):.1f}" if seconds else unknown,
        one_line(str(debug.get("gpu_name") or ("none" if device == "cpu" else unknown))),
        f"{max(peaks):.2f}" if peaks else unknown,
        one_line(str(debug.get("torch_version", unknown))),
    ]
