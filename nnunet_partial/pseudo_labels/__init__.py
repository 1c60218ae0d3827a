"""Predict training cases with a trained model, to fill what is not annotated in them."""
