"""Train nnU-Net on partial labels: mixins, checks, validation and the record of a run."""
