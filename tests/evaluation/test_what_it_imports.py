"""The evaluation runs without PyTorch and nnU-Net."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nnunet_partial.evaluation

FOLDER = Path(nnunet_partial.evaluation.__file__).parent


def test_no_module_brings_torch_or_nnunet() -> None:
    modules = [f"nnunet_partial.evaluation.{file.stem}" for file in FOLDER.glob("*.py") if file.stem != "__init__"]
    assert "nnunet_partial.evaluation.metrics" in modules
    modules.append("nnunet_partial.cli.evaluate")
    code = (
        f"import importlib, sys\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
        "sys.exit(' '.join(name for name in ('torch', 'nnunetv2') if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
