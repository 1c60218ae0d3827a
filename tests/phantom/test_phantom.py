"""The drawn hearts: reproducible, anatomically nested, and on disk exactly as CAMUS and EchoNet-Dynamic would be."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import SimpleITK as sitk
from skimage.draw import polygon

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom import scanner as imaging
from nnunet_partial.phantom import writers
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.scanner import LA, LV, MYO, SCANNER_A, SCANNER_B, Scanner

HEART = HeartModel(
    x=0.0,
    apex_depth=0.18,
    length=0.40,
    half_width=0.13,
    tilt_deg=0.0,
    bend=0.0,
    wall=0.05,
    atrium_length=0.24,
    atrium_half_width=0.12,
    shortening=0.10,
    narrowing=0.25,
)


def hearts(count: int) -> list[HeartModel]:
    return [HeartModel.random(np.random.default_rng(number)) for number in range(count)]


def draw(heart: HeartModel, scanner: Scanner, view: str = "4CH", contraction: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    return imaging.draw_heart(rng, anatomy=heart, scanner=scanner, view=view, contraction=contraction)


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


# drawing


def test_same_seed_same_picture_other_seed_other_speckle_but_same_outlines() -> None:
    image, labels = draw(HEART, SCANNER_A, seed=3)
    again, labels_again = draw(HEART, SCANNER_A, seed=3)
    other, labels_other = draw(HEART, SCANNER_A, seed=4)
    assert image.dtype == labels.dtype == np.uint8
    assert image.shape == labels.shape == (96, 96)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert (image != other).mean() > 0.3
    np.testing.assert_array_equal(labels, labels_other)


def test_patients_differ() -> None:
    first, second = hearts(2)
    assert first != second
    assert dice(draw(first, SCANNER_A)[1] == LV, draw(second, SCANNER_A)[1] == LV) < 0.95


@pytest.mark.parametrize("view", ["2CH", "4CH"])
@pytest.mark.parametrize("scanner", [SCANNER_A, SCANNER_B], ids=["A", "B"])
def test_heart_lies_inside_the_sector_and_outside_is_black(scanner: Scanner, view: str) -> None:
    sector = imaging.sector_mask((96, 96), scanner)
    wide_open = replace(scanner, half_angle_deg=89.0)
    for heart in hearts(20):
        for contraction in (0.0, 1.0):
            image, labels = draw(heart, scanner, view, contraction)
            assert not image[~sector].any()
            assert not labels[~sector].any()
            whole = draw(heart, wide_open, view, contraction)[1]
            assert ((whole > 0) & (labels == 0)).sum() <= 0.02 * (whole > 0).sum()


def test_labels_stop_where_the_scanner_sees_nothing() -> None:
    keyhole = replace(SCANNER_A, half_angle_deg=10.0)
    labels, whole = draw(HEART, keyhole)[1], draw(HEART, SCANNER_A)[1]
    assert (labels > 0).sum() < 0.8 * (whole > 0).sum()
    assert not labels[~imaging.sector_mask((96, 96), keyhole)].any()


def test_sector_is_narrow_at_the_top_and_wide_at_the_bottom() -> None:
    image, _ = draw(HEART, SCANNER_A)
    top, bottom = (int((part > 0).sum()) for part in (image[:14], image[-14:]))  # 15 % of 96 rows
    assert 0 < 2 * top < bottom


@pytest.mark.parametrize("view", ["2CH", "4CH"])
def test_wall_embraces_the_ventricle_and_the_atrium_lies_below(view: str) -> None:
    for heart in hearts(10):
        labels = draw(heart, SCANNER_A, view)[1]
        lv, myo, la = (np.argwhere(labels == value) for value in (LV, MYO, LA))
        assert min(len(lv), len(myo), len(la)) > 100
        assert myo[:, 0].min() < lv[:, 0].min()  # a roof over the apex
        assert la[:, 0].mean() > lv[:, 0].max() - 10  # the atrium's middle lies below (or nearly: tilt) the valve
        middle = int(lv[:, 0].mean())
        columns = np.flatnonzero(labels[middle] == LV)
        assert labels[middle, columns[0] - 1] == labels[middle, columns[-1] + 1] == MYO


def test_upright_heart_has_the_size_it_says() -> None:
    shape = (200, 200)
    rng = np.random.default_rng(0)
    _, labels = imaging.draw_heart(
        rng, anatomy=replace(HEART, tilt_deg=2.0), scanner=SCANNER_A, shape=shape, view="2CH"
    )
    rows, cols = np.nonzero(labels == LV)  # 2CH turns the heart by -2 degrees: upright
    assert rows.min() == pytest.approx(0.18 * 200, abs=1)
    assert rows.max() - rows.min() + 1 == pytest.approx(0.40 * 200, abs=2)
    assert cols.max() - cols.min() + 1 == pytest.approx(2 * 0.13 * 200, abs=2)


def test_at_end_systole_the_cavity_is_smaller_the_wall_thicker_and_the_atrium_larger() -> None:
    for heart in hearts(10):
        ed, mid, es = (draw(heart, SCANNER_A, contraction=c)[1] for c in (0.0, 0.5, 1.0))
        assert (ed == LV).sum() > (mid == LV).sum() > (es == LV).sum()
        assert (es == LA).sum() > (ed == LA).sum()
        row = int(np.argwhere(es == LV)[:, 0].mean())
        assert (es[row] == MYO).sum() >= (ed[row] == MYO).sum()


def test_four_chamber_view_shows_an_unlabeled_dark_neighbor() -> None:
    views = {view: draw(HEART, SCANNER_A, view) for view in ("2CH", "4CH")}
    left = {view: image[40:60, 20:34][labels[40:60, 20:34] == 0].mean() for view, (image, labels) in views.items()}
    assert left["4CH"] < 0.7 * left["2CH"]


def test_blood_is_dark_and_the_wall_bright_on_both_scanners() -> None:
    for scanner in (SCANNER_A, SCANNER_B):
        image, labels = draw(HEART, scanner)
        assert image[labels == MYO].mean() > 1.5 * max(image[labels == LV].mean(), image[labels == LA].mean())


def test_scanners_look_different_and_the_difference_grows_with_strength() -> None:
    means = []
    for strength in (0.0, 0.5, 1.0):
        scanner = imaging.blend(SCANNER_A, SCANNER_B, strength)
        drawn = [draw(heart, scanner) for heart in hearts(5)]
        means.append([np.mean([image[labels == value].mean() for image, labels in drawn]) for value in (LV, MYO, LA)])
    a, half, b = np.array(means)
    assert np.all(b - a > 20)
    assert np.all((a < half) & (half < b))


def test_blend_ends_exactly_at_both_scanners() -> None:
    assert imaging.blend(SCANNER_A, SCANNER_B, 0.0) == SCANNER_A
    assert imaging.blend(SCANNER_A, SCANNER_B, 1.0) == SCANNER_B
    quarter = imaging.blend(replace(SCANNER_A, gain=1.0), replace(SCANNER_B, gain=2.0), 0.25)
    assert quarter.gain == 1.25


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(PartialLabelError, match=r"strength is 1\.5, expected a number from 0"):
        imaging.blend(SCANNER_A, SCANNER_B, 1.5)
    with pytest.raises(PartialLabelError, match=r"contraction is -0\.1, expected 0"):
        draw(HEART, SCANNER_A, contraction=-0.1)
    with pytest.raises(PartialLabelError, match=r"view is '3CH', expected '2CH' or '4CH'"):
        draw(HEART, SCANNER_A, view="3CH")


# the layout of CAMUS


@pytest.fixture(scope="module")
def camus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    root = tmp_path_factory.mktemp("camus") / "CAMUS_public"
    return root, writers.write_camus(root, 5, seed=7, shape=(80, 64), half_frames=5)


def test_camus_has_every_file_of_the_layout(camus: tuple[Path, dict[str, list[str]]]) -> None:
    root, _ = camus
    names = {p.name for p in (root / "database_nifti" / "patient0003").iterdir()}
    stems = [f"patient0003_{view}_{kind}" for view in ("2CH", "4CH") for kind in ("ED", "ES", "half_sequence")]
    assert names == {f"{stem}{end}.nii.gz" for stem in stems for end in ("", "_gt")} | {"Info_2CH.cfg", "Info_4CH.cfg"}
    assert {p.name for p in root.iterdir()} == {"database_nifti", "database_split"}


def test_camus_split_lists_cover_every_patient_once(camus: tuple[Path, dict[str, list[str]]]) -> None:
    root, split = camus
    lists = {p: (root / "database_split" / f"subgroup_{p}.txt").read_text().splitlines() for p in split}
    assert lists == split
    assert {part: len(names) for part, names in split.items()} == {"training": 3, "validation": 1, "testing": 1}
    assert sorted(name for names in lists.values() for name in names) == sorted(
        p.name for p in (root / "database_nifti").iterdir()
    )


def test_camus_stills_are_the_frames_that_the_cfg_names(camus: tuple[Path, dict[str, list[str]]]) -> None:
    folder = camus[0] / "database_nifti" / "patient0001"
    for view in ("2CH", "4CH"):
        info = dict(line.split(": ") for line in (folder / f"Info_{view}.cfg").read_text().splitlines())
        assert list(info) == ["ED", "ES", "NbFrame", "Sex", "Age", "ImageQuality", "EF", "FrameRate"]
        assert (info["ED"], info["ES"], info["NbFrame"]) == ("1", "5", "5")
        assert info["ImageQuality"] in ("Good", "Medium", "Poor")
        for end in ("", "_gt"):
            sequence = read(folder / f"patient0001_{view}_half_sequence{end}.nii.gz")
            assert sequence.shape == (5, 80, 64)
            for phase in ("ED", "ES"):
                still = read(folder / f"patient0001_{view}_{phase}{end}.nii.gz")
                np.testing.assert_array_equal(still, sequence[int(info[phase]) - 1])
        assert np.unique(read(folder / f"patient0001_{view}_ED_gt.nii.gz")).tolist() == [0, LV, MYO, LA]


def test_camus_pixels_are_square_and_the_picture_about_150_mm_deep(camus: tuple[Path, dict[str, list[str]]]) -> None:
    image = sitk.ReadImage(str(camus[0] / "database_nifti/patient0002/patient0002_4CH_ES.nii.gz"))
    assert image.GetDimension() == 2
    across, down = image.GetSpacing()
    assert across == down
    assert 140 <= down * 80 <= 165


def test_camus_ejection_fraction_is_that_of_the_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeartModel, "random", classmethod(lambda cls, rng: HEART))
    writers.write_camus(tmp_path, 1, seed=0, shape=(256, 256), half_sequence=False, val_fraction=0, test_fraction=0)
    text = (tmp_path / "database_nifti/patient0001/Info_2CH.cfg").read_text()
    # width x 0.75 in two views, length x 0.9: 1 - 0.75 * 0.75 * 0.9 = 0.494
    assert abs(float(text.split("EF: ")[1].split("\n")[0]) - 49.4) <= 1.5
    assert not list(tmp_path.rglob("*half_sequence*"))


def test_camus_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        writers.write_camus(tmp_path / name, 3, seed=seed, shape=(32, 32), half_frames=2)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert files_of(tmp_path / "a") != files_of(tmp_path / "c")


def test_camus_refuses_what_leaves_nobody_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"2 patients, .* leave 0 for training; expected at least 1"):
        writers.write_camus(tmp_path, 2, seed=0)
    with pytest.raises(PartialLabelError, match=r"half_frames is 1, expected at least 2"):
        writers.write_camus(tmp_path, 5, seed=0, half_frames=1)
    assert not list(tmp_path.iterdir())


# the layout of EchoNet-Dynamic


@pytest.fixture(scope="module")
def echonet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, list[str]]]:
    base = tmp_path_factory.mktemp("echonet")
    root, truth = base / "EchoNet-Dynamic", base / "truth"
    return root, truth, writers.write_echonet_dynamic(root, 8, seed=7, frames=12, truth_dir=truth)


def test_echonet_has_every_file_of_the_layout(echonet: tuple[Path, Path, dict[str, list[str]]]) -> None:
    root, _, split = echonet
    assert {p.name for p in root.iterdir()} == {"FileList.csv", "VolumeTracings.csv", "Videos"}
    stems = [stem for names in split.values() for stem in names]
    assert {part: len(names) for part, names in split.items()} == {"TRAIN": 5, "VAL": 1, "TEST": 2}
    assert sorted(p.name for p in (root / "Videos").iterdir()) == sorted(f"{stem}.avi" for stem in stems)
    files = rows_of(root / "FileList.csv")
    assert {row["FileName"]: row["Split"] for row in files} == {s: part for part in split for s in split[part]}
    expected = ["FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"]
    assert list(files[0]) == expected
    for row in files:
        assert float(row["EF"]) == pytest.approx(100 * (1 - float(row["ESV"]) / float(row["EDV"])), abs=0.05)
        assert (row["FrameHeight"], row["FrameWidth"], row["NumberOfFrames"]) == ("112", "112", "12")


def test_echonet_traces_two_frames_with_21_rows_each(echonet: tuple[Path, Path, dict[str, list[str]]]) -> None:
    rows = rows_of(echonet[0] / "VolumeTracings.csv")
    assert list(rows[0]) == ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
    blocks: dict[tuple[str, int], int] = {}
    for row in rows:
        blocks[row["FileName"], int(row["Frame"])] = blocks.get((row["FileName"], int(row["Frame"])), 0) + 1
    assert len(blocks) == 16
    assert set(blocks.values()) == {21}
    assert all(name.endswith(".avi") and 0 <= frame < 12 for name, frame in blocks)


def test_echonet_official_polygon_gives_back_the_drawn_ventricle(
    echonet: tuple[Path, Path, dict[str, list[str]]],
) -> None:
    root, truth, _ = echonet
    blocks: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows_of(root / "VolumeTracings.csv"):
        key = row["FileName"].removesuffix(".avi"), row["Frame"]
        blocks.setdefault(key, []).append([float(row[name]) for name in ("X1", "Y1", "X2", "Y2")])
    assert sorted(p.name for p in truth.iterdir()) == sorted(f"{stem}_{frame}.nii.gz" for stem, frame in blocks)
    for (stem, frame), values in blocks.items():
        labels = read(truth / f"{stem}_{frame}.nii.gz")
        assert np.unique(labels).tolist() == [0, LV, MYO, LA]
        (axis_x1, axis_y1, axis_x2, axis_y2), chords = values[0], np.array(values[1:])
        assert axis_y1 < chords[0, 1] < chords[-1, 1]  # apex first, then the chords from apex to base
        assert axis_y2 > axis_y1
        slopes = (chords[:, 2:] - chords[:, :2]) @ np.array([axis_x2 - axis_x1, axis_y2 - axis_y1])
        np.testing.assert_allclose(slopes, 0.0, atol=0.1)  # perpendicular, as far as four decimals tell
        x = np.rint(np.concatenate([chords[:, 0], chords[::-1, 2]])).astype(int)
        y = np.rint(np.concatenate([chords[:, 1], chords[::-1, 3]])).astype(int)
        traced = np.zeros(labels.shape, bool)
        traced[polygon(y, x, labels.shape)] = True
        assert dice(traced, labels == LV) > 0.95


def test_echonet_traced_frames_are_ed_and_es_in_either_order(
    echonet: tuple[Path, Path, dict[str, list[str]]],
) -> None:
    areas: dict[str, dict[int, int]] = {}
    for path in echonet[1].iterdir():
        stem, frame = path.name.removesuffix(".nii.gz").split("_")
        areas.setdefault(stem, {})[int(frame)] = int((read(path) == LV).sum())
    first_is_larger = {stem: by_frame[min(by_frame)] > by_frame[max(by_frame)] for stem, by_frame in areas.items()}
    assert set(first_is_larger.values()) == {True, False}
    assert all(max(a.values()) > 1.1 * min(a.values()) for a in areas.values())


def test_echonet_video_decodes_to_what_was_drawn(
    echonet: tuple[Path, Path, dict[str, list[str]]],
) -> None:
    root, truth, split = echonet
    stem = split["TEST"][0]
    video = decode(root / "Videos" / f"{stem}.avi")
    assert video.shape == (12, 112, 112)
    with av.open(str(root / "Videos" / f"{stem}.avi")) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
        assert container.streams.video[0].average_rate == 50
    for path in truth.glob(f"{stem}_*"):
        labels = read(path)
        frame = video[int(path.name.removesuffix(".nii.gz").split("_")[1])].astype(float)
        assert frame[labels == MYO].mean() > 1.4 * frame[labels == LV].mean()


def test_video_is_nearly_lossless(tmp_path: Path) -> None:
    images = np.stack([draw(HEART, SCANNER_B, seed=seed)[0] for seed in range(3)])
    writers._write_video(tmp_path / "a.avi", images, 30)
    error = decode(tmp_path / "a.avi").astype(int) - images
    assert np.abs(error).mean() < 1.5
    assert abs(error.mean()) < 0.3  # no change of the gray scale


def test_echonet_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        writers.write_echonet_dynamic(tmp_path / name, 3, seed=seed, shape=(32, 32), frames=8)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not set(files_of(tmp_path / "a")) & {n for n in files_of(tmp_path / "c") if n.endswith(".avi")}


def test_echonet_refuses_truth_inside_the_data_set_and_broken_shapes(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"truth_dir .* lies in .*, expected it outside"):
        writers.write_echonet_dynamic(tmp_path / "set", 5, seed=0, truth_dir=tmp_path / "set" / "truth")
    with pytest.raises(PartialLabelError, match=r"shape is \(33, 32\), expected even numbers"):
        writers.write_echonet_dynamic(tmp_path / "set", 5, seed=0, shape=(33, 32))
    with pytest.raises(PartialLabelError, match=r"frames is 5, expected at least 8"):
        writers.write_echonet_dynamic(tmp_path / "set", 5, seed=0, frames=5)
    assert not list(tmp_path.iterdir())


# the tracing by itself


def test_tracing_of_a_rectangle_is_known() -> None:
    labels = np.zeros((60, 50), np.uint8)
    labels[10:50, 20:31] = LV  # 40 rows, columns 20 to 30
    rows = writers.trace_ventricle(labels, ((25.0, 9.5), (25.0, 49.5)))
    assert rows.shape == (21, 4)
    np.testing.assert_allclose(rows[0], [25.0, 9.5, 25.0, 49.5])
    np.testing.assert_allclose(rows[1:, 1], np.arange(20) * 2 + 10.5)  # every 40 / 20 = 2 rows
    np.testing.assert_allclose(rows[1:, 1], rows[1:, 3])
    np.testing.assert_allclose(rows[1:, 0], 20.0, atol=0.5)
    np.testing.assert_allclose(rows[1:, 2], 30.0, atol=0.5)


def test_tracing_of_nothing_has_chords_of_length_zero() -> None:
    rows = writers.trace_ventricle(np.zeros((20, 20), np.uint8), ((10.0, 2.0), (10.0, 18.0)))
    np.testing.assert_array_equal(rows[1:, :2], rows[1:, 2:])


def test_volume_of_a_cylinder() -> None:
    rows = np.array([[0.0, 0.0, 0.0, 80.0]] + [[0.0, y, 40.0, y] for y in range(20)])
    # pi / 4 * 40 mm * 40 mm * 80 mm = 100531 mm3; half a millimetre per pixel: an eighth
    assert writers._volume_ml(rows, rows, 1.0) == pytest.approx(100.531, abs=0.001)
    assert writers._volume_ml(rows, rows, 0.5) == pytest.approx(12.566, abs=0.001)
