"""What `measure` writes: numbers against closed forms, and what happens to clips that cannot be measured."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.measured_clips import HEART, ClipFolders, beating, write_nifti
from helpers.synthetic_hearts import CLASSES

from nnunet_partial.cli import main
from nnunet_partial.clips.measure import measure_frames, plan, read_clip_labels
from nnunet_partial.clips.page import mean_rows
from nnunet_partial.clips.results import measure_folder
from nnunet_partial.errors import DatasetError

EDV = HEART.cavity_ml


def number(text: str) -> float:
    return float(text) if text else math.nan


@pytest.mark.parametrize(("name", "ef"), [("four", 50), ("two", 60), ("aniso", 50)])
def test_volumes_are_those_of_the_closed_form(measured: Any, name: str, ef: float) -> None:
    """pi 20^2 (84 - (24^3 + 36^3) / (3 36^2)) / 1000 mL at end-diastole; the width alone shrinks."""
    row = measured.clip(name)
    assert pytest.approx(math.pi * 400 * (60 - (24**3 + 36**3) / (3 * 36**2)) / 1000) == EDV
    assert number(row["edv_ml"]) == pytest.approx(EDV, rel=0.02)
    assert number(row["esv_ml"]) == pytest.approx(EDV * (1 - ef / 100), rel=0.05)
    assert number(row["ef_percent"]) == pytest.approx(ef, abs=2)
    assert row["whole_beats"] == "3"
    assert row["flags"] == ""


def test_a_clip_has_its_rate_view_and_method(measured: Any) -> None:
    """Three cycles in 75 frames, 25 a second: 60 a minute."""
    four, two, aniso = (measured.clip(name) for name in ("four", "two", "aniso"))
    assert number(four["rate_bpm"]) == pytest.approx(60, rel=0.03)
    assert (four["view"], four["method"]) == ("4CH", "single-plane 4CH")
    assert (two["view"], two["method"], two["patient"]) == ("2CH", "single-plane 2CH", "p1")
    assert (aniso["view"], aniso["method"], aniso["patient"]) == ("", "single-plane", "aniso")
    assert (aniso["rate_bpm"], aniso["frames_per_s"], four["frames_per_s"]) == ("", "", "25")
    assert (aniso["row_spacing_mm"], aniso["column_spacing_mm"]) == ("0.8", "1.2")


def test_frames_have_areas_and_the_atrium(measured: Any) -> None:
    """LA: half an ellipse, pi 20 16 / 2 mm2, and half an ellipsoid, 2/3 pi 20 16^2 mm3; it does not move."""
    rows = [row for row in measured.rows("frames.csv") if row["clip"] == "four"]
    assert [int(row["frame"]) for row in rows] == list(range(75))
    assert [row["phase"] for row in rows].count("ES") == 3
    for row in rows:
        assert number(row["la_area_cm2"]) == pytest.approx(math.pi * 20 * 16 / 2 / 100, rel=0.06)
        assert number(row["la_volume_ml"]) == pytest.approx(2 / 3 * math.pi * 20 * 16**2 / 1000, rel=0.06)
        assert number(row["lv_area_cm2"]) == pytest.approx(int(row["lv_area_pixels"]) / 100, rel=1e-5)
        assert int(row["myo_area_pixels"]) > 500
        assert number(row["lv_length_mm"]) == pytest.approx(60, abs=1.5)  # 36 + 24
    assert number(rows[2]["time_s"]) == pytest.approx(2 / 25)
    largest = max(number(row["lv_volume_smoothed_percent"]) for row in rows)
    assert largest == pytest.approx(100)
    pixels = {row["lv_area_pixels"] for row in rows}
    assert pixels == {str(np.count_nonzero(frame == 1)) for frame in beating(0.5)}


def test_anisotropic_pixels_have_their_area(measured: Any) -> None:
    row = next(row for row in measured.rows("frames.csv") if row["clip"] == "aniso")
    assert number(row["lv_area_cm2"]) == pytest.approx(int(row["lv_area_pixels"]) * 0.8 * 1.2 / 100, rel=1e-5)
    assert number(row["lv_length_mm"]) == pytest.approx(60, abs=1.5)


def test_without_spacing_nothing_has_a_unit(measured: Any) -> None:
    row = measured.clip("unsized")
    assert number(row["ef_percent"]) == pytest.approx(50, abs=2)
    assert (row["edv_ml"], row["esv_ml"], row["row_spacing_mm"]) == ("", "", "")
    for table in ("frames.csv", "beats.csv"):
        for line in measured.rows(table):
            if line["clip"] == "unsized":
                units = [key for key in line if key.endswith(("_ml", "_mm", "_cm2"))]
                assert units
                assert [line[key] for key in units] == [""] * len(units)
    frames = [line for line in measured.rows("frames.csv") if line["clip"] == "unsized"]
    assert min(number(line["lv_volume_smoothed_percent"]) for line in frames) == pytest.approx(50, abs=3)


def test_beats_are_listed(measured: Any) -> None:
    rows = [row for row in measured.rows("beats.csv") if row["clip"] == "four"]
    assert [(row["beat"], row["whole"], row["view"]) for row in rows] == [(str(n), "yes", "4CH") for n in (1, 2, 3)]
    for row in rows:
        assert number(row["es_s"]) == pytest.approx(int(row["es_frame"]) / 25)
        edv, esv = number(row["edv_ml"]), number(row["esv_ml"])
        assert number(row["ef_percent"]) == pytest.approx(100 * (edv - esv) / edv, abs=0.01)
    # the smallest volume is in the middle of a cycle of 25 frames
    assert [int(row["es_frame"]) for row in rows] == pytest.approx([12.5, 37.5, 62.5], abs=1)


def test_both_views_of_a_patient_are_combined(measured: Any) -> None:
    """The width shrinks to sqrt(0.5) in one view, to sqrt(0.4) in the other: EF 100 (1 - sqrt(0.5 0.4)) = 55.3 %."""
    (row,) = measured.rows("biplane.csv")
    assert (row["patient"], row["exam"], row["method"]) == ("p1", "e1", "biplane")
    assert (row["clip_4ch"], row["clip_2ch"]) == ("four", "two")
    assert number(row["edv_ml"]) == pytest.approx(EDV, rel=0.02)
    assert number(row["ef_percent"]) == pytest.approx(100 * (1 - math.sqrt(0.5 * 0.4)), abs=2)
    assert row["flags"] == ""


SHORT: dict[str, Any] = {"beats": 2.0, "frames": 40}


def biplane(root: Path, *clips: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of biplane.csv of clips named a, b, ...; EF 50 % unless another is given."""
    folders = ClipFolders.create(root)
    for name, entry in zip("abcdef", clips, strict=False):
        folders.add(name, beating(entry.pop("ef", 0.5), **SHORT), **entry)
    measure_folder(folders.images, folders.predictions, root / "results", overlays=False)
    with (root / "results" / "biplane.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_views_of_two_examinations_are_never_combined(tmp_path: Path) -> None:
    """Whoever is called ANONYMOUS is one patient; a person may come again with another EF."""
    rows = biplane(
        tmp_path,
        {"patient": "p1", "exam": "e1", "view": "4CH"},
        {"patient": "p1", "exam": "e2", "view": "2CH"},
        {"patient": "p1", "exam": "e3", "view": "4CH"},
        {"patient": "p1", "exam": "e3", "view": "2CH"},
        {"patient": None, "exam": "e4", "view": "4CH"},
        {"patient": None, "exam": "e4", "view": "2CH"},
    )
    assert [(row["patient"], row["exam"], row["clip_4ch"], row["clip_2ch"]) for row in rows] == [
        ("", "e4", "e", "f"),
        ("p1", "e3", "c", "d"),
    ]


def test_without_an_examination_nothing_is_combined(tmp_path: Path) -> None:
    assert biplane(tmp_path, *({"patient": "p1", "view": view} for view in ("4CH", "2CH"))) == []


@pytest.mark.parametrize(("exam", "spacing", "noted"), [(None, (1.0, 1.0), 1), ("e1", (1.0, 1.0), 0), (None, None, 0)])
def test_views_that_lack_only_the_examination_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exam: str | None, spacing: Any, noted: int
) -> None:
    folders = ClipFolders.create(tmp_path)
    for name, view in (("a", "4CH"), ("b", "2CH")):
        folders.add(name, beating(**SHORT), spacing, patient="p1", view=view, exam=exam)
    assert main(folders.arguments(tmp_path / "results", "--no-overlays", "--json")) == 0
    printed = capsys.readouterr()
    notes = json.loads(printed.out)["notes"]
    assert [("p1" in note, note in printed.err) for note in notes] == [(True, True)] * noted


