"""Run shell commands: show each before it runs, its progress, and the end of its output if it fails."""

from __future__ import annotations

import codecs
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
from typing import Protocol, TextIO

from nnunet_partial.errors import PartialLabelError

#: A progress bar of tqdm; such lines of a command's output are kept in its log only.
_BAR = re.compile(r"\d+%\|.*\|")
_LAST_LINES = 30
_SECONDS_BETWEEN_LOOKS = 0.1


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
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=progress.total,
            desc=f"  {progress.title}",
            unit=progress.unit,
            mininterval=0.1 if is_terminal else 10.0,  # a bar in a file is many lines
            miniters=1,
            position=None if is_terminal else 0,  # below the other bars, which takes moves of a terminal's cursor
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


@dataclass(frozen=True)
class Command:
    """Hold a command that can be run.

    Attributes:
        words: The program and its arguments.
        progress: How to read its progress, for a bar; None shows its output.
        variables: Environment variables of this command alone.
    """

    words: Sequence[str]
    progress: Progress | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def typed(self) -> str:
        """Return what a user would type in a shell."""
        end = ";" if os.name == "nt" else ""
        return " ".join([*(f"{_assignment(*given)}{end}" for given in self.variables.items()), shlex.join(self.words)])


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
        self.run_together(Command(command, progress, variables))

    def run_together(self, *commands: Command) -> None:
        """Run commands at the same time, each to its end; where one fails, the others are ended.

        Args:
            *commands: The commands. Several should all have a progress bar.

        Raises:
            PartialLabelError: A program is missing, or a command fails; then with the end of its output.
        """
        for command in commands:
            self.tell(f"\n$ {command.typed}")
        running: list[_Running] = []
        try:
            for command in commands:
                self.count += 1
                log = self.logs / f"{self.count:02d}_{command.words[0]}.txt"
                running.append(_Running(command, self._environment(command.variables), log, self.tell))
            while any(each.code is None for each in running) and not any(each.code for each in running):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for each in running:
                    each.look()
        finally:
            for each in running:
                each.end()
        failures = [each.failure() for each in running if each.code]
        if failures:
            raise PartialLabelError("\n".join(failures))
        for each in running:
            self.tell(f"  ({each.seconds:.0f} s; the whole output: {each.log})")

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
        threads: OMP_NUM_THREADS, which may ask for fewer. On macOS, which binds no cores to a process, a step of a
            study is given its cores by this alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(threads)) if threads and threads.isdigit() and int(threads) else cores


def _programs() -> Path:
    """Return the folder in which pip puts the commands of this Python; under `make` it is not on the PATH."""
    return Path(sysconfig.get_path("scripts"))


class _Running:
    """Follow a command that runs with its output in a file.

    Attributes:
        log: The file.
        code: The exit code; None as long as the command was not seen to have ended.
        seconds: How long it ran.
    """

    def __init__(
        self, command: Command, environment: Mapping[str, str], log: Path, tell: Callable[[str], None]
    ) -> None:
        program = shutil.which(command.words[0], path=environment["PATH"])
        if program is None:
            raise PartialLabelError(
                f"there is no program {command.words[0]} in {_programs()} or on the PATH; install it"
            )
        self.log, self.seconds = log, 0.0
        self.code: int | None = None
        self._typed, self._started = command.typed, time.monotonic()
        self._last, self._rest = deque[str](maxlen=_LAST_LINES), ""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            file.write(f"$ {command.typed}\n")
            file.flush()
            self._process = _start([program, *command.words[1:]], environment, file)
        self._output = log.open("rb")
        self._output.readline()  # the command
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a look may end within a letter
        self._display: Display = BarDisplay(command.progress) if command.progress else PlainDisplay(tell)

    def look(self) -> None:
        """Show what came since the last look, and see whether the command has ended."""
        if self.code is not None:
            return
        self.code = self._process.poll()  # before the reading, after which a command that has ended writes no more
        text = self._decode(self._output.read(), final=self.code is not None)
        *lines, self._rest = (self._rest + text).replace("\r", "\n").split("\n")  # a bar ends with a carriage return
        if self.code is not None:
            self.seconds = time.monotonic() - self._started
            lines += [self._rest] if self._rest else []
        for line in lines:
            self._last.append(line.rstrip())
            self._display.line(line.rstrip())

    def end(self) -> None:
        """End the command if it still runs, and its display."""
        self._process.terminate()
        self._process.wait()
        self._output.close()
        self._display.close()

    def failure(self) -> str:
        """Return the message of its failure."""
        return (
            f"this command failed with exit code {self.code}:\n  {self._typed}\nThe end of its output:\n"
            + "".join(f"  {line}\n" for line in self._last)
            + f"All of its output: {self.log}"
        )


def _start(words: Sequence[str], environment: Mapping[str, str], output: TextIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
