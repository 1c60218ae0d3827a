"""The Snakemake command for the workflow of a study."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.folder import StudyFolder

_SNAKEFILE = Path(__file__).with_name("Snakefile")


def snakemake(folder: StudyFolder, options: Sequence[str]) -> list[str]:
    """The Snakemake command for the workflow in this folder.

    A step counts as done by its file alone: neither dates nor a newer version of this package repeat a training. Our
    own lock (`engine.only_run`) replaces Snakemake's, which outlives a killed process.
    """
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(_SNAKEFILE), "--directory", str(folder.root)),
        *("--configfile", str(folder.workflow), "--nolock", "--keep-going", "--rerun-incomplete"),
        *("--rerun-triggers", "input", *options),
    ]


def ask_snakemake(folder: StudyFolder, options: Sequence[str]) -> str:
    """What it prints about the workflow, nothing being run. Raises PartialLabelError where it fails."""
    done = subprocess.run(snakemake(folder, options), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PartialLabelError(f"Snakemake failed:\n{done.stderr}")
    return done.stdout
