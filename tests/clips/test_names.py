"""Keyed names: the same for the same key, and the key is the user's alone."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest

from nnunet_partial.clips.names import clip_name, default_key_file, patient_name, read_key
from nnunet_partial.errors import PartialLabelError


def test_a_key_is_made_once_and_is_the_users_alone(own_configuration: Path) -> None:
    file = default_key_file()
    assert file.is_relative_to(own_configuration)
    key, is_new = read_key(file)
    assert (len(key), is_new) == (32, True)
    assert read_key(file) == (key, False)
    assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_names_are_hmacs() -> None:
    key = bytes(range(32))
    expected = hmac.new(key, b"patient\0ID4711", hashlib.sha256).hexdigest()[:12]
    assert patient_name(key, "ID4711") == f"p{expected}"
    clip = hmac.new(key, b"clip\x001.2.3", hashlib.sha256).hexdigest()[:12]
    assert clip_name(key, "p1", "1.2.3") == f"p1_{clip}"
    assert clip_name(key, None, "1.2.3") == f"unknown_{clip}"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    read_key(tmp_path / "k")
    (tmp_path / "k").chmod(0o640)
    with pytest.raises(PartialLabelError, match="chmod 600"):
        read_key(tmp_path / "k")


@pytest.mark.parametrize("content", [b"", b"00" * 15, b"no key\n", b"\xff" * 40])
def test_another_file_is_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(PartialLabelError, match="--key"):
        read_key(tmp_path / "k")
    with pytest.raises(PartialLabelError, match="--key"):
        read_key(tmp_path / "k" / "below")
