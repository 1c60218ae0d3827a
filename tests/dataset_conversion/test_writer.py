"""The writer: whatever a data set yields ends up whole on disk, or named in the report; interrupted work goes on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.source_datasets import camus_split, camus_view, chords, echonet, read_nifti
from nnunet_partial.dataset_conversion import DATASETS, staging, writer
from nnunet_partial.dataset_conversion.base import (
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    SourceScan,
    require_identifier,
)
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.echonet import EchoNetDynamic
from nnunet_partial.dataset_conversion.readers import images
from nnunet_partial.dataset_conversion.writer import Report, convert

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.labels import CaseLabels

NAME = "Dataset501_Toy"
#: What the sources of `Toy` yield; a data set itself holds no pictures.
STORY: dict[str, list[ConvertedCase | Skipped | Note | Exception]] = {}


@dataclass(frozen=True)
class Toy(DataSet):
    """A data set with two classes whose sources are told by `STORY`."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy: LV and LA"
    description: ClassVar[str] = "Nothing to ask for."
    default_name: ClassVar[str] = "Toy"
    classes: ClassVar[tuple[str, ...]] = ("LV", "LA")
    reference: ClassVar[str] = "none"
    license: ClassVar[str] = "free"

    def scan(self) -> SourceScan:
        return SourceScan([SourceItem(name) for name in STORY])

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        for found in STORY[source.name]:
            if isinstance(found, Exception):
                raise found
            yield found


class ToyOfFiles(Toy):
    """The same with a file for each source."""

    def files(self, source: SourceItem) -> list[Path]:
        return [self.root / source.name]


def case(
    identifier: str, *values: int, split: str | None = None, annotated: tuple[str, ...] = ("LV", "LA")
) -> ConvertedCase:
    """A picture of one row; `values`: its mask."""
    mask = np.array([values or (0, 1, 2)], np.uint8)
    info = {} if split is None else {"split": split}
    return ConvertedCase(identifier, mask * 100, mask, (0.5, 0.25), CaseLabels(annotated, domain="toy", info=info))


@pytest.fixture(autouse=True)
def story() -> Iterator[dict[str, list[ConvertedCase | Skipped | Note | Exception]]]:
    """Two sources with a case each."""
    STORY.clear()
    STORY.update({"first": [case("toy_1")], "second": [case("toy_2", 0, 2)]})
    yield STORY
    STORY.clear()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def test_what_lies_on_disk_in_the_end(tmp_path: Path, raw: Path) -> None:
    STORY["third"] = [case("toy_3", 1, split="test"), Note("toy_3", "is small")]
    report = convert(Toy(tmp_path), NAME)
    assert sorted(snapshot(raw)) == [
        f"{NAME}/conversion_report.json",
        f"{NAME}/dataset.json",
        f"{NAME}/imagesTr/toy_1_0000.nii.gz",
        f"{NAME}/imagesTr/toy_2_0000.nii.gz",
        f"{NAME}/imagesTs/toy_3_0000.nii.gz",
        f"{NAME}/labelsTr/toy_1.nii.gz",
        f"{NAME}/labelsTr/toy_2.nii.gz",
        f"{NAME}/labelsTs/toy_3.nii.gz",
        f"{NAME}/partial_labels.json",
        f"{NAME}/splits_final.json",
    ]
    written = json.loads((report.folder / "conversion_report.json").read_text())
    assert written["counts"] == {
        "imagesTr": 2,
        "labelsTr": 2,
        "imagesTs": 1,
        "labelsTs": 1,
        "patients": 3,
        "train": 0,
        "val": 0,
        "test": 1,
        "without official split": 2,
    }
    assert written["notes"] == [{"about": "toy_3", "note": "is small"}]
    assert (written["skipped"], written["known_defects"]) == ([], [])
    assert RawDataset(report.folder).dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2}
    assert RawDataset(report.folder).dataset_json["licence"] == "free"
    assert "nominal_depth_mm" not in RawDataset(report.folder).dataset_json  # every spacing is known
    image, spacing = read_nifti(report.folder / "imagesTr" / "toy_1_0000.nii.gz")
    assert image.tolist() == [[0, 100, 200]]
    assert spacing == (0.5, 0.25)


