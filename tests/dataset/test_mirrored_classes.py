"""`check` names classes that nnU-Net's mirroring turns into each other, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_partial.dataset.label_check import LabelFile
from nnunet_partial.dataset.mirrored_classes import mirrored_pairs
from nnunet_partial.labels import CaseLabels
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, draw_heart


def label_file(folder: Path, case: str, labels: Any, classes: tuple[str, ...]) -> LabelFile:
    path = folder / f"{case}.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(labels, np.uint8)), str(path))
    return LabelFile(case, path, CaseLabels(classes), classes, None)


def halves(rng: np.random.Generator) -> Any:
    """An ellipsoid in a volume whose front half (along y) is 1 and whose back half is 2."""
    z, y, x = np.mgrid[:24, :40, :32]
    center, radius = np.add((12, 20, 16), rng.normal(0, 1.5, 3)), (5, 12, 6) * rng.uniform(0.85, 1.15, 3)
    inside = sum(((p - c) / r) ** 2 for p, c, r in zip((z, y, x), center, radius, strict=True)) < 1
    return inside * np.where(y < center[1], 1, 2)


def test_front_and_back_of_a_volume_are_named_with_their_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [label_file(tmp_path, f"c{i}", halves(rng), ("front", "back")) for i in range(20)]
    (pair,) = mirrored_pairs(files)
    assert (pair.classes, pair.axis) == (("front", "back"), "y")
    assert pair.overlap > 0.85


def test_a_disc_and_its_mirror_image_in_numbers(tmp_path: Path) -> None:
    # 3 columns and 4 columns, wherever they are: 3 of 3 meet 3 of 4 when mirrored, 2 * 3 / (3 + 4)
    labels = np.zeros((32, 32))
    labels[8:20, 2:5], labels[8:20, 20:24] = 1, 2
    (pair,) = mirrored_pairs(5 * [label_file(tmp_path, "c", labels, ("a", "b"))])
    assert (pair.axis, pair.overlap) == ("x", pytest.approx(6 / 7))


@pytest.mark.parametrize("scanner", [SCANNER_A, SCANNER_B])
def test_chambers_of_the_synthetic_hearts_are_not_named(tmp_path: Path, scanner: Any) -> None:
    rng = np.random.default_rng(1)
    files = []
    for i in range(60):
        _, labels = draw_heart(
            rng, anatomy=HeartModel.random(rng), scanner=scanner, view=("2CH", "4CH")[i % 2], contraction=i // 2 % 2
        )
        files.append(label_file(tmp_path, f"c{i}", labels, ("LV", "MYO", "LA")))
    assert mirrored_pairs(files) == []


@pytest.mark.parametrize("domain", ["jsrt", "wingspan"])
def test_lungs_of_real_chest_x_rays_are_named(tmp_path: Path, real_cxr: Path, domain: str) -> None:
    classes = ("right_lung", "left_lung", "heart")
    files = []
    for path in sorted((real_cxr / domain / "png").iterdir()):
        labels = np.zeros((128, 128), np.uint8)
        for value, name in enumerate(classes, 1):
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(real_cxr / domain / "mask" / name / path.name)))
            labels[mask >= 128] = value
        files.append(label_file(tmp_path, path.stem, labels, classes))
    (pair,) = mirrored_pairs(files)
    assert (pair.classes, pair.axis) == (("right_lung", "left_lung"), "x")


def test_what_is_not_annotated_or_cannot_be_read_does_not_count(tmp_path: Path) -> None:
    labels = np.zeros((32, 32))
    labels[8:20, 2:5], labels[8:20, 27:30] = 1, 2
    file = label_file(tmp_path, "c", labels, ("a", "b"))
    assert len(mirrored_pairs(5 * [file])) == 1
    assert mirrored_pairs(4 * [file]) == []
    partial = LabelFile("c", file.path, CaseLabels(("a",)), ("a", "b"), None)
    assert mirrored_pairs([*(4 * [file]), partial]) == []
    file.path.write_bytes(b"")
    assert mirrored_pairs(5 * [file]) == []
    assert mirrored_pairs([]) == []


@pytest.mark.parametrize("annotated", [True, False], ids=["empty", "not annotated"])
def test_a_rare_pair_is_found_among_many_cases_without_it(tmp_path: Path, annotated: bool) -> None:
    """40 of 1020 cases: every eleventh file, at most a hundred, would hold the pair in fewer than five."""
    labels = np.zeros((32, 32))
    labels[8:20, 2:5], labels[8:20, 27:30] = 1, 2
    twins = label_file(tmp_path, "twins", labels, ("a", "b"))
    other = label_file(tmp_path, "other", 0 * labels, ("a", "b"))
    if not annotated:
        other = LabelFile("other", other.path, CaseLabels(()), ("a", "b"), None)
    present = {"twins": (0.0, 1.0, 2.0), "other": (0.0,)} if annotated else None
    (pair,) = mirrored_pairs([*(980 * [other]), *(40 * [twins])], present=present)
    assert pair.overlap == pytest.approx(1)


def test_a_pair_of_regions_gets_a_trainer_that_learns_regions(tmp_path: Path) -> None:
    labels = np.zeros((32, 32))
    labels[8:20, 2:5], labels[8:20, 27:30] = 1, 2
    file = label_file(tmp_path, "c", labels, ("a", "b"))
    (pair,) = mirrored_pairs(5 * [file])
    assert "nnUNetTrainerMarginalNoMirroring" in pair.text
    (pair,) = mirrored_pairs(5 * [LabelFile("c", file.path, file.labels, ("a", "b"), None, ((1,), (2,)))])
    assert "nnUNetTrainerABCENoMirroring" in pair.text
