"""Own data: stories with pictures of 4 x 6 pixels and a table, as a clinic would hand them over."""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom_files import IDENTITY, region, write_dicom
from helpers.facts import says
from helpers.raw_datasets import write_layers
from helpers.source_datasets import read_nifti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.folder import OwnFolder, read_cases
from nnunet_partial.dataset_conversion.writer import REPORT_NAME, Report, convert
from numpy.typing import NDArray

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError, PartialLabelError

HEAD = "case,image,mask,annotated,absent,domain,patient"
NAME = "Dataset520_Own"


def picture() -> NDArray[np.uint8]:
    """(4, 6), 0 to 23, every pixel another one."""
    return np.arange(24, dtype=np.uint8).reshape(4, 6)


def drawn(*values: int) -> NDArray[np.uint8]:
    """(4, 6); the values stand in the first column, from the top."""
    mask = np.zeros((4, 6), np.uint8)
    mask[: len(values), 0] = values
    return mask


def save(
    path: Path, array: NDArray[Any], spacing_mm: Sequence[float] = (0.5, 0.25, 2.0), mirrored: bool = False
) -> None:
    """`spacing_mm`: width, height, depth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=array.shape[-1] in (3, 4) and array.dtype == np.uint8)
    if path.suffix != ".png":
        image.SetSpacing(tuple(spacing_mm)[: image.GetDimension()])
        if mirrored:
            image.SetDirection((-1, 0, 0, 1))
    sitk.WriteImage(image, str(path))


def folder(root: Path, *rows: str, ending: str = ".nii.gz", masks: Sequence[NDArray[Any]] = ()) -> Path:
    """A case per row; images p1, p2, ... in both folders, by default with the mask 1, 2."""
    root.mkdir(exist_ok=True)
    (root / "cases.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    for number in range(1, len(rows) + 1):
        save(root / "images" / f"p{number}{ending}", picture())
        save(root / "masks" / f"p{number}{ending}", masks[number - 1] if masks else drawn(1, 2))
    return root


def row(number: int, annotated: str = "LV LA", absent: str = "", ending: str = ".nii.gz") -> str:
    return f"case{number},p{number}{ending},p{number}{ending},{annotated},{absent},clinic,pat{number}"


def converted(root: Path, *classes: str, **options: Any) -> tuple[Report, RawDataset]:
    report = convert(OwnFolder(root, classes or ("LV", "LA"), **options), NAME)
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report) -> list[str]:
    return [f"{note.about}: {note.text}" for note in report.notes if note.about != "folds"]


def test_a_table_and_two_folders_become_a_data_set(tmp_path: Path) -> None:
    report, made = converted(
        folder(tmp_path / "in", row(1, "LV LA", "RV RA"), row(2, "LV"), masks=[drawn(1, 2), drawn(1)])
    )
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2}
    first, second = made.manifest.labels_of("case1"), made.manifest.labels_of("case2")
    assert (first.annotated, first.absent) == (("LV", "LA"), ("RV", "RA"))
    assert (second.annotated, second.absent) == (("LV",), ())  # LA: unknown
    assert (first.domain, first.patient, second.patient) == ("clinic", "pat1", "pat2")
    assert first.info == {"spacing_known": True}
    image, spacing = read_nifti(made.image_files()["case1"][0])
    assert np.array_equal(image, picture())
    assert spacing == pytest.approx((0.25, 0.5))
    assert read_nifti(made.label_files()["case1"])[0][:, 0].tolist() == [1, 2, 0, 0]
    assert (skips(report), notes(report)) == ({}, [])
    assert check(made.folder).findings == {}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd"])
def test_medical_formats_have_a_pixel_size(tmp_path: Path, ending: str) -> None:
    _, made = converted(folder(tmp_path / "in", row(1, ending=ending), ending=ending))
    image, spacing = read_nifti(made.image_files()["case1"][0])
    assert np.array_equal(image, picture())
    assert spacing == pytest.approx((0.25, 0.5))


def test_png_gets_a_nominal_depth_and_the_manifest_says_so(tmp_path: Path) -> None:
    _, made = converted(folder(tmp_path / "in", row(1, ending=".png"), ending=".png"), depth_mm=120.0)
    image, spacing = read_nifti(made.image_files()["case1"][0])
    assert np.array_equal(image, picture())
    assert spacing == pytest.approx((30.0, 30.0))  # 120 mm over 4 rows, square
    assert made.manifest.labels_of("case1").info == {"spacing_known": False}


def test_formats_may_be_mixed(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a,p1.nii.gz,deep er/m.png,LV,,,x")
    save(root / "masks" / "deep er" / "m.png", drawn(1))
    report, made = converted(root)
    assert read_nifti(made.label_files()["a"])[1] == pytest.approx((0.25, 0.5))  # of the image
    assert notes(report) == [says("masks", "1 file(s)", "cases.csv", "p1.nii.gz")]


def test_classes_get_the_common_order_whatever_the_values_of_the_masks(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, "LV RV LA septum"), masks=[drawn(1, 4, 2, 9)])
    _, made = converted(root, "LV=1", "septum=9", "LA=2", "RV=4")
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2, "RV": 3, "septum": 4}
    # 1, 4, 2, 9 become LV 1, RV 3, LA 2, septum 4
    assert read_nifti(made.label_files()["case1"])[0][:, 0].tolist() == [1, 3, 2, 4]


def test_a_binary_mask_of_0_and_255(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, "LV", ending=".png"), ending=".png", masks=[drawn(255)])
    _, made = converted(root, "LV=255")
    assert read_nifti(made.label_files()["case1"])[0][:, 0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "annotated", "reason"),
    [
        (drawn(1, 7), "LV LA", says("holds 7", "0 background, 1 LV, 2 LA")),
        (drawn(255), "LV LA", says("holds 255", "0 background, 1 LV, 2 LA")),
        (
            drawn(1, 2),
            "LV",
            says("holds 2 (LA", "'annotated'", "0 background, 1 LV, 2 LA"),
        ),
        (drawn(1).astype(np.float32) * 1.5, "LV", says("holds 1.5", "0 background, 1 LV, 2 LA")),
        (drawn(1)[:3], "LV", says("shape", "(4, 6) and (3, 6)")),
    ],
)
def test_a_mask_that_does_not_fit_is_named(tmp_path: Path, mask: NDArray[Any], annotated: str, reason: says) -> None:
    report, made = converted(folder(tmp_path / "in", row(1, annotated), row(2), masks=[mask, drawn(1, 2)]))
    assert skips(report) == {"case1": reason}
    assert list(made.label_files()) == ["case2"]


def test_a_drawn_class_without_a_pixel_is_noted_and_stays_drawn(tmp_path: Path) -> None:
    report, made = converted(folder(tmp_path / "in", row(1), masks=[drawn(1)]))
    assert made.manifest.labels_of("case1").annotated == ("LV", "LA")
    assert len(notes(report)) == 1
    assert notes(report)[0] == says("case1", "LA", "no pixel")


@pytest.mark.parametrize("separators", ["LV LA", "LV|LA", "LV+LA", "LV/LA", '"LV, LA"', '"LV; LA"', "LA LV LV"])
def test_names_may_be_separated_in_many_ways(tmp_path: Path, separators: str) -> None:
    _, made = converted(folder(tmp_path / "in", row(1, separators)))
    assert made.manifest.labels_of("case1").annotated == ("LV", "LA")


def test_a_table_from_a_spreadsheet(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1))
    text = (root / "cases.csv").read_text().replace(",", ";").replace("case;", "Case ;")
    (root / "cases.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    _, made = converted(root)
    assert list(made.label_files()) == ["case1"]


def test_the_split_sends_test_cases_to_their_folder_and_more_columns_are_kept(tmp_path: Path) -> None:
    rows = [row(1) + ",train,4CH,ED", row(2) + ",Val,,", row(3) + ",test,2CH,ES", row(4) + ",train,,"]
    root = folder(tmp_path / "in", *rows)
    (root / "cases.csv").write_text((root / "cases.csv").read_text().replace("patient\n", "patient,Split,View,phase\n"))
    _, made = converted(root)
    assert list(made.label_files()) == ["case1", "case2", "case4"]
    assert list(made.label_files("Ts")) == ["case3"]
    assert made.manifest.labels_of("case1").info == {
        "split": "train",
        "view": "4CH",
        "phase": "ED",
        "spacing_known": True,
    }
    assert made.manifest.labels_of("case2").split == "val"


def test_a_patient_on_two_sides_of_the_split_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1) + ",train", row(2).replace("pat2", "pat1") + ",test")
    (root / "cases.csv").write_text((root / "cases.csv").read_text().replace("patient\n", "patient,split\n"))
    with pytest.raises(ConversionError, match=r"1 patient\(s\) .*different entries in split: pat1"):
        converted(root)


def test_one_picture_of_two_patients_is_refused_and_of_one_patient_is_not(tmp_path: Path) -> None:
    twice = row(3).replace("case3,p3", "case4,p3")
    shared = row(2).replace("case2,p2", "case5,p1")
    report, made = converted(folder(tmp_path / "in", row(1), shared, row(3), twice))
    who = says("p1.nii.gz", "case1 of pat1, case5 of pat2")
    assert skips(report) == {"case1": who, "case5": who}
    assert list(made.label_files()) == ["case3", "case4"]


@pytest.mark.parametrize(
    ("line", "case", "reason"),
    [
        ("c,p1.nii.gz,p1.nii.gz,,,x,p", "c", says("line 3 of cases.csv: annotated is empty")),
        (
            "c,p1.nii.gz,p1.nii.gz,lv,,x,p",
            "c",
            says("line 3 of cases.csv: annotated names lv", "LA, LV"),
        ),
        ("c,p1.nii.gz,p1.nii.gz,LV,AO,x,p", "c", says("line 3 of cases.csv: absent names AO", "LA, LV")),
        ("c,p1.nii.gz,p1.nii.gz,LV,LV,x,p", "c", says("line 3 of cases.csv", "LV both annotated and absent")),
        ("c,p1.nii.gz,p1.nii.gz,LV,,x,", "c", says("line 3 of cases.csv: patient is empty")),
        (",p1.nii.gz,p1.nii.gz,LV,,x,p", "(line 3 of cases.csv)", says("line 3 of cases.csv: case is empty")),
        ("c,,p1.nii.gz,LV,,x,p", "c", says("line 3 of cases.csv: image is empty")),
        ("c,p1.nii.gz,../x.nii.gz,LV,,x,p", "c", says("line 3 of cases.csv", "mask is '../x.nii.gz'", "file below")),
        ("c,/etc/passwd,p1.nii.gz,LV,,x,p", "c", says("line 3 of cases.csv", "image is '/etc/passwd'", "file below")),
        ("../c,p1.nii.gz,p1.nii.gz,LV,,x,pat1", "../c", says("'../c' cannot name a case")),
        ("c d,p1.nii.gz,p1.nii.gz,LV,,x,pat1", "c d", says("'c d' cannot name a case")),
        ("c,p9.nii.gz,p2.nii.gz,LV,,x,p", "c", says("no file p9.nii.gz", "images")),
        ("c,p1.nii.gz,p9.nii.gz,LV,,x,pat1", "c", says("no file p9.nii.gz", "masks")),
        ("c,notes.txt,p2.nii.gz,LV,,x,p", "c", says("notes.txt", ".nii, .nii.gz")),
    ],
)
def test_a_bad_row_costs_its_case_alone(tmp_path: Path, raw: Path, line: str, case: str, reason: says) -> None:
    report, made = converted(folder(tmp_path / "in", row(1), line))
    assert skips(report) == {case: reason}
    assert list(made.label_files()) == ["case1"]
    assert [path.name for path in raw.iterdir()] == [NAME]


def test_a_split_nobody_knows(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1) + ",", row(2) + ",holdout")
    (root / "cases.csv").write_text((root / "cases.csv").read_text().replace("patient\n", "patient,split\n"))
    report, _ = converted(root)
    text = says("line 3 of cases.csv", "split is 'holdout'", "train, val, test")
    assert skips(report) == {"case2": text}


def test_a_case_that_stands_twice_is_in_neither_way_converted(tmp_path: Path) -> None:
    report, made = converted(folder(tmp_path / "in", row(1), row(2), row(1)))
    assert skips(report) == {"case1": "is listed more than once in cases.csv"}
    assert list(made.label_files()) == ["case2"]


def test_names_that_are_one_file_on_other_disks_are_refused(tmp_path: Path) -> None:
    report, made = converted(folder(tmp_path / "in", row(1), row(2).replace("case2", "Case1"), row(3)))
    assert skips(report) == {"case1": says("listed more than once", "case1 and Case1")}
    assert list(made.label_files()) == ["case3"]


def test_one_mask_of_several_images_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    """As where a cell was filled down in a spreadsheet."""
    root = folder(tmp_path / "in", *map(row, range(1, 6)), row(6).replace("pat6", "pat5"))
    save(root / "masks" / "p3.nii.gz", drawn())
    for number, mask in ((2, 1), (4, 3), (6, 5)):
        text = (root / "cases.csv").read_text()
        (root / "cases.csv").write_text(text.replace(f"p{number}.nii.gz,p{number}", f"p{number}.nii.gz,p{mask}"))
    report, made = converted(root)
    who = says("p1.nii.gz", "case1, case2", "different patients")
    assert skips(report) == {"case1": who, "case2": who}
    assert list(made.label_files()) == ["case3", "case4", "case5", "case6"]
    assert [note for note in notes(report) if "p5.nii.gz" in note and "row" not in note] == [
        says("case5", "case5, case6"),
        says("case6", "case5, case6"),
    ]


def test_a_quotation_mark_that_is_not_closed_swallows_no_row(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1) + ',"poor', row(2) + ",", row(3) + ",")
    (root / "cases.csv").write_text((root / "cases.csv").read_text().replace("patient\n", "patient,remark\n"))
    with pytest.raises(ConversionError, match="quotation mark"):
        converted(root)


def test_patients_whose_names_differ_only_in_spelling_are_noted(tmp_path: Path) -> None:
    rows = [row(1).replace("pat1", "M\u00fcller 07"), row(2).replace("pat2", "Mu\u0308ller 7"), row(3)]
    report, _ = converted(folder(tmp_path / "in", *rows))
    assert notes(report) == [says("cases.csv: 1 patient(s)", "M\u00fcller 07", "Mu\u0308ller 7")]


@pytest.mark.parametrize("content", [b"", b"no image at all", "half"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes | str) -> None:
    for ending in (".nii.gz", ".mha", ".png"):
        root = folder(tmp_path / ending[1:], row(1, ending=ending), row(2, ending=ending), ending=ending)
        path = root / "images" / f"p1{ending}"
        if ending == ".mha":  # 4 x 6 zeros would be compressed away
            save(path, np.random.default_rng(0).integers(0, 255, (4, 6), np.uint8))
        path.write_bytes(path.read_bytes()[:-15] if isinstance(content, str) else content)
        report = convert(OwnFolder(root, ("LV", "LA")), NAME, overwrite=True)
        assert list(skips(report)) == ["case1"]
        assert skips(report)["case1"] == says(f"p1{ending} cannot be read", "cut off")


def test_an_mhd_whose_pixels_lie_elsewhere_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, ending=".mhd"), row(2, ending=".mhd"), ending=".mhd")
    header = root / "images" / "p1.mhd"
    header.write_text(header.read_text().replace("= p1.raw", "= ../masks/p2.raw"))
    report, made = converted(root)
    assert skips(report) == {"case1": says("p1.mhd", "'../masks/p2.raw'", "one file beside it")}
    assert list(made.label_files()) == ["case2"]


def test_a_file_name_that_is_no_utf8_is_named_and_ends_nothing(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1), row(2))
    for sub in ("images", "masks"):
        os.rename(root / sub / "p1.nii.gz", os.fsencode(root / sub) + b"/p\xe4.nii.gz")  # noqa: PTH104
    table = (root / "cases.csv").read_bytes().replace(b"p1.nii.gz", b"p\xe4.nii.gz")
    (root / "cases.csv").write_bytes(table)
    report, made = converted(root)
    assert list(skips(report)) == ["case1"]
    assert skips(report)["case1"] == says("not UTF-8", "Rename it")
    assert list(made.label_files()) == ["case2"]


def test_gray_stored_as_color_is_gray(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, ending=".png"), row(2, ending=".png"), ending=".png")
    save(root / "images" / "p1.png", np.stack([picture()] * 3, axis=-1))
    save(root / "masks" / "p1.png", np.stack([drawn(1, 2)] * 4, axis=-1))
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 100
    save(root / "images" / "p2.png", red)
    report, made = converted(root)
    assert np.array_equal(read_nifti(made.image_files()["case1"][0])[0], picture())
    assert read_nifti(made.label_files()["case1"])[0][:, 0].tolist() == [1, 2, 0, 0]
    assert np.unique(read_nifti(made.image_files()["case2"][0])[0]).tolist() == [30]  # 0.299 * 100
    assert notes(report) == [says("case2", "p2.png", "color", "luma")]


def test_a_mask_in_colors_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, ending=".png"), row(2, ending=".png"), ending=".png")
    colored = np.zeros((4, 6, 3), np.uint8)
    colored[0, 0] = 255, 0, 0
    save(root / "masks" / "p1.png", colored)
    report, _ = converted(root)
    text = says("color image", "one number per pixel")
    assert skips(report) == {"case1": text}


def test_layers_of_3d_slicer_are_refused(tmp_path: Path) -> None:
    """Three empty layers and a fourth one would look like colors with an opacity: a mask without a pixel."""
    root = folder(tmp_path / "in", *(row(number) for number in range(1, 6)))
    empty = np.zeros((4, 6), np.uint8)
    write_layers(root / "masks/p1.nii.gz", [drawn(1), drawn(2)])
    write_layers(root / "masks/p2.nii.gz", [empty, empty, empty, drawn(1)])
    write_layers(root / "masks/p3.nii.gz", [drawn(1), drawn(1), drawn(1)])
    table = root / "cases.csv"
    table.write_text(table.read_text().replace("p4.nii.gz,LV", "p4.seg.nrrd,LV"))
    report, _ = converted(root)
    assert skips(report) == {
        "case1": says("2 numbers per pixel", "labelmap"),
        "case4": says("p4.seg.nrrd", "layers", "labelmap"),
        "case2": says("4 numbers per pixel", "labelmap"),
        "case3": says("3 numbers per pixel", "labelmap"),
    }


def test_layers_of_volumes_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1, "LV"), row(2, "LV"))
    for number in (1, 2):
        save(root / f"images/p{number}.nii.gz", np.zeros((5, 4, 6), np.uint8))
        save(root / f"masks/p{number}.nii.gz", np.ones((5, 4, 6), np.uint8))
    write_layers(root / "masks/p2.nii.gz", [np.ones((5, 4, 6), np.uint8)] * 2, as_axis=True)
    report, _ = converted(root, volumes=True)
    assert skips(report) == {"case2": says("(2, 5, 4, 6)", "labelmap")}


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_ultrasound_of_exactly_1_mm_counts_as_unknown(tmp_path: Path, ending: str) -> None:
    """As in clips. Other images may well have it: what is in mm of these is the same in pixels."""
    root = folder(tmp_path / "in", row(1, ending=ending), row(2, ending=ending), ending=ending)
    save(root / "images" / f"p1{ending}", picture(), (1, 1))
    report, made = converted(root, depth_mm=120.0)
    assert {case: labels.info["spacing_known"] for case, labels in made.manifest.cases.items()} == {
        "case1": False,
        "case2": True,
    }
    assert read_nifti(made.image_files()["case1"][0])[1] == pytest.approx((30.0, 30.0))  # 120 mm over 4 rows
    assert made.dataset_json["nominal_depth_mm"] == 120
    assert says("case1", "1 x 1 mm", "unknown", "120 mm") in notes(report)
    report = convert(OwnFolder(root, ("LV", "LA"), channel="MRI"), "Dataset521_MRI")
    assert RawDataset(report.folder).manifest.labels_of("case1").info["spacing_known"]
    assert read_nifti(RawDataset(report.folder).image_files()["case1"][0])[1] == (1, 1)


def test_a_mask_that_is_mirrored_is_refused_and_one_with_another_pixel_size_is_noted(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1), row(2))
    save(root / "masks" / "p1.nii.gz", drawn(1), mirrored=True)
    save(root / "masks" / "p2.nii.gz", drawn(1, 2), (1, 1))
    report, made = converted(root)
    assert list(skips(report)) == ["case1"]
    assert skips(report)["case1"] == says("do not overlap", "direction")
    assert notes(report) == [says("case2", "spacing 0.5 x 0.25 mm", "1 x 1 mm", "image header")]
    assert read_nifti(made.label_files()["case2"])[1] == pytest.approx((0.25, 0.5))


def test_a_flat_mask_of_a_single_slice_that_is_mirrored_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1), row(2))
    image = sitk.GetImageFromArray(picture()[None])
    image.SetSpacing((0.5, 0.25, 2))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(root / "images" / "p1.nii.gz"))
    report, _ = converted(root)
    assert skips(report) == {"case1": says("do not overlap", "direction")}


def test_volumes(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1))
    volume = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
    save(root / "images" / "p1.nii.gz", volume)
    save(root / "masks" / "p1.nii.gz", np.stack([drawn(1), drawn(2)]))
    _, made = converted(root, volumes=True)
    image, spacing = read_nifti(made.image_files()["case1"][0])
    assert np.array_equal(image, volume)
    assert spacing == pytest.approx((2.0, 0.25, 0.5))
    assert read_nifti(made.label_files()["case1"])[0][:, :2, 0].tolist() == [[1, 0], [2, 0]]
    assert check(made.folder).findings == {}


def test_volumes_and_pictures_are_not_taken_for_each_other(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1), row(2))
    save(root / "images" / "p1.nii.gz", np.zeros((2, 4, 6), np.uint8))
    report, _ = converted(root)
    assert list(skips(report)) == ["case1"]
    assert skips(report)["case1"] == says("p1.nii.gz", "(2, 4, 6)", "(rows, cols)", "--volumes")
    save(root / "masks" / "p1.nii.gz", np.zeros((2, 4, 6), np.uint8))
    report = convert(OwnFolder(root, ("LV", "LA"), volumes=True), NAME, overwrite=True)
    assert skips(report) == {"case2": says("p2.nii.gz", "(4, 6)", "--volumes", "(slices, rows, cols)")}


def test_a_single_slice_stored_as_a_volume_is_a_picture(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1))
    save(root / "images" / "p1.nii.gz", picture()[None])
    report, made = converted(root)
    assert read_nifti(made.image_files()["case1"][0])[0].shape == (4, 6)
    assert (skips(report), notes(report)) == ({}, [])


@pytest.mark.parametrize("missing", ["images", "masks", "cases.csv"])
def test_a_wrong_folder_is_explained(tmp_path: Path, missing: str) -> None:
    root = folder(tmp_path / "in", row(1))
    (root / missing).rename(root / "other")
    wanted = "a table" if missing == "cases.csv" else f"the folder {missing}"
    with pytest.raises(ConversionError, match=rf"looked for {wanted}.*; found: .*other"):
        converted(root)


def test_two_tables_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", row(1))
    (root / "old.csv").write_text(HEAD)
    with pytest.raises(ConversionError, match=r"2 tables: cases\.csv, old\.csv\. Leave one"):
        converted(root)
    (root / "cases.csv").unlink()
    with pytest.raises(ConversionError, match=r"old.csv names no case"):
        converted(root)


def test_the_other_columns_can_be_left_out(tmp_path: Path) -> None:
    rows = [",".join(row(number).split(",")[:4]) for number in (1, 2)]
    root = folder(tmp_path / "in", *rows)
    (root / "cases.csv").write_text("\n".join(["case,image,mask,annotated", *rows]))
    report, made = converted(root)
    labels = made.manifest.labels_of("case1")
    assert (labels.annotated, labels.absent, labels.patient, labels.domain) == (("LV", "LA"), (), None, "")
    assert notes(report) == [says("cases.csv", "no column patient", "every case counts as another")]


def test_without_patients_an_image_belongs_to_one_case(tmp_path: Path) -> None:
    """Else one case would be trained on and the other one tested, with the same image."""
    root = folder(tmp_path / "in", row(1), row(2), row(3))
    rows = ["case1,p1.nii.gz,p1.nii.gz,LV LA", "case2,p1.nii.gz,p2.nii.gz,LV LA", "case3,p2.nii.gz,p3.nii.gz,LV LA"]
    (root / "cases.csv").write_text("\n".join(["case,image,mask,annotated", *rows]))
    assert skips(converted(root)[0]).keys() == {"case1", "case2"}


def test_the_channel_can_be_named(tmp_path: Path) -> None:
    """By "CT" nnU-Net normalizes with the intensities of the whole dataset, which may be below 0."""
    root = folder(tmp_path / "in", row(1))
    save(root / "images" / "p1.nii.gz", picture().astype(np.int16) - 1000)
    assert main(["convert", "folder", "-i", str(root), "-d", "520", "--classes", "LV", "LA", "--channel", "CT"]) == 0
    made = RawDataset(tmp_path / "raw" / NAME)
    assert made.dataset_json["channel_names"] == {"0": "CT"}
    assert read_nifti(made.image_files()["case1"][0])[0].min() == -1000
    with pytest.raises(ConversionError, match="channel is ' '"):
        OwnFolder(root, ("LV", "LA"), channel=" ")


@pytest.mark.parametrize("column", ["case", "image", "mask", "annotated"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    root = folder(tmp_path / "in", row(1))
    (root / "cases.csv").write_text((root / "cases.csv").read_text().replace(column, "other", 1))
    with pytest.raises(ConversionError, match=rf"cases\.csv has no column {column};.* Add it.* {column}: "):
        converted(root)


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (("LV", "LV"), "expected each name and each value once"),
        (("LV=2", "LA=2"), "expected each name and each value once"),
        (("LV", "LA=1"), "expected each name and each value once"),
        (("LV=0",), "each value once, none of 0"),
        (("background", "LV"), "'background' is not a class"),
        (("LV,LA",), "'LV,LA' is not a class"),
        (("LV=x",), "'LV=x' is not a class"),
        ((), "no class is named"),
    ],
)
def test_classes_that_cannot_be_understood(classes: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        OwnFolder(Path(), classes)


@pytest.mark.parametrize("depth_mm", [0.0, -1.0, float("nan")])
def test_an_impossible_depth_is_refused(depth_mm: float) -> None:
    with pytest.raises(ConversionError, match=r"depth is .* mm.* above 0"):
        OwnFolder(Path(), ("LV",), depth_mm=depth_mm)


def test_a_linked_folder_with_spaces_is_followed_and_only_read(tmp_path: Path) -> None:
    root = folder(tmp_path / "real", row(1))
    link = tmp_path / "my data"
    link.symlink_to(root)
    for path in [*root.rglob("*"), root]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        _, made = converted(link)
    finally:
        for path in [root, root / "images", root / "masks"]:
            path.chmod(0o755)
    assert list(made.label_files()) == ["case1"]


def test_the_command(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "in", row(1), row(2, "LV"), row(3), masks=[drawn(1, 2), drawn(1, 2), drawn(2)])
    call = ["convert", "folder", "-i", str(root), "-d", "520", "--classes", "LV", "LA", "-np", "2"]
    assert main(call) == 1
    assert says("skipped case2", "holds 2 (LA", "'annotated'") in capsys.readouterr().out.splitlines()
    assert list(RawDataset(raw / NAME).label_files()) == ["case1", "case3"]


def test_the_command_asks_for_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "folder", "-i", "x", "-d", "520"])
    assert "required: --classes" in capsys.readouterr().err


#: Frames of 8 x 12 pixels, of which rows 2 to 5 and columns 3 to 8 (4 x 6) are the image.
CLIP = np.arange(2 * 8 * 12, dtype=np.uint8).reshape(2, 8, 12)
TISSUE = ((2, 5), (3, 8), (0.03, 0.02))


def whole(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask of 4 x 6 as it is drawn on a whole frame."""
    return np.pad(mask, ((2, 2), (3, 3)))


