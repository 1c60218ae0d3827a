"""CAMUS: stories with patients of 10 x 8 pixels, in which every defect of the real release can be made by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.source_datasets import CFG, camus_split, camus_view, drawn, read_nifti, still, write_nifti
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.writer import Report, convert

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError

NAME = "Dataset501_CAMUS"


def converted(
    root: Path, frames: str = "ed-es", views: tuple[str, ...] = ("2CH",), **options: Any
) -> tuple[Report, RawDataset]:
    report = convert(Camus(root, frames, views, **options), NAME)
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report) -> list[str]:
    """Without those about folds and split, which have tests of their own."""
    return [f"{note.about}: {note.text}" for note in report.notes if note.about not in ("folds", "split")]


def test_a_cfg_file_that_is_not_understood_is_noted(tmp_path: Path) -> None:
    camus_view(tmp_path, "patient0001", cfg=CFG.replace("ED:", "ED -").replace("EF: ", "EF: about "))
    assert notes(converted(tmp_path)[0]) == [says("patient0001 2CH", "Info_2CH.cfg does not say ED, EF")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One patient, two-chamber view."""
    camus_view(tmp_path / "CAMUS_public", "patient0001")
    return tmp_path / "CAMUS_public"


def test_a_patient_in_both_views_becomes_four_cases(root: Path) -> None:
    camus_view(root, "patient0001", "4CH", CFG.replace("Good", "Poor"))
    report, made = converted(root, views=("2CH", "4CH"))
    cases = [f"camus_patient0001_{view}_{phase}" for view in ("2CH", "4CH") for phase in ("ED", "ES")]
    assert list(made.label_files()) == cases
    assert list(made.image_files()) == cases
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3}
    assert made.dataset_json["channel_names"] == {"0": "ultrasound"}
    assert made.dataset_json["numTraining"] == 4
    two, four = (made.manifest.labels_of(f"camus_patient0001_{view}_ES") for view in ("2CH", "4CH"))
    assert (two.annotated, two.absent) == (("LV", "MYO", "LA"), ("RV", "RA"))
    assert (four.annotated, four.absent) == (("LV", "MYO", "LA"), ())
    assert two.domain == "camus"
    assert two.patient == four.patient == "camus_patient0001"
    assert two.info == {
        "view": "2CH",
        "phase": "ES",
        "frame": 2,  # the third frame of the sequence, counted from 0
        "interpolated": False,
        "spacing_known": True,
        "quality": "Good",
        "ef": 54.0,
    }
    assert four.info["quality"] == "Poor"
    assert report.counts["labelsTr"] == 4
    assert report.counts["patients"] == 1
    assert (skips(report), notes(report)) == ({}, [])


def test_the_picture_keeps_values_orientation_and_unequal_pixel_sides(tmp_path: Path) -> None:
    camus_view(tmp_path, "patient0001", spacing_mm=(0.308, 0.154))  # width, height
    _, made = converted(tmp_path)
    image, spacing = read_nifti(made.image_files()["camus_patient0001_2CH_ED"][0])
    mask, mask_spacing = read_nifti(made.label_files()["camus_patient0001_2CH_ED"])
    assert image.shape == (10, 8)
    assert image.dtype == mask.dtype == np.uint8
    assert np.array_equal(image, still(10))
    assert image[1, 2] == 255
    assert np.array_equal(mask, drawn())
    assert spacing == mask_spacing == pytest.approx((0.154, 0.308))


def test_gray_values_that_are_no_bytes_are_kept(root: Path) -> None:
    folder = root / "database_nifti" / "patient0001"
    write_nifti(folder / "patient0001_2CH_ED.nii.gz", still(10).astype(np.float32) + 0.5)
    write_nifti(folder / "patient0001_2CH_ES.nii.gz", still(30).astype(np.float64))
    _, made = converted(root)
    ed, _ = read_nifti(made.image_files()["camus_patient0001_2CH_ED"][0])
    es, _ = read_nifti(made.image_files()["camus_patient0001_2CH_ES"][0])
    assert ed.dtype == np.float32
    assert ed[0, 0] == 10.5
    assert es.dtype == np.uint8
    assert es[0, 0] == 30


