"""Evaluate predictions on what was annotated: metrics, statistics, tables and warning signs."""
