"""TED: stories with cycles of four frames of 80 x 32 pixels, in which every heart is a pattern of its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.source_datasets import CFG, camus_split, camus_view, read_nifti, write_nifti
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.readers.images import require_whole_mhd
from nnunet_partial.dataset_conversion.ted import FrameIndex, Ted, is_sorted, thumbnail
from nnunet_partial.dataset_conversion.writer import Report, convert
from numpy.typing import NDArray

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.labels import CaseLabels, find_shared_patients

NAME = "Dataset504_TED"
TED_CFG = "ED: 1\nES: 3\nNbFrame: 4\nImageQuality: Medium\nEF: 48\nSex: M\nAge: 61\n"


def heart(number: int, moment: int = 0) -> NDArray[np.uint8]:
    """(40, 32): 10 x 8 squares of 4 x 4 pixels; a new pattern for each heart, and for each moment."""
    values = np.random.default_rng((number, moment)).integers(20, 236, (10, 8), np.uint8)
    return np.kron(values, np.ones((4, 4), np.uint8))


def tall(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each row twice: the same picture in pixels half as high."""
    return np.repeat(image, 2, axis=0)


def drawn() -> NDArray[np.uint8]:
    """(80, 32): LV 12 pixels, MYO 4."""
    mask = np.zeros((80, 32), np.uint8)
    mask[10:16, 4:6] = 1
    mask[16, 4:8] = 2
    return mask


def write_mhd(path: Path, array: NDArray[Any]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.308, 0.154, 1.54)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def ted(
    root: Path,
    number: int = 1,
    shows: int = 100,
    cfg: str | None = TED_CFG,
    masks: Sequence[NDArray[Any]] | None = None,
) -> Path:
    """A patient of four frames who `shows` this heart. Returns the folder."""
    name = f"patient{number:03d}"
    folder = root / "database" / name
    folder.mkdir(parents=True)
    write_mhd(folder / f"{name}_4CH_sequence.mhd", np.stack([tall(heart(shows, moment)) for moment in range(4)]))
    write_mhd(folder / f"{name}_4CH_sequence_gt.mhd", np.stack(masks if masks is not None else [drawn()] * 4))
    if cfg is not None:
        (folder / f"{name}_4CH_info.cfg").write_bytes(cfg.encode())
    return folder


def camus(root: Path, shows: Sequence[int], testing: str = "") -> Path:
    """CAMUS with patient0001, ... who show these hearts, in square pixels; ED is moment 0, ES moment 2."""
    for number, heart_number in enumerate(shows, start=1):
        for view in ("2CH", "4CH"):
            name = f"patient{number:04d}"
            folder = camus_view(root, name, view, CFG)
            offset = 0 if view == "4CH" else 10
            for phase, moment in (("ED", 0), ("ES", 2)):
                write_nifti(folder / f"{name}_{view}_{phase}.nii.gz", heart(heart_number, moment + offset))
                mask = drawn()[::2].copy()
                mask[20:22, 4:6] = 3  # the atrium, which TED does not have
                write_nifti(folder / f"{name}_{view}_{phase}_gt.nii.gz", mask)
            frames = np.stack([heart(heart_number, moment + offset) for moment in range(3)])
            write_nifti(folder / f"{name}_{view}_half_sequence.nii.gz", frames, (0.3, 0.3, 1))
    if testing:
        names = {f"patient{number:04d}" for number in range(1, len(shows) + 1)}
        camus_split(root, " ".join(sorted(names - set(testing.split()))), "", testing)
    return root


def converted(root: Path, **options: Any) -> tuple[Report, RawDataset]:
    report = convert(Ted(root, **options), NAME)
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report, about: str | None = None) -> list[str]:
    if about is not None:
        return [note.text for note in report.notes if note.about == about]
    return [f"{note.about}: {note.text}" for note in report.notes if note.about not in ("folds", "patients")]


