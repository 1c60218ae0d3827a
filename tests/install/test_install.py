"""Installed as people install it, with no variable of ours set: nnU-Net finds our trainers, and still its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.toy_dataset import Project
from helpers.virtual_environment import SmallVenv

pytestmark = pytest.mark.install
DATASET = "Dataset701_Toy"
OURS = ("nnUNetTrainerMarginal", "nnUNetTrainerNaive_5epochs")
NNUNETS = ("nnUNetTrainer", "nnUNetTrainer_5epochs")
USERS = "nnUNetTrainerOfMine"
NAMES = (*OURS, *NNUNETS, USERS)
FIND = str(Path(__file__).parents[1] / "helpers" / "find_trainers.py")


def check_search(output: str, trainers: Path, nnunet: Path, package: Path, converters: Path) -> None:
    """Every name gave a class from where it should come."""
    found = json.loads(output.splitlines()[-1])
    assert found["files"] == {
        "nnunetv2": str(nnunet / "__init__.py"),
        "nnunet_partial": str(package / "__init__.py"),
        "nnunet_partial.dataset_conversion": str(converters / "__init__.py"),
    }
    for name in OURS:
        assert f"Using trainer '{name}' from: {trainers}\n" in output
        assert "nnunet_partial.training.mixin" in found["bases"][name]
    for name in NNUNETS:
        assert found["bases"][name][0].startswith("nnunetv2.training.nnUNetTrainer.")
        assert f"Using trainer '{name}'" not in output
    assert found["bases"][USERS][0] == "a_trainer_of_mine"


@pytest.fixture
def own_folder(tmp_path: Path) -> str:
    """A folder with a trainer that the user wrote."""
    (tmp_path / "a_trainer_of_mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        f"class {USERS}(nnUNetTrainer):\n    pass\n"
    )
    return str(tmp_path)


def test_search_with_both_installed_regularly(regular: SmallVenv, own_folder: str) -> None:
    package = regular.site / "nnunet_partial"
    said = regular.must("python", FIND, own_folder, *NAMES)
    check_search(said, package / "trainers", regular.site / "nnunetv2", package, package / "dataset_conversion")


def test_search_with_nnunet_installed_editable(
    nnunet_editable: SmallVenv, nnunet_source: Path, own_folder: str
) -> None:
    package = nnunet_editable.site / "nnunet_partial"
    said = nnunet_editable.must("python", FIND, own_folder, *NAMES)
    check_search(said, package / "trainers", nnunet_source / "nnunetv2", package, package / "dataset_conversion")


def test_search_with_ours_installed_editable(ours_editable: SmallVenv, source: Path, own_folder: str) -> None:
    assert not (ours_editable.site / "nnunet_partial.pth").exists()
    documented = 'export nnUNet_extTrainer="$(nnunet_partial trainers --path)"'
    script = ours_editable.bin / "as_documented"
    script.write_text(f'#!/bin/sh\nset -e\n{documented}\nexec python "$@"\n')
    script.chmod(0o755)
    said = ours_editable.must(script.name, FIND, own_folder, *NAMES)
    package = source / "nnunet_partial"
    check_search(said, package / "trainers", ours_editable.site / "nnunetv2", package, source / "dataset_conversion")


# ---- the variable that the .pth file sets ----------------------------------------------------------------------------


SHOW = "import os, sys, subprocess; print(os.environ['nnUNet_extTrainer']); sys.stdout.flush()"
TWICE = f'{SHOW}; subprocess.run([sys.executable, "-c", "{SHOW}"], check=True)'


@pytest.mark.parametrize("mine", ["", "/my/trainers", f"/my/trainers{os.pathsep}/others"])
def test_a_folder_of_the_user_is_kept_and_ours_comes_last_and_once(regular: SmallVenv, mine: str) -> None:
    ours = str(regular.site / "nnunet_partial" / "trainers")
    expected = f"{mine}{os.pathsep}{ours}" if mine else ours
    given = {"nnUNet_extTrainer": mine} if mine else {}
    assert regular.must("python", "-c", TWICE, **given).splitlines() == [expected, expected]


def test_ours_is_not_named_a_second_time(regular: SmallVenv) -> None:
    already = f"{regular.site / 'nnunet_partial' / 'trainers'}{os.pathsep}/my/trainers"
    assert regular.must("python", "-c", SHOW, nnUNet_extTrainer=already).strip() == already


# ---- what is shipped -------------------------------------------------------------------------------------------------


def test_the_wheel_holds_every_module_and_nothing_else(wheels: dict[str, Path], source: Path) -> None:
    with zipfile.ZipFile(wheels["nnunet_partial"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        record = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
        pth = wheel.read("nnunet_partial.pth").decode()
        licences = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    modules = {str(path.relative_to(source)) for path in (source / "nnunet_partial").rglob("*.py")}
    converters = (source / "dataset_conversion").rglob("*.py")
    modules |= {f"nnunet_partial/{path.relative_to(source)}" for path in converters}
    data = {"nnunet_partial/py.typed", "nnunet_partial.pth", "nnunet_partial/study/Snakefile"}
    data |= {f"nnunet_partial/report/templates/{name}" for name in ("blocks.html", "page.html", "style.css")}
    data |= {f"nnunet_partial/schemas/{name}.schema.json" for name in ("partial_labels", "study")}
    assert names == modules | data
    assert "nnunet_partial/trainers/nnUNetTrainerMarginal.py" in names
    assert "\nnnunet_partial.pth," in f"\n{record}"  # so that pip uninstall removes it
    assert len(pth.splitlines()) == 1
    assert len(licences) == 1


def test_metadata_and_command_and_types(regular: SmallVenv) -> None:
    code = "import importlib.metadata as m; print(*m.requires('nnunet-partial'), sep='\\n')"
    needed = [line.replace(" ", "") for line in regular.must("python", "-c", code).splitlines()]
    assert {"nnunetv2<3,>=2.8", "torch!=2.9.*,>=2.3", "av>=12"} <= set(needed)
    assert (regular.site / "nnunet_partial" / "py.typed").is_file()
    assert "usage: nnunet_partial" in regular.must("nnunet_partial", "--help")
    assert regular.must("nnunet_partial", "trainers", "--path").strip() == str(
        regular.site / "nnunet_partial" / "trainers"
    )


def test_importing_setup_does_nothing(source: Path) -> None:
    """nnU-Net's search imports whatever it meets."""
    before = sorted(source.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import setup"], cwd=source, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(source.rglob("*")) == before


# ---- the real commands -----------------------------------------------------------------------------------------------


class InstalledProject(Project):
    """nnU-Net's folders, and its commands as a small environment has them: where trainers are, nobody says."""

    def __init__(self, root: Path, small: SmallVenv) -> None:
        super().__init__(root)
        self.small = small

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in super().environment.items() if name != "nnUNet_extTrainer"}

    def run(self, *command: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.small.run(*command, timeout=timeout, **{**self.environment, **variables})


def test_train_and_predict_by_name(
    regular: SmallVenv, nnunet_editable: SmallVenv, planned: Project, tmp_path: Path
) -> None:
    planned.copy(tmp_path)
    project = InstalledProject(tmp_path, nnunet_editable)
    trainer = "nnUNetTrainerMarginal"
    said = project.train("701", "2d", "0", "-tr", trainer, nnUNet_partial_epochs="1")
    assert f"Using trainer '{trainer}' from: {nnunet_editable.site / 'nnunet_partial' / 'trainers'}" in said

    by_name, by_folder = tmp_path / "by_name", tmp_path / "by_folder"
    images = str(project.raw(DATASET) / "imagesTs")
    options = ("-f", "0", "-i", images, "-device", "cpu")
    # in one process, which is quicker, where the command has that
    alone, beside = ("-npp", "0", "-nps", "0"), ("-npp", "1", "-nps", "1")
    project.must("nnUNetv2_predict", "-d", "701", "-c", "2d", "-tr", trainer, "-o", str(by_name), *options, *alone)

    # the same model where nnU-Net is installed regularly
    other = InstalledProject(tmp_path, regular)
    model = str(tmp_path / "results" / DATASET / f"{trainer}__nnUNetPlans__2d")
    other.must("nnUNetv2_predict_from_modelfolder", "-m", model, "-o", str(by_folder), *options, *beside)
    first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(out / "new.nii.gz"))) for out in (by_name, by_folder))
    assert first.shape == (32, 32)
    np.testing.assert_array_equal(first, second)