def clinic(tmp_path: Path, *rows: str, column: str = ",frame") -> Path:
    """DICOM: c1.dcm has two frames, 1.2.840.1 one and no ending; p1 is a mask of the image, p2 and p3 of the frame."""
    root = tmp_path / "in"
    root.mkdir()
    (root / "cases.csv").write_text("\n".join([HEAD + column, *rows]) + "\n")
    save(root / "masks/p1.nii.gz", drawn(1, 2), (0.2, 0.3))
    for name in ("p2", "p3"):
        save(root / f"masks/{name}.nii.gz", whole(drawn(1, 2)), (0.2, 0.3))
    write_dicom(root / "images/c1.dcm", CLIP, [region(*TISSUE)])
    write_dicom(root / "images/1.2.840.1", CLIP[:1], [region(*TISSUE)])
    return root


def test_dicom_is_cut_to_its_region_and_so_is_the_mask(tmp_path: Path) -> None:
    rows = "ed,c1.dcm,p1.nii.gz,LV LA,,,x,0", "es,c1.dcm,p2.nii.gz,LV LA,,,x,1", "still,1.2.840.1,p3.nii.gz,LV LA,,,y,"
    report, made = converted(clinic(tmp_path, *rows))
    assert (skips(report), notes(report)) == ({}, [])
    for case, frame in (("ed", CLIP[0]), ("es", CLIP[1]), ("still", CLIP[0])):
        image, spacing = read_nifti(made.image_files()[case][0])
        assert np.array_equal(image, frame[2:6, 3:9])
        assert spacing == pytest.approx((0.3, 0.2))  # 0.03 and 0.02 cm
        assert np.array_equal(read_nifti(made.label_files()[case])[0], drawn(1, 2))
        assert made.manifest.labels_of(case).info == {"spacing_known": True}
    for path in made.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not [value for value in IDENTITY.values() if value.encode() in content]