def test_every_frame_of_the_cycle_becomes_a_case(tmp_path: Path) -> None:
    ted(tmp_path / "TED")
    report, made = converted(tmp_path / "TED")
    assert list(made.label_files()) == [f"ted_patient001_4CH_{moment}" for moment in ("ED", "ES", "F001", "F003")]
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2}
    labels = made.manifest.labels_of("ted_patient001_4CH_ES")
    assert (labels.annotated, labels.absent) == (("LV", "MYO"), ())  # LA, RV, RA: unknown
    assert (labels.domain, labels.patient) == ("ted", "ted_patient001")
    assert labels.info == {
        "view": "4CH",
        "phase": "ES",
        "frame": 2,
        "interpolated": False,
        "spacing_known": True,
        "quality": "Medium",
        "ef": 48.0,
        "same_people_as": "camus",
    }
    assert "phase" not in made.manifest.labels_of("ted_patient001_4CH_F003").info  # the second ED of the cycle
    image, spacing = read_nifti(made.image_files()["ted_patient001_4CH_ES"][0])
    assert np.array_equal(image, tall(heart(100, 2)))
    assert spacing == pytest.approx((0.154, 0.308))  # pixels are not square; 1.54 is no length
    assert np.array_equal(read_nifti(made.label_files()["ted_patient001_4CH_ES"])[0], drawn())
    assert (skips(report), notes(report)) == ({}, [])
    assert check(made.folder).findings == {}


def test_ed_and_es_alone(tmp_path: Path) -> None:
    ted(tmp_path / "TED")
    _, made = converted(tmp_path / "TED", frames="ed-es")
    assert list(made.label_files()) == ["ted_patient001_4CH_ED", "ted_patient001_4CH_ES"]


@pytest.mark.parametrize("below", ["", "TED", "TED/database"])
def test_the_folder_may_be_given_at_any_level(tmp_path: Path, below: str) -> None:
    ted(tmp_path / "TED")
    _, made = converted(tmp_path / below)
    assert len(made.label_files()) == 4


def test_camus_given_as_ted_is_refused(tmp_path: Path) -> None:
    camus(tmp_path / "in", [1])
    with pytest.raises(ConversionError, match=r"patient001, patient002, .*three digits.* TED"):
        converted(tmp_path / "in")


