"""Show on synthetic images what partial-label losses change."""
