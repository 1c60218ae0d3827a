"""Predict arrays with a trained model, and export its network."""
