"""Files that people and other programs write, broken at random: each is read, or refused with an error of ours.

A hundred broken files per reader in an ordinary run; the count behind docs/explanation/reliability.md comes from

    pytest tests/reliability/test_mutated_inputs.py --hypothesis-profile=thorough --hypothesis-show-statistics
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.mutated import broken
from helpers.source_datasets import CFG, CUP, OFF, chords, name_of, tracing_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.camus import SPLIT_BY_LIST, read_cfg, read_split_lists
from nnunet_partial.dataset_conversion.echonet import read_file_list, read_tracings
from nnunet_partial.dataset_conversion.echonet_pediatric import read_clips, read_contours
from nnunet_partial.dataset_conversion.folder import read_cases
from nnunet_partial.dataset_conversion.readers.images import require_whole_mhd
from nnunet_partial.dataset_conversion.unity import UnityFolder, chambers, read_unity_labels
from nnunet_partial.dataset_conversion.writer import SourceOutcome, read_log

from nnunet_partial.dataset.declare import DatasetToDeclare
from nnunet_partial.dataset.declare_sources import manifest_from_table
from nnunet_partial.dataset.label_check import LabelCache
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import check_splits, make_splits
from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.training.run_record import RECORD_NAME, read_record, record_run
from nnunet_partial.utils.files import read_json

CLASSES = ("LV", "MYO", "LA")
MANIFEST = Manifest(
    {f"c{n}": CaseLabels(CLASSES[: n + 1], domain="a", patient=f"p{n}", info={"ef": 54.0}) for n in range(3)},
    (("echonet_*", CaseLabels(("LV",), ("RV",))),),
    domain_weights={"a": 1.0},
)
DATASET = {
    "channel_names": {"0": "ultrasound"},
    "labels": {"background": 0, "LV": 1, "MYO": 2, "LA": 3, "ignore": 4},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


@dataclass(frozen=True)
class Reader:
    """`sound`: the content of a file that `read` understands; `read` gets its path."""

    name: str
    file: str
    sound: bytes
    read: Callable[[Path], Any]

    def __str__(self) -> str:
        return self.name


def as_json(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


def read_manifest(path: Path) -> None:
    manifest = Manifest.read(path)
    for case in (*manifest.cases, "echonet_1"):
        known = manifest.known(case, CLASSES) if manifest.find(case) else np.zeros(4, bool)
        assert known.shape == (4,)
    manifest.problems(["c0", "other"], CLASSES)


def read_dataset(path: Path) -> None:
    dataset = RawDataset(path.parent)
    assert len(set(dataset.classes)) == len(dataset.classes)
    assert dataset.ignore_label in (None, len(dataset.classes) + 1)


def read_memory(path: Path) -> None:
    """What was checked before: broken, it must never say yes."""
    (path.parent / "dataset.json").write_bytes(as_json(DATASET))
    MANIFEST.write(path.parent / "partial_labels.json")
    (path.parent / "labels").mkdir(exist_ok=True)
    answer = LabelCache(path, path.parent / "partial_labels.json", path.parent / "labels", ".nii.gz").is_valid()
    content = path.read_bytes()
    LabelCache(path, path.parent / "partial_labels.json", path.parent / "labels", ".nii.gz").write()
    if answer:
        assert json.loads(content.decode("utf-8-sig")) == json.loads(path.read_bytes())


def read_outcomes(path: Path) -> None:
    for source, outcome in read_log(path, ["one", "two"]).items():
        assert source == outcome.source
        assert not outcome.failed


def read_numbers(path: Path) -> None:
    info = read_cfg(path)
    assert info is not None
    assert all(value is None or math.isfinite(value) for value in (info.ed, info.es, info.ef, info.frames))


def read_traced(path: Path) -> None:
    for traced in read_tracings(path).values():
        assert all(rows.shape[1] == 4 and np.isfinite(rows).all() for rows in traced.frames.values())


def read_traced_children(path: Path) -> None:
    for outlines in read_contours(path).values():
        assert all(np.isfinite(points).all() and len(points) >= 3 for points in outlines.frames.values())


def read_unity(path: Path) -> None:
    for labels in read_unity_labels(path).values():
        masks, _ = chambers(labels.curves, (40, 40))
        assert all(mask.any() for mask in masks.values())
        assert not set(masks) & set(labels.off)


def read_sizes(path: Path) -> None:
    for height, width in UnityFolder(path.parent, {}, {}).spacings_mm().values():
        assert 0.05 <= height <= 1.5
        assert 0.05 <= width <= 1.5


def read_lists(path: Path) -> None:
    for part in ("validation", "testing"):
        (path.parent / f"subgroup_{part}.txt").write_bytes(b"")
    lists = {split: path.parent / f"subgroup_{part}.txt" for part, split in SPLIT_BY_LIST.items()}
    for patient, split in read_split_lists(lists).items():
        assert split == "train"
        assert patient.split() == [patient]
    for part in ("validation", "testing"):
        (path.parent / f"subgroup_{part}.txt").unlink()


def read_own_table(path: Path) -> None:
    for case in read_cases(path, CLASSES):
        assert case.problem or (set(case.labels.annotated) <= set(CLASSES) and case.labels.annotated)
        assert case.problem or ".." not in Path(case.image).parts


def read_run(path: Path) -> None:
    changed = record_run(path.parent, 3, {**RUN, "epochs": 7})
    record = read_record(path)
    assert record[-1]["epochs"] == 7
    assert not changed or record[-1]["from_epoch"] == 3


class Named(DatasetToDeclare):
    """Three cases c0, c1, c2 without files."""

    classes = CLASSES  # type: ignore[assignment]
    cases = ("c0", "c1", "c2")  # type: ignore[assignment]
    without_labels: dict[str, CaseLabels] = {}  # type: ignore[assignment]  # noqa: RUF012

    def __init__(self) -> None:
        """Nothing to look for on disk."""


def read_declared(path: Path) -> None:
    manifest = manifest_from_table(Named(), path)
    assert list(manifest.cases) == ["c0", "c1", "c2"]
    manifest.require(manifest.cases, CLASSES)


RUN = {"epochs": 5, "iterations": 250, "val_iterations": 50, "seed": None}
RUNS = [{"from_epoch": 0, **RUN}, {"from_epoch": 2, **RUN, "seed": 1}]
UNITY = {
    name_of("one"): {"labels": {"curve-lv-endo": CUP, "curve-la-endo": OFF, "mv-ant-hinge": {"type": "blurred"}}},
    name_of("two"): {"labels": {"curve-rv-endo": [CUP], "lv-apex-endo": {"type": "point", "x": "3", "y": "4"}}},
}
SIZES = f"FileHash,PhysicalDeltaX,PhysicalDeltaY\n{name_of('one')[:67]},0.03,0.04\n{name_of('two')[:67]},,\n"
LINES = [SourceOutcome(name, "stamp", {f"{name}_1": CaseLabels(("LV",))}) for name in ("one", "two")]
CLIPS = "CR32a7555-CR32a7582-000039"
OUTLINE = f"FileName,X,Y,Frame\n{CLIPS}.avi,1,2,0\n{CLIPS}.avi,5,2,0\n{CLIPS}.avi,5,9,0\n{CLIPS}.avi,,,No Systolic\n"
OWN = (
    "case,image,mask,annotated,absent,domain,patient,split\n"
    "c0,a.png,a.png,LV LA,RV,x,p0,train\n"
    "c1,b.png,b.png,LV,,x,p1,\n"
)
DECLARED = "case,annotated,absent,patient\nc0,LV,,p0\nc1,LV MYO,,p1\nc2,LV|LA,MYO,p2\n"
MHD = b"ObjectType = Image\nNDims = 2\nDimSize = 4 3\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"
READERS = [
    Reader("manifest", "partial_labels.json", as_json(MANIFEST.to_json()), read_manifest),
    Reader("dataset.json", "dataset.json", as_json(DATASET), read_dataset),
    Reader(
        "splits",
        "splits_final.json",
        as_json(make_splits(MANIFEST, ["c0", "c1", "c2"])[0]),
        lambda path: check_splits(read_json(path, SplitError), MANIFEST, ["c0", "c1", "c2"]),
    ),
    Reader("memory of checks", "checked.json", as_json({"version": 1, "labels": {"background": 0}}), read_memory),
    Reader("conversion log", ".converted.jsonl", "".join(line.to_line() for line in LINES).encode(), read_outcomes),
    Reader("CAMUS cfg", "Info_2CH.cfg", CFG.encode(), read_numbers),
    Reader("MHD header", "a.mhd", MHD, require_whole_mhd),
    Reader("EchoNet file list", "FileList.csv", b"FileName,EF,Split\n0XA,60.5,TRAIN\n0XB,,VAL\n", read_file_list),
    Reader("EchoNet tracings", "VolumeTracings.csv", tracing_text({"0XA.avi": {3: chords()}}).encode(), read_traced),
    Reader("Pediatric file list", "FileList.csv", f"FileName,EF,Split\n{CLIPS},60.5,3\n".encode(), read_clips),
    Reader("Pediatric tracings", "VolumeTracings.csv", OUTLINE.encode(), read_traced_children),
    Reader("Unity labels", "labels-train.json", as_json(UNITY), read_unity),
    Reader("Unity sizes", "01_database_physical.csv", SIZES.encode(), read_sizes),
    Reader("CAMUS lists", "subgroup_training.txt", b"patient0001\npatient0002\n", read_lists),
    Reader("own table", "cases.csv", OWN.encode(), read_own_table),
    Reader("run record", RECORD_NAME, as_json(RUNS), read_run),
    Reader("table of declarations", "declared.csv", DECLARED.encode(), read_declared),
]


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_the_sound_file_is_read(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / reader.file
    path.write_bytes(reader.sound)
    (tmp_path / "a.raw").write_bytes(bytes(12))
    reader.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=str)
@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_broken_file_is_read_or_refused(reader: Reader, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / reader.file
    path.write_bytes(data.draw(broken(reader.sound)))
    (tmp_path / "a.raw").write_bytes(bytes(12))
    try:
        reader.read(path)
    except PartialLabelError as problem:
        said = str(problem)
        assert said
        said.encode()  # can be shown on any terminal
    assert {found.name for found in tmp_path.iterdir()} <= {
        reader.file, "a.raw", "dataset.json", "partial_labels.json", "labels",
    }  # fmt: skip


def test_a_reader_that_crashes_would_be_noticed() -> None:
    @settings(deadline=None, derandomize=True, max_examples=100, database=None)
    @given(content=broken(OWN.encode()))
    def careless(content: bytes) -> None:
        if not content.startswith(b"case,image,mask"):
            raise KeyError("case")

    with pytest.raises(KeyError, match="case"):
        careless()
