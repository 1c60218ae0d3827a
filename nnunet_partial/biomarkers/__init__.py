"""Measure the left heart in label masks: volumes, ejection fraction, areas and mass."""
