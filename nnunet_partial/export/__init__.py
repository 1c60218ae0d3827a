"""Package trained models for people who do not have this package: a zip for stock nnU-Net, and a model card."""