def test_the_frame_of_a_clip_must_be_named(tmp_path: Path) -> None:
    good, mask = "still,1.2.840.1,p1.nii.gz,LV LA,,,z,", "p2.nii.gz,LV LA,,,x"
    numbers = {"none": "", "far": "2", "text": "1.5"}
    root = clinic(tmp_path, good, *(f"{case},c1.dcm,{mask},{number}" for case, number in numbers.items()))
    report, _ = converted(root)
    assert skips(report) == {
        "none": says("c1.dcm", "2 frames", "column frame"),
        "far": says("c1.dcm", "no frame 2"),
        "text": says("frame", "1.5"),
    }
    save(root / "images/p1.nii.gz", picture())
    (root / "cases.csv").write_text(f"{HEAD},frame\n{good}\nnifti,p1.nii.gz,{mask},0\n")
    report = convert(OwnFolder(root, ("LV", "LA")), NAME, overwrite=True)
    assert skips(report) == {"nifti": says("p1.nii.gz", "frame")}


def test_dicom_in_which_names_may_stand_is_refused_but_on_demand(tmp_path: Path) -> None:
    good, mask = "still,1.2.840.1,p3.nii.gz,LV LA,,,z", "p2.nii.gz,LV LA,,,x"
    root = clinic(tmp_path, good, f"none,none.dcm,{mask}", f"burned,burned.dcm,{mask}", column="")
    write_dicom(root / "images/none.dcm", CLIP[:1], [region((2, 8), (3, 8), (0.03, 0.02))])
    write_dicom(root / "images/burned.dcm", CLIP[:1], [region(*TISSUE)], BurnedInAnnotation="YES")
    report, _ = converted(root)
    option = "add --keep-whole-frame"
    assert skips(report) == {"none": says("none.dcm", "2 to 8", option), "burned": says("burned.dcm", option)}

    call = ["convert", "folder", "-i", str(root), "-d", "520", "--classes", "LV", "LA", "--overwrite"]
    assert main([*call, "--keep-whole-frame", "--depth-mm", "80"]) == 0
    made = RawDataset(report.folder)
    spacings = {"none": (10.0, 10.0), "burned": (0.3, 0.2), "still": (0.3, 0.2)}  # 80 mm over 8 rows
    for case, expected in spacings.items():
        image, spacing = read_nifti(made.image_files()[case][0])
        assert np.array_equal(image, CLIP[0])
        assert spacing == pytest.approx(expected)
        assert made.manifest.labels_of(case).info == {"spacing_known": case != "none"}
    written = json.loads((made.folder / REPORT_NAME).read_text())["notes"]
    assert {note["about"] for note in written if note["about"] != "folds"} >= {"none", "burned"}


