"""How many kernels an eager run would launch on a GPU, counted without one: the operations that compute something.

On small work a GPU waits for the next kernel, so their number is the time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

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
    """Counts operations by name; views, and memory that nothing is written to, are no launches."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.operations.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in NO_KERNEL:
            self.operations[name] += COMPOSED.get(name, 1)
        return func(*args, **(kwargs or {}))
