"""The commands of README.md, and a dataset for those that train on the reader's own."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

from helpers.toy_dataset import write_toy

README = Path(__file__).resolve().parents[2] / "README.md"
OWN = "Dataset220_Abdomen"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The words of each line that starts one of our commands or of nnU-Net's, without comments."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words for words in lines if words and words[0].startswith(("nnunet_partial", "nnUNetv2_"))]


def block_with(text: str) -> list[list[str]]:
    """The commands of the one block that has a text."""
    (found,) = (block for block in blocks("bash") if text in block)
    return commands(found)


def as_run(words: list[str], environment: dict[str, str]) -> list[str]:
    """A command with its variables filled in, on the CPU where it computes."""
    filled = [re.sub(r"\$(\w+)", lambda name: {**os.environ, **environment}[name[1]], word) for word in words]
    return [*filled, *(["-device", "cpu"] if words[0] in ("nnUNetv2_train", "nnUNetv2_predict") else [])]


def write_own_dataset(raw: Path) -> None:
    """The dataset of the README's first commands, in nnU-Net's format: site B is annotated for the kidney alone."""
    folder = raw / OWN
    write_toy(folder)
    (folder / "partial_labels.json").unlink()
    for file in [*folder.glob("imagesTr/*"), *folder.glob("labelsTr/*")]:
        file.rename(file.with_name({"a": "siteA", "b": "siteB"}[file.name[0]] + file.name[1:]))
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "kidney": 1, "liver": 2}
    (folder / "dataset.json").write_text(json.dumps(description))