def test_half_sequence_adds_the_frames_between_and_says_that_they_are_interpolated(root: Path) -> None:
    _, made = converted(root, "half-sequence")
    assert list(made.label_files()) == [f"camus_patient0001_2CH_{moment}" for moment in ("ED", "ES", "F001")]
    between = made.manifest.labels_of("camus_patient0001_2CH_F001")
    assert between.info["interpolated"] is True
    assert between.info["frame"] == 1
    assert "phase" not in between.info
    assert made.manifest.labels_of("camus_patient0001_2CH_ED").info["interpolated"] is False
    image, spacing = read_nifti(made.image_files()["camus_patient0001_2CH_F001"][0])
    assert image[0, 0] == 20  # the middle frame
    assert spacing == pytest.approx((0.3, 0.3))  # 1.54, the third number of the header, is no length


def test_a_sequence_that_runs_backwards_is_read_by_its_frame_numbers(tmp_path: Path) -> None:
    folder = camus_view(tmp_path, "patient0001", cfg=CFG.replace("ED: 1", "ED: 3").replace("ES: 3", "ES: 1"))
    sequence = np.stack([still(gray) for gray in (30, 20, 10)])
    write_nifti(folder / "patient0001_2CH_half_sequence.nii.gz", sequence, (0.3, 0.3, 1))
    report, made = converted(tmp_path, "half-sequence")
    frames = {case: labels.info["frame"] for case, labels in made.manifest.cases.items()}
    assert frames == {"camus_patient0001_2CH_ED": 2, "camus_patient0001_2CH_ES": 0, "camus_patient0001_2CH_F001": 1}
    image, _ = read_nifti(made.image_files()["camus_patient0001_2CH_ED"][0])
    assert image[0, 0] == 10
    assert notes(report) == [says("patient0001 2CH", "Info_2CH.cfg", "ED: 3", "ES: 1")]


STYLES = [
    CFG.replace("\n", "\r\n"),
    "\ufeff" + CFG,
    CFG.replace("EF", "LVef"),
    CFG.replace(": ", " = "),
    CFG.replace(": ", "=").replace("E", "e"),
]


@pytest.mark.parametrize("cfg", STYLES)
def test_cfg_dialects(tmp_path: Path, cfg: str) -> None:
    camus_view(tmp_path, "patient0001", cfg=cfg)
    _, made = converted(tmp_path)
    info = made.manifest.labels_of("camus_patient0001_2CH_ES").info
    assert (info["frame"], info["quality"], info["ef"]) == (2, "Good", 54.0)


def test_without_cfg_the_stills_are_converted_and_the_frames_between_are_not(tmp_path: Path) -> None:
    camus_view(tmp_path, "patient0001", cfg=None)
    report, made = converted(tmp_path, "half-sequence")
    assert list(made.label_files()) == ["camus_patient0001_2CH_ED", "camus_patient0001_2CH_ES"]
    assert "frame" not in made.manifest.labels_of("camus_patient0001_2CH_ED").info
    assert skips(report) == {"camus_patient0001_2CH_half_sequence": says("Info_2CH.cfg", "3 frames", "ED and ES")}
    assert notes(report) == [says("patient0001 2CH", "Info_2CH.cfg is missing")]


def test_a_frame_number_beyond_the_sequence_is_noted(tmp_path: Path) -> None:
    camus_view(tmp_path, "patient0001", cfg=CFG.replace("ES: 3", "ES: 30"))
    report, made = converted(tmp_path)
    assert len(made.label_files()) == 2
    assert notes(report) == [says("patient0001 2CH", "Info_2CH.cfg", "ES: 30", "3 frames")]


def test_a_still_that_is_not_in_the_sequence_is_noted(root: Path) -> None:
    write_nifti(root / "database_nifti/patient0001/patient0001_2CH_ED.nii.gz", still(14))
    report, _ = converted(root)
    # 79 of 80 pixels differ by 4, the white mark does not: 3.95
    assert notes(report) == [says("patient0001 2CH", "ED differs", "frame 1", "4.0 gray values")]


def test_a_missing_sequence_is_nothing_to_speak_of_unless_asked_for(root: Path) -> None:
    (root / "database_nifti/patient0001/patient0001_2CH_half_sequence.nii.gz").unlink()
    report, _ = converted(root)
    assert (skips(report), notes(report)) == ({}, [])
    shutil.rmtree(report.folder)
    report, _ = converted(root, "half-sequence")
    assert skips(report) == {
        "camus_patient0001_2CH_half_sequence": says("patient0001_2CH_half_sequence.nii.gz", "not exist")
    }


