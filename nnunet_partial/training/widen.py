"""Start the training of a new dataset from a model that lacks some of its classes.

nnU-Net's `-pretrained_weights` leaves out the segmentation layers, whatever their shape, so that what a model has
learned of its classes would be lost. Here a checkpoint of epoch 0 is written, from which nnU-Net goes on with `--c`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from torch import Tensor

from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.plans import configuration_settings
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS
from nnunet_partial.dataset.raw import nnunet_folder, preprocessed_folder
from nnunet_partial.dataset.splits import SPLITS_NAME, read_splits
from nnunet_partial.dataset_json import channel_names, has_regions, structure_names
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.evaluation.independence import WIDENED_NAME, cases_of_seen, hashed_names
from nnunet_partial.evaluation.results import FINAL_CHECKPOINT
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.training.mixin import PartialLabelMixin
from nnunet_partial.training.run_record import trained_on_of
from nnunet_partial.training.startup_checks import TrainingData
from nnunet_partial.training.trainer_class import find_trainer_class, has_sigmoids
from nnunet_partial.utils.checkpoints import load_checkpoint
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names
from nnunet_partial.utils.trainers import trainers_can_be_found

#: Name of the first channel of a network that learns classes.
BACKGROUND = "background"

#: Part of the names of nnU-Net's segmentation layers, one per resolution.
HEADS = ".seg_layers."

#: Standard deviation of the random weights of a new class.
NOISE = 0.01

#: Bias of a new class with a sigmoid of its own: a probability of 1 % everywhere, as in Lin et al. (RetinaNet).
RARE = -4.59512

#: How the new dataset gets the plans of the old one; of these commands the planner alone copies dataset.json.
PLAN_AS_OLD = (
    "Plan the new dataset as the old one: nnUNetv2_plan_and_preprocess -d NEW --no_pp, then "
    "nnUNetv2_move_plans_between_datasets -s OLD -t NEW -sp PLANS, then nnUNetv2_preprocess -d NEW -c CONFIGURATION"
)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Widened:
    """Describe the start of a training that was written.

    Attributes:
        checkpoint: Its checkpoint, of epoch 0.
        copied: Classes whose weights are those of the old model.
        new: Classes that the old model does not have.
        dropped: Classes of the old model that the dataset does not have.
        warnings: What the user should know, one line each.
    """

    checkpoint: Path
    copied: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


def widen(model: Path, dataset: str, configuration: str, trainer: str, plans: str, fold: int | str) -> Widened:
    """Write checkpoint_latest.pth of epoch 0 for a new training: the weights of an old model, with more classes.

    Args:
        model: The old model: a checkpoint, or the folder TRAINER__PLANS__CONFIGURATION, which has the same fold.
        dataset: Full name of the new dataset, which is planned and preprocessed.
        configuration: Of the new training.
        trainer: Class of the new training, one of this package's.
        plans: Plans identifier of the new training.
        fold: Number of the fold, or "all".

    Returns:
        What was written.

    Raises:
        DatasetError: Model and dataset do not fit together, or the fold has a checkpoint; nothing was written.
        SplitError: The old model was trained on patients whom the fold validates; nothing was written.
        PartialLabelError: What stops the start of a training stops this too.
    """
    old_checkpoint = _find_checkpoint(model, fold)
    old_dataset_json, old_plans = (
        read_json(old_checkpoint.parents[1] / name, DatasetError) for name in ("dataset.json", "plans.json")
    )
    new_dataset_json, new_plans = _read_preprocessed(dataset, plans, configuration)
    old_classes, new_classes = structure_names(old_dataset_json), structure_names(new_dataset_json)
    copied = tuple(name for name in new_classes if name in old_classes)
    if not copied:
        raise DatasetError(
            f"{dataset} has none of the classes of {model} ({', '.join(old_classes)}), only {', '.join(new_classes)}."
        )
    name = f"{trainer}__{new_plans['plans_name']}__{configuration}"
    folder = nnunet_folder("nnUNet_results") / dataset / name / f"fold_{fold}"
    _require_no_training(folder)
    content = load_checkpoint(old_checkpoint, old_checkpoint)
    independent = _require_same_kind(
        (content["trainer_name"], trainer), (has_regions(old_dataset_json), has_regions(new_dataset_json))
    )
    with _removed_on_error(folder):
        with trainers_can_be_found():
            started = get_trainer_from_args(dataset, configuration, fold, trainer, plans, device=torch.device("cpu"))
        started.initialize()
        network = getattr(started.network, "_orig_mod", started.network)
        old_channels, new_channels = _channels(old_dataset_json), _channels(new_dataset_json)
        old_weights, new_weights = content["network_weights"], network.state_dict()
        state = widened_weights(old_weights, new_weights, old_channels, new_channels, independent)
        seen = _names_seen(old_checkpoint, str(old_plans["dataset_name"]))
        warnings = _check_validation(old_checkpoint, seen, started.training_data, fold)
        old_configuration = content["init_args"]["configuration"]
        warnings += _differences(
            _inputs(old_plans, old_dataset_json, old_configuration), _inputs(new_plans, new_dataset_json, configuration)
        )
    network.load_state_dict(state)
    result = Widened(
        folder / "checkpoint_latest.pth",
        copied,
        tuple(name for name in new_classes if name not in old_classes),
        tuple(name for name in old_classes if name not in new_classes),
        tuple(warnings),
    )
    started.print_to_log_file(
        f"Started from {old_checkpoint}: {format_names(result.copied)} as there, {format_names(result.new)} new"
    )
    started._record_run()
    write_json(
        folder / WIDENED_NAME,
        {
            "from": "/".join(old_checkpoint.parts[-4:]),
            "copied": list(result.copied),
            "new": list(result.new),
            "seed": started.run_settings.seed,  # of what was drawn; the training may have another one
            "seen": None if seen is None else sorted(seen),
        },
    )
    started.current_epoch = -1  # nnU-Net saves the number of the next epoch
    started.save_checkpoint(str(result.checkpoint))
    return result


def widened_weights(
    old: State, new: State, old_channels: Sequence[str], new_channels: Sequence[str], independent: bool
) -> dict[str, Tensor]:
    """Put the weights of a model into a network with other classes.

    All layers but the last of each resolution are copied. In these, background and the classes that both have are
    copied by name. A new class of a softmax starts as background does, with a little noise; one with a sigmoid of its
    own starts with small random weights and a bias that says no.

    Args:
        old: Weights of the model.
        new: Weights of the network, which are not changed.
        old_channels: What each channel of the model is, by name: background, then the classes; or the regions.
        new_channels: The same of the network.
        independent: Whether the network has a sigmoid per class or region.

    Returns:
        The weights, in the order of `new`.

    Raises:
        DatasetError: The networks differ in more than the number of classes, or are not nnU-Net's U-Nets.
    """
    if not any(HEADS in key for key in new) or not any(HEADS in key for key in old):
        raise DatasetError("Only nnU-Net's U-Nets can be widened; this network has other segmentation layers.")
    different = [*(set(old) ^ set(new))]
    different += [key for key in {*old} & {*new} if old[key].shape[HEADS in key :] != new[key].shape[HEADS in key :]]
    if different:
        raise DatasetError(
            f"The networks differ in {len(different)} layer(s), such as {min(different)}. {PLAN_AS_OLD}."
        )
    channel = {name: number for number, name in enumerate(old_channels)}
    return {
        key: _widened_head(old[key], new_channels, channel, independent) if HEADS in key else old[key] for key in new
    }


def _widened_head(old: Tensor, names: Sequence[str], channel: Mapping[str, int], independent: bool) -> Tensor:
    """Widen weights (C, F, ...) or biases (C,) of a segmentation layer."""
    rows = []
    for name in names:
        if name in channel:
            rows.append(old[channel[name]])
        elif independent:
            rows.append(torch.randn_like(old[0]) * NOISE if old.ndim > 1 else torch.full_like(old[0], RARE))
        else:
            rows.append(old[0] + torch.randn_like(old[0]) * NOISE * (old.ndim > 1))
    return torch.stack(rows)


def _find_checkpoint(model: Path, fold: int | str) -> Path:
    """Return the checkpoint that a path means; raise DatasetError where there is none."""
    checkpoint = model if model.suffix == ".pth" else model / f"fold_{fold}" / FINAL_CHECKPOINT
    if not checkpoint.is_file():
        there = sorted(str(path.relative_to(model)) for path in model.glob("fold_*/checkpoint_*.pth"))
        raise DatasetError(
            f"--from: {checkpoint} does not exist. Give a checkpoint, or the folder TRAINER__PLANS__CONFIGURATION of a "
            f"trained model; there: {format_names(there)}."
        )
    return checkpoint.resolve()


def _read_preprocessed(dataset: str, plans: str, configuration: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read dataset.json and the plans of the new dataset; raise DatasetError where they lack something."""
    folder = nnunet_folder("nnUNet_preprocessed") / dataset
    for file in (folder / f"{plans}.json", folder / "dataset.json"):
        if not file.is_file():
            raise DatasetError(f"{file} does not exist. {PLAN_AS_OLD}.")
    dataset_json, content = (read_json(folder / name, DatasetError) for name in ("dataset.json", f"{plans}.json"))
    if configuration not in content["configurations"]:
        raise DatasetError(
            f"{plans} has no configuration {configuration}; it has {format_names(content['configurations'])}."
        )
    return dataset_json, content


