"""Choose the best trained model and its post-processing, on annotated classes only."""
