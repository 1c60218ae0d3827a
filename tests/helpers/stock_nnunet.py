"""nnU-Net's commands in a process that cannot import this package, as on a computer where it is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RUN = """
import json, os, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nnunet_partial":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
os.environ.pop("nnUNet_extTrainer", None)  # an installed package sets it when Python starts
try:
    import nnunet_partial
except ModuleNotFoundError:
    pass
else:
    sys.exit("nnunet_partial can be imported")
from importlib.metadata import entry_points
import torch
torch.set_num_threads(1)
torch.set_num_threads = lambda number: None  # as in the other process, to the last bit
from multiprocessing.pool import ThreadPool
from nnunetv2.utilities import utils
utils.Pool = lambda processes: ThreadPool(1)  # twelve processes, to match names of files
for command in json.loads(sys.argv[1]):
    (script,) = entry_points(group="console_scripts", name=command[0])
    sys.argv = command
    script.load()()
sys.exit(any(name.partition(".")[0] == "nnunet_partial" for name in sys.modules))
"""


def run_stock(root: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run commands one after the other; nnU-Net's results are in `root`, raw data nowhere."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, json.dumps(commands)],
        env={**variables, "nnUNet_results": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