@pytest.mark.parametrize("dialect", ["patient001_4CH_info.cfg", "Info_4CH.cfg"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_cfg_dialects(tmp_path: Path, dialect: str, ends: str) -> None:
    folder = ted(tmp_path / "TED", cfg=None)
    (folder / dialect).write_bytes(TED_CFG.replace("\n", ends).encode())
    _, made = converted(tmp_path / "TED")
    info = made.manifest.labels_of("ted_patient001_4CH_ES").info
    assert (info["frame"], info["quality"], info["ef"]) == (2, "Medium", 48.0)


def test_without_cfg_frames_are_known_by_their_numbers(tmp_path: Path) -> None:
    ted(tmp_path / "TED", cfg=None)
    report, made = converted(tmp_path / "TED")
    assert list(made.label_files()) == [f"ted_patient001_4CH_F00{frame}" for frame in range(4)]
    assert notes(report) == [says("patient001", "patient001_4CH_info.cfg is missing")]
    with pytest.raises(ConversionError, match=r"4 frames are ED and ES"):
        convert(Ted(tmp_path / "TED", "ed-es"), "Dataset505_Other")


def test_a_cfg_that_contradicts_the_sequence_is_noted(tmp_path: Path) -> None:
    ted(tmp_path / "TED", cfg=TED_CFG.replace("NbFrame: 4", "NbFrame: 9").replace("ES: 3", "ES: 8"))
    report, made = converted(tmp_path / "TED")
    assert notes(report) == [
        says("patient001", "patient001_4CH_info.cfg", "NbFrame: 9", "has 4"),
        says("patient001", "patient001_4CH_info.cfg", "ES: 8", "has 4 frames"),
    ]
    assert len(made.label_files()) == 4


def test_an_empty_frame_is_not_annotated_and_a_missing_wall_is_unknown(tmp_path: Path) -> None:
    cavity = np.where(drawn() == 1, drawn(), 0)
    ted(tmp_path / "TED", masks=[drawn(), np.zeros_like(drawn()), cavity, drawn()])
    report, made = converted(tmp_path / "TED")
    assert skips(report) == {"ted_patient001_4CH_F001": says("nothing is annotated", "frame 2")}
    assert notes(report) == [says("ted_patient001_4CH_ES", "MYO", "unknown")]
    assert made.manifest.labels_of("ted_patient001_4CH_ES").annotated == ("LV",)
    assert len(made.label_files()) == 3


def test_a_left_atrium_which_ted_does_not_have_stops_its_frame(tmp_path: Path) -> None:
    ted(tmp_path / "TED", masks=[drawn() + 2 * (drawn() == 1).astype(np.uint8), drawn(), drawn(), drawn()])
    report, made = converted(tmp_path / "TED")
    assert list(skips(report)) == ["ted_patient001_4CH_ED"]
    assert skips(report)["ted_patient001_4CH_ED"].startswith("the mask holds the value(s) 3; expected only 0")
    assert len(made.label_files()) == 3


def test_masks_of_another_length_stop_the_patient(tmp_path: Path) -> None:
    ted(tmp_path / "TED", 1, masks=[drawn()] * 3)
    ted(tmp_path / "TED", 2)
    report, made = converted(tmp_path / "TED")
    assert skips(report) == {"patient001": "image and mask differ in shape: (4, 80, 32) and (3, 80, 32)"}
    assert len(made.label_files()) == 4


def test_a_renamed_raw_file_is_named_and_not_guessed(tmp_path: Path) -> None:
    folder = ted(tmp_path / "TED", 1)
    ted(tmp_path / "TED", 2)
    header = folder / "patient001_4CH_sequence.mhd"
    header.write_text(header.read_text().replace("patient001_4CH_sequence.raw", "patient0002_4CH_sequence.raw"))
    report, made = converted(tmp_path / "TED")
    named, there = "patient001_4CH_sequence.mhd", "patient001_4CH_sequence.raw is there"
    assert skips(report) == {"patient001": says(named, "patient0002_4CH_sequence.raw", there)}
    assert len(made.label_files()) == 4


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("= p.raw", "= ../q.raw", r"p.mhd has ElementDataFile '../q.raw'.* one file"),
        ("= p.raw", "= /etc/passwd", r"p.mhd has ElementDataFile '/etc/passwd'.* one file"),
        ("= p.raw", "= LIST", r"p.mhd has ElementDataFile 'LIST'.* one file"),
        ("ElementDataFile = p.raw", "", r"p.mhd has ElementDataFile ''.* one file"),
        ("DimSize = 32 80 4", "DimSize = 32 80 5", r"p.raw has 10240 bytes; p.mhd asks for 12800"),
    ],
)
def test_an_mhd_whose_halves_do_not_belong_together(tmp_path: Path, old: str, new: str, reason: str) -> None:
    write_mhd(tmp_path / "p.mhd", np.stack([drawn()] * 4))  # 4 x 80 x 32 = 10240
    text = (tmp_path / "p.mhd").read_text()
    assert old in text
    require_whole_mhd(tmp_path / "p.mhd")
    (tmp_path / "p.mhd").write_text(text.replace(old, new))
    with pytest.raises(ConversionError, match=reason):
        require_whole_mhd(tmp_path / "p.mhd")


@pytest.mark.parametrize("missing", ["sequence.mhd", "sequence_gt.mhd", "sequence_gt.raw"])
def test_a_missing_file_stops_the_patient(tmp_path: Path, missing: str) -> None:
    folder = ted(tmp_path / "TED", 1)
    ted(tmp_path / "TED", 2)
    (folder / f"patient001_4CH_{missing}").unlink()
    report, made = converted(tmp_path / "TED")
    assert list(skips(report)) == ["patient001"]
    assert "not exist" in skips(report)["patient001"]
    assert len(made.label_files()) == 4


# The same people as in CAMUS


def test_without_camus_the_report_says_that_the_two_must_not_be_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ted(tmp_path / "TED")
    assert main(["convert", "ted", "-i", str(tmp_path / "TED"), "-d", "504"]) == 0
    out = capsys.readouterr().out
    assert says("patients: TED", "CAMUS under other numbers") in out.splitlines()
    report = json.loads((tmp_path / "raw" / NAME / "conversion_report.json").read_text())
    assert "convert TED with --camus FOLDER" in report["notes"][0]["note"]


