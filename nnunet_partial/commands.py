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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_partial.errors import PartialLabelError

#: How tqdm draws a bar; such lines of a command's output are kept in its log only.
_BAR = re.compile(r"\d+%\|.*\|")
_LAST_LINES = 30


@dataclass(frozen=True)
class Progress:
    """How far a command is, read from its output: `step` matches a line of each step, of which there are `total`.

    A group in `step` is the number of the step (from 0); without one the matching lines are counted.
    """

    step: str
    total: int
    unit: str


@dataclass
class Commands:
    """Commands that share an environment. `variables` win over those of the user; None takes a variable away.

    `logs`: folder that keeps the whole output of each, numbered. `tell` is called with every text for the reader.
    """

    variables: Mapping[str, str | None]
    logs: Path
    tell: Callable[[str], None]
    count: int = field(default=0, init=False)

    def exports(self) -> str:
        """The lines to be typed first in a shell of one's own."""
        lines = []
        for name, value in self.variables.items():
            if value is not None:
                lines.append(f"export {name}={shlex.quote(value)}")
            elif name in os.environ:
                lines.append(f"unset {name}")
        return "\n".join([*lines, f'export PATH={shlex.quote(str(_programs()))}:"$PATH"'])

    def run(self, *command: str, progress: Progress | None = None, **variables: str) -> None:
        """Runs one command to its end; `variables` are for it alone.

        With `progress` a bar stands for its output, without it the output is shown (less any bars of its own).
        Raises PartialLabelError, with the last lines of the output, where it cannot be started or fails.
        """
        self.count += 1
        typed = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])
        self.tell(f"\n$ {typed}")
        log = self.logs / f"{self.count:02d}_{command[0]}.txt"
        environment = self._environment(variables)
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise PartialLabelError(f"There is no program {command[0]} in {_programs()} or on the PATH. Install it.")
        started, last = time.monotonic(), deque[str](maxlen=_LAST_LINES)
        shown = _count_lines(progress) if progress else self._show_lines()
        next(shown)
        with log.open("w", encoding="utf-8") as file:
            file.write(f"$ {typed}\n")
            code = _follow([program, *command[1:]], environment, lambda line: _each(line, file.write, last, shown))
        shown.close()
        if code:
            raise PartialLabelError(
                f"this command failed with exit code {code}:\n{typed}\nThe end of its output:\n"
                + "".join(f"  {line}\n" for line in last)
                + f"All of its output: {log}"
            )
        self.tell(f"({time.monotonic() - started:.0f} s, all of its output: {log})")

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        merged = {**os.environ, **self.variables, "PYTHONUNBUFFERED": "1", **variables}
        environment = {name: value for name, value in merged.items() if value is not None}
        environment["PATH"] = os.pathsep.join([str(_programs()), environment.get("PATH", os.defpath)])
        return environment

    def _show_lines(self) -> Iterator[None]:
        ...
