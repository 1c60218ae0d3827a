"""Run shell commands: show each before it runs, its progress, and the end of its output if it fails."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nnunet_partial.errors import PartialLabelError

#: A progress bar of tqdm; such lines of a command's output are kept in its log only.
_BAR = re.compile(r"\d+%\|.*\|")
_LAST_LINES = 30


@dataclass(frozen=True)
class Progress:
    """Describe how to read the progress of a command from its output.

    Attributes:
        title: Title of the progress bar.
        step: Regular expression that matches a line of each step. A group in it is the number of steps done; without
            one the matching lines are counted.
        total: Number of steps.
        unit: What a step is.
    """

    title: str
    step: str
    total: int
    unit: str


class Display(Protocol):
    """Show a command's output to the user."""

    def line(self, text: str) -> None:
        """Take the next line of the output.

        Args:
            text: The line without its end.
        """

    def close(self) -> None:
        """End the display."""


class PlainDisplay:
    """Show the output without progress bars and the empty lines around them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Start at the beginning of the output.

        Args:
            tell: Gets each line.
        """
        self._tell = tell
        self._begun = False

    def line(self, text: str) -> None:
        """Show the line unless it is a progress bar.

        Args:
            text: The line without its end.
        """
        self._begun = not _BAR.search(text) and (self._begun or bool(text))
        if self._begun:
            self._tell(f"  {text}".rstrip())

    def close(self) -> None:
        """Do nothing: all is shown."""


class BarDisplay:
    """Show a progress bar instead of the output."""

    def __init__(self, progress: Progress) -> None:
        """Start the bar at 0.

        Args:
            progress: How to read the output.
        """
        from tqdm import tqdm

        self._step = re.compile(progress.step)
        interval_s = 0.1 if sys.stderr.isatty() else 10.0  # a bar in a file is many lines
        self._bar = tqdm(
            total=progress.total, desc=f"  {progress.title}", unit=progress.unit, mininterval=interval_s, miniters=1
        )

    def line(self, text: str) -> None:
        """Advance the bar where the line is a step.

        Args:
            text: The line without its end.
        """
        match = self._step.search(text)
        if match:
            self._bar.update((int(match[1]) if match.groups() else self._bar.n + 1) - self._bar.n)
        else:
            self._bar.update(0)

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()


@dataclass
class Commands:
    """Run commands that share an environment.

    Attributes:
        variables: Environment variables, which take precedence over those of the user; None unsets one.
        logs: Folder for the whole output of each command, numbered.
        tell: Gets every line that is shown to the user.
        count: How many commands ran.
    """

    variables: Mapping[str, str | None]
    logs: Path
    tell: Callable[[str], None]
    count: int = field(default=0, init=False)

    def exports(self) -> str:
        """Return the shell commands (on Windows PowerShell's) that set up the same environment."""
        lines = [_assignment(name, value) for name, value in self.variables.items() if value is not None]
        gone = [name for name, value in self.variables.items() if value is None and name in os.environ]
        if os.name == "nt":
            lines += [f"Remove-Item Env:{name}" for name in gone]
            return "\n".join([*lines, f"{_assignment('PATH', f'{_programs()};')} + $env:PATH"])
        lines = [f"export {line}" for line in lines] + [f"unset {name}" for name in gone]
        return "\n".join([*lines, f'export PATH={shlex.quote(str(_programs()))}:"$PATH"'])

    def run(self, *command: str, progress: Progress | None = None, **variables: str) -> None:
        """Run one command to its end.

        Args:
            *command: The program and its arguments.
            progress: How to read its progress, for a bar; None shows its output.
            **variables: Environment variables of this command alone.

        Raises:
            PartialLabelError: The program is missing, or it fails; then with the end of its output.
        """
        end = ";" if os.name == "nt" else ""
        typed = " ".join([*(f"{_assignment(*given)}{end}" for given in variables.items()), shlex.join(command)])
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
        changes = {**self.variables, **variables, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        if os.name == "nt":  # variables have no case there; with two of a name, programs would see the user's
            changes = {name.upper(): value for name, value in changes.items()}
        environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
        environment["PATH"] = os.pathsep.join([str(_programs()), environment.get("PATH", os.defpath)])
        return environment


def _assignment(name: str, value: str) -> str:
    """Return the words that set a variable in a shell, on Windows in PowerShell."""
    if os.name == "nt":
        quoted = value.replace("'", "''")
        return f"$env:{name} = '{quoted}'"
    return f"{name}={shlex.quote(value)}"


def available_cores(threads: str | None = None) -> int:
    """Count the CPU cores that this process may use; a scheduler (SLURM, taskset) may have given it few.

    Args:
        threads: OMP_NUM_THREADS, by which a step of a study is given its cores on macOS, which binds none to a process.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return int(threads) if threads and threads.isdigit() and int(threads) else os.cpu_count() or 1


def _programs() -> Path:
    """Return the folder in which pip puts the commands of this Python; under `make` it is not on the PATH."""
    return Path(sysconfig.get_path("scripts"))


def _follow(
    command: Sequence[str], environment: Mapping[str, str], log: Path, typed: str, display: Display
) -> tuple[int, list[str]]:
    """Run a command, its output line by line to `log` and `display`; return the exit code and the last lines."""
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
