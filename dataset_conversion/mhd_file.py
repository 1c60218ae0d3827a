"""MHD images are two files, a header and the pixels: do they belong together, and is all of it there?"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable

_LARGEST_HEADER = 1 << 16
_BYTES = {"MET_UCHAR": 1, "MET_CHAR": 1, "MET_USHORT": 2, "MET_SHORT": 2, "MET_FLOAT": 4, "MET_DOUBLE": 8}


def require_whole_mhd(path: Path) -> None:
    """Raises ConversionError where the header is broken, the file of pixels is missing, elsewhere, or too short.

    The file of pixels must lie beside its header: a name that leads elsewhere would show another patient's heart.
    Compressed pixels are not counted.
    """
    if not path.is_file():
        raise ConversionError(f"{path.name} does not exist")
    values = _header(path)
    name = values.get("elementdatafile", "")
    if name.upper() == "LOCAL":
        return
    if not name or name != PurePosixPath(name).name or name.upper().startswith("LIST") or "\0" in name:
        raise ConversionError(f"{path.name} has ElementDataFile {printable(name)!r}; expected one file beside it")
    pixels = path.with_name(name)
    if not pixels.is_file():
        beside = path.with_suffix(".raw")
        way = f"; {beside.name} is there: if that is it, correct the line" if beside.is_file() else ""
        raise ConversionError(f"{path.name} says ElementDataFile = {printable(name)}, which does not exist{way}")
    expected = _expected_bytes(values)
    if values.get("compresseddata", "false").lower() != "true" and expected and pixels.stat().st_size != expected:
        raise ConversionError(f"{printable(name)} has {pixels.stat().st_size} bytes; {path.name} asks for {expected}")


def _header(path: Path) -> dict[str, str]:
    """`Key = value` lines up to the one that names the pixels."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_HEADER).decode("utf-8", "surrogateescape")
    except OSError as problem:
        raise ConversionError(f"{path.name} cannot be read: {problem}") from problem
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    return values


def _expected_bytes(values: dict[str, str]) -> int | None:
    """Size of the pixels by the header; None where it cannot be told."""
    size = values.get("dimsize", "").split()
    width = _BYTES.get(values.get("elementtype", ""))
    if width is None or not size or not all(n.isascii() and n.isdigit() and len(n) < 7 for n in size):
        return None
    channels = values.get("elementnumberofchannels", "1")
    return math.prod(map(int, size)) * width if channels == "1" and values.get("headersize", "0") == "0" else None
