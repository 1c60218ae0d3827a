"""Synthetic clips: rhythm, contraction, ejection fraction and the files, which hold what truth.csv says."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom import writers
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.clips import Rhythm, simulate_clip
from nnunet_partial.phantom.scanner import LV, SCANNER_A, draw_heart, draw_labels


def volume(heart: HeartModel, contraction: float) -> float:
    return writers._single_plane_ml(heart, SCANNER_A, (256, 256), "4CH", contraction)


@pytest.mark.parametrize("ef_percent", [25, 55, 70])
def test_a_heart_has_the_ejection_fraction_that_is_asked_for(ef_percent: float) -> None:
    for seed in range(3):
        heart = HeartModel.random(np.random.default_rng(seed)).with_ef(ef_percent)
        assert heart.ef_percent == pytest.approx(ef_percent)
        assert 100 * (1 - volume(heart, 1.0) / volume(heart, 0.0)) == pytest.approx(ef_percent, abs=1.5)


@pytest.mark.parametrize("ef_percent", [-1, 100, float("nan")])
def test_no_heart_has_such_an_ejection_fraction(ef_percent: float) -> None:
    with pytest.raises(PartialLabelError, match="ef_percent"):
        HeartModel.random(np.random.default_rng(0)).with_ef(ef_percent)


def test_labels_without_the_image_are_those_of_the_image() -> None:
    heart = HeartModel.random(np.random.default_rng(1))
    _, labels = draw_heart(np.random.default_rng(2), anatomy=heart, scanner=SCANNER_A, contraction=0.4)
    np.testing.assert_array_equal(draw_labels(anatomy=heart, scanner=SCANNER_A, contraction=0.4), labels)


def test_contraction_is_0_at_end_diastole_and_1_at_end_systole() -> None:
    rhythm = Rhythm.random(np.random.default_rng(3), seconds=5, rate_bpm=80, irregularity=0.2, start=0.15)
    ed, es = np.array(rhythm.ed_times_s), np.array(rhythm.es_times_s)
    assert ed[0] < 0
    assert ed[-1] > 5
    assert rhythm.contraction(ed) == pytest.approx(0, abs=1e-9)
    assert rhythm.contraction(es) == pytest.approx(1)
    systole = np.linspace(ed[1], es[1], 50)
    assert (np.diff(rhythm.contraction(systole)) > 0).all()
    assert (np.diff(rhythm.contraction(np.linspace(es[1], ed[2], 50))) <= 1e-9).all()
    with pytest.raises(PartialLabelError, match="times from"):
        rhythm.contraction(np.array([ed[-1] + 0.1]))


def test_an_irregular_rhythm_keeps_its_mean_rate() -> None:
    lengths = np.diff(Rhythm.random(np.random.default_rng(4), seconds=500, rate_bpm=60, irregularity=0.1).ed_times_s)
    assert lengths.mean() == pytest.approx(1.0, abs=0.02)
    assert lengths.std() == pytest.approx(0.1, abs=0.02)
    assert 0.8 - 1e-9 <= lengths.min() <= lengths.max() <= 1.2 + 1e-9


@pytest.mark.parametrize("wrong", [{"rate_bpm": 10}, {"irregularity": 0.5}, {"start": 1.0}])
def test_a_rhythm_that_no_heart_has(wrong: dict[str, float]) -> None:
    with pytest.raises(PartialLabelError, match=next(iter(wrong))):
        Rhythm.random(np.random.default_rng(0), seconds=1, **wrong)


def test_whole_beats_have_their_end_diastole_and_their_filling_in_the_clip() -> None:
    """Beats of 1 s, ES after 0.32 s; early filling of 70 % ends 0.45 x 0.68 s later, at 0.626 s."""
    rhythm = Rhythm((-0.5, 0.5, 1.5, 2.5))
    assert rhythm.whole_beats(np.arange(0, 2.2, 0.02)) == [(25, 41), (75, 91)]
    assert rhythm.whole_beats(np.arange(0, 1.9, 0.02)) == [(25, 41)]
    assert rhythm.whole_beats(np.arange(0.52, 1.2, 0.02)) == [(0, 15)]  # 4 % of systole's time lost, 1 % of the stroke
    assert rhythm.whole_beats(np.arange(0.66, 1.2, 0.02)) == []


def test_a_clip_is_a_sequence_of_hearts() -> None:
    heart = HeartModel.random(np.random.default_rng(5)).with_ef(55)
    clip = simulate_clip(
        np.random.default_rng(6), anatomy=heart, rhythm=Rhythm((0.0, 0.8, 1.6)), frames=5, fps=25, shape=(48, 48)
    )
    assert clip.images.shape == clip.labels.shape == (5, 48, 48)
    assert clip.times_s.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    sizes = (clip.labels == LV).sum(axis=(1, 2))
    assert (np.diff(sizes) < 0).all()


@pytest.mark.slow
def test_written_clips_are_what_their_truth_says(tmp_path: Path) -> None:
    names = writers.write_clips(tmp_path / "a", 1, seed=7, shape=(48, 48), efs_percent=(55,), beats=1.5)
    writers.write_clips(tmp_path / "b", 1, seed=7, shape=(48, 48), efs_percent=(55,), beats=1.5)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert names == ["patient0001_2CH", "patient0001_4CH"]
    with (tmp_path / "a" / "truth.csv").open(newline="") as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    for name in names:
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a" / "truth" / f"{name}.nii.gz")))
        with av.open(str(tmp_path / "a" / "clips" / f"{name}.avi")) as container:
            assert container.streams.video[0].average_rate == int(rows[name]["fps"])
            assert sum(1 for _ in container.decode(video=0)) == len(labels) == int(rows[name]["frames"])
        assert float(rows[name]["ef_percent"]) == pytest.approx(55)
        edv, esv = float(rows[name]["edv_ml"]), float(rows[name]["esv_ml"])
        assert 100 * (1 - esv / edv) == pytest.approx(55, abs=5)  # of small masks
        sizes = (labels == LV).sum(axis=(1, 2))
        for ed, es in zip(rows[name]["ed_frames"].split(), rows[name]["es_frames"].split(), strict=True):
            assert sizes[int(ed)] >= 0.97 * sizes.max()
            assert sizes[int(es)] <= 1.03 * sizes.min()
    assert (tmp_path / "a" / "views.csv").read_text().splitlines()[1] == "patient0001_2CH,2CH,patient0001"


def test_videos_have_even_sizes(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match="write_clips: shape is"):
        writers.write_clips(tmp_path, 1, seed=0, shape=(47, 48))
    assert list(tmp_path.iterdir()) == []