@pytest.mark.slow
def test_equal_pictures_give_equal_bytes_whenever_they_are_written(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        images.write_image(tmp_path / name, np.arange(6, dtype=np.uint8).reshape(2, 3), (0.5, 0.25))
        time.sleep(1.1)  # gzip stamps files by the second
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress(first)[-6:] == bytes(range(6))


@pytest.mark.parametrize(
    ("array", "spacing_mm"),
    [
        (np.arange(6, dtype=np.uint8).reshape(2, 3), (0.5, 0.25)),
        (np.arange(6, dtype=np.float32).reshape(2, 3).T, (0.154, 0.308)),  # not in the order of memory
        (np.arange(24, dtype=np.uint8).reshape(2, 3, 4), (2.0, 0.5, 0.25)),
        (np.zeros((1, 1), np.uint8), (1 / 3, 150 / 112)),
    ],
)
def test_pictures_are_those_that_simpleitk_writes(
    tmp_path: Path, array: np.ndarray, spacing_mm: tuple[float, ...]
) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, str(tmp_path / "theirs.nii.gz"))
    images.write_image(tmp_path / "ours.nii.gz", array, spacing_mm)
    ours, theirs = (gzip.decompress((tmp_path / f"{name}.nii.gz").read_bytes()) for name in ("ours", "theirs"))
    assert ours == theirs
    assert np.array_equal(read_nifti(tmp_path / "ours.nii.gz")[0], array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.nii.gz", "theirs.nii.gz"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (case("toy_1", 0, 3), says("value(s) 3", "0 background, 1 LV, 2 LA")),
        (
            case("toy_1", 0, 2, annotated=("LV",)),
            says("value(s) 2", "0 background, 1 LV, 2 LA"),
        ),
        (replace(case("toy_1"), image=np.zeros((1, 2))), says("shape", "(1, 2) and (1, 3)")),
        (replace(case("toy_1"), mask=np.array([[0, 0.5, 1]])), says("mask", "value(s) 0.5")),
        (replace(case("toy_1"), image=np.array([[0, 1, np.nan]])), says("image", "NaN or infinite")),
        (replace(case("toy_1"), spacing_mm=(0.5, 0.0)), says("spacing is (0.5, 0.0) mm")),
        (replace(case("toy_1"), image=np.zeros((0, 3))), says("image has shape (0, 3)", "(rows, cols)")),
        (case("../toy_1"), says("'../toy_1' cannot name a case")),
    ],
)
def test_a_case_that_does_not_fit_together_is_skipped(
    tmp_path: Path, raw: Path, bad: ConvertedCase, reason: says
) -> None:
    STORY["first"] = [bad]
    report = convert(Toy(tmp_path), NAME)
    assert skips(report) == {bad.identifier: reason}
    assert list(RawDataset(report.folder).label_files()) == ["toy_2"]
    assert sorted(path.name for path in tmp_path.rglob("*toy_1*")) == []


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(ConversionError("it is torn"), "it is torn"), (ZeroDivisionError("oh"), "ZeroDivisionError: oh")],
)
def test_an_error_in_the_middle_of_a_source_keeps_what_came_before(
    tmp_path: Path, problem: Exception, reason: str
) -> None:
    STORY["first"] = [case("toy_1"), problem, case("toy_never")]
    told: list[Skipped] = []
    report = convert(Toy(tmp_path), NAME, log=told.append)
    assert told == report.skipped == [Skipped("first", reason)]
    assert list(RawDataset(report.folder).label_files()) == ["toy_1", "toy_2"]


def test_names_that_no_text_file_can_hold(tmp_path: Path) -> None:
    STORY["first"] = [Skipped("toy_\udcff", "foreign \udcff")]
    report = convert(Toy(tmp_path), NAME)
    assert skips(report) == {r"toy_\udcff": r"foreign \udcff"}
    assert r"toy_\\udcff" in (report.folder / "conversion_report.json").read_text()


