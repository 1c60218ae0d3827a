"""Read, check, split and declare nnU-Net datasets with a manifest of partial labels."""
