"""From folders as they are downloaded to predictions of every structure, through the real command lines.

They run in this process; tests/install and tests/slurm start them as a user does.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.nnunet_in_process import InProcess
from helpers.toy_dataset import shrink

from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.phantom.writers import write_camus, write_echonet_dynamic

pytestmark = pytest.mark.slow
MERGED = "Dataset510_Echo"
SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "real_echo"


def convert_and_merge(project: InProcess, camus: Path, echonet: Path) -> None:
    project.must("nnunet_partial", "convert", "camus", "-i", str(camus), "-d", "501", "-np", "1")
    project.must("nnunet_partial", "convert", "echonet-dynamic", "-i", str(echonet), "-d", "502", "-np", "1")
    project.must("nnunet_partial", "merge", "-i", "501", "502", "-d", "510", "--name", "Echo", "-np", "1")
    project.must("nnunet_partial", "check", "-d", "510", "-np", "1")


def plan(project: InProcess) -> None:
    project.must("nnUNetv2_plan_and_preprocess", "-d", "510", "-c", "2d", "-np", "1", "-npfp", "1")
    shrink(project.preprocessed(MERGED) / "nnUNetPlans.json", "2d")


def predict(project: InProcess, trainer: str, images: Path) -> dict[str, np.ndarray]:
    out = project.root / f"predicted_{trainer}"
    project.must(
        "nnUNetv2_predict", "-d", "510", "-c", "2d", "-f", "0", "-tr", trainer, "-i", str(images), "-o", str(out),
        "-device", "cpu", "-npp", "0", "-nps", "0",
    )  # fmt: skip
    return {file.name: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in sorted(out.glob("*.nii.gz"))}


def check_predictions(project: InProcess, predicted: dict[str, np.ndarray]) -> None:
    """One prediction for each test image, of its size, with no value that is not a class."""
    images = sorted((project.raw(MERGED) / "imagesTs").glob("*_0000.nii.gz"))
    assert [file.name.replace("_0000", "") for file in images] == list(predicted)
    for file, labels in zip(images, predicted.values(), strict=True):
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(file))).shape == labels.shape
        assert set(np.unique(labels)) <= {0, 1, 2, 3}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    project = InProcess(tmp_path_factory.mktemp("drawn"))
    camus, echonet = project.root / "CAMUS_public", project.root / "EchoNet-Dynamic"
    write_camus(camus, 6, seed=1, shape=(48, 48), half_sequence=False)
    write_echonet_dynamic(echonet, 6, seed=2, shape=(48, 48), frames=8)
    convert_and_merge(project, camus, echonet)
    plan(project)
    return project


@pytest.mark.parametrize("trainer", ["nnUNetTrainerMarginal", "nnUNetTrainerACCE", "nnUNetTrainerABCE"])
def test_from_downloaded_folders_to_predictions(drawn: InProcess, trainer: str) -> None:
    said = drawn.train("510", "2d", "0", "-tr", trainer, nnUNet_partial_epochs="1")
    training = json.loads((drawn.preprocessed(MERGED) / SPLITS_NAME).read_text())[0]["train"]
    manifest = json.loads((drawn.raw(MERGED) / MANIFEST_NAME).read_text())["cases"]
    counts = {domain: sum(manifest[case]["domain"] == domain for case in training) for domain in ("camus", "echonet")}
    rows = [" ".join(line.split()) for line in said.splitlines()]
    camus, echonet = f"{counts['camus']} / 0 / 0", f"{counts['echonet']} / 0 / 0"
    assert f"camus {camus} {camus} {camus}" in rows  # LV, MYO, LA: annotated / absent / unknown
    assert f"echonet {echonet} 0 / 0 / {counts['echonet']} 0 / 0 / {counts['echonet']}" in rows
    check_predictions(drawn, predict(drawn, trainer, drawn.raw(MERGED) / "imagesTs"))


def test_a_small_real_sample(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip("the small sample of real echo is not on this machine")
    project = InProcess(tmp_path)
    convert_and_merge(project, SAMPLE / "CAMUS_public", SAMPLE / "EchoNet-Dynamic")
    manifest = json.loads((project.raw(MERGED) / MANIFEST_NAME).read_text())["cases"]
    known = {case: (entry["annotated"], entry.get("absent", [])) for case, entry in manifest.items()}
    assert known["camus_patient0001_2CH_ED"] == (["LV", "MYO", "LA"], ["RV", "RA"])
    assert [known[case] for case in known if case.startswith("echonet")] == [(["LV"], [])] * 10

    plan(project)
    project.train("510", "2d", "0", "-tr", "nnUNetTrainerMarginal", nnUNet_partial_epochs="1")
    images = project.raw(MERGED) / "imagesTr"
    predicted = predict(project, "nnUNetTrainerMarginal", images)
    assert len(predicted) == 10  # one of the five EchoNet patients is in the official test part
    assert predicted["camus_patient0001_2CH_ED.nii.gz"].shape == (214, 212)  # rows, cols
