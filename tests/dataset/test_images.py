"""Values read from a file stay what they were when its image is gone, and none that is no number is read as one.

Millimetres are said only where they are known: not of PNG and BMP, of TIFF where nnU-Net's CASE.json says them.
"""

from __future__ import annotations

import csv
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.raw_datasets import write_image
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from PIL import Image

from nnunet_partial.cli import main
from nnunet_partial.dataset.images import (
    Geometry,
    NiftiHeader,
    header,
    inspect_image,
    parse_nifti_header,
    read_array,
    require_whole_nifti,
    spacing_is_known,
    write_itk,
)
from nnunet_partial.dataset.summary import dataset_summary, scale_warning
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import CaseLabels, Manifest


def test_values_outlive_the_image_they_were_read_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {}
    for number in range(20):
        written[tmp_path / f"{number}.nii.gz"] = array = rng.integers(0, 4, (24, 20 + number)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{number}.nii.gz"))
    for _ in range(5):
        read = {path: read_array(path)[1] for path in written}  # all of them kept: freed memory would be used again
        for path, array in written.items():
            assert np.array_equal(read[path], array)


def test_look_gives_geometry_and_values(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.array([[0, 0, 3], [1, 1, 0]], np.uint8))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    facts = inspect_image(tmp_path / "a.nii.gz", with_values=True)
    assert facts.problem is None
    assert facts.geometry is not None
    assert (facts.geometry.size, facts.geometry.spacing_mm) == ((3, 2), (0.5, 0.25))
    assert facts.values == (0, 1, 3)


@pytest.mark.parametrize(("ending", "twin"), [(".nii.gz", ".nii"), (".NII.GZ", ".NII")])
def test_the_pixels_of_another_file_are_never_taken(tmp_path: Path, ending: str, twin: str) -> None:
    """Of a.nii.gz beside a.nii, ITK takes the header of the one and the pixels of the other."""
    for value, name in ((1, "one.nii.gz"), (2, "two.nii")):
        write_image(tmp_path / name, np.full((3, 4), value, np.uint8))
    compressed, plain = (tmp_path / "one.nii.gz").rename(tmp_path / f"a{ending}"), tmp_path / f"a{twin}"
    assert inspect_image(compressed, with_values=True).values == (1,)
    (tmp_path / "two.nii").rename(plain)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(compressed))).max() == 2  # what this is about
    for read in (read_array, header):
        with pytest.raises(OSError, match=f"^a{twin} lies beside it"):
            read(compressed)
    assert plain.name in str(inspect_image(compressed, with_values=True).problem)
    assert inspect_image(plain, with_values=True).values == (2,)


