"""Keep of plans.json and dataset.json what nnU-Net predicts with; what else is in them may name people or places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, WIDENED_KEY, is_filled

#: Of plans.json.
PLANS_KEYS = (
    *("dataset_name", "plans_name", "original_median_spacing_after_transp", "original_median_shape_after_transp"),
    *("image_reader_writer", "transpose_forward", "transpose_backward", "configurations", "experiment_planner_used"),
    *("label_manager", "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"),
)
#: Of each configuration in it; the last two lines are those of plans of nnU-Net before 2.2.1.
CONFIGURATION_KEYS = (
    *("inherits_from", "data_identifier", "preprocessor_name", "batch_size", "patch_size", "batch_dice"),
    *("median_image_size_in_voxels", "spacing", "normalization_schemes", "use_mask_for_norm", "architecture"),
    *("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities", "next_stage", "previous_stage"),
    *("resampling_fn_data_kwargs", "resampling_fn_seg_kwargs", "resampling_fn_probabilities_kwargs"),
    *("UNet_class_name", "UNet_base_num_features", "n_conv_per_stage_encoder", "n_conv_per_stage_decoder"),
    *("num_pool_per_axis", "pool_op_kernel_sizes", "conv_kernel_sizes", "unet_max_num_features"),
)
#: Of dataset.json. Not `dataset` (the path of each case), nor any text that a person wrote.
DATASET_KEYS = (
    *("channel_names", "modality", "labels", "regions_class_order", "numTraining", "file_ending"),
    *("overwrite_image_reader_writer", "nominal_depth_mm"),
)


def clean_plans(plans: Mapping[str, Any], dataset: str, name: str) -> dict[str, Any]:
    """Copy the plans under another name, without what nnU-Net does not know.

    Args:
        plans: Content of plans.json.
        dataset: Name of the dataset.
        name: The new plans identifier.

    Returns:
        The content to write.
    """
    cleaned = {key: plans[key] for key in PLANS_KEYS if key in plans}
    configurations = {
        configuration: {key: settings[key] for key in CONFIGURATION_KEYS if key in settings}
        for configuration, settings in plans["configurations"].items()
    }
    return {**cleaned, "dataset_name": dataset, "plans_name": name, "configurations": configurations}


def clean_dataset_json(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """Copy what nnU-Net predicts with.

    Args:
        dataset_json: Content of dataset.json.

    Returns:
        The content to write; that the dataset was filled, or the model widened, stays said, but not from which one.
    """
    content = {key: dataset_json[key] for key in DATASET_KEYS if key in dataset_json}
    said = {PSEUDO_LABELS_KEY: is_filled(dataset_json), WIDENED_KEY: bool(dataset_json.get(WIDENED_KEY))}
    return {**content, **{key: True for key, is_so in said.items() if is_so}}
