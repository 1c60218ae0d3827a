"""Three virtual environments in which nnU-Net and nnunet-partial are installed in the ways that people install them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.virtual_environment import SmallVenv

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository: building leaves files behind, and stale ones would get into the wheel."""
    copy = tmp_path_factory.mktemp("source") / "nnunet-partial"
    leave = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "demo_output", "htmlcov")
    shutil.copytree(REPOSITORY, copy, ignore=leave)
    return copy


@pytest.fixture(scope="session")
def nnunet_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed nnU-Net as a folder that can be installed again, as people do who clone it."""
    installed = distribution("nnunetv2")
    spec = find_spec("nnunetv2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = tmp_path_factory.mktemp("nnunet")
    shutil.copytree(
        spec.submodule_search_locations[0], folder / "nnunetv2", ignore=shutil.ignore_patterns("__pycache__")
    )
    commands = [point for point in installed.entry_points if point.group == "console_scripts"]
    lines = [
        "[build-system]",
        'requires = ["setuptools"]',
        'build-backend = "setuptools.build_meta"',
        "[project]",
        'name = "nnunetv2"',
        f'version = "{installed.version}"',
        "[tool.setuptools.packages.find]",
        'include = ["nnunetv2*"]',
        "[project.scripts]",
        *(f"{point.name} = {json.dumps(point.value)}" for point in commands),
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def wheels(source: Path, nnunet_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of nnunet-partial and of nnU-Net, by package."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*build, str(source), str(nnunet_source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {wheel.name.split("-")[0]: wheel for wheel in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def regular(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> SmallVenv:
    """Both installed regularly."""
    small = SmallVenv.create(tmp_path_factory.mktemp("regular"))
    small.install(str(wheels["nnunetv2"]), str(wheels["nnunet_partial"]))
    return small


@pytest.fixture(scope="session")
def nnunet_editable(
    wheels: dict[str, Path], nnunet_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> SmallVenv:
    """nnU-Net with `pip install -e`, ours regularly."""
    small = SmallVenv.create(tmp_path_factory.mktemp("nnunet_editable"))
    small.install("-e", str(nnunet_source), str(wheels["nnunet_partial"]))
    return small


@pytest.fixture(scope="session")
def ours_editable(wheels: dict[str, Path], source: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallVenv:
    """nnU-Net regularly, ours with `pip install -e`."""
    small = SmallVenv.create(tmp_path_factory.mktemp("ours_editable"))
    small.install(str(wheels["nnunetv2"]), "-e", str(source))
    return small
