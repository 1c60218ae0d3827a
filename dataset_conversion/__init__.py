"""Public echo data sets, and one's own, become nnU-Net data sets that say who annotated what."""
