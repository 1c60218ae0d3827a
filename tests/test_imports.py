"""Who may import whom; and `nnunet_partial --help` and conversions must not wait for PyTorch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_partial.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CONVERSION = ROOT / "nnunet_partial", ROOT / "dataset_conversion"
TRAINERS = sorted((PACKAGE / "trainers").glob("*.py"))

#: Imports the modules one after the other and names the first that brings one of the heavy packages along.
IMPORT = """
import importlib, sys
*modules, heavy = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
    found = [package for package in heavy.split(",") if package in sys.modules]
    if found:
        sys.exit(f"importing {module} imports {', '.join(found)}")
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


def modules_in(folder: Path, package: str) -> list[str]:
    """All modules of a folder, without those below it."""
    names = [file.stem for file in sorted(folder.glob("*.py"))]
    return [package if name == "__init__" else f"{package}.{name}" for name in names]


LIGHT = [
    *(
        f"nnunet_partial.{name}"
        for name in ("errors", "files", "labels", "splits", "raw_dataset", "label_check", "check")
    ),
    *modules_in(CONVERSION, "nnunet_partial.dataset_conversion"),
    *modules_in(PACKAGE / "cli", "nnunet_partial.cli"),
]


def test_the_light_modules_import_neither_torch_nor_nnunet() -> None:
    assert "nnunet_partial.dataset_conversion.camus" in LIGHT
    assert "nnunet_partial.cli.convert" in LIGHT
    done = python("-c", IMPORT, *LIGHT, "torch,nnunetv2")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_itself_notices_an_import() -> None:
    done = python("-c", IMPORT, "json", "decimal", "torch,decimal")
    assert done.returncode == 1
    assert done.stderr.strip() == "importing decimal imports decimal"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_seconds(command: list[str]) -> None:
    code = (
        "import sys\nfrom nnunet_partial.cli import main\n"
        "try:\n    main([*sys.argv[1:], '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = ('torch', 'nnunetv2', 'matplotlib', 'scipy', 'pandas', 'skimage', 'SimpleITK', 'av')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = python("-c", code, *command)
    assert done.stdout.startswith(f"usage: nnunet_partial {' '.join(command)}".rstrip())
    assert (done.returncode, done.stderr) == (0, "")


def test_the_losses_run_without_nnunet() -> None:
    done = python("-c", IMPORT, *modules_in(PACKAGE / "losses", "nnunet_partial.losses"), "nnunetv2")
    assert (done.returncode, done.stderr) == (0, "")


# ---- also inside functions, where an import at run time would not show -----------------------------------------------


def imported(file: Path) -> Iterator[str]:
    """Full names of all modules that a file imports anywhere; relative imports as they stand, with their dots."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("file", sorted((PACKAGE / "losses").glob("*.py")), ids=lambda file: file.stem)
def test_losses_know_only_errors_and_themselves(file: Path) -> None:
    ours = [name for name in imported(file) if within(name, "nnunet_partial")]
    assert [name for name in imported(file) if within(name, "nnunetv2", "batchgenerators")] == []
    assert [name for name in ours if not within(name, "nnunet_partial.errors", "nnunet_partial.losses")] == []


@pytest.mark.parametrize("file", sorted(CONVERSION.glob("*.py")), ids=lambda file: file.stem)
def test_conversion_knows_nothing_of_training(file: Path) -> None:
    above = ("torch", *(f"nnunet_partial.{name}" for name in ("losses", "training", "trainers", "cli", "demo")))
    assert [name for name in imported(file) if within(name, *above)] == []


@pytest.mark.parametrize("name", ["errors", "files", "labels", "splits"])
def test_the_ground_floor_imports_only_itself(name: str) -> None:
    ours = {other for other in imported(PACKAGE / f"{name}.py") if within(other, "nnunet_partial")}
    ground = tuple(f"nnunet_partial.{other}" for other in ("errors", "files", "labels"))
    assert [other for other in ours if not within(other, *ground)] == []


@pytest.mark.parametrize("package", ["trainers", "cli"])
def test_trainers_and_commands_are_the_top_floor(package: str) -> None:
    """nnU-Net loads trainers under names of its own, so that a class imported from there is another class."""
    guilty = {
        file.name
        for file in [*PACKAGE.rglob("*.py"), *CONVERSION.glob("*.py")]
        if file.parent != PACKAGE / package
        for name in imported(file)
        if within(name, f"nnunet_partial.{package}")
    }
    assert guilty == set()


@pytest.mark.parametrize("file", TRAINERS, ids=lambda file: file.stem)
def test_a_trainer_file_is_what_nnunets_search_can_import(file: Path) -> None:
    """Imported as a top-level module: absolute imports, a name that no other module has, only classes inside."""
    assert file.stem.startswith("nnUNetTrainer")
    assert not [name for name in imported(file) if name.startswith(".")]
    doc, *rest = ast.parse(file.read_text()).body
    assert isinstance(doc, ast.Expr)
    assert {type(node) for node in rest} == {ast.ImportFrom, ast.ClassDef}
    for node in rest:
        if isinstance(node, ast.ClassDef):  # begins with the loss or ends with the network that its file is named after
            ending = file.stem.removeprefix("nnUNetTrainer")
            assert node.name.startswith(file.stem) or re.fullmatch(f"nnUNetTrainer.*{ending}", node.name)
