"""Who may import whom; and `nnunet_partial --help` and conversions must not wait for PyTorch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from nnunet_partial.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CONVERSION = ROOT / "nnunet_partial", ROOT / "dataset_conversion"
TRAINERS = sorted((PACKAGE / "trainers").glob("*.py"))

#: The only packages that may import torch or nnU-Net at module level; what they may import of ours is in `LAYERS`.
HEAVY = ("losses", "training", "trainers")

#: What most who read a dataset with a manifest import.
_MANIFEST = ("errors", "utils", "dataset_json", "labels")

#: What each package (or module at the root) may import of the others, inside functions too.
LAYERS = {
    "": {"inference", "utils"},
    "errors": set(),
    "utils": {"errors"},
    "labels": {"errors", "utils"},
    "dataset_json": {"errors", "utils"},
    "inference": {"errors", "utils"},
    "losses": {"errors"},
    "phantom": {"errors", "dataset"},
    "dataset": {*_MANIFEST},
    "dataset_conversion": {*_MANIFEST, "dataset"},
    "biomarkers": {"utils", "labels"},
    "evaluation": {*_MANIFEST, "dataset", "biomarkers"},
    "clips": {
        "errors",
        "utils",
        "dataset_json",
        "dataset",
        "dataset_conversion",
        "biomarkers",
        "evaluation",
        "report",
        "inference",
    },
    "model_selection": {"errors", "utils", "dataset_json", "dataset", "evaluation"},
    "active_learning": {*_MANIFEST, "dataset", "evaluation", "model_selection", "training", "inference"},
    "pseudo_labels": {
        "errors",
        "utils",
        "dataset",
        "dataset_conversion",
        "evaluation",
        "model_selection",
        "active_learning",
        "report",
        "training",
    },
    "report": {*_MANIFEST, "dataset", "evaluation"},
    "export": {*_MANIFEST, "dataset", "evaluation", "model_selection", "report", "training", "inference"},
    "training": {*_MANIFEST, "dataset", "evaluation", "losses"},
    "trainers": {"losses", "training"},
    "demo": {"errors", "utils", "dataset", "phantom", "report"},
    "study": {"errors", "utils", "labels", "dataset", "dataset_conversion", "evaluation", "report"},
    "__main__": {"cli"},
}

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


def module_name(file: Path) -> str:
    """Return the name under which a file is imported; `dataset_conversion` lies outside, but belongs to the package."""
    inside = file.relative_to(ROOT).with_suffix("")
    parts = inside.parts if file.is_relative_to(PACKAGE) else ("nnunet_partial", *inside.parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted([*PACKAGE.rglob("*.py"), *CONVERSION.rglob("*.py")])}


def package_of(module: str) -> str:
    """Return the part of a module's name that `LAYERS` speaks of; empty for `nnunet_partial` itself."""
    return module.split(".")[1] if "." in module else ""


def imported(module: str, nodes: Iterator[ast.AST] | None = None) -> Iterator[str]:
    """Yield the full names of all modules that a module imports anywhere, or in some nodes of it."""
    tree = ast.parse(FILES[module].read_text())
    parents = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_every_package_has_its_layer() -> None:
    assert {package_of(module) for module in FILES} == {*LAYERS, "cli"}


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    """The trainers and the commands are on top: nobody imports them."""
    used = {
        (module, package_of(other))
        for module in FILES
        if package_of(module) == package
        for other in imported(module)
        if other.startswith("nnunet_partial") and package_of(other) != package
    }
    assert {(module, other) for module, other in used if other not in LAYERS[package]} == set()
    assert LAYERS[package] - {other for _, other in used} == set()  # allowed, and not needed


def test_no_package_lies_below_itself() -> None:
    tuple(TopologicalSorter(LAYERS).static_order())


def test_no_module_imports_itself_by_way_of_others() -> None:
    tuple(TopologicalSorter({module: set(imported(module)) - {module} for module in FILES}).static_order())


def at_module_level(module: str) -> set[str]:
    """Return the packages from elsewhere that importing a module imports at once."""
    body = ast.parse(FILES[module].read_text()).body
    return {name.partition(".")[0] for name in imported(module, iter(body))}


@pytest.mark.slow
def test_only_what_trains_imports_torch_or_nnunet() -> None:
    heavy = {module for module in FILES if at_module_level(module) & {"torch", "nnunetv2", "batchgenerators"}}
    assert {package_of(module) for module in heavy} == set(HEAVY)


@pytest.mark.slow
def test_the_light_packages_can_be_imported_without_torch_and_nnunet() -> None:
    light = [module for module in FILES if package_of(module) not in HEAVY]
    assert "nnunet_partial.dataset_conversion.camus" in light
    assert "nnunet_partial.cli.convert" in light
    done = python("-c", IMPORT, *light, "torch,nnunetv2")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_whose_options_need_no_numbers_starts_without_numpy() -> None:
    done = python("-c", IMPORT, "nnunet_partial.cli.check", "numpy")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_itself_notices_an_import() -> None:
    done = python("-c", IMPORT, "json", "decimal", "torch,decimal")
    assert done.returncode == 1
    assert done.stderr.strip() == "importing decimal imports decimal"


#: Prints the help of each command, and ends at the first that imports something that takes seconds.
HELP = """
import sys
from nnunet_partial.cli import main
for command in ([], *([name] for name in sys.argv[1:])):
    try:
        main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0, command
    heavy = ("torch", "nnunetv2", "matplotlib", "scipy", "pandas", "skimage", "SimpleITK", "av")
    found = [package for package in heavy if package in sys.modules]
    if found:
        sys.exit(f"help of {command} imports {', '.join(found)}")
"""


@pytest.mark.slow
def test_help_imports_nothing_that_takes_seconds() -> None:
    done = python("-c", HELP, *COMMANDS)
    assert (done.returncode, done.stderr) == (0, "")
    usages = re.findall(r"^usage: nnunet_partial ?([a-z-]*)", done.stdout, re.MULTILINE)
    assert usages == ["", *COMMANDS]


@pytest.mark.slow
def test_the_losses_run_without_nnunet() -> None:
    modules = [module for module in FILES if package_of(module) == "losses"]
    done = python("-c", IMPORT, *modules, "nnunetv2,batchgenerators,SimpleITK")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", TRAINERS, ids=lambda file: file.stem)
def test_a_trainer_file_is_what_nnunets_search_can_import(file: Path) -> None:
    """Imported as a top-level module: absolute imports, a name that no other module has, only classes inside."""
    assert file.stem.startswith("nnUNetTrainer")
    doc, *rest = ast.parse(file.read_text()).body
    assert isinstance(doc, ast.Expr)
    assert {type(node) for node in rest} == {ast.ImportFrom, ast.ClassDef}
    assert [node.level for node in rest if isinstance(node, ast.ImportFrom) and node.level] == []
    for node in rest:
        if isinstance(node, ast.ClassDef):  # begins with the loss or ends with the network that its file is named after
            ending = file.stem.removeprefix("nnUNetTrainer")
            assert node.name.startswith(file.stem) or re.fullmatch(f"nnUNetTrainer.*{ending}", node.name)
