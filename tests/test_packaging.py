"""What a release stands on: one version number, a lower bound for every dependency, workflows that call make."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import nnunet_partial

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: What a step may run besides make: what a bare container lacks, and the command that runs before a change lands.
OTHER_STEPS = {".ci/run", "apt-get -qq update && apt-get -qq install -y git make g++ python3 python3-venv"}

ARGUMENTS = """
import json, setuptools
setuptools.setup = lambda **given: print(json.dumps(given, default=str))
exec(open("setup.py").read(), {"__name__": "__main__", "__file__": "setup.py"})
"""


@pytest.fixture(scope="module")
def arguments() -> dict[str, object]:
    """What setup.py gives to setuptools."""
    done = subprocess.run([sys.executable, "-c", ARGUMENTS], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_one_version_number(arguments: dict[str, object]) -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (arguments["version"], cited["version"]) == (nnunet_partial.__version__,) * 2
    assert '"' + nnunet_partial.__version__ + '"' not in (ROOT / "setup.py").read_text()


def test_every_dependency_has_a_lower_bound(arguments: dict[str, object]) -> None:
    needed = dict(arguments["extras_require"], install=arguments["install_requires"])
    for tools in ("lint", "docs"):  # of one version, or of no interest to who installs us
        needed.pop(tools, None)
    unbounded = [line for lines in needed.values() for line in lines if not re.search(r">=\d", line)]
    assert unbounded == []
    assert "torch>=2.3,!=2.9.*" in needed["install"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_run_what_can_be_run_here(file: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]
    for command in commands:
        made = re.fullmatch(r"make ([a-z-]+)(?: PYTHON=python)?", command)
        assert made[1] in targets if made else command in OTHER_STEPS


def test_there_are_workflows() -> None:
    assert {"tests", "nightly", "publish", "docs"} <= {file.stem for file in WORKFLOWS}
