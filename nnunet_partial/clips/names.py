"""Name clips by keyed hashes, which tell nothing of a person to those who do not have the key.

The name of a clip is HMAC-SHA256 of its patient and of itself. With the same key a clip and a patient have the same
names in every run; the key must therefore stay where the names shall not be linked to people.

References:
    Krawczyk et al., "HMAC: Keyed-Hashing for Message Authentication", RFC 2104, https://www.rfc-editor.org/rfc/rfc2104
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import tempfile
from pathlib import Path

from nnunet_partial.errors import PartialLabelError

_KEY_BYTES = 32
_LEAST_BYTES = 16
#: Hexadecimal digits of a part of a name: 48 bits, so that even of 100,000 clips hardly two have the same.
_DIGITS = 12


def default_key_file() -> Path:
    """Return where the key lies unless another file is given: in the user's configuration folder."""
    if os.name == "nt":
        folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "nnunet_partial" / "names.key"


def read_key(file: Path) -> tuple[bytes, bool]:
    """Read the key; make a new one where there is none.

    Args:
        file: The file of the key.

    Returns:
        The key, and whether it is new.

    Raises:
        PartialLabelError: The file holds no key, others can read it, or it cannot be read or written.
    """
    try:
        is_new = not file.exists()
        if is_new:
            _write_key(file)
        if os.name != "nt" and file.stat().st_mode & 0o077:
            raise PartialLabelError(f"Others can read the key {file}. If it is yours alone: chmod 600 {file}")
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except OSError as problem:
        raise PartialLabelError(f"The key {file} cannot be read or made: {problem}. Give another with --key.") from None
    except PartialLabelError:
        raise
    except ValueError:
        key = b""
    if len(key) < _LEAST_BYTES:
        raise PartialLabelError(
            f"{file} holds no key; expected at least {2 * _LEAST_BYTES} hexadecimal digits. Give a name that does not "
            "exist yet with --key, and a key is made."
        )
    return key, is_new


def _write_key(file: Path) -> None:
    """Write a new key, readable by the user alone. One that another process has made meanwhile stays."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=".tmp_", dir=file.parent)  # mode 600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as opened:
            opened.write(secrets.token_hex(_KEY_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            try:
                file.hardlink_to(temporary)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def keyed_hash(key: bytes, kind: str, content: str | bytes) -> str:
    """Compute the part of a name.

    Args:
        key: The key.
        kind: What is hashed, such as "patient": the same content of another kind has another hash.
        content: What is hashed.

    Returns:
        Hexadecimal digits.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return hmac.new(key, kind.encode() + b"\0" + data, hashlib.sha256).hexdigest()[:_DIGITS]


def patient_name(key: bytes, patient: str) -> str:
    """Compute the name of a patient, the first part of the names of all clips of them.

    Args:
        key: The key.
        patient: PatientID, or what a table says.

    Returns:
        "p" and hexadecimal digits.
    """
    return "p" + keyed_hash(key, "patient", patient)


def exam_name(key: bytes, patient: str, exam: str) -> str:
    """Compute the name of an examination.

    Args:
        key: The key.
        patient: As of `patient_name`; empty where it is not known.
        exam: StudyInstanceUID, or what a table says.

    Returns:
        "e" and hexadecimal digits.
    """
    return "e" + keyed_hash(key, "exam", f"{patient}\0{exam}")


def clip_name(key: bytes, patient: str | None, clip: str | bytes) -> str:
    """Compute the name of a clip.

    Args:
        key: The key.
        patient: Its name; None where it is not known.
        clip: SOPInstanceUID, or the hash of the file's content.

    Returns:
        Name of the patient, or "unknown", and hexadecimal digits.
    """
    return f"{patient or 'unknown'}_{keyed_hash(key, 'clip', clip)}"
