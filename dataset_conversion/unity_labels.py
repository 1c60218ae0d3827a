"""What the label files of Unity say about each picture: curves, points, what is off, and what is blurred."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import printable

from .polygon import Points

#: The inner outline of each chamber.
CURVES = {"LV": "curve-lv-endo", "LA": "curve-la-endo", "RV": "curve-rv-endo", "RA": "curve-ra-endo"}
#: How labels begin that show a chamber, or a valve at its border, to be in the picture.
_SHOWS = {"LV": ("lv-", "mv-"), "LA": ("la-", "mv-"), "RV": ("rv-", "tv-"), "RA": ("ra-", "tv-")}

#: 01-<64 hexadecimal digits>-0023: source, video, frame. Names that were uploaded again end in _(1), _(2), _(3).
CODE = re.compile(r"([0-9A-Za-z]{2})-([0-9A-Fa-f]{64})-(\d{4})")
_AGAIN = re.compile(r"_\(\d\)$")
#: A number beyond this is no place in a picture.
_FAR = 1e5


@dataclass(frozen=True)
class Labels:
    """One picture's labels by chamber. `curves`: control points (n, 2) as x, y; `off`: the curve is off, and no other
    label shows the chamber; `shown`: a label that shows it to be in the picture (drawn, or blurred).

    `doubts`: why a label that looks like more counts as unknown.
    """

    curves: Mapping[str, Points] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def code_of(name: str) -> str:
    """The name without folder, ending and the mark of a second upload."""
    return _AGAIN.sub("", name.rsplit("/", 1)[-1].removesuffix(".png"))


def read_labels(path: Path) -> dict[str, Labels]:
    """The labels of each picture, by its name in the file. Raises ConversionError where it is no label file."""
    content = read_json(path, ConversionError)
    if not isinstance(content, dict):
        raise ConversionError(f"{printable(str(path))} must hold an object with an entry per picture.")
    return {name: labels_of(entry) for name, entry in content.items()}


def labels_of(entry: Any) -> Labels:
    """The labels of one entry, {"labels": {name: {"type": ..., "x": ..., "y": ...}}}; what is no such thing is
    unknown."""
    given = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(given, dict):
        return Labels(doubts=("its entry has no labels",))
    curves: dict[str, Points] = {}
    off: list[str] = []
    shown = {chamber: label for chamber in CURVES if (label := _shows(chamber, given)) is not None}
    doubts: list[str] = []
    for chamber, label in CURVES.items():
        try:
            kind, points = _state(given.get(label))
            if kind == "off":
                if chamber in shown:
                    raise ConversionError(f"is off, but {shown[chamber]} is in the picture")
                off.append(chamber)
            elif points is not None:
                curves[chamber] = points
        except ConversionError as problem:
            doubts.append(f"{label} {problem}, so {chamber} counts as unknown")
    return Labels(curves, tuple(off), shown, tuple(doubts))


def _shows(chamber: str, given: Mapping[str, Any]) -> str | None:
    """The first label by name that shows the chamber to be in the picture; None where there is none."""
    found = [
        label
        for label, value in given.items()
        if label.removeprefix("curve-").startswith(_SHOWS[chamber])
        and any(_type(one) in ("point", "curve", "blurred") for one in (value if isinstance(value, list) else [value]))
    ]
    return printable(min(found)) if found else None


def _state(value: Any) -> tuple[str | None, Points | None]:
    """The type of a curve's label, and its points. Raises ConversionError, to follow the name of the label."""
    if isinstance(value, list) and len(value) > 1:
        raise ConversionError(f"is there {len(value)} times")
    label = _only(value)
    kind = _type(label)
    if kind in (None, "off", "blurred"):
        return kind, None
    if kind != "curve":
        raise ConversionError(f"has the type {printable(str(kind))[:20]!r}, expected curve, off or blurred")
    return kind, _points(label.get("x"), label.get("y"))


def _only(value: Any) -> Any:
    """Some releases put each label into a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _type(label: Any) -> str | None:
    kind = label.get("type") if isinstance(label, dict) else None
    return kind if isinstance(kind, str) and kind else None


def _points(x: Any, y: Any) -> Points:
    numbers = []
    for text in (x, y):
        try:
            numbers.append([float(word) for word in str(text).split()])
        except ValueError:
            raise ConversionError("has coordinates that are no numbers") from None
    if len(numbers[0]) != len(numbers[1]):
        raise ConversionError(f"has {len(numbers[0])} numbers for x and {len(numbers[1])} for y")
    if not all(math.isfinite(number) and abs(number) < _FAR for number in (*numbers[0], *numbers[1])):
        raise ConversionError("has coordinates far from any picture")
    points = np.array(numbers).T.reshape(-1, 2)
    if len(points):
        points = points[np.any(np.diff(points, axis=0, prepend=points[:1] - 1) != 0, axis=1)]  # one after itself
    if len(points) < 3:
        raise ConversionError(f"has {len(points)} point(s), expected 3 or more")
    return points