def test_a_mask_that_reaches_beyond_the_region_is_refused(tmp_path: Path) -> None:
    mask = "p2.nii.gz,LV LA,,,x"
    root = clinic(tmp_path, f"a,1.2.840.1,{mask}", "b,1.2.840.1,p1.nii.gz,LV LA,,,x", column="")
    outside = whole(drawn(1, 2))
    outside[1, 3:6] = 1
    save(root / "masks/p2.nii.gz", outside)
    report, _ = converted(root)
    assert skips(report) == {"a": says("3", "outside")}
    save(root / "masks/p2.nii.gz", whole(drawn(1, 2)), mirrored=True)
    report = convert(OwnFolder(root, ("LV", "LA")), NAME, overwrite=True)
    assert skips(report) == {"a": says("do not overlap", "direction")}


def test_dicom_is_no_volume(tmp_path: Path) -> None:
    root = clinic(tmp_path, "a,c1.dcm,p1.nii.gz,LV LA,,,x", "b,1.2.840.1,p1.nii.gz,LV,,,y", row(3), column="")
    for part in ("images", "masks"):
        save(root / part / "p1.nii.gz", np.zeros((2, 4, 6), np.uint8))
        save(root / part / "p3.nii.gz", np.zeros((2, 4, 6), np.uint8))
    report, _ = converted(root, volumes=True)
    assert skips(report) == {"a": says("c1.dcm", "--volumes"), "b": says("1.2.840.1", "--volumes")}