@pytest.mark.parametrize("ending", [".nii", ".NII"])
def test_a_file_that_is_cut_off_is_noticed_whatever_the_case_of_its_ending(tmp_path: Path, ending: str) -> None:
    write_image(tmp_path / "a.nii", np.ones((3, 4), np.uint8))
    path = (tmp_path / "a.nii").rename(tmp_path / f"b{ending}")
    assert inspect_image(path, with_values=True).values == (1,)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(OSError, match=f"359 bytes .* {352 + 3 * 4}"):
        require_whole_nifti(path)


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize("offset", [352, 2**20 + 352])
def test_each_number_of_a_nifti_file_is_looked_at(tmp_path: Path, dtype: str, offset: int) -> None:
    """First, last, and either side of the 2**20 bytes that are read at once; not what lies before and behind."""
    pixels = np.zeros(641 * 409, dtype)  # 262,169 numbers, of which 2**18 or 2**17 are read at once
    pixels[[0, -1, 2**20 // pixels.itemsize - 1, 2**20 // pixels.itemsize]] = np.nan, np.inf, -np.inf, np.nan
    order, no_number = dtype[0], np.full(3, np.nan, dtype).tobytes()
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 2, 641, 409, 1, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, {"f4": 16, "f8": 64}[dtype[1:]], 8 * pixels.itemsize)
    struct.pack_into(order + "f", header, 108, offset)
    before = (no_number * offset)[: offset - len(header)]
    (tmp_path / "a.nii").write_bytes(bytes(header) + before + pixels.tobytes() + no_number)
    with pytest.raises(OSError, match=r"4 pixel\(s\) .*NaN or infinite"):
        require_whole_nifti(tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes(bytes(header) + before + np.zeros_like(pixels).tobytes() + no_number)
    require_whole_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("order", "<>")
def test_a_nifti_header_in_either_byte_order(order: str) -> None:
    start = bytearray(348)
    struct.pack_into(order + "i", start, 0, 348)
    struct.pack_into(order + "8h", start, 40, 3, 5, 4, 2, 1, 1, 1, 1)
    struct.pack_into(order + "2h", start, 70, 16, 32)  # float32
    struct.pack_into(order + "4f", start, 76, 1, 0.25, 0.5, 1)
    struct.pack_into(order + "3f", start, 108, 352, 2, -1)
    start[344:348] = b"n+1\0"
    parsed = parse_nifti_header(bytes(start))
    assert parsed == NiftiHeader(order, 3, (5, 4, 2, 1, 1, 1, 1), 16, 32, (0.25, 0.5), 352, 2, -1, single_file=True)
    assert parse_nifti_header(bytes(348)) is None


SQUARE = np.zeros((40, 40), np.uint8)
SQUARE[10:30, 10:30] = 1
SOLID = np.zeros((10, 40, 40), np.uint8)
SOLID[3:7, 10:30, 10:30] = 1


def evaluate(root: Path, ending: str, truth: np.ndarray, predicted: np.ndarray, **entry: Any) -> list[dict[str, str]]:
    """per_case.csv of one case; CASE.json must be there already."""
    folder = root / "Dataset001_Square"
    write_image(folder / "labelsTs" / f"a{ending}", truth, 1.0)
    write_image(root / "p" / f"a{ending}", predicted, 1.0)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LV": 1}, "file_ending": ending}))
    (folder / "partial_labels.json").write_text(
        json.dumps({"version": 1, "cases": {"a": {"annotated": ["LV"], **entry}}})
    )
    assert main(["evaluate", "-d", "1", "--pred", str(root / "p"), "-o", str(root / "out"), "-np", "1"]) == 0
    with (root / "out" / "per_case.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    return tmp_path


def spacing_beside(folder: Path, *spacing: object, name: str = "a") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"spacing": spacing}))


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_no_bmp_has_a_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.bmp", SQUARE, 0.5)
    assert not header(tmp_path / "a.bmp").sized


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_picture_without_a_pixel_size_is_measured_in_pixels(root: Path, ending: str) -> None:
    (row,) = evaluate(root, ending, SQUARE, np.roll(SQUARE, 3, 0))
    assert (row["hausdorff"], row["distance_unit"]) == ("3", "pixels")
    assert (row["reference_size"], row["size_unit"]) == ("400", "pixels")


def test_unless_the_manifest_says_that_its_size_is_known(root: Path) -> None:
    (row,) = evaluate(root, ".png", SQUARE, np.roll(SQUARE, 3, 0), spacing_known=True)
    assert (row["hausdorff"], row["distance_unit"], row["reference_size"], row["size_unit"]) == ("3", "mm", "4", "cm2")


def test_no_ml_are_made_of_pixels_of_unknown_size(root: Path) -> None:
    """A ventricle in PNG at ED and ES: a ratio can be had, 1 - (15 / 20)^2 or so, and nothing else."""
    rows, columns = np.indices((96, 96))
    folder, cases = root / "Dataset001_Heart", {}
    for phase, wide in (("ED", 20), ("ES", 15)):
        drawn = ((((rows - 40) / 30) ** 2 + ((columns - 48) / wide) ** 2 <= 1) & (rows < 60)).astype(np.uint8)
        write_image(folder / "labelsTs" / f"p_{phase}.png", drawn, 1.0)
        write_image(root / "p" / f"p_{phase}.png", drawn, 1.0)
        cases[f"p_{phase}"] = {"annotated": ["LV"], "patient": "p", "view": "4CH", "phase": phase}
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LV": 1}, "file_ending": ".png"}))
    (folder / "partial_labels.json").write_text(json.dumps({"version": 1, "cases": cases}))
    assert main(["evaluate", "-d", "1", "--pred", str(root / "p"), "-o", str(root / "out"), "-np", "1"]) == 0
    with (root / "out" / "biomarkers.csv").open(newline="") as file:
        found = {row["biomarker"]: row for row in csv.DictReader(file)}
    assert float(found["EF"]["reference"]) == pytest.approx(100 * (1 - (15 / 20) ** 2), abs=2)
    for name in ("EDV", "ESV", "LV length ED", "LV length ES"):
        assert (found[name]["reference"], found[name]["prediction"]) == ("", "")
        assert found[name]["problem"] == "the spacing is not known"