def test_with_camus_everybody_gets_the_name_and_the_split_there(tmp_path: Path) -> None:
    camus(tmp_path / "CAMUS_public", [50, 100, 60, 101], testing="patient0004")
    ted(tmp_path / "TED", 1, shows=100)
    ted(tmp_path / "TED", 2, shows=101)
    report, made = converted(tmp_path / "TED", camus=str(tmp_path / "CAMUS_public"))
    first, second = made.manifest.labels_of("ted_patient001_4CH_ED"), made.manifest.labels_of("ted_patient002_4CH_ED")
    assert (first.patient, first.split) == ("camus_patient0002", "train")
    assert (second.patient, second.split) == ("camus_patient0004", "test")
    assert len(made.label_files()) == len(made.label_files("Ts")) == 4
    assert notes(report, "patients") == [
        says("2 found", "ted_patient001 = camus_patient0002", "ted_patient002 = camus_patient0004")
    ]
    assert skips(report) == {}


def test_numbers_that_do_not_rise_are_pointed_out(tmp_path: Path) -> None:
    camus(tmp_path / "CAMUS_public", [101, 100])
    ted(tmp_path / "TED", 1, shows=100)
    ted(tmp_path / "TED", 2, shows=101)
    report, _ = converted(tmp_path / "TED", camus=str(tmp_path / "CAMUS_public"))
    assert notes(report, "patients")[0] == says("should rise", "do not")


def test_a_diastole_that_is_no_still_is_looked_for_in_the_sequences(tmp_path: Path) -> None:
    root = camus(tmp_path / "CAMUS_public", [100, 60])
    folder = ted(tmp_path / "TED", 1, shows=100)
    frames = np.stack([tall(heart(100, 1))] * 4)  # the second frame of CAMUS's sequence, neither ED nor ES
    write_mhd(folder / "patient001_4CH_sequence.mhd", frames)
    _, made = converted(tmp_path / "TED", camus=str(root))
    assert made.manifest.labels_of("ted_patient001_4CH_ED").patient == "camus_patient0001"


def test_who_is_not_found_is_left_out(tmp_path: Path) -> None:
    camus(tmp_path / "CAMUS_public", [100, 60])
    ted(tmp_path / "TED", 1, shows=100)
    ted(tmp_path / "TED", 2, shows=77)
    ted(tmp_path / "TED", 3, shows=60, cfg=None)  # nobody knows which frame to compare
    report, made = converted(tmp_path / "TED", camus=str(tmp_path / "CAMUS_public"))
    assert list(skips(report)) == ["ted_patient002", "ted_patient003"]
    assert skips(report)["ted_patient002"].startswith("matches no patient of CAMUS in ")
    assert {labels.patient for labels in made.manifest.cases.values()} == {"camus_patient0001"}


def test_two_who_show_one_heart_are_both_left_out(tmp_path: Path) -> None:
    camus(tmp_path / "CAMUS_public", [100, 60])
    for number, shows in ((1, 100), (2, 100), (3, 60)):
        ted(tmp_path / "TED", number, shows)
    report, made = converted(tmp_path / "TED", camus=str(tmp_path / "CAMUS_public"))
    assert list(skips(report)) == ["ted_patient001", "ted_patient002"]
    assert {labels.patient for labels in made.manifest.cases.values()} == {"camus_patient0002"}


def test_the_old_layout_of_camus_has_names_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "old" / "training" / "patient0001"
    folder.mkdir(parents=True)
    for phase, moment in (("ED", 0), ("ES", 2)):
        write_mhd(folder / f"patient0001_4CH_{phase}.mhd", tall(heart(100, moment))[None])
    ted(tmp_path / "TED", 1, shows=100)
    _, made = converted(tmp_path / "TED", camus=str(tmp_path / "old"))
    assert made.manifest.labels_of("ted_patient001_4CH_ED").patient == "camus_training_patient0001"


def test_a_wrong_camus_folder_is_explained(tmp_path: Path) -> None:
    ted(tmp_path / "TED")
    with pytest.raises(ConversionError, match=r"looked for folders patient0001, patient0002, ... of CAMUS"):
        converted(tmp_path / "TED", camus=str(tmp_path / "TED"))


