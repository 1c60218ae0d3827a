"""nnU-Net's commands, planning and preprocessing in this process: started by themselves they take ten seconds each."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
import torch
from helpers.toy_dataset import Project
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.utilities import find_class_by_name, utils
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_partial.utils import process

_lies_in = find_class_by_name._module_originates_from_path


@functools.cache
def _file_lies_in(file: str, folder: str) -> bool:
    return _lies_in(SimpleNamespace(__file__=file), folder)


def _module_lies_in(module: Any, folder: str) -> bool:
    """Answer as nnU-Net does, whose search for a trainer asks of each of 6000 loaded modules, twice, where it lies."""
    file = getattr(module, "__file__", None)
    return _lies_in(module, folder) if file is None else _file_lies_in(file, folder)


find_class_by_name._module_originates_from_path = _module_lies_in


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Give PyTorch one thread: networks this small are slower with several, which also round a sum as they come."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: What the planner looks at, in place of a hundred million drawn voxels, which take seconds and 800 MB.
FEW_VOXELS = property(lambda _: 1e5, lambda *_: None)


class InProcess(Project):
    """Run commands by what their console scripts call, with a thread where nnU-Net would start a pool of processes.

    `nnUNetv2_predict` starts others besides, unless it gets `-npp 0 -nps 0`. An error of a command is raised here.
    """

    def run(self, *command: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
        (script,) = entry_points(group="console_scripts", name=command[0])
        said = io.StringIO()
        with (
            one_thread(),
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
        ):
            warnings.simplefilter("ignore")  # those of nnU-Net, of which nobody hears in a process of its own
            for name, value in {**self.environment, **variables}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", list(command))
            patch.setattr(sys, "excepthook", sys.excepthook)  # the trainers replace it
            patch.setattr(SpawnContext, "Pool", lambda *_: ThreadPool(1))
            patch.setattr(utils, "Pool", lambda processes: ThreadPool(1))  # twelve processes, to match names of files
            patch.setattr(torch, "set_num_threads", lambda _: None)  # nnU-Net would take all cores
            patch.setattr(
                DatasetFingerprintExtractor, "num_foreground_voxels_for_intensitystats", FEW_VOXELS, raising=False
            )
            patch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)  # takes a second in each epoch
            code = script.load()()
            gc.collect()  # nnU-Net's readers leave files open, of which a later test would be told
        return subprocess.CompletedProcess(command, code or 0, said.getvalue(), "")


def follow_nnunet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our commands that run others run those of nnU-Net in this process, with exactly the variables given."""
    start = process._start

    def in_process(words: Sequence[str], environment: Mapping[str, str], output: TextIO) -> Any:
        name = Path(words[0]).name
        if not name.startswith("nnUNetv2_"):
            return start(words, environment, output)
        with pytest.MonkeyPatch.context() as patch:
            for variable in set(os.environ) - set(environment):
                patch.delenv(variable)
            done = InProcess(Path(output.name).parent).run(name, *words[1:], **environment)
        output.write(done.stdout)
        return SimpleNamespace(poll=lambda: done.returncode, terminate=lambda: None, wait=lambda: done.returncode)

    monkeypatch.setattr(process, "_start", in_process)


def plan(raw: Path, preprocessed: Path, shape: tuple[int, ...]) -> Path:
    """nnU-Net's planner for images of one shape with pixels of 1 mm; gives the plans file.

    The fingerprint is written by hand. nnUNet_raw and nnUNet_preprocessed must name the folders above the two.
    """
    preprocessed.mkdir(parents=True)
    cases = len(list((raw / "labelsTr").iterdir()))
    gray = {"max": 200.0, "mean": 100.0, "median": 100.0, "min": 0.0, "percentile_00_5": 5.0, "percentile_99_5": 195.0}
    flat = len(shape) == 2
    fingerprint = {
        "foreground_intensity_properties_per_channel": {"0": {**gray, "std": 40.0}},
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
