"""Runs commands as one would type them: shows each before it runs, its progress, and what went wrong if it failed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nnunet_partial.errors import PartialLabelError

#: How tqdm draws a bar; such lines of a command's output are kept in its log only.
_BAR = re.compile(r"\d+%\|.*\|")
_LAST_LINES = 30


@dataclass(frozen=True)
class Progress:
    """How far a command is, read from its output: `step` matches a line of each step, of which there are `total`.

    A group in `step` is the number of steps done; without one the matching lines are counted.
    """

    title: str
    step: str
    total: int
    unit: str


class Display(Protocol):
    """What the reader sees of a command's output."""

    def line(self, text: str) -> None: ...

    def close(self) -> None: ...


class PlainDisplay:
    """Shows the output, less the bars in it and the empty lines around them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun = False

    def line(self, text: str) -> None:
        self._begun = not _BAR.search(text) and (self._begun or bool(text))
        if self._begun:
            self._tell(f"  {text}".rstrip())

    def close(self) -> None:
        pass


class BarDisplay:
    """Shows a bar instead of the output."""

    def __init__(self, progress: Progress) -> None:
        from tqdm import tqdm

        self._step = re.compile(progress.step)
        calm = 0.1 if sys.stderr.isatty() else 10.0  # a bar in a file is many lines
        self._bar = tqdm(
            total=progress.total, desc=f"  {progress.title}", unit=progress.unit, mininterval=calm, miniters=1
        )

    def line(self, text: str) -> None:
        found = self._step.search(text)
        if found:
            self._bar.update((int(found[1]) if found.groups() else self._bar.n + 1) - self._bar.n)
        else:
            self._bar.update(0)

    def close(self) -> None:
        self._bar.close()


@dataclass
class Commands:
    """Commands that share an environment: `variables` win over those of the user; None takes a variable away.

    `logs`: the folder that keeps the whole output of each, numbered. `tell` gets every line that the reader shall see.
    """

    variables: Mapping[str, str | None]
    logs: Path
    tell: Callable[[str], None]
    count: int = field(default=0, init=False)

    def exports(self) -> str:
        """What is to be typed first in a shell of one's own."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.variables.items() if value is not None]
        lines += [f"unset {name}" for name, value in self.variables.items() if value is None and name in os.environ]
        return "\n".join([*lines, f'export PATH={shlex.quote(str(_programs()))}:"$PATH"'])

    def run(self, *command: str, progress: Progress | None = None, **variables: str) -> None:
        """Runs one command to its end; `variables` are for it alone. A bar stands for its output where `progress` says
        how to read it, else the output is shown.

        Raises PartialLabelError where the program is missing, and, with the end of its output, where it fails.
        """
        typed = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])
        self.tell(f"\n$ {typed}")
        environment = self._environment(variables)
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise PartialLabelError(f"there is no program {command[0]} in {_programs()} or on the PATH; install it")
        self.count += 1
        log = self.logs / f"{self.count:02d}_{command[0]}.txt"
        display: Display = BarDisplay(progress) if progress else PlainDisplay(self.tell)
        started = time.monotonic()
        try:
            code, last = _follow([program, *command[1:]], environment, log, typed, display)
        finally:
            display.close()
        if code:
            raise PartialLabelError(
                f"this command failed with exit code {code}:\n  {typed}\nThe end of its output:\n"
                + "".join(f"  {line}\n" for line in last)
                + f"All of its output: {log}"
            )
        self.tell(f"  ({time.monotonic() - started:.0f} s; the whole output: {log})")

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        merged = {**os.environ, **self.variables, **variables, "PYTHONUNBUFFERED": "1"}
        environment = {name: value for name, value in merged.items() if value is not None}
        environment["PATH"] = os.pathsep.join([str(_programs()), environment.get("PATH", os.defpath)])
        return environment


def _programs() -> Path:
    """Where pip puts the commands of this Python; under `make` it is not on the PATH."""
    return Path(sys.executable).parent


def _follow(
    command: Sequence[str], environment: Mapping[str, str], log: Path, typed: str, display: Display
) -> tuple[int, list[str]]:
    """Runs a command, its output line by line to `log` and `display`. Returns the exit code and the last lines."""
    last = deque[str](maxlen=_LAST_LINES)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,  # a bar's carriage returns become line breaks
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        file.write(f"$ {typed}\n")
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                last.append(line.rstrip())
                display.line(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode, list(last)
