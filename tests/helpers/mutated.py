"""Files and their contents, broken at random, for tests of readers."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

#: Bytes that have broken readers before.
NASTY = [
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"'", b",", b";", b"\t", b":", b"=", b"{", b"]",
    b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"0x1", b"9" * 400, b"9" * 5000, b"[" * 3000, b"true",
    "\u0661".encode(), "\uff11".encode(), "\u202e".encode(), "e\u0301".encode(), b"\\ud800", b"../", b"/etc/passwd",
]  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, sound: bytes) -> bytes:
    """`sound` after one to five accidents: bytes lost, doubled, moved, or replaced."""
    content = sound
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        new = draw(
            st.one_of(
                st.just(b""),
                st.sampled_from(NASTY),
                st.binary(max_size=6),
                st.just(2 * content[start:end]),
                st.sampled_from(sound.splitlines(keepends=True)),
            )
        )
        content = content[:start] + new + content[end:]
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 9)) == 0 else content


#: Values that stand where others are expected.
VALUES = [
    None, True, False, 0, 1, -1, 2, 5.0, 0.5, 1.5, 10**400, 1e308, "", "LV", "a", "random", "2d", "cpu", "primus-m",
    "x y", "x\n", "\u00e9", "None", [], ["LV"], ["LV", "LV"], ["random", "LV"], [0, 1], [8, 16, 24], [0.5, 0.5], [None],
    {}, {"a": 1},
]  # fmt: skip


@st.composite
def altered(draw: st.DrawFn, sound: Any) -> Any:
    """`sound`, the content of a JSON or YAML file, after one to three accidents: entries replaced, lost or added."""
    content = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        here: Any = content
        while isinstance(here, dict | list) and here:
            key = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
            if not isinstance(here[key], dict | list) or not here[key] or draw(st.integers(0, 2)) == 0:
                change, new = draw(st.integers(0, 5)), copy.deepcopy(draw(st.sampled_from(VALUES)))
                if change == 0:
                    del here[key]
                elif change == 1 and isinstance(here, dict):
                    here[draw(st.sampled_from(["other", "", "a b", "5", *here]))] = copy.deepcopy(
                        draw(st.sampled_from(VALUES))
                    )
                else:
                    here[key] = new
                break
            here = here[key]
    return content
