"""The chest X-ray datasets, made from drawn images in the layout of the public repository, and from the real ones."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.nnunet_in_process import InProcess
from helpers.toy_dataset import shrink
from helpers.twins import augment_little, dice_after_training

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import Manifest
from nnunet_partial.study.config import Study
from nnunet_partial.study.steps import models

STUDIES = Path(__file__).resolve().parents[2] / "studies" / "chest_xray"
SIZES = {"jsrt": (48, 48), "wingspan": (60, 40)}
NAMES = {"jsrt": "JPCLN{:03d}", "wingspan": "1.2.392.17{:03d}"}
CLASSES = ["right_lung", "left_lung", "heart"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_datasets", STUDIES / "make_datasets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8)), str(path))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Six images a domain: two dark lungs with soft edges, and a bright heart that covers a part of the left one."""
    rng = np.random.default_rng(0)
    for domain, (rows, cols) in SIZES.items():
        y, x = np.indices((rows, cols)) / np.array([rows, cols])[:, None, None]
        for number in range(6):
            masks = {
                "right_lung": 255 * (1 - 5 * np.hypot((y - 0.5) / 1.6, x - 0.25)).clip(0, 1) ** 0.5,
                "left_lung": 255 * (1 - 5 * np.hypot((y - 0.5) / 1.6, x - 0.75)).clip(0, 1) ** 0.5,
                "heart": 255.0 * (np.hypot(y - 0.6, x - 0.6) < 0.12 + 0.01 * number),
            }
            dark = np.maximum(masks["right_lung"], masks["left_lung"]) / 255
            name = f"{NAMES[domain].format(number)}.png"
            save(tmp_path / "clone" / domain / "png" / name, rng.normal(150, 5, (rows, cols)) - 90 * dark)
            for structure, mask in masks.items():
                save(tmp_path / "clone" / domain / "mask" / structure / name, mask)
    return tmp_path / "clone"


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rows_of(folder: Path, domain: str) -> list[dict[str, str]]:
    with (folder / domain / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# shrinking, masks, looks


def test_each_new_pixel_is_the_mean_of_the_area_that_it_covers(script: ModuleType) -> None:
    square = np.arange(16.0).reshape(4, 4)
    # rows 0 and 1, columns 0 and 1: (0 + 1 + 4 + 5) / 4
    assert script.shrink(square, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    np.testing.assert_allclose(script.shrink(square, 4), square)
    # three rows to two: (1 + 2/2) / 1.5 and (2/2 + 3) / 1.5; one column stays one
    np.testing.assert_allclose(script.shrink(np.array([[1.0], [2.0], [3.0]]), 2), [[4 / 3], [8 / 3]])
    # half as many rows, so half as many columns; and larger than the image was
    assert script.shrink(np.zeros((6, 10)), 3).shape == (3, 5)
    np.testing.assert_allclose(script.shrink(np.array([[7.0]]), 3), np.full((3, 3), 7.0))


def test_a_soft_mask_counts_from_one_half_on(script: ModuleType, tmp_path: Path) -> None:
    save(tmp_path / "mask.png", np.array([[0, 127, 128, 255]] * 4))
    assert script.read_mask(tmp_path / "mask.png", 4).tolist() == [[False, False, True, True]] * 4
    # two columns: means 63.5 and 191.5
    assert script.read_mask(tmp_path / "mask.png", 2).tolist() == [[False, True]] * 2


def test_the_heart_covers_the_lungs_and_overlaps_are_counted(script: ModuleType) -> None:
    masks = {
        "right_lung": np.array([[1, 1, 0, 0, 0]], bool),
        "left_lung": np.array([[0, 1, 1, 1, 0]], bool),
        "heart": np.array([[0, 0, 0, 1, 1]], bool),
    }
    assert script.draw_labels(masks).tolist() == [[1, 2, 2, 3, 3]]
    assert script.count_overlaps(masks) == (1, 1)


def test_looks_move_further_the_stronger_and_are_inverted_at_the_end(script: ModuleType) -> None:
    image = np.tile(np.linspace(0, 1, 64), (64, 1))
    looks = {s: script.shift_looks(image, s, np.random.default_rng(1)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)}
    np.testing.assert_allclose(looks[0.0], image)
    distances = [float(np.abs(shifted - image).mean()) for shifted in looks.values()]
    assert distances == sorted(distances)
    assert all(shifted.min() >= 0 and shifted.max() <= 1 for shifted in looks.values())
    assert looks[0.75][:, -8:].mean() > looks[0.75][:, :8].mean()
    assert looks[1.0][:, -8:].mean() < looks[1.0][:, :8].mean()
    np.testing.assert_array_equal(script.shift_looks(image, 0.5, np.random.default_rng(1)), looks[0.5])
    assert (script.shift_looks(image, 0.5, np.random.default_rng(2)) != looks[0.5]).any()


# the datasets


@pytest.fixture
def make(script: ModuleType, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    for variable in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    monkeypatch.setattr(script, "main_of_the_command", lambda command: main([*command, "-np", "1"]))

    def run(*options: str) -> Path:
        folder = tmp_path / "-".join(["sources", *options])
        monkeypatch.setattr(sys, "argv", ["make_datasets.py", str(clone), str(folder), "--test", "2", *options])
        script.main()
        return folder

    return run


def test_two_datasets_and_their_merge(make, script: ModuleType, tmp_path: Path, capsys) -> None:
    folder = make("--size", "24")
    expected = {"Dataset931_jsrt": (4, 2), "Dataset932_wingspan": (4, 2), "Dataset933_ChestXray": (8, 4)}
    for name, counts in expected.items():
        dataset = tmp_path / "raw" / name
        assert tuple(len(list((dataset / f"labels{part}").iterdir())) for part in ("Tr", "Ts")) == counts
        content = json.loads((dataset / "dataset.json").read_text())
        assert content["labels"] == {"background": 0, "right_lung": 1, "left_lung": 2, "heart": 3}
        assert content["channel_names"] == {"0": "X-ray"}
    manifest = Manifest.read(tmp_path / "raw" / "Dataset933_ChestXray" / "partial_labels.json")
    entry = manifest.labels_of("wingspan_1-2-392-17003")
    assert (entry.annotated, entry.domain) == (tuple(CLASSES), "wingspan")
    assert read(folder / "jsrt" / "masks" / "jsrt_JPCLN000.png").shape == (24, 24)
    labels = read(folder / "wingspan" / "masks" / "wingspan_1-2-392-17003.png")
    assert labels.shape == (24, 16)  # 60 x 40
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    label = sitk.ReadImage(str(next((tmp_path / "raw" / "Dataset931_jsrt" / "labelsTr").iterdir())))
    assert label.GetSpacing()[:2] == pytest.approx((358.4 / 24, 358.4 / 24))
    shown = capsys.readouterr().out
    assert "jsrt: heart and lungs overlap in 6 of 6 images" in shown
    assert "wingspan: both lungs overlap in 0 of 6 images" in shown


def test_the_test_part_depends_on_the_seed_alone(script: ModuleType, clone: Path, tmp_path: Path) -> None:
    def make(name: str, size: int = 24, strength: float = 0.0, seed: int = 1) -> dict[str, str]:
        script.shrink_domain(clone, tmp_path / name, "wingspan", size, 2, strength, [seed, 1])
        return {row["case"]: row["split"] for row in rows_of(tmp_path / name, "wingspan")}

    first = make("first")
    assert sorted(first.values()) == ["test", "test", "train", "train", "train", "train"]
    assert first == make("again", size=12) == make("shifted", strength=0.5)
    assert any(make(f"seed{seed}", seed=seed) != first for seed in range(2, 6))
    images = [read(tmp_path / name / "wingspan" / "images" / f"{min(first)}.png") for name in ("first", "shifted")]
    assert np.abs(images[0].astype(float) - images[1]).mean() > 5
    labels = [read(tmp_path / name / "wingspan" / "masks" / f"{min(first)}.png") for name in ("first", "shifted")]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("fault", ["missing", "empty"])
def test_a_structure_that_is_missing_is_named(script: ModuleType, clone: Path, tmp_path: Path, fault: str) -> None:
    path = clone / "jsrt" / "mask" / "heart" / "JPCLN004.png"
    path.unlink() if fault == "missing" else save(path, np.full((48, 48), 127))
    with pytest.raises(PartialLabelError, match=r"JPCLN004\.png"):
        script.shrink_domain(clone, tmp_path / "sources", "jsrt", 24, 2, 0.0, [1, 0])


def test_another_folder_than_the_clone_is_named(script: ModuleType, clone: Path, tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match="jsrt"):
        script.shrink_domain(clone / "jsrt", tmp_path / "sources", "jsrt", 24, 2, 0.0, [1, 0])
    with pytest.raises(PartialLabelError, match="6 images"):
        script.shrink_domain(clone, tmp_path / "sources", "jsrt", 24, 6, 0.0, [1, 0])


def test_wrong_options_and_folders_end_with_an_error(
    script: ModuleType, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--shift 2", "--size 0", "--test -5", "--seed -1", "--ids 931 931 933", "--ids 931 932 1000")
    wrong = [([clone, *option.split()], "2") for option in options]
    for arguments, fact in (*wrong, ([tmp_path], "0 images")):
        monkeypatch.setattr(sys, "argv", ["make_datasets.py", *map(str, arguments), str(tmp_path / "sources")])
        with pytest.raises(SystemExit, match=fact):  # 2 is argparse's code
            script.main()
    assert not (tmp_path / "sources").exists()


@pytest.mark.slow
def test_real_images(script: ModuleType, real_cxr: Path, tmp_path: Path, capsys) -> None:
    for number, (domain, images) in enumerate({"jsrt": 247, "wingspan": 259}.items()):
        script.shrink_domain(real_cxr, tmp_path, domain, 32, 60, 0.0, [1, number])
        rows = rows_of(tmp_path, domain)
        assert (len(rows), sum(row["split"] == "test" for row in rows)) == (images, 60)
        assert len({row["patient"] for row in rows}) == images
        for row in rows[:20]:
            labels = read(tmp_path / domain / "masks" / row["mask"])
            columns = [np.nonzero(labels == value)[1].mean() for value in (1, 3, 2)]
            assert columns == sorted(columns)  # the right lung is on the left of the image, the heart between both
    shown = capsys.readouterr().out
    for domain, images in (("jsrt", 247), ("wingspan", 259)):
        assert f"{domain}: both lungs overlap in 0 of {images} images" in shown


@pytest.fixture
def without_heart(script: ModuleType, real_cxr: Path, tmp_path: Path) -> InProcess:
    """Every fifth real image at 32 x 32, six a domain for testing; Wingspan has no heart in training."""
    for domain in script.DOMAINS:
        for image in sorted((real_cxr / domain / "png").iterdir())[::5]:
            for sub in ("png", *(f"mask/{name}" for name in CLASSES)):
                link = tmp_path / "few" / domain / sub / image.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(real_cxr / domain / sub / image.name)
    project = InProcess(tmp_path)
    for number, domain in enumerate(script.DOMAINS):
        script.shrink_domain(tmp_path / "few", tmp_path / "sources", domain, 32, 6, 0.0, [1, number])
        made = ("-i", str(tmp_path / "sources" / domain), "-d", str(931 + number), "--classes", *CLASSES)
        project.must("nnunet_partial", "convert", "folder", *made, "--channel", "X-ray", "-np", "1")
    project.must("nnunet_partial", "merge", "-i", "931", "932", "-d", "933", "--name", "both", "-np", "1")
    hide = ("--domain", "wingspan", "--missing", "heart", "--name", "Without")
    project.must("nnunet_partial", "scenario", "-i", "933", "-d", "934", *hide, "-np", "1")
    project.must("nnUNetv2_plan_and_preprocess", "-d", "934", "-c", "2d", "-np", "1", "-npfp", "1")
    plans = project.preprocessed("Dataset934_Without") / "nnUNetPlans.json"
    shrink(plans, "2d", features=16, batch_size=4)
    return project


# nnU-Net's color maps, learning-rate scheduler and logger use what their libraries are about to drop
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_abce_finds_both_lungs_where_nnunet_does_not_mirror(
    without_heart: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does, see tests/training/test_mirroring.py."""
    augment_little(monkeypatch)
    dice = dice_after_training(without_heart, "nnUNetTrainerABCENoMirroring", 150, "Dataset934_Without")
    assert min(dice["right_lung"], dice["left_lung"]) >= 0.85


# the study files


def test_studies_that_share_a_folder_share_their_settings() -> None:
    first = Study.read(STUDIES / "between-domains.yaml")
    assert len(list(models(first))) == 36
    # trainings, and how many of them an earlier study has
    counts = {
        "mirrored": (12, 0),
        "within-domain": (24, 0),
        "shift": (16, 0),
        "shift-seeds": (9, 3),
        "further-losses": (12, 4),
        "pixels-128": (6, 0),
    }
    assert {path.stem for path in STUDIES.glob("*.yaml")} == {"between-domains", *counts}
    seen = {model.name for model in models(first)}
    for name, (count, shared) in counts.items():
        study = Study.read(STUDIES / f"{name}.yaml")
        own = {model.name for model in models(study)}
        assert len(own) == count
        if study.folder == first.folder:
            assert len(own & seen) == shared
            seen |= own
            for setting in ("configuration", "epochs", "iterations", "val_iterations", "network", "folds"):
                assert getattr(study, setting) == getattr(first, setting)
