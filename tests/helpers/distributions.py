"""Check the sdist and the wheel in a folder: complete, and each runs the README's commands in a bare environment.

    PYTHONPATH=tests python -m helpers.distributions dist

`make package` builds them and calls this. PyTorch is installed for real.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from helpers.readme import as_run, block_with, write_own_dataset
from helpers.toy_dataset import shrink

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nnunet_partial", "dataset_conversion")


def sources() -> dict[str, bytes]:
    """Every Python file of the repository that belongs into the wheel, by its path there."""
    files = {
        f"nnunet_partial/{path.relative_to(ROOT / 'nnunet_partial')}": path for path in python_files("nnunet_partial")
    }
    files |= {f"nnunet_partial/{path.relative_to(ROOT)}": path for path in python_files("dataset_conversion")}
    return {name: path.read_bytes() for name, path in files.items()}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def check_contents(wheel: Path) -> None:
    """The Python files of the wheel are those of the repository, byte by byte."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    expected = sources()
    if shipped != expected:
        wrong = [name for name in {*shipped, *expected} if shipped.get(name) != expected.get(name)]
        sys.exit(f"{wheel.name}: missing, additional or changed: {', '.join(sorted(wrong))}")
    print(f"{wheel.name}: the {len(shipped)} Python files of the repository")


def check_installation(distribution: Path, folder: Path) -> None:
    """Install a distribution where nothing is, and run the README's first commands on a small dataset."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    bin_folder = next(path for path in (environment / "bin", environment / "Scripts") if path.is_dir())
    subprocess.run([bin_folder / "python", "-m", "pip", "install", "--quiet", distribution], check=True)
    names = ("raw", "preprocessed", "results")
    variables = {f"nnUNet_{name}": str(folder / name) for name in names}
    write_own_dataset(folder / "raw")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet_", "PYTHON"))}
    settings = {"nnUNet_partial_epochs": "1", "nnUNet_partial_iterations": "2", "nnUNet_partial_val_iterations": "2"}
    for words in block_with("declare"):
        command = as_run(words, variables)
        print("  " + " ".join(command), flush=True)
        training = {**settings, "nnUNet_n_proc_DA": "0"} if command[0] != "nnUNetv2_plan_and_preprocess" else {}
        done = subprocess.run(
            [str(bin_folder / command[0]), *command[1:]],
            env={**kept, **variables, **training, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{distribution.name}: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        if words[0] == "nnUNetv2_plan_and_preprocess":
            (plans,) = (folder / "preprocessed").glob("*/nnUNetPlans.json")
            shrink(plans, "2d")
    made = sorted((folder / "predictions").glob("*.nii.gz"))
    if len(made) != 1:
        sys.exit(f"{distribution.name}: {len(made)} predictions; expected 1")
    print(f"{distribution.name}: installed, trained and predicted")


def main(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_contents(wheel)
    for distribution in (wheel, sdist):
        with tempfile.TemporaryDirectory() as folder:
            check_installation(distribution.resolve(), Path(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