@pytest.mark.slow
def test_nothing_biplane_rests_on_a_nominal_depth(tmp_path: Path) -> None:
    """Such a clip has a scale of its own; a measured one of the same view is taken though it is flagged."""
    rows = biplane(
        tmp_path,
        {"exam": "e1", "view": "4CH", "spacing_from": "SequenceOfUltrasoundRegions"},
        {"exam": "e1", "view": "2CH", "spacing_from": "nominal depth"},
        {"exam": "e1", "view": "2CH", "flags": ("seen",)},
        {"exam": "e2", "view": "4CH", "spacing_from": "nominal depth"},
        {"exam": "e2", "view": "2CH"},
    )
    assert [(row["exam"], row["clip_2ch"], row["flags"]) for row in rows] == [("e1", "c", "2CH: seen")]
    assert rows[0]["spacing_from"] == "SequenceOfUltrasoundRegions and header"


def test_every_table_says_where_the_size_of_a_pixel_is_from(measured: Any) -> None:
    for table in ("clips.csv", "beats.csv", "frames.csv"):
        found = {row["clip"]: row["spacing_from"] for row in measured.rows(table)}
        assert (found["four"], found["unsized"], found["guessed"]) == ("header", "", "nominal depth"), table
    assert [row["spacing_from"] for row in measured.rows("biplane.csv")] == ["header"]


