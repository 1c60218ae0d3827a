"""What the next `run` of a study would do: per kind of step how many are done, and how many would run."""

from __future__ import annotations

import csv
from collections import defaultdict

from nnunet_partial.study.definition import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.settings import data_are_outdated
from nnunet_partial.study.snakemake_command import ask_snakemake
from nnunet_partial.study.steps import steps
from nnunet_partial.utils.text import text_table


def outlook(study: Study, folder: StudyFolder) -> str:
    """A table as plain text. Repeated is what is done and will be anew, such as a prediction whose folds changed."""
    pending = set(steps(study)) if data_are_outdated(study, folder) else _pending(folder)
    of_kind = defaultdict[str, list[str]](list)
    for step in steps(study):
        of_kind[step.partition("/")[0]].append(step)
    rows = []
    for kind, named in {**of_kind, "all": steps(study)}.items():
        done = {step for step in named if folder.done(step).exists()}
        rows.append([kind, *(str(len(chosen)) for chosen in (done, pending.intersection(named), pending & done))])
    table = text_table(["step", "done", "would run", "of these repeated"], rows)
    return f"{table}\nNothing was started. Each step with its command: --dry-run -- --printshellcmds"


def _pending(folder: StudyFolder) -> set[str]:
    """The steps that Snakemake would run; the report, which is made anew each time, is not among them."""
    lines = ask_snakemake(folder, ["--cores", "1", "--summary"]).splitlines()
    rows = csv.DictReader(lines, delimiter="\t")
    return {row["output_file"].removeprefix("done/") for row in rows if row["plan"] == "update pending"}
