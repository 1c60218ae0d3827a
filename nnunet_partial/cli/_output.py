"""The option -o: whether it can be written to is asked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_partial.errors import PartialLabelError


def require_output_folder(folder: Path) -> None:
    """Raises PartialLabelError where `folder` is a file, or neither is writable nor can be made. Makes nothing."""
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise PartialLabelError(f"-o: {nearest} is a file; expected a folder. Give another one with -o.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PartialLabelError(f"-o: nothing may be written into {nearest.resolve()}. Give another folder with -o.")


def require_output_file(file: Path) -> None:
    """Raises PartialLabelError where `file` is a folder, or cannot be written to its own. Makes nothing."""
    if file.is_dir():
        raise PartialLabelError(f"-o: {file} is a folder; expected the name of a file, such as {file / 'report.html'}.")
    require_output_folder(file.parent)
