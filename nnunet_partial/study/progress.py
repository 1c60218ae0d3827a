"""How far a study is: each step done, running, failed or waiting, told from the files that the steps leave."""

from __future__ import annotations

from collections import Counter

from nnunet_partial.study.definition import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.hold import is_held
from nnunet_partial.study.steps import steps
from nnunet_partial.utils.text import text_table

STATES = ("done", "running", "stopped", "waiting")


def state(folder: StudyFolder, step: str) -> str:
    """One of STATES. "stopped": it was begun and is neither done nor running, so it failed or was interrupted."""
    if folder.done(step).exists():
        return "done"
    if is_held(folder.lock(step)):
        return "running"
    return "stopped" if folder.log(step).exists() else "waiting"


def ended_badly(folder: StudyFolder, step: str) -> bool:
    return state(folder, step) == "stopped"


def status_table(study: Study) -> str:
    """Per kind of step how many are in each state; then what runs and what stopped, by name."""
    folder = StudyFolder(study.folder)
    states = {step: state(folder, step) for step in steps(study)}
    kinds = list(dict.fromkeys(step.partition("/")[0] for step in states))
    counts = Counter((step.partition("/")[0], found) for step, found in states.items())
    rows = [[kind, *(str(counts[kind, found]) for found in STATES)] for kind in kinds]
    text = text_table(["step", *STATES], rows)
    for found, meaning in (("running", "running now"), ("stopped", "failed or interrupted")):
        named = [step for step, here in states.items() if here == found]
        if named:
            text += f"\n{meaning}:\n" + "".join(f"  {step}\n    {folder.log(step)}\n" for step in named)
    return text