def test_a_missing_view_is_noted(root: Path) -> None:
    report, made = converted(root, views=("2CH", "4CH"))
    assert len(made.label_files()) == 2
    assert notes(report) == [says("patient0001 4CH", "no 4CH")]
    assert skips(report) == {}


def test_an_empty_patient_is_named(root: Path) -> None:
    (root / "database_nifti" / "patient0002").mkdir()
    report, _ = converted(root)
    assert skips(report) == {"camus_patient0002_2CH_ED": says("patient0002", "patient0002_2CH_ED.nii.gz")}


def test_each_broken_case_is_named_with_its_reason_and_its_neighbor_kept(root: Path) -> None:
    for number in (2, 3, 4, 5, 6):
        camus_view(root, f"patient000{number}")
    stem = "patient000{0}/patient000{0}_2CH_ED"
    nifti = root / "database_nifti"
    (nifti / f"{stem.format(2)}_gt.nii.gz").unlink()
    write_nifti(nifti / f"{stem.format(3)}_gt.nii.gz", np.where(drawn() == 3, 5, drawn()).astype(np.uint8))
    write_nifti(nifti / f"{stem.format(4)}_gt.nii.gz", drawn()[:, :-1])
    cut = nifti / f"{stem.format(5)}.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    write_nifti(nifti / f"{stem.format(6)}.nii.gz", np.stack([still(1), still(2)]), (1, 1, 1))
    report, made = converted(root)
    found = skips(report)
    assert list(found) == [f"camus_patient000{number}_2CH_ED" for number in (2, 3, 4, 5, 6)]
    reasons = list(found.values())
    assert reasons[0] == says("patient0002_2CH_ED_gt.nii.gz", "not exist")
    assert reasons[1] == says("value(s) 5", "0 background", "1 LV", "2 MYO", "3 LA")
    assert reasons[2] == "image and mask differ in shape: (10, 8) and (10, 7)"
    assert reasons[3] == says("patient0005_2CH_ED.nii.gz", "cannot be read")
    assert reasons[4] == "the image has shape (2, 10, 8), expected (rows, cols)"
    assert len(made.label_files()) == 7  # 6 ES and one ED
    assert all(f"camus_patient000{number}_2CH_ES" in made.manifest.cases for number in range(1, 7))


def test_a_structure_that_a_mask_lacks_is_unknown_and_a_blank_mask_is_skipped(root: Path) -> None:
    folder = root / "database_nifti" / "patient0001"
    for phase, change in (("ED", lambda mask: np.where(mask == 3, 0, mask)), ("ES", np.zeros_like)):
        path = folder / f"patient0001_2CH_{phase}_gt.nii.gz"
        mask, _ = read_nifti(path)
        write_nifti(path, change(mask).astype(np.uint8))
    report, made = converted(root)
    assert skips(report) == {"camus_patient0001_2CH_ES": "nothing is annotated in the mask"}
    assert says("camus_patient0001_2CH_ED", "LA", "unknown") in notes(report)
    labels = made.manifest.labels_of("camus_patient0001_2CH_ED")
    assert (labels.annotated, labels.absent) == (("LV", "MYO"), ("RV", "RA"))


def test_a_still_stored_as_a_sequence_of_one_is_a_still(root: Path) -> None:
    for what in ("", "_gt"):
        array = drawn() if what else still(10)
        write_nifti(root / f"database_nifti/patient0001/patient0001_2CH_ED{what}.nii.gz", array[None], (0.3, 0.3, 1.0))
    _, made = converted(root)
    image, _ = read_nifti(made.image_files()["camus_patient0001_2CH_ED"][0])
    assert image.shape == (10, 8)


def test_an_undrawn_frame_of_the_sequence_is_not_an_empty_heart(root: Path) -> None:
    masks = np.stack([drawn(), np.zeros_like(drawn()), drawn()])
    write_nifti(root / "database_nifti/patient0001/patient0001_2CH_half_sequence_gt.nii.gz", masks, (0.3, 0.3, 1))
    report, made = converted(root, "half-sequence")
    assert skips(report) == {"camus_patient0001_2CH_F001": says("nothing is annotated", "frame 2")}
    assert len(made.label_files()) == 2