def test_known_defects_are_not_told(tmp_path: Path) -> None:
    STORY["first"] = [Skipped("toy_1", "never drawn", known_defect=True)]
    told: list[Skipped] = []
    report = convert(Toy(tmp_path), NAME, log=told.append, strict=True)
    assert (told, report.skipped) == ([], [])
    assert report.known_defects == [Skipped("toy_1", "never drawn", known_defect=True)]


@pytest.mark.parametrize("second", ["first", "second"])
def test_one_identifier_for_two_cases(tmp_path: Path, raw: Path, second: str) -> None:
    STORY[second] = [*STORY[second], case("toy_1", 0)]
    if second == "first":
        report = convert(Toy(tmp_path), NAME)
        assert skips(report) == {"toy_1": says("second case", "this identifier")}
    else:
        with pytest.raises(ConversionError, match=r"more than one case: toy_1 \(first, second\)"):
            convert(Toy(tmp_path), NAME)
        assert not (raw / NAME).exists()


@pytest.mark.parametrize("second", ["first", "second"])
def test_identifiers_that_differ_in_capitals_alone(tmp_path: Path, raw: Path, second: str) -> None:
    """Disks of Windows and macOS would give both cases the files of one."""
    STORY[second] = [*STORY[second], case("TOY_1", 0)]
    with pytest.raises(ConversionError, match="toy_1 and TOY_1"):
        convert(Toy(tmp_path), NAME)
    assert not (raw / NAME).exists()


@pytest.mark.parametrize("name", ["a", "A-b_1", "0X1", "x" * 120])
def test_identifiers_that_may_name_a_file(name: str) -> None:
    assert require_identifier(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "/a", "a\\b", "a b", "a.b", "-a", "_a", "a_", "ä", "a\n", "x" * 121, "a_seg"]
)
def test_identifiers_that_may_not(name: str) -> None:
    with pytest.raises(ConversionError, match="cannot name a case"):
        require_identifier(name)


def test_strict_stops_at_the_first_and_publishes_nothing(tmp_path: Path, raw: Path) -> None:
    STORY["first"] = [Skipped("toy_1", "is torn")]
    with pytest.raises(ConversionError, match=r"toy_1: is torn \(--strict"):
        convert(Toy(tmp_path), NAME, strict=True)
    assert not (raw / NAME).exists()


def test_nothing_to_convert_publishes_nothing_and_says_why(tmp_path: Path, raw: Path) -> None:
    STORY.update(first=[Skipped("toy_1", "is torn")], second=[])
    with pytest.raises(ConversionError, match=r"nothing is written\. toy_1: is torn"):
        convert(Toy(tmp_path), NAME)
    assert not (raw / NAME).exists()


def test_limit_takes_the_first_sources(tmp_path: Path) -> None:
    assert convert(Toy(tmp_path), NAME, limit=1).counts["labelsTr"] == 1
    with pytest.raises(ConversionError, match="The limit is 0; expected at least 1"):
        convert(Toy(tmp_path), "Dataset502_Toy", limit=0)


def test_an_existing_data_set_is_left_alone_unless_told_otherwise(tmp_path: Path, raw: Path) -> None:
    convert(Toy(tmp_path), NAME)
    before = snapshot(raw)
    STORY.pop("second")
    with pytest.raises(DatasetError, match=r"Dataset501_Toy exists\..* -d, .*--overwrite"):
        convert(Toy(tmp_path), NAME)
    assert snapshot(raw) == before
    convert(Toy(tmp_path), NAME, overwrite=True)
    assert sorted(path.name for path in (raw / NAME / "labelsTr").iterdir()) == ["toy_1.nii.gz"]


