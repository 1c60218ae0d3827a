"""A picture of the workflow of a study: which step needs which."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.runner import ask_snakemake, only_run
from nnunet_partial.study.workflow import prepare_workflow
from nnunet_partial.utils.files import write_text


def draw_graph(study: Study, file: Path, output: Path) -> None:
    """Writes .svg, .png or .pdf (with Graphviz's `dot`), or .dot (without).

    Raises PartialLabelError where `dot` is needed and not installed, and where the study cannot be run or is run now.
    """
    kind = output.suffix.removeprefix(".")
    if kind not in ("svg", "png", "pdf", "dot"):
        raise PartialLabelError(
            f"The picture is {output.name!r}; expected a name that ends in .svg, .png, .pdf or .dot."
        )
    dot = shutil.which("dot")
    if kind != "dot" and dot is None:
        raise PartialLabelError(
            "Graphviz is not installed (its program `dot` draws the picture). Install it, or ask for a .dot file."
        )
    StudyFolder(study.folder).root.mkdir(parents=True, exist_ok=True)
    with only_run(StudyFolder(study.folder)):
        folder = prepare_workflow(study, file, hands_out=False, begin=False)
        drawn = ask_snakemake(folder, ["--dag", "dot", "--forceall"])
    if kind == "dot":
        write_text(output, drawn)
    else:
        subprocess.run([str(dot), f"-T{kind}", "-o", str(output)], input=drawn, text=True, check=True)