def test_the_official_split_decides_the_folder_and_the_last_fold(tmp_path: Path) -> None:
    for number in range(1, 5):
        camus_view(tmp_path, f"patient000{number}")
    camus_split(tmp_path, "patient0001 patient0002", "patient0003", "patient0004 patient0500")
    report, made = converted(tmp_path)
    assert list(made.label_files("Ts")) == ["camus_patient0004_2CH_ED", "camus_patient0004_2CH_ES"]
    assert list(made.image_files("Ts")) == list(made.label_files("Ts"))
    assert {case[6:17]: labels.split for case, labels in made.manifest.cases.items()} == {
        "patient0001": "train",
        "patient0002": "train",
        "patient0003": "val",
        "patient0004": "test",
    }
    assert (report.counts["train"], report.counts["val"], report.counts["test"]) == (4, 2, 2)
    assert [note.text for note in report.notes if note.about == "split"] == [
        "1 patient(s) are listed but missing: patient0500"
    ]


def test_without_split_lists_everybody_trains(root: Path) -> None:
    report, made = converted(root)
    assert made.manifest.labels_of("camus_patient0001_2CH_ED").split is None
    assert [note.text for note in report.notes if note.about == "split"] == [says("database_split", "training")]


def test_a_patient_in_two_lists_is_an_error(root: Path) -> None:
    camus_split(root, "patient0001", "", "patient0001")
    with pytest.raises(ConversionError, match=r"1 patient\(s\) .*more than one list.*: patient0001"):
        converted(root)


def test_an_incomplete_split_is_an_error(root: Path) -> None:
    camus_split(root, "patient0001")
    (root / "database_split" / "subgroup_testing.txt").unlink()
    with pytest.raises(ConversionError, match=r"lacks subgroup_testing\.txt"):
        converted(root)


@pytest.mark.parametrize("level", ["..", ".", "database_nifti"])
def test_any_level_of_the_data_set_may_be_named(root: Path, level: str) -> None:
    camus_split(root, "", "", "patient0001")
    _, made = converted(root / level)
    assert list(made.label_files("Ts")) == ["camus_patient0001_2CH_ED", "camus_patient0001_2CH_ES"]


def test_the_old_layout_is_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "patient0001"
    for phase in ("ED", "ES"):
        write_nifti(folder / f"patient0001_2CH_{phase}.mhd", still(10)[None], (0.308, 0.154, 1.54))
        write_nifti(folder / f"patient0001_2CH_{phase}_gt.mhd", drawn()[None], (0.308, 0.154, 1.54))
    (folder / "Info_2CH.cfg").write_text("ED: 1\nES: 18\nNbFrame: 18\nLVedv: 70.1\nLVesv: 30.2\nLVef: 56.9\n")
    write_nifti(tmp_path / "testing" / "patient0001" / "patient0001_2CH_ED.mhd", still(10)[None], (1, 1, 1))
    report, made = converted(tmp_path)
    assert list(made.label_files()) == ["camus_training_patient0001_2CH_ED", "camus_training_patient0001_2CH_ES"]
    image, spacing = read_nifti(made.image_files()["camus_training_patient0001_2CH_ED"][0])
    assert image.shape == (10, 8)
    assert spacing == pytest.approx((0.154, 0.308))
    assert made.manifest.labels_of("camus_training_patient0001_2CH_ES").info["ef"] == 56.9
    assert skips(report) == {}
    assert notes(report) == [says("testing", "no masks", "left out")]


def test_a_folder_name_that_is_no_file_name_is_refused(root: Path) -> None:
    camus_view(root, "patient 2é")
    report, made = converted(root)
    assert len(made.label_files()) == 2
    assert list(skips(report)) == ["patient 2é 2CH"]
    assert "cannot name a case" in skips(report)["patient 2é 2CH"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "found: nothing, the folder is empty"),
        (["CAMUS_public.zip"], r"Unpack CAMUS_public\.zip first"),
        (["FileList.csv", "VolumeTracings.csv"], r"looked for folders patient0001.*found: FileList\.csv, VolumeTra"),
    ],
)
def test_a_wrong_folder_is_explained(tmp_path: Path, raw: Path, content: list[str], message: str) -> None:
    (tmp_path / "wrong").mkdir()
    for name in content:
        (tmp_path / "wrong" / name).touch()
    with pytest.raises(ConversionError, match=message):
        converted(tmp_path / "wrong")
    assert not raw.exists()