def test_interrupted_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(Toy(tmp_path), NAME)
    whole = snapshot(raw / NAME)
    written: list[str] = []
    original = writer.write_image

    def counting(path: Path, *rest: object) -> None:
        written.append(path.name)
        if len(written) == 4:  # the label of the second case
            raise KeyboardInterrupt
        original(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "write_image", counting)
    with pytest.raises(KeyboardInterrupt):
        convert(Toy(tmp_path), NAME, overwrite=True)
    assert snapshot(raw / NAME) == whole  # the old one is still there
    convert(Toy(tmp_path), NAME, overwrite=True)
    assert written[4:] == ["toy_2_0000.nii.gz", "toy_2.nii.gz"]  # the first case was not written again
    assert snapshot(raw / NAME) == whole
    assert [path.name for path in raw.iterdir()] == [NAME]


def test_what_failed_is_tried_again_and_what_it_left_is_removed(tmp_path: Path, raw: Path) -> None:
    STORY["first"] = [case("toy_1"), case("toy_half"), Skipped("toy_x", "is torn")]
    with pytest.raises(ConversionError, match="is torn"):
        convert(Toy(tmp_path), NAME, strict=True)
    STORY["first"] = [case("toy_1")]  # somebody mended the source
    report = convert(Toy(tmp_path), NAME)
    assert report.skipped == []
    assert list(RawDataset(report.folder).label_files()) == ["toy_1", "toy_2"]
    assert list(RawDataset(report.folder).image_files()) == ["toy_1", "toy_2"]


def test_what_changed_since_an_interruption_is_read_again(tmp_path: Path, raw: Path) -> None:
    """Somebody mends the torn source and, meanwhile, another one that was already converted."""
    for name in STORY:
        (tmp_path / name).write_text("old")
    STORY["third"] = [Skipped("toy_3", "is torn")]
    with pytest.raises(ConversionError, match="is torn"):
        convert(ToyOfFiles(tmp_path), NAME, strict=True)
    STORY.update(first=[RuntimeError("must not be read again")], second=[case("toy_2", 1, 1, 2)], third=[])
    (tmp_path / "second").write_text("new!")
    report = convert(ToyOfFiles(tmp_path), NAME)
    assert report.skipped == []
    assert read_nifti(report.folder / "labelsTr" / "toy_2.nii.gz")[0].tolist() == [[1, 1, 2]]


def test_a_log_that_was_cut_off_costs_only_its_last_line(tmp_path: Path, raw: Path) -> None:
    STORY["third"] = [Skipped("toy_3", "is torn")]
    with pytest.raises(ConversionError, match="is torn"):
        convert(Toy(tmp_path), NAME, strict=True)
    log = raw / f".building_{NAME}" / ".converted.jsonl"
    text = log.read_text()
    log.write_text(text[: text.index('"second"') + 30])
    STORY.update(first=[RuntimeError("must not be read again")], third=[])
    assert convert(Toy(tmp_path), NAME).counts["labelsTr"] == 2


@pytest.mark.parametrize("what", ["imagesTr/toy_1_0000.nii.gz", "labelsTr/toy_1.nii.gz"])
def test_what_a_power_cut_left_of_a_file_is_written_again(tmp_path: Path, raw: Path, what: str) -> None:
    STORY["second"] = [Skipped("toy_2", "is torn")]
    with pytest.raises(ConversionError, match="is torn"):
        convert(Toy(tmp_path), NAME, strict=True)
    file = raw / f".building_{NAME}" / what
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    report = convert(Toy(tmp_path), NAME)
    assert (report.folder / what).read_bytes() == whole


