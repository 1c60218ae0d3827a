"""nnunet-partial: train nnU-Net v2 on data in which each case was annotated for some structures only."""

from nnunet_partial.inference.model import load_model

__all__ = ["load_model"]

__version__ = "0.1.0"
