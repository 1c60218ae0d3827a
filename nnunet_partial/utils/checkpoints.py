"""Read nnU-Net's checkpoints as data: weights and plain values, without running what a pickle says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError


def load_checkpoint(file: Path, source: Path) -> dict[str, Any]:
    """Read a checkpoint that holds weights and plain values, as nnU-Net writes it.

    Args:
        file: The checkpoint.
        source: What messages speak of, such as the zip that it lay in.

    Returns:
        Its content; tensors are mapped from the file until they are used.

    Raises:
        PartialLabelError: The file is broken, or holds more than that, which could run code; or PyTorch is older than
            2.6.
    """
    import pickle

    import torch

    if torch.__version__ < "2.6":
        raise PartialLabelError(f"Loading a model needs PyTorch 2.6 or newer; this is {torch.__version__}.")
    try:
        with safe_numbers():
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(content["init_args"]["configuration"], str):
            return content
        first = "its configuration is no text"
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as problem:
        first = str(problem).strip().partition("\n")[0]
    # outside of the handler, as the traceback keeps the file mapped, and Windows removes no such file
    raise PartialLabelError(
        f"{source}: {file.parent.name}/{file.name} is broken, or holds more than weights and plain values, which could "
        f"run code: {first}"
    )


def safe_numbers() -> AbstractContextManager[Any]:
    """Tell PyTorch that the numbers in nnU-Net's log are safe to load.

    Returns:
        A context in which they are. PyTorch before 2.6 needs none: what is loaded by default is everything.
    """
    import numpy as np
    import torch

    if torch.__version__ < "2.6":
        return nullcontext()
    # their constructor has one name in NumPy 1 and another in NumPy 2
    scalar = np.float64(0).__reduce__()[0]
    safe: list[Any] = [np.dtype, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]
    safe += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return torch.serialization.safe_globals(safe)
