"""Runs a command once for every step it takes on disk, and stops it there: `fault_injection.py STORY HOW FOLDER`.

A step is a file or folder made, opened for writing, renamed, linked or removed below FOLDER, seen by an audit hook. The
run is stopped just before it, HOW being "kill" (the process is gone, as after SIGKILL or a power cut) or the name of an
error number such as ENOSPC, which the step raises: a full disk. Then the same command runs again, undisturbed.

Prints one JSON object per step: the step, what was to be seen after the fault, and what is there after the second run.
Run by test_stopped_fault_injection.py in a process of its own, without torch, so that it can fork for each run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nnunetv2.dataset_conversion.generate_dataset_json  # noqa: F401  (imported once, not in each fork)
from helpers.raw_datasets import Drawn, write_dataset
from helpers.source_datasets import camus_view
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.writer import convert

from nnunet_partial.dataset.check import check
from nnunet_partial.errors import PartialLabelError

NAME = "Dataset501_New"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: Audit events of steps on disk, and how many of their arguments are paths.
EVENTS = {"os.rename": 2, "os.link": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.chmod": 1, "open": 1}


class Stop:
    """The audit hook: counts steps below `folder`, and stops the process at step `at` (None: only counts)."""

    def __init__(self, folder: Path, at: int | None, how: str) -> None:
        self.folder, self.at, self.how = os.fspath(folder), at, how
        self.steps: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in EVENTS or (event == "open" and not self._writes(arguments)):
            return
        paths = [
            os.fsdecode(path) for path in arguments[: EVENTS[event]] if isinstance(path, (str, bytes, os.PathLike))
        ]
        # removing a tree names its members relative to an open folder
        ours = all(path.startswith(self.folder) or not Path(path).is_absolute() for path in paths)
        if not ours or self._changes_nothing(event, paths[0]):
            return
        self.steps.append(f"{event} {' -> '.join(path.removeprefix(self.folder + os.sep) for path in paths)}")
        if len(self.steps) - 1 == self.at:
            if self.how == "kill":
                os._exit(9)
            number = getattr(errno, self.how)
            raise OSError(number, os.strerror(number), paths[0])

    @staticmethod
    def _changes_nothing(event: str, path: str) -> bool:
        """A folder that is there already, a file that is not there to be removed."""
        there = os.path.lexists(path) or not Path(path).is_absolute()
        return (event == "os.mkdir" and there) or (event == "os.remove" and not there)

    @staticmethod
    def _writes(arguments: tuple[object, ...]) -> bool:
        mode, flags = arguments[1], arguments[2]
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return bool(isinstance(flags, int) and flags & WRITING)


# ---- stories: what is made, out of what ------------------------------------------------------------------------------


def draw_sources(root: Path) -> None:
    camus_view(root / "camus", "patient0001")
    both = {"annotated": ["LV", "LA"]}
    write_dataset(
        root / "raw",
        "Dataset001_A",
        {"LV": 1, "LA": 2},
        [Drawn(f"a{n}", (1, 2), {**both, "patient": f"a{n}"}) for n in (1, 2)],
    )
    lv = {"annotated": ["LV"], "domain": "b"}
    write_dataset(root / "raw", "Dataset002_B", {"LV": 1}, [Drawn("b1", (1,), {**lv, "patient": "b1"})])


def conversion(root: Path, overwrite: bool) -> None:
    convert(Camus(root / "camus"), NAME, overwrite=overwrite)


def merging(root: Path, overwrite: bool) -> None:
    merge([root / "raw" / "Dataset001_A", root / "raw" / "Dataset002_B"], NAME, overwrite=overwrite)


def old(root: Path) -> None:
    """An earlier data set of the name, with something preprocessed of it."""
    write_dataset(root / "raw", NAME, {"LV": 1}, [Drawn("old", (1,), {"annotated": ["LV"]})])
    for file in ("gt_segmentations/old.nii.gz", "nnUNetPlans.json"):
        path = root / "preprocessed" / NAME / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")


STORIES: dict[str, tuple[Callable[[Path, bool], None], bool]] = {
    "convert": (conversion, False),
    "merge --overwrite": (merging, True),
}


# ---- what is there afterwards ----------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, str]:
    """A sum over each file below a folder, hidden ones too, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return found


def state(root: Path) -> dict[str, object]:
    """What a user sees: is the data set there and sound, does it hold old cases or new ones, what else lies there."""
    target = root / "raw" / NAME
    seen: dict[str, object] = {"there": target.exists()}
    if target.exists():
        try:
            seen["findings"] = list(check(target).findings)
        except PartialLabelError as problem:
            seen["findings"] = [str(problem)]
        seen["old"] = (target / "labelsTr" / "old.nii.gz").exists()
    seen["hidden"] = sorted(path.name for path in (root / "raw").glob(".*"))
    return seen


# ---- runs ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


def in_a_fork(work: Callable[[], object]) -> tuple[int, object]:
    """Exit code of a forked process that does the work, and what it gave (None where it was stopped)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with quiet():
            result = work()
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(answer) if answer else None


def attempt(story: str, root: Path, stop: Stop | None) -> dict[str, object]:
    """Runs the command; gives the steps that were counted and how it ended."""
    work, overwrite = STORIES[story]
    if stop is not None:
        sys.addaudithook(stop)
    try:
        work(root, overwrite)
        error = None
    except (PartialLabelError, OSError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return {"steps": stop.steps if stop is not None else [], "error": error}


def fresh(story: str, drawn: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(drawn, root)
    if STORIES[story][1]:
        old(root)
    os.environ["nnUNet_raw"], os.environ["nnUNet_preprocessed"] = str(root / "raw"), str(root / "preprocessed")


def main(story: str, how: str, folder: Path) -> None:
    drawn, root = folder / "drawn", folder / "work"
    draw_sources(drawn)
    fresh(story, drawn, root)
    _, counted = in_a_fork(lambda: attempt(story, root, Stop(root, None, how)))
    assert isinstance(counted, dict)
    assert counted["error"] is None, counted
    wanted = {part: content(root / part) for part in ("raw", "preprocessed")}
    print(json.dumps({"story": story, "steps": len(counted["steps"]), "state": state(root)}))
    seconds: dict[str, tuple[object, bool]] = {}  # how a second run ends and whether all is as wanted, by what it finds
    for number, step in enumerate(counted["steps"]):
        fresh(story, drawn, root)
        code, ended = in_a_fork(lambda number=number: attempt(story, root, Stop(root, number, how)))  # type: ignore[misc]
        after = state(root)
        found = json.dumps([sorted(str(path) for path in root.rglob("*")), content(root)])
        if found not in seconds:
            _, again = in_a_fork(lambda: attempt(story, root, None))
            same = wanted == {part: content(root / part) for part in ("raw", "preprocessed")}
            seconds[found] = again, same
        again, same = seconds[found]
        print(json.dumps({"step": step, "code": code, "ended": ended, "after": after, "again": again, "same": same}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