def _require_no_training(folder: Path) -> None:
    present = sorted(path.name for path in folder.glob("checkpoint_*.pth"))
    if present:
        raise DatasetError(
            f"{folder} has {format_names(present)}, a training that has begun; nothing was written. Move it elsewhere, "
            "or take another trainer or fold."
        )


@contextlib.contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    """Remove the folder of a fold, and those above it that are empty then, if it is new and the block fails."""
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # of other folds or trainers
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
        raise


def _channels(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the channels of a network: nnU-Net gives regions none for the background."""
    structures = structure_names(dataset_json)
    return structures if has_regions(dataset_json) else (BACKGROUND, *structures)


def _require_same_kind(trainers: tuple[str, str], of_regions: tuple[bool, bool]) -> bool:
    """Return whether both networks have a sigmoid per class, or region; raise DatasetError where one has a softmax.

    Args:
        trainers: Of the old model and of the new one.
        of_regions: Whether each learns regions, which have sigmoids with every trainer.

    Returns:
        True for sigmoids.

    Raises:
        DatasetError: The kinds differ, or a trainer is not there or not of this package.
    """
    old_trainer, new_trainer = trainers
    sigmoids = [has_sigmoids(trainer) or regions for trainer, regions in zip(trainers, of_regions, strict=True)]
    if not issubclass(find_trainer_class(new_trainer), PartialLabelMixin):
        raise DatasetError(
            f"{new_trainer} is no trainer of this package; take one of nnunet_partial trainers with -tr."
        )
    if sigmoids[0] != sigmoids[1]:
        raise DatasetError(
            f"{old_trainer} and {new_trainer}: one has a softmax and one a sigmoid per class or region, so that the "
            "weights of a class do not mean the same. Take a trainer of the same kind with -tr."
        )
    return sigmoids[1]


def _inputs(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return in which form a network gets its images."""
    settings = configuration_settings(plans["configurations"], configuration)
    schemes = settings.get("normalization_schemes", [])
    inputs = {
        "spacing": settings.get("spacing"),
        "normalization": schemes,
        "channels": [*channel_names(dataset_json).values()],
    }
    if "CTNormalization" in schemes:  # by the intensities of the dataset
        properties = plans["foreground_intensity_properties_per_channel"].values()
        inputs["mean and standard deviation"] = [[one["mean"], one["std"]] for one in properties]
    return inputs


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Warn of each input that differs from that of the old model, such as another spacing."""
    return [
        f"{name}: the old model was trained with {old[name]}, the new training has {new[name]}, so that its layers do "
        f"not see what they have learned. {PLAN_AS_OLD}"
        for name in old
        if name in new and old[name] != new[name]
    ]


def _check_validation(checkpoint: Path, seen: set[str] | None, data: TrainingData, fold: int | str) -> list[str]:
    """Refuse a fold that validates patients whom the model was trained on; warn of test cases, and where unknown."""
    if seen is None:
        return [
            f"on which cases {checkpoint} was trained is not known (the splits of its dataset are not there, or "
            f"others): no figure of this fold counts as independent. If you know that none of your validation and test "
            f'cases is among them, write "seen": [] into {WIDENED_NAME} beside the new checkpoint'
        ]
    validated = cases_of_seen(data.manifest, data.validation_cases if fold != "all" else (), seen)
    if validated:
        raise SplitError(
            f"Fold {fold} validates {len(validated)} case(s) of patients whom {checkpoint} was trained on: "
            f"{format_names(validated)}; nothing was written. Its validation would be too good. Put them into the "
            f"training cases of this fold ({SPLITS_NAME}), or widen -f all and measure on imagesTs."
        )
    not_seen = {case for case, labels in data.manifest.cases.items() if not labels.seen_by_filling_model}
    warnings, tests = [], not_seen - {*data.cases}
    if data.raw is None:
        warnings.append(
            f"nnUNet_raw does not have the dataset: test cases that {MANIFEST_NAME} does not name were not looked at"
        )
    else:
        tests |= {*data.raw.image_files("Ts")}
    tested = cases_of_seen(data.manifest, sorted(tests), seen)
    if tested:
        warnings.append(
            f"{len(tested)} test case(s) are of patients whom {checkpoint} was trained on, and must not count: "
            f"{format_names(tested)}"
        )
    return warnings


def _names_seen(checkpoint: Path, dataset: str) -> set[str] | None:
    """Hash the names of the patients whom a model has seen, itself or by a model behind it.

    Args:
        checkpoint: Of the model.
        dataset: That it was trained on.

    Returns:
        The hashes, of all cases of these patients; None where they cannot be found out.
    """
    preprocessed, fold = preprocessed_folder(dataset), checkpoint.parent.name.removeprefix("fold_")
    if preprocessed is None:
        return None
    record = checkpoint.with_name(WIDENED_NAME)
    try:
        if fold == "all":
            ending = read_json(checkpoint.parents[1] / "dataset.json")["file_ending"]
            cases = [path.name.removesuffix(ending) for path in (preprocessed / GT_SEGMENTATIONS).iterdir()]
        else:
            cases = read_splits(preprocessed)[int(fold)]["train"]
        recorded = trained_on_of(checkpoint)
        manifest = Manifest.read(preprocessed / MANIFEST_NAME)
        before = {*read_json(record)["seen"]} if record.exists() else set()
    except (PartialLabelError, OSError, LookupError, TypeError, ValueError):
        return None
    if recorded is None or recorded.cases != hash_names(cases):
        return None
    cases = [*cases, *manifest.seen_by_filling_model(manifest.cases)]  # what it learned from pseudo-labels of
    patients = cases_of_seen(manifest, [*manifest.cases, *cases], hashed_names(manifest, cases))
    return before | hashed_names(manifest, patients)
