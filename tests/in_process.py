"""nnU-Net's planning and preprocessing in this process: its own commands start others, and take ten seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def plan(raw: Path, preprocessed: Path, shape: tuple[int, ...]) -> Path:
    """nnU-Net's planner for images of one shape with pixels of 1 mm; gives the plans file.

    The fingerprint is written by hand. nnUNet_raw and nnUNet_preprocessed must name the folders above the two.
    """
    preprocessed.mkdir(parents=True)
    cases = len(list((raw / "labelsTr").iterdir()))
    grey = {"max": 200.0, "mean": 100.0, "median": 100.0, "min": 0.0, "percentile_00_5": 5.0, "percentile_99_5": 195.0}
    flat = len(shape) == 2
    fingerprint = {
        "foreground_intensity_properties_per_channel": {"0": {**grey, "std": 40.0}},
        "median_relative_size_after_cropping": 1.0,
        "shapes_after_crop": [[1, *shape] if flat else list(shape)] * cases,
        "spacings": [[999.0 if flat else 1.0, 1.0, 1.0]] * cases,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    ExperimentPlanner(raw.name).plan_experiment()
    return preprocessed / "nnUNetPlans.json"


def preprocess(raw: Path, preprocessed: Path, configuration: str) -> Path:
    """nnU-Net's preprocessing of each training case; gives the folder of the preprocessed cases."""
    plans = PlansManager(str(preprocessed / "nnUNetPlans.json"))
    chosen = plans.get_configuration(configuration)
    done = preprocessed / chosen.data_identifier
    done.mkdir()
    for label in sorted((raw / "labelsTr").iterdir()):
        case = label.name.removesuffix(".nii.gz")
        image = raw / "imagesTr" / f"{case}_0000.nii.gz"
        DefaultPreprocessor(verbose=False).run_case_save(
            str(done / case), [str(image)], str(label), plans, chosen, str(raw / "dataset.json")
        )
    shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations")
    return done