def test_a_missing_prediction_is_named_and_the_others_are_measured(measured: Any) -> None:
    assert measured.code == 1
    row = measured.clip("missing")
    assert "missing_000.nii.gz" in row["flags"]
    assert (row["ef_percent"], row["frames"]) == ("", "3")
    assert "missing" not in {line["clip"] for line in measured.rows("frames.csv")}
    assert [line["clip"] for line in measured.rows("clips.csv")] == sorted(measured.folders.clips)


def test_a_flagged_clip_keeps_its_numbers(measured: Any) -> None:
    row = measured.clip("guessed")
    assert row["flags"] == "seen by the reader"
    assert number(row["ef_percent"]) == pytest.approx(50, abs=2)


def test_there_are_stills_and_no_leftovers(measured: Any) -> None:
    names = {path.name for path in measured.folder.iterdir()}
    tables = {f"{name}.csv" for name in ("frames", "beats", "clips", "biplane")}
    assert names == {*tables, "clips.html", "stills", ".measured"}
    shown = ("aniso", "four", "guessed", "two", "unsized")
    assert {path.name for path in (measured.folder / "stills").iterdir()} == {
        f"{name}_{phase}.png" for name in shown for phase in ("ED", "ES")
    }
    assert {path.name for path in measured.folder.parent.iterdir()} == {"in", "out", "results"}


SMALL: dict[str, Any] = {"frames": 4, "beats": 1.0}


@pytest.fixture
def folders(tmp_path: Path) -> ClipFolders:
    """Two clips of four frames."""
    made = ClipFolders.create(tmp_path)
    made.add("a", beating(**SMALL))
    made.add("b", beating(**SMALL))
    return made


def cut(folders: ClipFolders) -> None:
    write_nifti(folders.predictions / "b_000.nii.gz", beating(frames=3), (1.0, 1.0))


def narrow(folders: ClipFolders) -> None:
    write_nifti(folders.predictions / "b_000.nii.gz", beating(**SMALL)[:, :, :100], (1.0, 1.0))


def stretched(folders: ClipFolders) -> None:
    write_nifti(folders.predictions / "b_000.nii.gz", beating(**SMALL), (1.0, 1.5))


def foreign(folders: ClipFolders) -> None:
    write_nifti(folders.predictions / "b_000.nii.gz", beating(**SMALL) * 3, (1.0, 1.0))


def broken(folders: ClipFolders) -> None:
    (folders.predictions / "b_000.nii.gz").write_bytes(b"no image")


@pytest.mark.parametrize("spoil", [cut, narrow, stretched, foreign, broken])
def test_a_prediction_that_does_not_fit_is_named(folders: ClipFolders, spoil: Callable[[ClipFolders], None]) -> None:
    spoil(folders)
    good, bad = plan(folders.images, folders.predictions, Path(), False)
    assert read_clip_labels(good).shape == (4, 112, 112)
    with pytest.raises(OSError, match=r"b_000\.nii\.gz"):
        read_clip_labels(bad)