# ---- TIFF volumes ----------------------------------------------------------------------------------------------------


def test_a_tiff_volume_has_the_spacing_that_nnunet_keeps_beside_it(root: Path) -> None:
    """Shifted by a slice of 5 mm; 4 x 20 x 20 voxels of 5 x 0.5 x 0.5 mm are 2 mL."""
    for folder in (root / "Dataset001_Square" / "labelsTs", root / "p"):
        spacing_beside(folder, 5, 0.5, 0.5)
    (row,) = evaluate(root, ".tif", SOLID, np.roll(SOLID, 1, 0))
    assert (row["hausdorff"], row["distance_unit"]) == ("5", "mm")
    assert (row["reference_size"], row["size_unit"]) == ("2", "mL")


def test_without_it_voxels_are_counted(root: Path) -> None:
    (row,) = evaluate(root, ".tif", SOLID, np.roll(SOLID, 1, 0))
    assert (row["hausdorff"], row["distance_unit"], row["reference_size"], row["size_unit"]) == (
        "1",
        "voxels",
        "1600",
        "voxels",
    )


def test_a_manifest_that_calls_it_unknown_wins(root: Path) -> None:
    spacing_beside(root / "Dataset001_Square" / "labelsTs", 5, 0.5, 0.5)
    (row,) = evaluate(root, ".tif", SOLID, np.roll(SOLID, 1, 0), spacing_known=False)
    assert (row["hausdorff"], row["distance_unit"]) == ("1", "voxels")


def test_spacings_of_a_tiff_and_its_prediction_are_compared_where_both_have_one(tmp_path: Path) -> None:
    for name in ("a", "b", "none"):
        write_image(tmp_path / f"{name}.tif", SOLID, 1.0)
    spacing_beside(tmp_path, 5, 0.5, 0.25)
    spacing_beside(tmp_path, 4, 0.5, 0.25, name="b")
    of_a, of_b, none = (header(tmp_path / f"{name}.tif") for name in ("a", "b", "none"))
    assert of_a == read_array(tmp_path / "a.tif")[0]
    assert (of_a.spacing_mm, of_a.sized, none.sized) == ((0.25, 0.5, 5.0), True, False)
    assert of_a.differences(of_b) == ["spacing 0.25 x 0.5 x 5 mm against 0.25 x 0.5 x 4 mm"]
    assert of_a.differences(none) == none.differences(of_a) == []


def test_the_channels_of_an_image_share_one(tmp_path: Path) -> None:
    for name in ("a_0000.tif", "a_0001.tif", "b_one.tif", "picture_0000.tif"):
        write_image(tmp_path / name, SOLID if name[0] != "p" else SQUARE, 1.0)
    spacing_beside(tmp_path, 5, 0.5, 0.25)
    spacing_beside(tmp_path, 5, 0.5, 0.25, name="b")
    spacing_beside(tmp_path, 5, 0.5, 0.25, name="picture")
    assert [header(tmp_path / f"a_000{n}.tif").spacing_mm for n in (0, 1)] == [(0.25, 0.5, 5.0)] * 2
    assert not header(tmp_path / "b_one.tif").sized
    assert not header(tmp_path / "picture_0000.tif").sized  # nnU-Net reads it for volumes alone


@pytest.mark.parametrize(
    "content",
    ['{"spacing": [1, 2]}', '{"spacing": [1, 2, 0]}', '{"spacing": "1"}', "{}", "[]", '{"spacing": [1, 2, true]}'],
)
def test_one_that_is_broken_is_named(tmp_path: Path, content: str) -> None:
    write_image(tmp_path / "a.tif", SOLID, 1.0)
    (tmp_path / "a.json").write_text(content)
    problem = inspect_image(tmp_path / "a.tif").problem
    assert problem is not None
    assert "cannot be read: a.json beside it" in problem
    assert "expected three numbers above 0" in problem
    (tmp_path / "a.json").write_text("no json")
    assert "is not valid JSON" in str(inspect_image(tmp_path / "a.tif").problem)


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "sized", "known"),
    [
        (None, True, True),
        (None, False, False),
        (True, False, True),
        (False, True, False),
        ("yes", False, False),  # no answer
    ],
)
def test_the_manifest_first_then_the_file(said: object, sized: bool, known: bool) -> None:
    labels = CaseLabels(("LV",), info={} if said is None else {"spacing_known": said})
    geometry = Geometry((1, 1), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), sized=sized)
    assert spacing_is_known(labels, geometry) is known
    assert spacing_is_known(labels, None) is (said is not False)


