"""nnunet-partial: train nnU-Net v2 on data in which each case was annotated for some structures only."""

__version__ = "0.1.0"
