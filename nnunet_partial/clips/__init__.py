"""Measure heart beats in ultrasound clips: frames for nnU-Net, beats and ejection fraction of its predictions."""
