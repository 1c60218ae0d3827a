"""nnunet-partial: train nnU-Net v2 on data in which each case was annotated for some structures only."""

from nnunet_partial.inference.model import load_model
from nnunet_partial.utils.versions import __version__

__all__ = ["__version__", "load_model"]
