"""What became of each source, and the log that lets an interrupted conversion go on instead of starting again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_partial.labels import CaseLabels

from .case import Note, Skipped


@dataclass(frozen=True)
class Outcome:
    """`cases`: what was written, by identifier. Cases with a fault are in `skipped`; `notes`: converted, but odd."""

    source: str
    cases: Mapping[str, CaseLabels] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def failed(self) -> list[Skipped]:
        """What was skipped and is no known defect of the official release."""
        return [skipped for skipped in self.skipped if not skipped.known_defect]

    def to_line(self) -> str:
        """One line of JSON."""
        content = {
            "source": self.source,
            "cases": {case: labels.to_json() for case, labels in self.cases.items()},
            "skipped": [dataclasses.asdict(skipped) for skipped in self.skipped],
            "notes": [dataclasses.asdict(note) for note in self.notes],
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """Raises ValueError, KeyError or TypeError for anything that `to_line` did not write."""
        content: dict[str, Any] = json.loads(line)
        return cls(
            content["source"],
            {case: CaseLabels.from_json(labels) for case, labels in content["cases"].items()},
            tuple(Skipped(**skipped) for skipped in content["skipped"]),
            tuple(Note(**note) for note in content["notes"]),
        )


def finished(log: Path, sources: Iterable[str]) -> dict[str, Outcome]:
    """What an interrupted run had done without a fault, by source. A line that was cut off does not count."""
    found: dict[str, Outcome] = {}
    wanted = set(sources)
    if not log.exists():
        return found
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            outcome = Outcome.from_line(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if outcome.source in wanted and not outcome.failed:
            found[outcome.source] = outcome
    return found