def test_a_folder_that_is_not_there_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "CAMUS_public.zip").touch()
    with pytest.raises(ConversionError, match=r"nowhere does not exist"):
        converted(tmp_path / "nowhere")
    with pytest.raises(ConversionError, match=r"CAMUS_public\.zip is a file.*Unpack it"):
        converted(tmp_path / "CAMUS_public.zip")


def test_the_real_sample(real_echo: Path) -> None:
    report, made = converted(real_echo / "CAMUS_public", "half-sequence")
    assert (skips(report), notes(report)) == ({}, [])
    assert len(made.label_files()) == 17  # ED is frame 1, ES frame 17
    folder = real_echo / "CAMUS_public/database_nifti/patient0001"
    for phase in ("ED", "ES"):
        image, spacing = read_nifti(made.image_files()[f"camus_patient0001_2CH_{phase}"][0])
        mask, _ = read_nifti(made.label_files()[f"camus_patient0001_2CH_{phase}"])
        assert image.shape == (214, 212)
        assert spacing == pytest.approx((0.7, 0.7))
        assert np.array_equal(image, read_nifti(folder / f"patient0001_2CH_{phase}.nii.gz")[0])
        assert np.array_equal(mask, read_nifti(folder / f"patient0001_2CH_{phase}_gt.nii.gz")[0])
        assert np.unique(mask).tolist() == [0, 1, 2, 3]
        # the sector is narrow at the top and wide at the bottom; the atrium lies below the ventricle
        assert (image[:32] > 0).sum() < (image[-32:] > 0).sum()
        assert np.nonzero(mask == 1)[0].mean() < np.nonzero(mask == 3)[0].mean()


# ---- quality and the ten folds ---------------------------------------------------------------------------------------


def test_views_below_the_asked_quality_are_left_out_and_counted(tmp_path: Path) -> None:
    for number, quality in enumerate(("Good", "medium", "Poor", "blurry"), start=1):
        camus_view(tmp_path, f"patient000{number}", cfg=CFG.replace("Good", quality))
    report, made = converted(tmp_path, min_quality="Medium")
    assert {case[6:17] for case in made.label_files()} == {"patient0001", "patient0002"}
    assert [n.text for n in report.notes if n.about == "quality"] == [
        says("1 view(s)", "Medium", "patient0003 2CH (Poor)")
    ]
    assert skips(report) == {"patient0004 2CH": says("'blurry'", "--min-quality")}
    with pytest.raises(ConversionError, match=r"min_quality is 'good'.* Poor, Medium, Good"):
        Camus(tmp_path, min_quality="good")


def fold_lists(folder: Path, number: int, training: str, validation: str, testing: str) -> None:
    folder.mkdir(exist_ok=True)
    for part, text in (("training", training), ("validation", validation), ("testing", testing)):
        (folder / f"subGroup{number}_{part}.txt").write_text("\r\n".join(text.split()) + "\r\n")


@pytest.mark.parametrize("layout", ["database_nifti", "old"])
def test_an_official_fold_says_who_trains_and_tests(tmp_path: Path, layout: str) -> None:
    for number in (1, 2, 3):
        folder = camus_view(tmp_path, f"patient000{number}")
        for path in folder.iterdir() if layout == "old" else ():
            if path.name.endswith(".nii.gz") and "half" not in path.name:
                array, spacing = read_nifti(path)
                write_nifti(
                    tmp_path / "training" / folder.name / path.name.replace(".nii.gz", ".mhd"), array, spacing[::-1]
                )
    if layout == "old":
        shutil.rmtree(tmp_path / "database_nifti")
    else:
        camus_split(tmp_path, "patient0001", "patient0002", "patient0003")
    fold_lists(tmp_path / "listSubGroups", 4, "patient0002", "patient0003", "patient0001")
    _, made = converted(tmp_path, fold=4)
    assert {case.rpartition("_2CH")[0][-4:]: labels.split for case, labels in made.manifest.cases.items()} == {
        "0001": "test",
        "0002": "train",
        "0003": "val",
    }
    with pytest.raises(ConversionError, match=r"subGroup5_testing\.txt, .*another fold than 5"):
        Camus(tmp_path, fold=5).scan()


def test_a_fold_without_lists_and_one_that_cannot_be(root: Path) -> None:
    with pytest.raises(ConversionError, match=r"no listSubGroups/subGroup1_training\.txt.*without --fold"):
        converted(root, fold=1)
    with pytest.raises(ConversionError, match="the fold is 11, expected a number from 1 to 10"):
        Camus(root, fold=11)
