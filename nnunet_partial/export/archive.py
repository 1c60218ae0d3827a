"""Write trained models into a zip for `nnUNetv2_install_pretrained_model_from_zip`.

In it lies what nnU-Net would have left of a training with its own trainer, under the name of the dataset, so that stock
nnU-Net predicts with it, and finds it beside a stock model of the same dataset: the plans are renamed.

What goes in is listed here, and nothing else does: what nnU-Net leaves beside a model (debug.json, logs, validation)
holds names of cases, machines, users and folders.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.export.allow_list import clean_dataset_json, clean_plans
from nnunet_partial.export.selection import SelectedModel, prediction_commands, with_lower
from nnunet_partial.export.stock_model import StockModel, stock_model
from nnunet_partial.model_selection.candidates import TrainedModel, numbers, single_candidate
from nnunet_partial.utils.files import atomic_path, read_json, same_bytes

#: Of every file in the zip; the time of its making is nobody's concern, and the same models give the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)
#: Name of nnU-Net's only function of post-processing.
LARGEST_COMPONENT = "remove_all_but_largest_component_from_segmentation"


def write_archive(
    file: Path,
    dataset: str,
    selected: Sequence[SelectedModel],
    describe: Callable[[SelectedModel, Sequence[str]], Mapping[str, str]],
) -> list[SelectedModel]:
    """Write the zip, whole or not at all.

    Args:
        file: The zip to write.
        dataset: Name of the dataset.
        selected: Models of one trainer and plans, lower stages of a cascade first.
        describe: Gives further texts for a model, by file name, such as a model card; it is told the commands that
            predict with the model from the zip.

    Returns:
        The models under the names that they have in the zip, in the same order; their folders are relative to it.

    Raises:
        PartialLabelError: A model has no stock equivalent, or one of its files cannot be read.
    """
    exported: list[SelectedModel] = []
    with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for one in selected:
            stock = stock_model(one.model, one.folds)
            model = _exported(one.model, dataset, stock.trainer)
            for name, content in _files(one, model, dataset, stock).items():
                _add(archive, f"{model.folder.as_posix()}/{name}", content)
            exported.append(SelectedModel(model, one.folds, one.lower))
            for name, text in describe(one, prediction_commands(dataset, with_lower(exported, exported[-1]))).items():
                _add(archive, f"{model.folder.as_posix()}/{name}", text.encode())
    return exported


def exported_plans(model: TrainedModel) -> str:
    """Return the plans identifier of a model in the zip, such as nnUNetPlans_Marginal.

    Args:
        model: The model.

    Returns:
        The name of its plans, followed by what distinguishes its trainer.
    """
    ending = model.trainer.removeprefix("nnUNetTrainer").strip("_") or model.trainer
    return f"{model.plans}_{ending}"


def _exported(model: TrainedModel, dataset: str, trainer: str) -> TrainedModel:
    plans = exported_plans(model)
    folder = Path(dataset, f"{trainer}__{plans}__{model.configuration}")
    return TrainedModel(folder, trainer, plans, model.configuration, model.checkpoint)


def _files(one: SelectedModel, exported: TrainedModel, dataset: str, stock: StockModel) -> dict[str, bytes]:
    """Return the content of each file of a model, by its name in the folder of the model."""
    plans, dataset_json = clean_plans(stock.plans, dataset, exported.plans), clean_dataset_json(stock.dataset_json)
    files = {"plans.json": _json(plans), "dataset.json": _json(dataset_json)}
    for fold, weights in stock.weights.items():
        files[f"fold_{fold}/{exported.checkpoint}"] = _checkpoint(
            {
                "network_weights": weights,
                "optimizer_state": {},
                "grad_scaler_state": None,
                "logging": {},
                "init_args": {
                    "plans": plans,
                    "configuration": exported.configuration,
                    "fold": fold,
                    "dataset_json": dataset_json,
                },
                "trainer_name": exported.trainer,
                "inference_allowed_mirroring_axes": stock.mirroring_axes,
            }
        )
        progress = one.model.fold(fold) / "progress.png"
        if progress.is_file():
            files[f"fold_{fold}/progress.png"] = _without_texts(progress)
    validated = [fold for fold in one.folds if isinstance(fold, int)]
    chosen = single_candidate(one.model, validated).folder / "postprocessing.json"
    if validated and chosen.is_file():
        _require_same_predictions(chosen, one.model, validated, str(stock.dataset_json["file_ending"]))
        files |= {f"{chosen.parent.name}/postprocessing.pkl": content for content in _postprocessing(chosen)}
    return files


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, DATE)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, content)


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=4) + "\n").encode()  # in ASCII: nnU-Net decodes by the locale


def _checkpoint(content: Mapping[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()  # into a file, torch would write the file's name as well
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def _require_same_predictions(chosen: Path, model: TrainedModel, folds: Sequence[int], ending: str) -> None:
    """Refuse a post-processing that find-best chose for other predictions than the folds have made since."""
    judged = [file for file in chosen.parent.glob(f"*{ending}") if file.is_file()]
    folders = [model.validation(fold) for fold in folds]
    has_ended = all((folder / "summary.json").is_file() for folder in folders)
    if not judged or not has_ended or not all(_is_among(file, folders) for file in judged):
        raise PartialLabelError(
            f"{chosen} was chosen by find-best for other validation predictions than those of fold {numbers(folds)} "
            "now, which may have been trained again; nothing was written. Run `nnunet_partial find-best` again, or "
            "remove that file to export without post-processing."
        )


def _is_among(file: Path, folders: Sequence[Path]) -> bool:
    return any((folder / file.name).is_file() and same_bytes(file, folder / file.name) for folder in folders)


def _postprocessing(file: Path) -> list[bytes]:
    """Make the pickle that `nnUNetv2_apply_postprocessing` takes of the JSON file beside it, which is only data.

    Returns:
        The content, at most one; none where nothing was chosen.

    Raises:
        PartialLabelError: The file is broken, or names other functions than nnU-Net's.
    """
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    content = read_json(file)
    try:
        functions, keywords = content["postprocessing_fns"], content["postprocessing_kwargs"]
        steps = [{"labels_or_regions": step["labels_or_regions"]} for step in keywords]
    except (KeyError, TypeError):
        raise PartialLabelError(f"{file} is not what find-best writes. Run `nnunet_partial find-best` again.") from None
    if set(functions) - {LARGEST_COMPONENT}:
        raise PartialLabelError(f"{file} names functions that are not nnU-Net's; expected {LARGEST_COMPONENT} only.")
    return [pickle.dumps(([remove_all_but_largest_component_from_segmentation] * len(steps), steps))] if steps else []


def _without_texts(file: Path) -> bytes:
    """Copy a PNG without the texts that programs put beside the pixels."""
    from matplotlib.image import imread, imsave

    buffer = io.BytesIO()
    try:
        pixels = imread(file, format="png")  # (rows, columns, 3 or 4)
    except (OSError, SyntaxError) as problem:  # the latter is Pillow's for a broken file
        raise PartialLabelError(f"{file} cannot be read: {problem}. Remove it; nnU-Net does without.") from problem
    imsave(buffer, pixels, format="png")
    return buffer.getvalue()
