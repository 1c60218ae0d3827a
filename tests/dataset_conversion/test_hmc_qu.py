"""HMC-QU: clips of eight frames in all three packages, with every quirk of workbook, names and masks."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from helpers.facts import says
from helpers.source_datasets import read_nifti, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.hmc_qu import (
    MASK_FOLDER,
    HmcQu,
    WorkbookClip,
    enlarge,
    read_masks,
    read_workbook,
)
from nnunet_partial.dataset_conversion.writer import Report, convert
from numpy.typing import NDArray
from scipy.io import savemat

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError

SEGMENTS = ("SEG1", "SEG2", "SEG3", "SEG5", "SEG6", "SEG7")
Row = tuple[Any, Any, Any, Any]


def workbook(path: Path, rows: Sequence[Row], with_masks: bool = True) -> None:
    """Two header rows, then name, first and last frame and tick, then a footnote: as in the real workbooks."""
    book = openpyxl.Workbook()
    sheet = book.active
    last = ["LV Wall Ground-truth Segmentation Masks"] if with_masks else []
    sheet.append(["ECHO", "LV Wall Segments", *([None] * 5), "Reference Frame", "End of Cycle", *last])
    sheet.append([None, *SEGMENTS])
    for name, first, end, tick in rows:
        sheet.append([name, *(["non-MI"] * 6), first, end, *([tick] if with_masks else [])])
    sheet.append(["* ES0001: the cycle ends with the video"])
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def wall(frames: int, top: int = 56) -> NDArray[np.uint8]:
    """(frames, 224, 224): the rows 56 to 111 (a quarter of the height) of the columns 0 to 111 (the left half)."""
    masks = np.zeros((frames, 224, 224), np.uint8)
    masks[:, top:112, :112] = 1
    return masks


def package(
    root: Path,
    rows: Sequence[Row] = (("ES0001 _4CH_1", 3, 5, "ü"),),
    shape: str = "newer",
    masks: Mapping[str, Any] | None = None,
    videos: Sequence[str] | None = None,
) -> Path:
    """A copy of the data set; by default each row has a mask for its cycle, and a video of eight frames (32, 48)."""
    workbook(root / ("HMC_QU.xlsx" if shape == "older" else "A4C.xlsx"), rows)
    if shape != "older":
        workbook(root / "A2C.xlsx", [("ES0001_CH2_1", 1, 4, None)], with_masks=False)
    drawn = {row[0]: wall(row[2] - row[1] + 1) for row in rows} if masks is None else masks
    (root / MASK_FOLDER).mkdir(parents=True)
    for name, mask in drawn.items():
        savemat(root / MASK_FOLDER / f"Mask_{name}.mat", mask if isinstance(mask, dict) else {"predicted": mask})
    folder = root / ("HMC-QU Echos/HMC-QU Echos" if shape == "older" else "HMC-QU/A4C")
    for name in [row[0] for row in rows] if videos is None else videos:
        write_video(folder / f"{name}.avi", 8)
    return root


def converted(root: Path) -> tuple[Report, RawDataset]:
    report = convert(HmcQu(root), "Dataset506_HMCQU")
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report) -> list[str]:
    """Without those about folds and package, which have tests of their own."""
    return [f"{n.about}: {n.text}" for n in report.notes if n.about != "folds" and "package" not in n.about]


def test_the_frames_of_the_cycle_are_counted_from_1_and_the_last_is_in(tmp_path: Path) -> None:
    report, made = converted(package(tmp_path / "in"))
    cases = [f"hmcqu_ES0001_4CH_1_F00{frame}" for frame in (2, 3, 4)]
    assert list(made.label_files()) == cases
    assert made.dataset_json["labels"] == {"background": 0, "MYO": 1}
    grays = [int(read_nifti(made.image_files()[case][0])[0][0, 0]) for case in cases]
    assert grays == [20, 30, 40]  # frame i, from 0, is gray 10 * i
    labels = made.manifest.labels_of(cases[0])
    assert (labels.annotated, labels.absent, labels.domain) == (("MYO",), (), "hmcqu")
    assert labels.patient == "hmcqu_ES0001"
    assert labels.info == {"view": "4CH", "frame": 2, "interpolated": False, "spacing_known": False}
    assert (skips(report), notes(report)) == ({}, [])


def test_the_mask_is_enlarged_to_the_picture(tmp_path: Path) -> None:
    _, made = converted(package(tmp_path / "in"))
    path = made.label_files()["hmcqu_ES0001_4CH_1_F002"]
    mask, spacing = read_nifti(path)
    expected = np.zeros((32, 48), np.uint8)
    expected[8:16, :24] = 1
    assert np.array_equal(mask, expected)
    assert spacing == pytest.approx((150 / 32, 150 / 32))


def test_enlarging_takes_the_nearest() -> None:
    small = np.array([[True, False], [False, True]])
    assert enlarge(small, (4, 6)).tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2
    assert enlarge(small, (1, 3)).tolist() == [[0, 1, 1]]  # the middle of the only row lies on the border: the lower


@pytest.mark.parametrize(("shape", "file"), [("older", "HMC_QU.xlsx"), ("newer", "A4C.xlsx")])
def test_the_two_packages_with_videos(tmp_path: Path, shape: str, file: str) -> None:
    report, made = converted(package(tmp_path / "in", shape=shape))
    assert len(made.label_files()) == 3
    told = [f"{note.about}: {note.text}" for note in report.notes if "package" in note.about]
    assert told == [f"{shape} package: read {file}, 1 video(s), 1 mask file(s)"]


def test_the_present_package_has_no_videos(tmp_path: Path) -> None:
    package(tmp_path, videos=[])
    with pytest.raises(ConversionError, match=r"\(\*\.avi\) in HMC-QU/A4C/ .* obtain the videos"):
        HmcQu(tmp_path).scan()


def test_cines_of_an_older_copy_beside_newer_tables(tmp_path: Path) -> None:
    package(tmp_path / "in", videos=[])
    write_video(tmp_path / "in" / "HMC-QU Echos" / "HMC-QU Echos" / "ES0001 _4CH_1.avi", 8)
    report, made = converted(tmp_path / "in")
    assert (len(made.label_files()), skips(report)) == (3, {})


@pytest.mark.parametrize("what", ["video", "mask file"])
def test_two_files_of_one_name_are_an_error_of_that_clip(tmp_path: Path, what: str) -> None:
    """Neither is taken without a word: they may be different."""
    root = package(tmp_path / "in", [("ES0001 _4CH_1", 3, 5, "ü"), ("ES0002_4CH_1", 1, 2, "ü")])
    if what == "video":
        write_video(root / "HMC-QU Echos" / "ES0001 _4CH_1.avi", 8)
    else:
        (mask,) = root.rglob("Mask_ES0001 _4CH_1.mat")
        (mask.parent / "old").mkdir()
        shutil.copy(mask, mask.parent / "old")
    report, made = converted(root)
    assert list(skips(report).values()) == [
        says(f"could be its {what}", "old" if what == "mask file" else "HMC-QU Echos")
    ]
    assert {labels.patient for labels in made.manifest.cases.values()} == {"hmcqu_ES0002"}


def test_what_is_written_passes_the_check_of_a_data_set(tmp_path: Path) -> None:
    report, _ = converted(package(tmp_path / "in", [("ES0001 _4CH_1", 3, 5, "ü"), ("ES0002_4CH_1", 1, 2, "ü")]))
    assert check(report.folder).findings == {}


def test_names_that_workbook_masks_and_videos_spell_differently(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("ES0001 _4CH_1", 1, 1, "ü"),
        ("ES00010 N_4CH_2", 1, 1, "ü"),
        ("ES000100 n_4CH_1", 1, 1, "ü"),
        ("es0001_4ch_3", 1, 1, " ü "),
    ]
    masks = dict.fromkeys(("ES0001_4CH_1", "ES00010 n_4ch_2", "ES000100N_4CH_1", "es0001_4ch_3"), wall(1))
    videos = ("ES0001 _4CH_1", "ES00010N_4CH_2", "ES000100 n_4CH_1", "ES0001 _4CH_3")
    report, made = converted(package(tmp_path / "in", rows, masks=masks, videos=videos))
    assert skips(report) == {}
    assert {case: labels.patient for case, labels in made.manifest.cases.items()} == {
        "hmcqu_ES0001_4CH_1_F000": "hmcqu_ES0001",
        "hmcqu_ES00010N_4CH_2_F000": "hmcqu_ES00010",
        "hmcqu_ES000100n_4CH_1_F000": "hmcqu_ES000100",
        "hmcqu_es0001_4ch_3_F000": "hmcqu_ES0001",
    }


def test_an_exact_name_wins_over_one_alike(tmp_path: Path) -> None:
    masks = {"ES0001 _4CH_1": wall(3), "ES0001_4CH_1": wall(2)}
    root = package(tmp_path / "in", masks=masks, videos=("ES0001 _4CH_1", "ES0001_4CH_1"))
    report, made = converted(root)
    assert len(made.label_files()) == 3
    assert skips(report) == {"Mask_ES0001_4CH_1": says("no row", "A4C.xlsx")}


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("ES0001_4CH_1", 1, 2, "ü"),
        ("ES0002_4CH_1", 1, 2, "ü"),  # no mask
        ("ES0003_4CH_1", 1, 2, "ü"),  # no video
        ("ES0004_4CH_1", 1, 2, "ü"),  # two videos alike
        ("ES0005_4CH_1", 1, 2, "ü"),  # twice in the workbook
        ("ES 0005_4CH_1", 1, 2, None),
        ("ES0006_4CH_1", 5, 2, "ü"),  # a cycle that ends before it begins
        ("ES0007_4CH_1", 0, 2, "ü"),  # counted from 0
        ("Patient_4CH", 1, 2, "ü"),
        ("ES0008_4CH_1", 1, 2, None),  # neither tick nor mask: not masked
        ("ES0009_4CH_1", "?", 2, "ü"),  # no frame
    ]
    names = [row[0] for row in rows]
    masks = {name: wall(2) for name in names if name not in ("ES0002_4CH_1", "ES0008_4CH_1", "ES 0005_4CH_1")}
    videos = [name for name in names if name not in ("ES0003_4CH_1", "ES0004_4CH_1")]
    root = package(tmp_path / "in", rows, masks=masks, videos=[*videos, "ES 0004_4CH_1", "es0004_4CH_1"])
    report, made = converted(root)
    assert len(made.label_files()) == 2
    assert skips(report) == {
        "ES0002_4CH_1": "there is no mask file",
        "ES0003_4CH_1": "there is no video",
        "ES0004_4CH_1": says("A4C/ES 0004_4CH_1.avi, A4C/es0004_4CH_1.avi"),
        "ES0005_4CH_1": "2 rows of the workbook have this name",
        "ES0006_4CH_1": says("frame 5 to 2", "in order"),
        "ES0007_4CH_1": says("frame 0 to 2", "from 1 on"),
        "Patient_4CH": says("its name", "ES0001 _4CH_1"),
        "Mask_ES0009_4CH_1": says("no row", "A4C.xlsx"),
    }


def test_a_mask_without_tick_is_converted_and_noted(tmp_path: Path) -> None:
    report, made = converted(package(tmp_path / "in", [("ES0001_4CH_1", 1, 2, None)]))
    assert len(made.label_files()) == 2
    assert notes(report) == [says("ES0001_4CH_1", "mask file", "no tick")]


@pytest.mark.parametrize(("number", "taken"), [(2, 2), (4, 3)])
def test_one_mask_less_or_more_than_the_cycle_has_frames(tmp_path: Path, number: int, taken: int) -> None:
    report, made = converted(package(tmp_path / "in", masks={"ES0001 _4CH_1": wall(number)}))
    assert list(made.label_files()) == [f"hmcqu_ES0001_4CH_1_F{frame:03d}" for frame in (2, 3, 4)[:taken]]
    assert notes(report) == [
        says("ES0001 _4CH_1", f"{number} masks", "3 frames from 3 to 5", f"first {taken}", "frame 3")
    ]


def test_a_cycle_beyond_the_end_of_the_video_and_an_empty_mask(tmp_path: Path) -> None:
    masks = wall(3)
    masks[0] = 0
    report, made = converted(package(tmp_path / "in", [("ES0001_4CH_1", 7, 9, "ü")], masks={"ES0001_4CH_1": masks}))
    assert list(made.label_files()) == ["hmcqu_ES0001_4CH_1_F007"]
    assert skips(report) == {
        "hmcqu_ES0001_4CH_1_F006": says("nothing is annotated", "frame 6"),
        "hmcqu_ES0001_4CH_1_F008": says("no frame 8", "8 frames", "from 0"),
    }


# --- tables --------------------------------------------------------------------------------------------------------


def test_the_workbook_keeps_only_rows_with_two_frame_numbers(tmp_path: Path) -> None:
    workbook(tmp_path / "A4C.xlsx", [("A", 1, 5, "ü"), ("B", "2", 6.0, None), ("C", None, 7, "ü"), (None, 1, 2, "ü")])
    assert read_workbook(tmp_path / "A4C.xlsx") == [WorkbookClip("A", 1, 5, True), WorkbookClip("B", 2, 6, False)]
    workbook(tmp_path / "A2C.xlsx", [("A", 1, 5, None)], with_masks=False)
    assert read_workbook(tmp_path / "A2C.xlsx") == [WorkbookClip("A", 1, 5, None)]


def test_a_workbook_of_something_else(tmp_path: Path) -> None:
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    (tmp_path / "text.xlsx").write_text("ECHO,Reference Frame,End of Cycle")
    with pytest.raises(ConversionError, match=r"empty\.xlsx .*ECHO, Reference Frame"):
        read_workbook(tmp_path / "empty.xlsx")
    with pytest.raises(ConversionError, match=r"text.xlsx cannot be read as a workbook: "):
        read_workbook(tmp_path / "text.xlsx")


@pytest.mark.parametrize(
    "content",
    [
        {"predicted": wall(2)},
        {"predicted": wall(2) * 255, "other": np.zeros(3)},
        {"mask": wall(2).astype(bool)},
        {"mask": wall(2).astype(np.float64)},
    ],
)
def test_masks_under_any_single_name(tmp_path: Path, content: dict[str, Any]) -> None:
    savemat(tmp_path / "Mask.mat", content)
    assert np.array_equal(read_masks(tmp_path / "Mask.mat"), wall(2) == 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": wall(1), "b": wall(1)}, "holds the variables a, b; expected 'predicted'"),
        ({"predicted": wall(2).transpose(1, 2, 0)}, r"has an array of shape \(224, 224, 2\) .* expected numbers"),
        ({"predicted": wall(2) * 2}, "holds the values 0, 2; expected 0 and 1, or 0 and 255"),
        ({"predicted": wall(2) * 0.5}, "holds the values 0, 0.5; expected 0 and 1"),
        ({"predicted": "text"}, "has an array of shape"),
    ],
)
def test_masks_of_another_kind(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    savemat(tmp_path / "Mask.mat", content)
    with pytest.raises(ConversionError, match=f"Mask.mat {told}"):
        read_masks(tmp_path / "Mask.mat")


def test_mask_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "Mask.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ConversionError, match=r"Mask\.mat is a MATLAB 7\.3 file.* 5 or 7"):
        read_masks(path)
    path.write_bytes(b"no matrix")
    with pytest.raises(ConversionError, match=r"Mask\.mat cannot be read.*MATLAB"):
        read_masks(path)


def test_a_header_that_crashes_scipys_reader_is_an_error_and_the_next_file_is_read(tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.mat", tmp_path / "damaged.mat"
    savemat(whole, {"predicted": wall(1)})
    content = bytearray(whole.read_bytes())
    content[180] = 7  # the kind of numbers that follow
    damaged.write_bytes(content)
    with pytest.raises(ConversionError, match=r"damaged\.mat cannot be read.*MATLAB"):
        read_masks(damaged)
    assert np.array_equal(read_masks(whole), wall(1) == 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """A workbook and a mask file, and their content."""
    folder = tmp_path_factory.mktemp("mutated")
    workbook(folder / "A4C.xlsx", [("A", 1, 5, "ü")])
    savemat(folder / "Mask.mat", {"predicted": wall(1)})
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_bytes_only_conversion_errors_come_out(
    whole: dict[Path, bytes], changes: list[tuple[float, int]]
) -> None:
    for (path, content), read in zip(whole.items(), (read_workbook, read_masks), strict=True):
        mutated = bytearray(content)
        for place, value in changes:
            mutated[int(place * (len(content) if path.suffix == ".xlsx" else 200))] = value
        path.write_bytes(mutated)
        with contextlib.suppress(ConversionError):
            read(path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"A4C\.xlsx or HMC_QU\.xlsx .*found: nothing"):
        HmcQu(tmp_path).scan()
    package(tmp_path, masks={})
    with pytest.raises(ConversionError, match=r"LV Ground-truth Segmentation Masks/Mask_"):
        HmcQu(tmp_path).scan()
    with pytest.raises(ConversionError, match=r"depth is 0 mm.* above 0"):
        HmcQu(tmp_path, 0)


def test_a_linked_folder_of_masks_is_noted(tmp_path: Path) -> None:
    """Where the workbook has no ticks, nothing else would tell of its masks."""
    root = package(tmp_path / "HMC")
    (tmp_path / "more").mkdir()
    (root / MASK_FOLDER / "more").symlink_to(tmp_path / "more")
    assert f"{MASK_FOLDER}/more" in {note.about for note in HmcQu(root).scan().notes}
