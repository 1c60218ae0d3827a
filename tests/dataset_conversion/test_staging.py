"""A data set is built out of sight and appears when it is whole, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.raw_datasets import snapshot
from nnunet_partial.dataset_conversion import staging
from nnunet_partial.dataset_conversion.staging import staged_dataset, write_metadata

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import CaseLabels, Manifest

NAME = "Dataset501_A"


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def build(text: str = "new", overwrite: bool = False, name: str = NAME) -> None:
    with staged_dataset(name, {"command": "test"}, overwrite) as folder:
        (folder / "file").write_text(text)


def visible(raw: Path) -> list[str]:
    return sorted(path.name for path in raw.iterdir() if not path.name.startswith("."))


def test_it_appears_at_the_end_and_leaves_nothing_else(raw: Path) -> None:
    with staged_dataset(NAME, {"a": 1}) as folder:
        (folder / "file").write_text("x")
        assert visible(raw) == []
    assert sorted(path.name for path in raw.iterdir()) == [NAME]
    assert sorted(path.name for path in (raw / NAME).iterdir()) == ["file", "imagesTr", "labelsTr"]


def stop_in_the_middle(made_with: dict[str, object]) -> None:
    with staged_dataset(NAME, made_with) as folder:
        (folder / "imagesTr" / "half").write_text("x")
        (folder / "imagesTr" / ".tmp_half").write_text("y")
        raise KeyboardInterrupt("stop")


def test_after_an_error_the_next_start_goes_on(raw: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stop"):
        stop_in_the_middle({"a": [1, "b", None]})
    assert visible(raw) == []
    with staged_dataset(NAME, {"a": [1, "b", None]}) as folder:
        assert [path.name for path in (folder / "imagesTr").iterdir()] == ["half"]


def test_with_other_options_it_starts_afresh(raw: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stop"):
        stop_in_the_middle({"a": 1})
    with staged_dataset(NAME, {"a": 2}) as folder:
        assert list((folder / "imagesTr").iterdir()) == []


def test_an_existing_data_set_is_not_touched(raw: Path) -> None:
    build("old")
    before = snapshot(raw)
    with pytest.raises(DatasetError, match=r"exists\..* -d, .*--overwrite"):
        build("new")
    assert snapshot(raw) == before


def test_overwrite_replaces_it_as_a_whole(raw: Path) -> None:
    build("old")
    (raw / NAME / "extra").touch()
    build("new", overwrite=True)
    assert (raw / NAME / "file").read_text() == "new"
    assert not (raw / NAME / "extra").exists()
    assert sorted(path.name for path in raw.iterdir()) == [NAME]


def test_overwrite_keeps_the_old_one_until_the_end(raw: Path) -> None:
    build("old")
    with staged_dataset(NAME, {}, overwrite=True):
        assert (raw / NAME / "file").read_text() == "old"


def test_an_id_that_another_data_set_has(raw: Path) -> None:
    build(name="Dataset501_Other")
    with pytest.raises(DatasetError, match="Dataset501 is taken by Dataset501_Other"):
        build(overwrite=True)
    build(name="Dataset5010_Longer")  # not the same id


def test_two_at_the_same_time(raw: Path) -> None:
    with staged_dataset(NAME, {}), pytest.raises(DatasetError, match=f"Another process is writing {NAME} right now"):
        build()
    assert visible(raw) == [NAME]


@pytest.mark.parametrize("step", ["_copy_to_preprocessed", "rename"])
def test_stopped_at_the_very_end_the_next_start_finishes(raw: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build("old")

    def stop(*args: object) -> None:
        raise KeyboardInterrupt("stop")

    original = Path.rename

    def stop_at_the_second_rename(self: Path, target: Path) -> Path:
        if self.name.startswith(".building"):
            raise KeyboardInterrupt("stop")
        return original(self, target)

    with monkeypatch.context() as patched:
        if step == "rename":
            patched.setattr(Path, "rename", stop_at_the_second_rename)
        else:
            patched.setattr(staging, step, stop)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            build("new", overwrite=True)
    with staged_dataset(NAME, {"command": "test"}, overwrite=True) as folder:
        assert (folder / "file").read_text() == "new"
    assert sorted(path.name for path in raw.iterdir()) == [NAME]
    assert (raw / NAME / "file").read_text() == "new"


def test_a_killed_process_leaves_no_lock_and_its_work(raw: Path) -> None:
    code = (
        "import time\n"
        "from nnunet_partial.dataset_conversion.staging import staged_dataset\n"
        f"with staged_dataset('{NAME}', {{'command': 'test'}}) as folder:\n"
        "    (folder / 'done').touch()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    assert visible(raw) == []
    with staged_dataset(NAME, {"command": "test"}) as folder:
        assert (folder / "done").exists()


def metadata(folder: Path, manifest: Manifest, cases: list[str], **about: object) -> list[str]:
    (folder / "labelsTr").mkdir(parents=True, exist_ok=True)
    for case in cases:
        (folder / "labelsTr" / f"{case}.nii.gz").touch()
    return write_metadata(folder, manifest, ("LV", "LA"), channel_names={"0": "us"}, file_ending=".nii.gz", **about)  # type: ignore[arg-type]


def both(*cases: str) -> Manifest:
    return Manifest({case: CaseLabels(("LV", "LA")) for case in cases})


def test_dataset_json_manifest_and_splits(tmp_path: Path) -> None:
    warnings = metadata(tmp_path, both("a", "b", "test"), ["a", "b"], description="Drawn", license="none")
    dataset = RawDataset(tmp_path)
    assert warnings == []
    assert dataset.dataset_json == {
        "channel_names": {"0": "us"},
        "labels": {"background": 0, "LV": 1, "LA": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "licence": "none",
        "converted_by": "nnunet_partial",
        "description": "Drawn",
    }
    assert dataset.manifest == both("a", "b", "test")
    splits = json.loads((tmp_path / "splits_final.json").read_text())
    assert sorted(split["val"] for split in splits) == [["a"], ["b"]]


def test_where_no_license_is_given_dataset_json_says_so(tmp_path: Path) -> None:
    metadata(tmp_path / "a", both("a", "b"), ["a", "b"])
    metadata(tmp_path / "b", both("a", "b"), ["a", "b"], licence="of the source")  # as nnU-Net spells it in the file
    licences = [RawDataset(tmp_path / name).dataset_json["licence"] for name in "ab"]
    assert licences == ["not stated", "of the source"]


def test_nnunet_reads_names_with_any_letters_whatever_the_locale(raw: Path, tmp_path: Path) -> None:
    with staged_dataset(NAME, {}) as folder:
        metadata(folder, both("Müller", "王"), ["Müller", "王"])
    for copy in (raw / NAME, tmp_path / "preprocessed" / NAME):
        content = (copy / "splits_final.json").read_bytes()
        assert content.isascii()  # nnU-Net opens it in the encoding of the locale
        assert sorted(split["val"] for split in json.loads(content)) == [["Müller"], ["王"]]
    assert (raw / NAME / "dataset.json").read_bytes().isascii()


def test_the_ignore_label_comes_last(tmp_path: Path) -> None:
    metadata(tmp_path, both("a", "b"), ["a", "b"], ignore=True)
    assert RawDataset(tmp_path).dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2, "ignore": 3}


def test_a_single_patient_gets_no_split_file(tmp_path: Path) -> None:
    (tmp_path / "splits_final.json").write_text("from before")
    (warning,) = [w for w in metadata(tmp_path, both("a"), ["a"]) if "only fold 'all'" in w]
    assert warning.startswith("1 patient(s)")
    assert not (tmp_path / "splits_final.json").exists()


def test_a_case_without_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"\bb\b"):
        metadata(tmp_path, both("a"), ["a", "b"])


def test_manifest_and_splits_go_to_the_preprocessed_folder_too(raw: Path, tmp_path: Path) -> None:
    with staged_dataset(NAME, {}) as folder:
        metadata(folder, both("a", "b"), ["a", "b"])
    copies = tmp_path / "preprocessed" / NAME
    for file in ("partial_labels.json", "splits_final.json"):
        assert json.loads((copies / file).read_text()) == json.loads((raw / NAME / file).read_text())
    with staged_dataset(NAME, {}, overwrite=True) as folder:
        metadata(folder, both("a"), ["a"])
    assert not (copies / "splits_final.json").exists()
    assert Manifest.read(copies / "partial_labels.json") == both("a")


def test_without_a_preprocessed_folder(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_preprocessed")
    build()
    assert not (tmp_path / "preprocessed").exists()


def test_replacing_a_data_set_removes_what_was_preprocessed_of_the_old_one(raw: Path, tmp_path: Path) -> None:
    build("old")
    preprocessed = tmp_path / "preprocessed" / NAME
    for file in ("gt_segmentations/a.nii.gz", "nnUNetPlans_2d/a.b2nd", "dataset_fingerprint.json", "nnUNetPlans.json"):
        (preprocessed / file).parent.mkdir(parents=True, exist_ok=True)
        (preprocessed / file).write_text("old")
    build("new", overwrite=True)
    # new declarations over old labels would teach what is unknown; plans may have been edited by hand
    assert [path.name for path in preprocessed.iterdir()] == ["nnUNetPlans.json"]


def test_what_was_preprocessed_of_a_removed_data_set_is_not_touched(raw: Path, tmp_path: Path) -> None:
    build("old")
    shutil.rmtree(raw / NAME)
    (tmp_path / "preprocessed" / NAME / "nnUNetPlans_2d").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"preprocessed of an earlier Dataset501_A \(nnUNetPlans_2d\)"):
        build("new")
    build("new", overwrite=True)
    assert not (tmp_path / "preprocessed" / NAME / "nnUNetPlans_2d").exists()


@pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
def test_an_id_that_lives_on_elsewhere_is_taken(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "Dataset501_Old").mkdir(parents=True)
    with pytest.raises(DatasetError, match="Dataset501 is taken by Dataset501_Old"):
        build()
