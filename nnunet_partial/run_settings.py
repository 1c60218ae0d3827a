"""How long a training runs and with which seed, from environment variables, since nnU-Net has no options for them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from nnunet_partial.errors import PartialLabelError

#: field -> environment variable
VARIABLES = {
    "epochs": "nnUNet_partial_epochs",
    "iterations": "nnUNet_partial_iterations",
    "val_iterations": "nnUNet_partial_val_iterations",
    "seed": "nnUNet_partial_seed",
}


@dataclass(frozen=True)
class RunSettings:
    """What the environment asks for; None leaves the trainer's own value (for the seed: none, as nnU-Net does).

    epochs: number of epochs. iterations: training iterations per epoch. val_iterations: validation iterations per
    epoch. seed: of the weights, the sampling and the augmentation.
    """

    epochs: int | None = None
    iterations: int | None = None
    val_iterations: int | None = None
    seed: int | None = None

    @classmethod
    def from_environment(cls) -> RunSettings:
        """Raises PartialLabelError for a value that is no whole number, or too small."""
        return cls(**{field: _whole_number(variable, int(field != "seed")) for field, variable in VARIABLES.items()})

    def as_dict(self) -> dict[str, int | None]:
        return asdict(self)

    def __str__(self) -> str:
        given = {VARIABLES[field]: value for field, value in self.as_dict().items() if value is not None}
        return ", ".join(f"{variable}={value}" for variable, value in given.items()) or "none"


def _whole_number(variable: str, least: int) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < least or int(text) >= 2**32:
        raise PartialLabelError(f"{variable} is {text!r}; expected a whole number from {least}. Correct or unset it.")
    return int(text)