def test_frames_must_be_as_many_as_the_clip_has(folders: ClipFolders) -> None:
    for folder, name in ((folders.predictions, "b_000"), (folders.images, "b_000_0000")):
        write_nifti(folder / f"{name}.nii.gz", beating(frames=3), (1.0, 1.0))
    with pytest.raises(OSError, match="3 frames; expected 4"):
        read_clip_labels(plan(folders.images, folders.predictions, Path(), False)[1])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "MYO": 1, "LA": 2}, "MYO"),
        ({"background": 0, "LV": [1, 2], "MYO": 2, "regions_class_order": [1, 2]}, "region"),
    ],
)
def test_a_model_without_the_ventricle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: dict[str, Any], said: str
) -> None:
    folders = ClipFolders.create(tmp_path, labels)
    folders.add("a", beating(**SMALL))
    assert main(folders.arguments(tmp_path / "results")) == 1
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_folder_without_dataset_json_is_refused(folders: ClipFolders, tmp_path: Path) -> None:
    (folders.predictions / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        measure_folder(folders.images, folders.predictions, tmp_path / "results")


def test_nothing_is_written_where_no_clip_can_be_measured(folders: ClipFolders, tmp_path: Path) -> None:
    for file in folders.predictions.glob("*.nii.gz"):
        file.unlink()
    with pytest.raises(DatasetError, match=r"a_000\.nii\.gz"):
        measure_folder(folders.images, folders.predictions, tmp_path / "results")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_only_the_same_results_are_replaced(folders: ClipFolders, tmp_path: Path) -> None:
    output = tmp_path / "results"
    output.mkdir()
    (output / ".DS_Store").touch()
    measure_folder(folders.images, folders.predictions, output, overlays=False)  # an empty folder
    (output / "clips.csv").unlink()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):  # of Windows and macOS
        (output / name).touch()
    measure_folder(folders.images, folders.predictions, output, overlays=False)
    assert (output / "clips.csv").is_file()
    (output / "reviewed.csv").write_text("x")
    with pytest.raises(DatasetError, match=r"reviewed\.csv"):
        measure_folder(folders.images, folders.predictions, output, overlays=False)
    assert (output / "reviewed.csv").read_text() == "x"
    (output / "reviewed.csv").unlink()
    other = tmp_path / "other"
    folders.predictions.rename(other)
    with pytest.raises(DatasetError, match="results"):
        measure_folder(folders.images, other, output)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(DatasetError, match="full"):
        measure_folder(folders.images, other, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "x"


def test_an_interrupted_run_leaves_nothing_half_written(
    folders: ClipFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nnunet_partial.clips.results.write_page", stop)
    assert main(folders.arguments(tmp_path / "results", "--no-overlays")) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_earlier_results_stay_where_new_ones_cannot_be_renamed(
    folders: ClipFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, rename = tmp_path / "results", Path.rename
    measure_folder(folders.images, folders.predictions, results, overlays=False)
    before = (results / "clips.csv").read_bytes()

    def refuse(path: Path, target: Path) -> Path:
        if path.name.startswith(".building"):
            raise OSError("refused")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        measure_folder(folders.images, folders.predictions, results, overlays=False)
    assert (results / "clips.csv").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_lost_image_costs_the_pictures_only(folders: ClipFolders, tmp_path: Path) -> None:
    (folders.images / "b_000_0000.nii.gz").unlink()
    done = measure_folder(folders.images, folders.predictions, tmp_path / "results", overlays=False)
    assert [clip.thumbnail is None for clip in done.clips] == [False, True]
    assert ["b_000" in text for text in done.problems] == [True]


def test_what_to_know_about_a_frame_is_said() -> None:
    (labels,) = beating(frames=1)
    labels[100:106, 4:10] = 1
    (problem,) = measure_frames(labels[None], CLASSES, (1.0, 1.0)).problems
    assert problem == says("LV", "2 parts")


def test_a_clip_without_a_ventricle_is_flagged(tmp_path: Path) -> None:
    folders = ClipFolders.create(tmp_path)
    folders.add("empty", np.zeros((5, 64, 64), np.uint8))
    folders.add("one", beating(**SMALL)[:1])
    done = measure_folder(folders.images, folders.predictions, tmp_path / "results")
    empty, one = done.clips
    assert empty.beats.beats == one.beats.beats == ()
    assert any("no LV" in flag for flag in empty.flags)
    assert all(clip.flags and clip.overlay and clip.thumbnail for clip in done.clips)


@pytest.mark.slow
def test_other_views_are_flagged_and_in_no_mean(tmp_path: Path) -> None:
    """Volumes by discs are those of an apical view; where the view is not known, it may be one."""
    folders, others = ClipFolders.create(tmp_path), ("PLAX", "psax", "3CH", "RV")
    for name, view in zip("abc", ("a4c", "2CH", None), strict=True):
        folders.add(name, beating(0.5, **SHORT), view=view)
    for view in others:
        folders.add(f"other_{view}", beating(0.3, **SHORT), view=view)
    done = measure_folder(folders.images, folders.predictions, tmp_path / "results", overlays=False)
    flags = {clip.name: clip.flags for clip in done.clips}
    assert [flags[name] for name in "abc"] == [(), (), ()]
    assert [(len(flags[f"other_{view}"]), view in flags[f"other_{view}"][0]) for view in others] == [(1, True)] * 4
    kept = [clip.ef_percent for clip in done.clips if clip.name.startswith("other")]
    assert kept == pytest.approx([30] * 4, abs=2)  # they keep their numbers
    assert [count for *_, count in mean_rows(done)] == [3, 3, 3]


def test_means_leave_out_flagged_clips_and_guessed_volumes(tmp_path: Path) -> None:
    folders = ClipFolders.create(tmp_path)
    folders.add("plain", beating(0.5, beats=2.0, frames=40))
    folders.add("guessed", beating(0.6, beats=2.0, frames=40), spacing_from="nominal depth")
    folders.add("flagged", beating(0.3, beats=2.0, frames=40), flags=("x",))
    done = measure_folder(folders.images, folders.predictions, tmp_path / "results", overlays=False)
    (ef, _, mean_ef, n_ef), (edv, _, mean_edv, n_edv), _ = mean_rows(done)
    assert (ef, n_ef, edv, n_edv) == ("EF", 2, "EDV", 1)
    assert mean_ef == pytest.approx(55, abs=2)  # (50 + 60) / 2
    assert mean_edv == pytest.approx(EDV, rel=0.02)


def test_json_has_the_rows_of_the_tables(
    folders: ClipFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders.predictions / "b_000.nii.gz").unlink()
    folders.add("c", beating(0.5, beats=2.0, frames=40))
    assert main(folders.arguments(tmp_path / "results", "--no-overlays", "--json")) == 1
    document = json.loads(capsys.readouterr().out)
    with (tmp_path / "results" / "clips.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in document["clips"]] == ["a", "b", "c"]
    for shown, row in zip(document["clips"], rows, strict=True):
        assert number(row["ef_percent"]) == pytest.approx(shown.get("ef_percent", math.nan), rel=1e-5, nan_ok=True)
        assert row["flags"] == shown["flags"]
    assert document["clips"][0]["ef_spread_percent"] is None  # NaN: of a single beat
    mean = document["means"][0]
    assert (mean["name"], mean["clips"], mean["mean"]) == ("EF", 1, document["clips"][2]["ef_percent"])
    assert ["b_000" in text for text in document["problems"]] == [True]
    assert Path(document["output"]) == tmp_path / "results"
    assert Path(document["page"]).is_file()


@pytest.mark.slow
def test_several_processes_measure_the_same(measured: Any, tmp_path: Path) -> None:
    arguments = [*measured.folders.arguments(tmp_path / "again", "--no-overlays"), "-np", "2"]
    assert main(arguments) == 1
    for table in ("frames.csv", "beats.csv", "clips.csv", "biplane.csv"):
        assert (tmp_path / "again" / table).read_bytes() == (measured.folder / table).read_bytes()


def test_a_manifest_of_nothing_is_refused(tmp_path: Path) -> None:
    folders = ClipFolders.create(tmp_path)
    (folders.images / "clips.json").write_text(json.dumps({"version": 1, "clips": {}}))
    with pytest.raises(DatasetError, match=r"clips\.json"):
        measure_folder(folders.images, folders.predictions, tmp_path / "results")