def test_a_picture_is_known_again_in_other_pixels_and_with_other_contrast() -> None:
    album = FrameIndex.from_images([("a", heart(1)), ("b", heart(2)), ("blank", np.full((40, 32), 7, np.uint8))])
    assert album.patients == ("a", "b")
    assert album.match(tall(heart(1))) == "a"
    assert album.match(heart(2) // 2 + 10) == "b"
    assert album.match(heart(3)) is None
    assert album.match(np.full((40, 32), 7, np.uint8)) is None
    assert FrameIndex.from_images([]).match(heart(1)) is None


def test_of_two_patients_who_look_alike_none_is_taken() -> None:
    almost = heart(1).copy()
    almost[:4, :4] += 10
    assert float(thumbnail(almost) @ thumbnail(heart(1))) > 0.985
    assert FrameIndex.from_images([("a", heart(1)), ("b", almost)]).match(heart(1)) is None
    assert FrameIndex.from_images([("a", heart(1)), ("a", almost)]).match(heart(1)) == "a"


def test_in_order() -> None:
    assert is_sorted(["a", "b", "d"])
    assert is_sorted([])
    assert not is_sorted(["a", "c", "b"])
    assert not is_sorted(["a", "a"])


def both(tmp_path: Path, **options: Any) -> list[Path]:
    """CAMUS and TED converted: two people, of whom TED shows the first as its patient 1."""
    root = camus(tmp_path / "CAMUS_public", [100, 60, 61], testing="patient0003")
    ted(tmp_path / "TED", 1, shows=100)
    return [convert(Camus(root), "Dataset501_CAMUS").folder, converted(tmp_path / "TED", **options)[0].folder]


def test_merging_with_camus_is_refused_while_nobody_knows_who_is_who(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(DatasetError, match=r"1 patient\(s\) .* camus .*: ted_patient001\. Convert ted"):
        merge(both(tmp_path), "Dataset510_Echo")
    assert not (raw / "Dataset510_Echo").exists()


def test_merging_with_camus_keeps_a_person_in_one_fold(tmp_path: Path) -> None:
    merged = RawDataset(merge(both(tmp_path, camus=str(tmp_path / "CAMUS_public")), "Dataset510_Echo").folder)
    person = [case for case in merged.label_files() if merged.manifest.patient_of(case) == "camus_patient0001"]
    assert len(person) == 8  # two views of two stills in CAMUS, four frames in TED
    for split in json.loads((merged.folder / "splits_final.json").read_text()):
        assert len(set(person) & set(split["train"])) in (0, 8)
    assert check(merged.folder).findings == {}


def test_check_finds_people_under_other_names_in_a_data_set_made_otherwise(tmp_path: Path) -> None:
    folder = both(tmp_path, camus=str(tmp_path / "CAMUS_public"))[1]
    manifest = json.loads((folder / "partial_labels.json").read_text())
    manifest["cases"]["ted_patient001_4CH_ED"] |= {"domain": "camus", "patient": "camus_training_patient0001"}
    (folder / "partial_labels.json").write_text(json.dumps(manifest))
    found = check(folder).findings["partial_labels.json"]
    assert says("1 patient(s) of ted", "camus under other names") in found


def test_ted_alone_or_with_others_is_no_leak() -> None:
    def one(domain: str, patient: str, twin: str | None = None) -> CaseLabels:
        return CaseLabels(("LV",), domain=domain, patient=patient, info={"same_people_as": twin} if twin else {})

    unknown, known = one("ted", "ted_patient001", "camus"), one("ted", "camus_patient0002", "camus")
    assert find_shared_patients({"t": unknown, "u": unknown}) == []
    assert find_shared_patients({"t": unknown, "e": one("echonet", "echonet_1")}) == []
    assert find_shared_patients({"t": known, "c": one("camus", "camus_patient0007")}) == []
    assert len(find_shared_patients({"t": unknown, "c": one("camus", "camus_patient0007")})) == 1
    # the two releases of CAMUS count their patients differently
    assert len(find_shared_patients({"t": known, "c": one("camus", "camus_training_patient0007")})) == 1
    # nor may the two be merged; either alone is fine
    old, new = one("camus", "camus_training_patient0007", "camus"), one("camus", "camus_patient0003")
    assert find_shared_patients({"o": old}) == []
    assert "Take one of the two releases" in find_shared_patients({"o": old, "n": new})[0]


def test_options(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    Ted.add_options(parser)
    options = parser.parse_args(["--frames", "ed-es", "--camus", "there"])
    assert Ted.from_options(tmp_path, options) == Ted(tmp_path, "ed-es", "there")
    with pytest.raises(ConversionError, match=r"frames is 'some'.* all, ed-es"):
        Ted(tmp_path, "some")
