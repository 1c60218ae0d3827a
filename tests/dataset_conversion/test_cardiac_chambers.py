"""CardiacUDA, EchoCP, CardiacNet: videos of 40 x 48 pixels in which every defect of the real files is drawn."""

from __future__ import annotations

import argparse
import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.source_datasets import PLACES, chambers, read_nifti, sector, sparse, video, write_nifti, write_pair
from nnunet_partial.dataset_conversion.cardiac_chambers import CardiacFamily, CardiacNet, CardiacUDA, EchoCP
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.writer import Report, convert
from numpy.typing import NDArray

from nnunet_partial.cli import convert as command
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError, DatasetError

NAME = "Dataset503_Family"


def converted(data_set: CardiacFamily) -> tuple[Report, RawDataset]:
    report = convert(data_set, NAME)
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report) -> list[str]:
    """Without those about folds, which have tests of their own."""
    return [f"{note.about}: {note.text}" for note in report.notes if note.about != "folds"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of CardiacUDA, empty; the data set is its parent."""
    folder = tmp_path / "cardiacUDC_dataset" / "Site_G_20"
    folder.mkdir(parents=True)
    return folder


# --- what comes out ------------------------------------------------------------------------------------------------


def test_only_drawn_frames_become_cases_with_the_common_numbers(site: Path) -> None:
    write_pair(site, "patient-5-4")
    report, made = converted(CardiacUDA(site.parent))
    cases = ["cardiacuda_Site_G_20_patient-5-4_4CH_F001", "cardiacuda_Site_G_20_patient-5-4_4CH_F003"]
    assert list(made.label_files()) == list(made.image_files()) == cases
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2, "RV": 3, "RA": 4}
    mask, _ = read_nifti(made.label_files()[cases[1]])
    image, _ = read_nifti(made.image_files()[cases[1]][0])
    assert np.array_equal(image, sector(63))  # the fourth frame, upright and not mirrored
    for source_value, value in {1: 1, 2: 2, 3: 4, 4: 3}.items():  # 3 RA and 4 RV change places
        assert (mask[PLACES[source_value]] == value).all()
    assert np.count_nonzero(mask) == 4 * 48
    assert mask.dtype == np.uint8
    assert (skips(report), notes(report), report.known_defects) == ({}, [], [])


def test_the_wall_is_unknown_and_the_entry_says_where_the_frame_is_from(site: Path) -> None:
    write_pair(site, "patient-5-4")
    _, made = converted(CardiacUDA(site.parent))
    labels = made.manifest.labels_of("cardiacuda_Site_G_20_patient-5-4_4CH_F003")
    assert (labels.annotated, labels.absent) == (("LV", "LA", "RV", "RA"), ())
    assert (labels.domain, labels.patient) == ("cardiacuda", "cardiacuda_Site_G_20_patient5")
    info = dict(labels.info)
    assert len(info.pop("frame_hash")) == 16
    assert info == {
        "view": "4CH",
        "frame": 3,
        "interpolated": False,
        "spacing_known": False,
        "orientation": "as stored",
        "handedness": "as stored",
        "site": "Site_G_20",
    }


@pytest.mark.parametrize(
    ("header", "depth", "expected", "known"),
    [
        ((1.0, 1.0, 1.0), 150.0, (3.75, 3.75), False),  # 150 mm / 40 rows
        ((1.0, 1.0, 1.0), 160.0, (4.0, 4.0), False),
        ((0.3, 0.2, 1.0), 150.0, (0.2, 0.3), True),  # the header has width first
        ((0.3, 1.6, 1.0), 150.0, (3.75, 3.75), False),
        ((0.04, 0.3, 1.0), 150.0, (3.75, 3.75), False),
    ],
)
def test_pixel_size(
    site: Path, header: tuple[float, ...], depth: float, expected: tuple[float, float], known: bool
) -> None:
    write_pair(site, "patient-5-4", spacing_mm=header)
    _, made = converted(CardiacUDA(site.parent, depth))
    case = "cardiacuda_Site_G_20_patient-5-4_4CH_F001"
    for path in (made.image_files()[case][0], made.label_files()[case]):
        assert read_nifti(path)[1] == pytest.approx(expected)
    assert made.manifest.labels_of(case).info["spacing_known"] is known


def test_a_chamber_that_is_not_drawn_in_a_drawn_frame_is_unknown_there(site: Path) -> None:
    write_pair(site, "patient-5-4", label=sparse({1: chambers(), 3: chambers((1, 2, 3))}))
    report, made = converted(CardiacUDA(site.parent))
    whole, part = (made.manifest.labels_of(f"cardiacuda_Site_G_20_patient-5-4_4CH_F00{n}") for n in (1, 3))
    assert whole.annotated == ("LV", "LA", "RV", "RA")
    assert (part.annotated, part.absent) == (("LV", "LA", "RA"), ())
    assert notes(report) == [says("Site_G_20/patient-5-4", "RV is not annotated", "F003", "unknown")]


def test_holes_are_filled_without_covering_what_lies_in_them(site: Path) -> None:
    label = chambers()
    label[15:19, 27:33] = 0  # a hole of 4 x 6 in the LV, in which two pixels are RV
    label[16, 28:30] = 4
    write_pair(site, "patient-5-4", label=sparse({1: label}))
    report, made = converted(CardiacUDA(site.parent))
    mask, _ = read_nifti(made.label_files()["cardiacuda_Site_G_20_patient-5-4_4CH_F001"])
    assert (mask == 1).sum() == 48 - 2
    assert (mask == 3).sum() == 48 + 2
    assert notes(report) == [says("Site_G_20/patient-5-4", "LV", "filled", "F001")]


def test_a_sector_on_its_side_is_turned_with_its_label(site: Path) -> None:
    turned = np.ascontiguousarray(video().transpose(0, 2, 1))
    label = np.ascontiguousarray(sparse({1: chambers()}).transpose(0, 2, 1))
    write_pair(site, "patient-5-4", turned, label, (0.2, 0.3, 1.0))
    report, made = converted(CardiacUDA(site.parent))
    case = "cardiacuda_Site_G_20_patient-5-4_4CH_F001"
    image, spacing = read_nifti(made.image_files()[case][0])
    mask, _ = read_nifti(made.label_files()[case])
    assert np.array_equal(image, sector(61))
    assert (mask[PLACES[4]] == 3).all()
    assert spacing == pytest.approx((0.2, 0.3))  # stored: width 0.2, height 0.3
    assert made.manifest.labels_of(case).info["orientation"] == "transposed"
    assert notes(report) == [says("Site_G_20/patient-5-4", "on its side", "exchanged")]


def test_a_sector_upside_down_is_kept_and_named(site: Path) -> None:
    write_pair(site, "patient-5-4", np.ascontiguousarray(video()[:, ::-1]))
    report, made = converted(CardiacUDA(site.parent))
    assert made.manifest.labels_of("cardiacuda_Site_G_20_patient-5-4_4CH_F001").info["orientation"] == "doubtful"
    assert notes(report) == [says("Site_G_20/patient-5-4", "not narrow at the top", "as stored")]


def test_what_is_written_passes_the_check_of_a_data_set(tmp_path: Path, site: Path) -> None:
    write_pair(site, "patient-5-4")
    write_pair(site, "patient-6-4", video(90), sparse({2: chambers((1, 2, 3))}))
    for number, data_set in enumerate((CardiacUDA(site.parent), _echocp(tmp_path), _cardiacnet(tmp_path)), start=1):
        report = convert(data_set, f"Dataset50{number}_{data_set.name}")
        assert check(report.folder).findings == {}


def _echocp(folder: Path) -> EchoCP:
    for start, stem in ((60, "001_r"), (70, "002_r")):
        write_pair(folder / "EchoCP_dataset", stem, video(start))
    return EchoCP(folder)


def _cardiacnet(folder: Path) -> CardiacNet:
    for start, number in ((60, "001"), (70, "002")):
        net_entry(folder / "CardiacNet-PAH" / "PAH", number, "patient-2-4_image.nii", start)
    return CardiacNet(folder)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cardiacuda"], CardiacUDA(Path("x"))),
        (["cardiacuda", "--label-all-frame", "fill", "--depth-mm", "160"], CardiacUDA(Path("x"), 160.0, "fill")),
        (["echocp", "--depth-mm", "140"], EchoCP(Path("x"), 140.0)),
        (["cardiacnet", "--cut-off", "partial"], CardiacNet(Path("x"), 150.0, "partial")),
    ],
)
def test_options_of_the_command(words: list[str], expected: CardiacFamily) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["convert", *words, "-i", "x", "-d", "5"])
    assert type(expected).from_options(args.input, args) == expected


# --- CardiacUDA: names and folders ---------------------------------------------------------------------------------


def test_names_in_all_patterns_and_numbers_that_restart_in_each_folder(site: Path) -> None:
    for number, stem in enumerate(("patient-5-4", "patient07-4", "normal-5-4")):
        write_pair(site, stem, video(60 + 10 * number))
    write_pair(site.parent / "Site_R_52", "patient-5-4", video(100))
    _, made = converted(CardiacUDA(site.parent.parent))  # the folder above is fine, too
    patients = {labels.patient for labels in made.manifest.cases.values()}
    assert patients == {
        "cardiacuda_Site_G_20_patient5",
        "cardiacuda_Site_G_20_patient7",
        "cardiacuda_Site_G_20_normal5",
        "cardiacuda_Site_R_52_patient5",
    }


def test_names_that_say_something_else_are_skipped(site: Path) -> None:
    for number, stem in enumerate(("patient-5-4", "patient-6-3", "heart 9", "patient-7-4 (1)")):
        write_pair(site, stem, video(60 + 10 * number))
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 2
    wrong_name = says("patient-5-4_image.nii.gz", "normal-23-4_image.nii.gz")
    assert skips(report) == {
        "Site_G_20/heart 9": wrong_name,
        "Site_G_20/patient-6-3": says("view 3, not 4"),
        "Site_G_20/patient-7-4 (1)": wrong_name,
    }


def test_what_is_missing_is_named_and_the_unlabeled_folder_is_no_fault(site: Path) -> None:
    for stem in ("patient-1-4", "patient-2-4", "patient-3-4"):
        write_pair(site, stem)
    (site / "patient-2-4_label.nii.gz").unlink()
    (site / "patient-3-4_image.nii.gz").unlink()
    write_nifti(site.parent / "Site_R_73" / "patient-1-4_image.nii.gz", video(), (1, 1, 1))
    write_nifti(site.parent / "Site_R_126" / "patient-1-4_image.nii.gz", video(90), (1, 1, 1))
    report, _ = converted(CardiacUDA(site.parent))
    assert skips(report) == {
        "Site_G_20/patient-2-4": "there is no label file",
        "Site_G_20/patient-3-4": says("label file", "no image file"),
        "Site_R_126/patient-1-4": "there is no label file",
    }
    assert notes(report) == [says("Site_R_73", "1 video(s)", "left out")]


def test_the_same_recording_in_two_folders_is_one_patient(site: Path) -> None:
    write_pair(site, "patient-5-4")
    write_pair(site, "patient-6-4", video(90))
    write_pair(site.parent / "Site_R_52", "patient-9-4")
    report, made = converted(CardiacUDA(site.parent))
    patients = [labels.patient for labels in made.manifest.cases.values()]
    assert (
        patients
        == ["cardiacuda_Site_G_20_patient5"] * 2
        + ["cardiacuda_Site_G_20_patient6"] * 2
        + ["cardiacuda_Site_G_20_patient5"] * 2
    )
    assert report.counts["patients"] == 2
    assert notes(report) == [says("Site_R_52/patient-9-4", "cardiacuda_Site_G_20_patient5", "one patient")]


@pytest.mark.parametrize("turned", [video()[:, :, ::-1], video().transpose(0, 2, 1), video().astype(np.int16)])
def test_the_same_recording_is_found_however_it_is_stored(site: Path, turned: NDArray[Any]) -> None:
    write_pair(site, "patient-5-4")
    label = sparse({1: chambers()})
    sideways = turned.shape[1] > turned.shape[2]
    write_pair(
        site, "patient-6-4", np.ascontiguousarray(turned), label.transpose(0, 2, 1).copy() if sideways else label
    )
    report, _ = converted(CardiacUDA(site.parent))
    assert (report.counts["labelsTr"], report.counts["patients"]) == (3, 1)


def test_frames_that_differ_in_a_pixel_are_two_recordings(site: Path) -> None:
    other = video()
    other[0, 20, 24] += 1
    write_pair(site, "patient-5-4")
    write_pair(site, "patient-6-4", other)
    assert converted(CardiacUDA(site.parent))[0].counts["patients"] == 2


def test_black_first_frames_make_nobody_the_same(site: Path) -> None:
    for stem, start in (("patient-5-4", 60), ("patient-6-4", 90)):
        black = video(start)
        black[0] = 0
        write_pair(site, stem, black)
    report, _ = converted(CardiacUDA(site.parent))
    assert report.counts["patients"] == 2


# --- label_all_frame -----------------------------------------------------------------------------------------------


def outlines() -> np.ndarray:
    """The outlines of the four chambers; the RV has the number 6."""
    label = chambers()
    for value, (rows, cols) in PLACES.items():
        label[rows.start + 1 : rows.stop - 1, cols.start + 1 : cols.stop - 1] = 0
        label[label == value] = 6 if value == 4 else value
    return label


def test_label_all_frame_is_left_out_by_default(site: Path) -> None:
    write_pair(site, "patient-5-4")
    write_pair(site.parent / "label_all_frame", "normal-23-4", label=np.stack([outlines()] * 5))
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 2
    assert (skips(report), notes(report)) == ({}, [says("label_all_frame", "1 video(s)", "--label-all-frame fill")])


def test_label_all_frame_is_filled_on_request_and_tied_to_the_same_recording(site: Path) -> None:
    write_pair(site, "patient-5-4")
    write_pair(site.parent / "label_all_frame", "normal-23-4", label=np.stack([outlines()] * 5))
    _, made = converted(CardiacUDA(site.parent, label_all_frame="fill"))
    cases = [f"cardiacuda_label_all_frame_normal-23-4_4CH_F{n:03d}" for n in range(5)]
    assert [case for case in made.label_files() if "all_frame" in case] == cases
    mask, _ = read_nifti(made.label_files()[cases[0]])
    assert [int((mask == value).sum()) for value in (1, 2, 3, 4)] == [48] * 4
    assert made.manifest.labels_of(cases[0]).patient == "cardiacuda_Site_G_20_patient5"


def test_an_outline_with_a_gap_is_no_area(site: Path) -> None:
    label = outlines()
    label[14, 28] = 0  # a gap in the LV
    write_pair(site.parent / "label_all_frame", "normal-23-4", label=np.stack([outlines(), *([label] * 4)]))
    report, made = converted(CardiacUDA(site.parent, label_all_frame="fill"))
    assert len(made.label_files()) == 1
    assert skips(report)["cardiacuda_label_all_frame_normal-23-4_4CH_F001"] == says("LV", "not closed")


def test_names_that_are_no_utf8_and_links(tmp_path: Path, site: Path) -> None:
    write_pair(tmp_path / "elsewhere", "patient-5-4")
    for path in (tmp_path / "elsewhere").iterdir():
        (site / path.name).symlink_to(path)
    for what in ("image", "label"):
        foreign = os.fsdecode(b"p\xe4tient-6-4_" + what.encode() + b".nii.gz")
        (site / foreign).write_bytes((site / f"patient-5-4_{what}.nii.gz").read_bytes())
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 2
    assert list(skips(report)) == ["Site_G_20/p\\udce4tient-6-4"]


# --- defects -------------------------------------------------------------------------------------------------------


def test_label_values_that_nobody_knows_stop_their_frame_only(site: Path) -> None:
    strange = chambers()
    strange[0, 0], strange[0, 1] = 6, -3
    write_pair(site, "patient-5-4", label=sparse({1: chambers(), 3: strange}))
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 1
    assert skips(report) == {
        "cardiacuda_Site_G_20_patient-5-4_4CH_F003": says("-3, 6", "0 background", "1 LV", "2 LA", "3 RA", "4 RV")
    }


def test_a_few_drawn_pixels_are_a_known_defect(site: Path) -> None:
    write_pair(site, "patient-5-4", label=sparse({1: chambers(), 3: chambers((1, 2))}))
    report, _ = converted(CardiacUDA(site.parent))
    assert skips(report) == {}
    assert [(d.case, d.reason) for d in report.known_defects] == [
        ("cardiacuda_Site_G_20_patient-5-4_4CH_F003", says("96 pixels", "fewer than 100"))
    ]


def test_videos_whose_image_and_label_do_not_fit(site: Path) -> None:
    write_pair(site, "patient-1-4")
    write_pair(site, "patient-2-4", label=sparse({1: chambers()}, frames=4))
    write_pair(site, "patient-3-4", label=sparse({1: chambers()})[:, :-1])
    write_pair(site, "patient-4-4", image=sector(60))  # a single picture with the label of a video
    write_pair(site, "patient-5-4", label=sparse({}))
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 2
    assert skips(report) == {
        "Site_G_20/patient-2-4": says("length", "5 frames", "4 frames"),
        "Site_G_20/patient-3-4": says("size", "(40, 48)", "(39, 48)"),
        "Site_G_20/patient-4-4": says("length", "single image", "5 frames"),
        "Site_G_20/patient-5-4": says("patient-5-4_label.nii.gz", "no annotated frame"),
    }


def test_a_single_picture_with_its_label_is_one_case(site: Path) -> None:
    write_pair(site, "patient-5-4", sector(60), chambers())
    _, made = converted(CardiacUDA(site.parent))
    assert list(made.label_files()) == ["cardiacuda_Site_G_20_patient-5-4_4CH_F000"]


def test_files_that_are_cut_off_or_something_else(site: Path) -> None:
    for number in range(1, 7):
        write_pair(site, f"patient-{number}-4", video(60 + number))
    image, label = (site / f"patient-1-4_{what}.nii.gz" for what in ("image", "label"))
    content = gzip.decompress(image.read_bytes())
    image.write_bytes(gzip.compress(content[: 352 + 3 * 40 * 48 + 10]))  # the fourth frame is not whole
    label = site / "patient-2-4_label.nii.gz"
    label.write_bytes(label.read_bytes()[:-40])
    (site / "patient-3-4_label.nii.gz").write_text("no picture at all")
    (site / "patient-4-4_image.nii.gz").write_bytes(content[:100])
    header = bytearray(content)
    struct.pack_into("<h", header, 70, 128)  # three colors per pixel
    (site / "patient-5-4_image.nii.gz").write_bytes(header)
    report, made = converted(CardiacUDA(site.parent))
    assert len(made.label_files()) == 2
    found = skips(report)
    assert found["Site_G_20/patient-1-4"] == says("patient-1-4_image.nii.gz", "cut off", "3 of 5 frames")
    assert found["Site_G_20/patient-2-4"] == says("patient-2-4_label.nii.gz", "cut off")
    assert found["Site_G_20/patient-3-4"] == says("patient-3-4_label.nii.gz", "cannot be read", "ends there")
    assert found["Site_G_20/patient-4-4"] == says("patient-4-4_image.nii.gz", "cannot be read", "ends there")
    assert found["Site_G_20/patient-5-4"] == says("patient-5-4_image.nii.gz", "data type 128")


def test_wrong_folders(tmp_path: Path, site: Path) -> None:
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip" / "cardiacUDC_dataset.change2zip").touch()
    with pytest.raises(ConversionError, match=r"\(cardiacUDC_dataset\.change2zip\)\. Rename"):
        CardiacUDA(tmp_path / "zip").scan()
    with pytest.raises(ConversionError, match=r"Site_G_100 .* found: Site_G_20"):
        CardiacUDA(site.parent).scan()
    with pytest.raises(ConversionError, match=r"001_r_image\.nii\.gz .* folder is empty"):
        EchoCP(site).scan()
    with pytest.raises(ConversionError, match="does not exist"):
        CardiacNet(tmp_path / "nowhere").scan()
    with pytest.raises(ConversionError, match=r"depth is -1 mm.* above 0"):
        EchoCP(site, -1)
    with pytest.raises(ConversionError, match=r"label_all_frame is 'x'.* skip, fill"):
        CardiacUDA(site, label_all_frame="x")
    with pytest.raises(ConversionError, match=r"cut_off is 'x'.* skip, partial"):
        CardiacNet(site, cut_off="x")


# --- EchoCP --------------------------------------------------------------------------------------------------------


def test_echocp_keeps_rest_and_valsalva_of_a_patient_together(tmp_path: Path) -> None:
    folder = tmp_path / "EchoCP_dataset"
    for start, stem in ((60, "001_r"), (70, "001_v"), (80, "002_r"), (90, "2_r")):
        write_pair(folder, stem, video(start))
    (tmp_path / "echoCP_diagnosis_label.xlsx").touch()
    report, made = converted(EchoCP(tmp_path))
    assert list(made.label_files())[::2] == [f"echocp_{stem}_4CH_F001" for stem in ("001_r", "001_v", "002_r")]
    rest, valsalva, other = list(made.manifest.cases.values())[::2]
    assert (rest.patient, valsalva.patient, other.patient) == ("echocp_001", "echocp_001", "echocp_002")
    assert (rest.info["action"], valsalva.info["action"], rest.domain) == ("rest", "valsalva", "echocp")
    assert skips(report) == {"2_r": says("001_r_image.nii.gz", "001_v_image.nii.gz")}


# --- CardiacNet ----------------------------------------------------------------------------------------------------


def net_entry(group: Path, number: str, inner: str | None, start: int = 60) -> Path:
    """NNN_image.nii as a folder that holds the file `inner`, or as a file. Returns the label file."""
    write_pair(group, number, video(start), ending=".nii")
    if inner is not None:
        (group / f"{number}_image.nii").rename(group / "video")
        (group / f"{number}_image.nii").mkdir()
        (group / "video").rename(group / f"{number}_image.nii" / inner)
    return group / f"{number}_label.nii"


def test_cardiacnet_finds_the_video_in_a_folder_of_a_files_name(tmp_path: Path) -> None:
    pah = tmp_path / "CardiacNet" / "CardiacNet-PAH"
    net_entry(pah / "PAH", "001", "patient-2-4_image.nii")
    net_entry(pah / "Non-PAH", "001", "PHI01.nii", 70)
    (pah / "Non-PAH" / "001_image.nii" / "._PHI01.nii").touch()  # what a Mac leaves behind
    net_entry(tmp_path / "CardiacNet" / "CardiacNet-ASD" / "Non-ASD", "044", None, 80)
    report, made = converted(CardiacNet(tmp_path))
    assert skips(report) == {}
    entries = [
        (labels.patient, labels.info["group"], labels.info["source_name"]) for labels in made.manifest.cases.values()
    ]
    assert entries[::2] == [
        ("cardiacnet_Non-ASD_044", "Non-ASD", "044_image.nii"),
        ("cardiacnet_Non-PAH_001", "Non-PAH", "PHI01.nii"),
        ("cardiacnet_PAH_001", "PAH", "patient-2-4_image.nii"),
    ]


def test_cardiacnet_groups_a_control_that_serves_two_groups(tmp_path: Path) -> None:
    net_entry(tmp_path / "CardiacNet-PAH" / "Non-PAH", "001", "PHI01.nii")
    net_entry(tmp_path / "CardiacNet-ASD" / "Non-ASD", "007", "PHI01.nii")
    report, _ = converted(CardiacNet(tmp_path))
    assert (report.counts["labelsTr"], report.counts["patients"]) == (4, 1)


def test_cardiacnet_folders_that_hold_no_or_several_videos(tmp_path: Path) -> None:
    group = tmp_path / "CardiacNet-PAH" / "PAH"
    net_entry(group, "001", "patient-2-4_image.nii")
    net_entry(group, "002", "a.txt", 70)
    net_entry(group, "003", "a.nii", 80)
    (group / "003_image.nii" / "b.nii").touch()
    report, _ = converted(CardiacNet(tmp_path))
    assert skips(report) == {
        "PAH/002": says("002_image.nii", "with none", "one .nii file"),
        "PAH/003": says("003_image.nii", "a.nii, b.nii", "one .nii file"),
    }


def test_a_truncated_label_is_skipped_or_read_as_far_as_it_goes(tmp_path: Path) -> None:
    group = tmp_path / "CardiacNet-PAH" / "PAH"
    net_entry(group, "001", None)
    label = net_entry(group, "002", None, 70)
    label.write_bytes(label.read_bytes()[: 352 + 3 * 40 * 48 + 7])  # three frames, of which the second is drawn
    told = says("002_label.nii", "cut off", "3 of 5 frames")
    report, made = converted(CardiacNet(tmp_path))
    assert (len(made.label_files()), skips(report)) == (2, {"PAH/002": told})
    report = convert(CardiacNet(tmp_path, cut_off="partial"), "Dataset504_Partial")
    made = RawDataset(report.folder)
    assert [case for case in made.label_files() if "_002_" in case] == ["cardiacnet_PAH_002_4CH_F001"]
    assert (skips(report), notes(report)) == ({}, [says("PAH/002", *told.facts, "frames before are converted")])


# --- across data sets ----------------------------------------------------------------------------------------------


def test_a_merge_knows_the_same_recording_of_two_data_sets(tmp_path: Path, site: Path) -> None:
    write_pair(site, "patient-5-4")
    write_pair(site, "patient-6-4", video(90))
    net_entry(tmp_path / "CardiacNet" / "CardiacNet-PAH" / "PAH", "001", "patient-5-4_image.nii")
    net_entry(tmp_path / "CardiacNet" / "CardiacNet-PAH" / "PAH", "002", "patient-7-4_image.nii", 120)
    folders = [
        convert(CardiacUDA(site.parent), "Dataset503_UDA").folder,
        convert(CardiacNet(tmp_path / "CardiacNet"), "Dataset505_Net").folder,
    ]
    merged = merge(folders, "Dataset510_Both")
    assert any("cardiacuda_Site_G_20_patient5 = cardiacnet_PAH_001" in warning for warning in merged.warnings)
    made = RawDataset(merged.folder)
    assert {labels.patient for labels in made.manifest.cases.values()} == {
        "cardiacnet_PAH_001",
        "cardiacnet_PAH_002",
        "cardiacuda_Site_G_20_patient6",
    }
    assert made.manifest.labels_of("cardiacuda_Site_G_20_patient-5-4_4CH_F001").patient == "cardiacnet_PAH_001"


def test_a_merge_refuses_the_same_recording_in_training_and_test(tmp_path: Path, site: Path) -> None:
    write_pair(site, "patient-5-4")
    net_entry(tmp_path / "CardiacNet" / "CardiacNet-PAH" / "PAH", "001", "patient-5-4_image.nii")
    folders = [
        convert(CardiacUDA(site.parent), "Dataset503_UDA").folder,
        convert(CardiacNet(tmp_path / "CardiacNet"), "Dataset505_Net").folder,
    ]
    for kind in ("images", "labels"):
        (folders[1] / f"{kind}Ts").mkdir(exist_ok=True)
        for path in sorted((folders[1] / f"{kind}Tr").iterdir())[:1]:
            path.rename(folders[1] / f"{kind}Ts" / path.name)
    with pytest.raises(DatasetError, match=r"different sides .*: cardiacnet_PAH_001"):
        merge(folders, "Dataset510_Both")
