"""What an eager run would cost on a GPU, counted without one: kernels that it launches, and memory.

On small work a GPU waits for the host to launch the next kernel, so their number is the time.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_KERNEL = {"detach", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh"}
#: What PyTorch composes of several kernels below the place where we look.
COMPOSED = {
    "binary_cross_entropy_with_logits": 4,  # log_sigmoid, 1 - target, times the logits, minus; a mean of it is not seen
    "logsumexp": 6,  # maximum, minus, exp, sum, log, plus
    "masked_fill": 2,  # a copy, and the fill
    "slice_backward": 2,  # zeros, and a copy
    "select_backward": 2,
}


class Launches(TorchDispatchMode):
    """Counts operations by name; views, and memory that nothing is written to, are no launches.

    Also the most bytes that the results held at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.peak_bytes = self._bytes = 0
        self._sizes: dict[int, int] = {}

    @property
    def total(self) -> int:
        return self.operations.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        name = func.overloadpacket.__name__
        if name not in NO_KERNEL:
            self.operations[name] += COMPOSED.get(name, 1)
        given = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                self._sizes[storage._cdata] = storage.nbytes()
                self._bytes += storage.nbytes()
                weakref.finalize(storage, self._release, storage._cdata)
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        return result

    def _release(self, storage: int) -> None:
        self._bytes -= self._sizes.pop(storage)
