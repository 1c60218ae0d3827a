"""What the text file beside each view of CAMUS says: which frames are ED and ES, image quality, ejection fraction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.utils.tables import number, whole_number


@dataclass(frozen=True)
class ViewInfo:
    """`ed`, `es`: frame numbers from 1, as in the file; `ef` in percent; `frames`: their number.

    None where the file does not say.
    """

    ed: int | None = None
    es: int | None = None
    quality: str | None = None
    ef: float | None = None
    frames: int | None = None

    def frame(self, phase: str) -> int | None:
        """The frame of "ED" or "ES" counted from 0."""
        value = self.ed if phase == "ED" else self.es
        return None if value is None or value < 1 else value - 1


def read_cfg(path: Path) -> ViewInfo | None:
    """Reads `Key: value` lines (any line ends; EF or, in the old layout, LVef). None where there is no file."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    pairs = (line.partition(":") for line in text.splitlines())
    values = {key.strip().casefold(): value.strip() for key, colon, value in pairs if colon}
    return ViewInfo(
        ed=whole_number(values.get("ed", "")),
        es=whole_number(values.get("es", "")),
        quality=values.get("imagequality") or None,
        ef=number(values.get("ef", values.get("lvef", ""))),
        frames=whole_number(values.get("nbframe", "")),
    )
