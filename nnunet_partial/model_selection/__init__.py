"""Choose between trained models over what is annotated."""