def test_a_disk_that_refuses_in_the_end_publishes_nothing(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(staging, "sync_to_disk", refuse)
    with pytest.raises(DatasetError, match=r"Cannot write Dataset501_Toy: .*Input/output error"):
        convert(Toy(tmp_path), NAME)
    assert not (raw / NAME).exists()
    monkeypatch.undo()


def test_another_source_or_option_starts_afresh(tmp_path: Path, raw: Path) -> None:
    STORY["second"] = [Skipped("toy_2", "is torn")]
    with pytest.raises(ConversionError, match="is torn"):
        convert(Toy(tmp_path), NAME, strict=True)
    STORY.update(first=[case("toy_9")], second=[])
    report = convert(Toy(tmp_path / "elsewhere"), NAME)
    assert list(RawDataset(report.folder).label_files()) == ["toy_9"]


def test_a_full_disk_ends_the_run_and_is_no_skip(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "compress", full)
    with pytest.raises(DatasetError, match=r"toy_1_0000\.nii\.gz: .*No space left"):
        convert(Toy(tmp_path), NAME)
    assert not (raw / NAME).exists()


@pytest.mark.slow
def test_several_processes_give_the_same_bytes_and_their_errors_arrive(tmp_path: Path, raw: Path) -> None:
    for number in range(1, 71):
        camus_view(tmp_path / "in", f"patient{number:04d}")
    (tmp_path / "in/database_nifti/patient0042/patient0042_2CH_ED_gt.nii.gz").unlink()
    camus_split(tmp_path / "in", " ".join(f"patient{number:04d}" for number in range(1, 71)))
    data_set = Camus(tmp_path / "in", views=("2CH",))
    one = convert(data_set, "Dataset501_CAMUS", processes=1)
    two = convert(data_set, "Dataset502_CAMUS", processes=2)
    assert skips(two) == {"camus_patient0042_2CH_ED": says("patient0042_2CH_ED_gt.nii.gz", "not exist")}
    assert snapshot(one.folder) == snapshot(two.folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_goes_on_and_no_process_stays_behind(
    tmp_path: Path, raw: Path, how: signal.Signals
) -> None:
    for number in range(1, 101):
        camus_view(tmp_path / "in", f"patient{number:04d}")
    running = subprocess.Popen(
        [sys.executable, "-c", _CONVERT, str(tmp_path / "in")], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        log = raw / ".building_Dataset502_CAMUS" / ".converted.jsonl"
        _wait(lambda: log.exists() and log.read_text().count("source") >= 5)
        if how == signal.SIGINT:
            os.killpg(running.pid, how)  # a terminal sends it to all processes of the command
        else:
            running.send_signal(how)
        assert running.wait(timeout=30) != 0
        assert not (raw / "Dataset502_CAMUS").exists()
        _wait(lambda: not _group_lives(running.pid))
    finally:
        running.kill()
    done = log.read_text().count("source")
    data_set = Camus(tmp_path / "in", views=("2CH",))
    again = convert(data_set, "Dataset502_CAMUS")
    assert 5 <= done < 100
    assert again.counts["labelsTr"] == 200
    whole = convert(data_set, "Dataset501_CAMUS")
    assert snapshot(again.folder) == snapshot(whole.folder)


_CONVERT = """
import signal
import sys
from pathlib import Path
# a shell starts background jobs deaf to SIGINT, and children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.writer import convert
convert(Camus(Path(sys.argv[1]), views=("2CH",)), "Dataset502_CAMUS", processes=2)
"""


def _wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_data_set_of_the_table_tells_what_it_must() -> None:
    assert {"camus", "echonet-dynamic", "echonet-pediatric", "ted", "folder"} <= set(DATASETS)
    for name, data_set in DATASETS.items():
        assert data_set.name == name
        assert set(data_set.classes) <= {"LV", "MYO", "LA", "RV", "RA"}
        assert "https://" in data_set.description or name == "folder"  # one's own need not be asked for
        assert "passed on" in data_set.license


@pytest.mark.parametrize("name", ["camus", "echonet-dynamic"])
def test_what_is_written_passes_the_check_of_a_data_set(tmp_path: Path, name: str) -> None:
    if name == "camus":
        for number in range(1, 4):
            camus_view(tmp_path / "in", f"patient000{number}")
        camus_split(tmp_path / "in", "patient0001 patient0002", "", "patient0003")
        data_set: DataSet = Camus(tmp_path / "in", "half-sequence")
    else:
        splits = {"0XA": "TRAIN", "0XB": "VAL", "0XC": "TEST"}
        frames = {6: chords(10, 20), 2: chords(12, 18)}
        data_set = EchoNetDynamic(echonet(tmp_path / "in", dict.fromkeys(splits, frames), splits))
    report = convert(data_set, "Dataset501_Any")
    assert check(report.folder).findings == {}