def test_a_mask_in_dicom_is_refused(tmp_path: Path) -> None:
    root = clinic(tmp_path, "a,1.2.840.1,m.dcm,LV LA,,,x", "b,1.2.840.1,p1.nii.gz,LV LA,,,x", column="")
    write_dicom(root / "masks/m.dcm", CLIP[:1], [region(*TISSUE)])
    assert skips(converted(root)[0]) == {"a": says("m.dcm", ".nii.gz")}


def test_options_reach_the_data_set() -> None:
    parser = argparse.ArgumentParser()
    OwnFolder.add_options(parser)
    options = parser.parse_args(["--classes", "LA=3", "LV=1", "--volumes", "--depth-mm", "120"])
    made = OwnFolder.from_options(Path("x"), options)
    assert made == OwnFolder(Path("x"), ("LA=3", "LV=1"), True, 120.0)
    assert made.converted_classes == ("LV", "LA")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_table_holds_only_our_error_comes_out(tmp_path: Path, data: st.DataObject) -> None:
    good = f"{HEAD},split\n{row(1)},train\n{row(2, 'LV', 'RV')},\n".encode()
    start = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 20))
    content = good[:start] + data.draw(st.binary(max_size=20)) + good[start + length :]
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    try:
        cases = read_cases(path, ("LV", "LA"))
    except PartialLabelError:
        return
    assert cases
    for case in cases:
        assert case.problem or (set(case.labels.annotated) <= {"LV", "LA"} and case.labels.annotated)
        assert case.problem or ".." not in Path(case.image).parts
