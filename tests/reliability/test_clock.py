"""A clock that goes back, as on a machine that was set right: nothing that changed is taken for unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.raw_datasets import Drawn, read_values, write_dataset
from helpers.source_datasets import camus_view
from nnunet_partial.dataset_conversion import writer
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.derived import merge as merge_module
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.writer import convert

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.label_check import LabelCache
from nnunet_partial.dataset.raw import RawDataset

YEAR = 365 * 24 * 3600


def shift(folder: Path, seconds: float) -> None:
    """All files below `folder` were written that much later (earlier where negative)."""
    for path in folder.rglob("*"):
        there = path.stat().st_mtime
        os.utime(path, (there + seconds, there + seconds))


def stop(*args: object, **options: object) -> None:
    raise KeyboardInterrupt("stop")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_interrupted_conversion_goes_on_with_files_of_the_future(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camus_view(tmp_path / "in", "patient0001")
    undisturbed = contents(convert(Camus(tmp_path / "in"), "Dataset501_Whole").folder)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "write_json", stop)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            convert(Camus(tmp_path / "in"), "Dataset502_Stopped")
    shift(raw / ".building_Dataset502_Stopped", +YEAR)
    again = contents(convert(Camus(tmp_path / "in"), "Dataset502_Stopped").folder)
    assert again == undisturbed


def test_a_source_that_is_older_than_before_starts_the_merge_afresh(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("AB", 1):
        entry = {"annotated": ["LV", "LA"] if name == "A" else ["LV"], "patient": name}
        labels = {"LA": 1, "LV": 2} if name == "A" else {"LV": 1}  # A's numbers change in the merge
        write_dataset(raw, f"Dataset00{number}_{name}", labels, [Drawn(f"{name}1", (1,), entry)])
    sources = [raw / "Dataset001_A", raw / "Dataset002_B"]
    with monkeypatch.context() as patched:
        patched.setattr(merge_module, "write_metadata", stop)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            merge(sources, "Dataset003_Both")
    label = sources[0] / "labelsTr" / "A1.nii.gz"
    write_dataset(
        raw, "Dataset001_A", {"LA": 1, "LV": 2}, [Drawn("A1", (2,), {"annotated": ["LV", "LA"], "patient": "A"})]
    )
    shift(label.parent, -YEAR)
    merged = RawDataset(merge(sources, "Dataset003_Both").folder)
    assert merged.classes == ("LV", "LA")
    assert read_values(merged.label_files()["A1"])[0] == 1  # LV, as in the changed file, and not LA
    assert check(merged.folder).findings == {}


def test_a_label_file_that_is_older_than_before_is_looked_into_again(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, "Dataset001_A", {"LV": 1}, [Drawn("a1", (1,), {"annotated": ["LV"]})])
    files = (tmp_path / "checked.json", dataset.folder / "partial_labels.json", dataset.folder / "labelsTr", ".nii.gz")
    LabelCache(*files).write()
    assert LabelCache(*files).is_valid()
    shift(dataset.folder / "labelsTr", -YEAR)
    assert not LabelCache(*files).is_valid()


def test_no_module_of_ours_asks_for_the_date() -> None:
    """What a run takes is measured by a clock that only goes forward; nothing else depends on one."""
    package = Path(__file__).resolve().parents[2]
    asking = [
        str(path.relative_to(package))
        for folder in ("nnunet_partial", "dataset_conversion")
        for path in (package / folder).rglob("*.py")
        if any(call in path.read_text() for call in ("time.time(", "datetime.now(", "datetime.today(", "utcnow("))
    ]
    assert asking == []
