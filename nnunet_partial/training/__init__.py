"""Teach nnU-Net trainers about partial labels: mixins, checks, validation and the record of a run."""
