"""Time merge and check of 20,000 cases, and the start of a training beside nnU-Net's own.

Makes forty tiny images and labels and links them under as many names as asked for, in two datasets of which the
second lacks a structure; merges them, checks the result, and starts a trainer on made-up preprocessed cases of it: once
with every label file to be looked into, once with the answer remembered, and nnU-Net's own. Times by the clock, in
brackets CPU time of this process; of the start up to where the first batch would be loaded.

    PYTHONPATH=tests python benchmarks/load.py [--cases 20000] [-np 1]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunet_partial.dataset_conversion.derived.merge import merge

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.splits import SPLITS_NAME

# What needs torch or nnU-Net is imported where it is used: the worker processes of merge and check import this file.

DIFFERENT_CASES = 40
SHAPE = (32, 32)
MIB = 2**20


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    start, used = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    taken, used = time.perf_counter() - start, time.process_time() - used
    print(f"{what:56s} {taken:7.1f} s ({used:6.1f} s)   peak so far {peak:6.0f} MiB", flush=True)


def write(raw: Path, name: str, cases: int, with_ring: bool) -> None:
    """Write a raw dataset; two cases a patient."""
    from helpers.toy_dataset import draw

    folder, rng = raw / name, np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    entries = {}
    for number in range(cases):
        case = f"{name[-1].lower()}{number:05d}"
        image, label = folder / "imagesTr" / f"{case}_0000.nii.gz", folder / "labelsTr" / f"{case}.nii.gz"
        if number < DIFFERENT_CASES:
            for path, array in zip((image, label), draw(rng, SHAPE, with_ring), strict=True):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        else:
            original = f"{case[0]}{number % DIFFERENT_CASES:05d}"
            image.hardlink_to(image.with_name(f"{original}_0000.nii.gz"))
            label.hardlink_to(label.with_name(f"{original}.nii.gz"))
        annotated = ["LV", "MYO"] if with_ring else ["LV"]
        entries[case] = {"annotated": annotated, "domain": case[0], "patient": f"{case[0]}{number // 2}"}
    labels = {"background": 0, "LV": 1, "MYO": 2} if with_ring else {"background": 0, "LV": 1}
    about = {"channel_names": {"0": "ultrasound"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / "partial_labels.json").write_text(json.dumps({"version": 1, "cases": entries}))


def make_preprocessed(raw: Path, preprocessed: Path) -> None:
    """Write a plan, the label files, and for each case empty files of the names that nnU-Net's preprocessing writes."""
    from helpers.nnunet_in_process import plan
    from helpers.toy_dataset import shrink

    splits = (preprocessed / SPLITS_NAME).read_bytes()
    manifest = (preprocessed / "partial_labels.json").read_bytes()
    shutil.rmtree(preprocessed)
    shrink(plan(raw, preprocessed, SHAPE), "2d")
    (preprocessed / SPLITS_NAME).write_bytes(splits)
    (preprocessed / "partial_labels.json").write_bytes(manifest)
    (preprocessed / "dataset.json").write_bytes((raw / "dataset.json").read_bytes())
    shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations", copy_function=os.link)
    cases = preprocessed / "nnUNetPlans_2d"
    cases.mkdir()
    for label in (raw / "labelsTr").iterdir():
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            (cases / (label.name.removesuffix(".nii.gz") + ending)).touch()


def start(trainer_class: type[Any], preprocessed: Path) -> None:
    """Do all that a training does before it opens its first case."""
    import torch

    plans = {**json.loads((preprocessed / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    trainer = trainer_class(plans, "2d", 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    trainer.get_tr_and_val_datasets()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many cases through merge, check and the start of a training.")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("-np", "--processes", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # nnU-Net's, about what its libraries will drop
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{variable}"] = str(Path(folder) / variable)
        os.environ["nnUNet_def_n_proc"] = str(arguments.processes)
        raw = Path(folder) / "raw"
        write(raw, "Dataset001_A", arguments.cases // 2, True)
        write(raw, "Dataset002_B", arguments.cases // 2, False)
        preprocessed = Path(folder) / "preprocessed" / "Dataset003_Both"
        print(f"{arguments.cases} cases, {arguments.processes} process(es)", flush=True)
        with timed("merge of two datasets"):
            merged = merge(
                [raw / "Dataset001_A", raw / "Dataset002_B"], preprocessed.name, processes=arguments.processes
            )
        with timed("check"):
            findings = check(merged.folder, processes=arguments.processes).findings
        assert not findings, findings
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal

        with contextlib.redirect_stdout(io.StringIO()):
            make_preprocessed(merged.folder, preprocessed)
        with timed("start of nnUNetTrainer"):
            start(nnUNetTrainer, preprocessed)
        with timed("first start of nnUNetTrainerMarginal (looks into labels)"):
            start(nnUNetTrainerMarginal, preprocessed)
        for _ in range(2):
            with timed("start of nnUNetTrainer"):
                start(nnUNetTrainer, preprocessed)
            with timed("later start of nnUNetTrainerMarginal"):
                start(nnUNetTrainerMarginal, preprocessed)


if __name__ == "__main__":
    main()