def test_the_overview_calls_the_pixel_size_of_png_made_up() -> None:
    manifest = Manifest({case: CaseLabels(("LV",), domain=case) for case in ("png", "nifti")})
    geometry = {
        name: Geometry((6, 8), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), sized=name == "nifti")
        for name in ("png", "nifti")
    }
    text = dataset_summary(manifest, ["LV"], ["png", "nifti"], [], geometry)
    assert text.count("1 x 1 (nominal)") == 1
    assert "measured and nominal spacings" in str(scale_warning(manifest, ["png", "nifti"], geometry))


def test_the_warning_signs_of_a_training_on_png_say_no_cm2(tmp_path: Path) -> None:
    """400 of 1600 pixels drawn in a, 800 predicted in b, which does not know it: shares, 2 times as usual."""
    from nnunet_partial.training.validation import size_warnings_text

    manifest = Manifest({"a": CaseLabels(("LV",), domain="a"), "b": CaseLabels((), domain="b")})
    entries = []
    for case, drawn, predicted in (("a", 400, 400), ("b", 0, 800)):
        write_image(tmp_path / f"{case}.png", SQUARE if drawn else np.zeros_like(SQUARE), 1.0)
        counts = {"TP": drawn, "FP": predicted - drawn, "FN": 0, "TN": 1600 - predicted, "n_pred": predicted}
        entries.append(
            {
                "prediction_file": f"p/{case}.png",
                "reference_file": str(tmp_path / f"{case}.png"),
                "metrics": {1: {**counts, "n_ref": drawn}},
            }
        )
    text = size_warnings_text({"metric_per_case": entries}, manifest, {1: "LV"}, ".png", ["a", "b"], "m")
    assert text.startswith("Mean predicted size (fraction of image)")
    assert re.search("m: in b, LV .* 2 times .*area ", text)


@pytest.mark.parametrize(("ending", "shape"), [(".bmp", (9, 7)), (".gipl", (9, 7)), (".tif", (1, 9, 7))])
def test_formats_that_change_axes_or_colors_are_no_full_disk(
    tmp_path: Path, ending: str, shape: tuple[int, ...]
) -> None:
    """ITK reads gray BMP as red, green and blue, GIPL with a third axis, and TIFF of one slice without."""
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_itk(sitk.GetImageFromArray(values), tmp_path / f"a{ending}")
    assert np.array_equal(np.squeeze(read_array(tmp_path / f"a{ending}")[1]), np.squeeze(values))


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("P", 3), ("RGB", 3)])
def test_bmp_has_a_number_per_pixel_where_nnunet_reads_one(tmp_path: Path, mode: str, components: int) -> None:
    """In the second the values are the numbers of colors."""
    values = np.arange(63, dtype=np.uint8).reshape(9, 7)
    picture = Image.fromarray(values).convert(mode)
    if mode == "P":
        picture.putpalette([200, 0, 0] * 256)
    picture.save(tmp_path / "a.bmp")
    (array, _) = NaturalImage2DIO().read_images([str(tmp_path / "a.bmp")])
    geometry, read = read_array(tmp_path / "a.bmp")
    assert geometry.components == header(tmp_path / "a.bmp").components == components == len(array)
    assert np.array_equal(read, array[0, 0] if components == 1 else np.moveaxis(array[:, 0], 0, -1))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".png"])
def test_a_full_disk_leaves_no_half_image(tmp_path: Path, ending: str) -> None:
    resource = pytest.importorskip("resource")
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (600, 600)).astype(np.uint8))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DatasetError, match=f"a{ending}"):
            write_itk(image, tmp_path / f"a{ending}", compressed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / f"a{ending}").exists()
