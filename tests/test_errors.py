"""Messages about packages that are missing name an extra that setup.py has."""

import re
from pathlib import Path

import pytest

from nnunet_partial.errors import install_hint

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for package in ("nnunet_partial", "dataset_conversion") for path in (ROOT / package).rglob("*.py")]
ASKED_FOR = {name for path in SOURCES for name in re.findall(r"install_hint\(['\"](\w+)", path.read_text("utf-8"))}


def test_every_optional_package_is_asked_for() -> None:
    assert {"dicom", "onnx", "study", "transformer"} == ASKED_FOR


@pytest.mark.parametrize("extra", sorted(ASKED_FOR))
def test_the_extra_exists(extra: str) -> None:
    assert f'            "{extra}": ' in (ROOT / "setup.py").read_text("utf-8")
    assert f"'.[{extra}]'" in install_hint(extra)
