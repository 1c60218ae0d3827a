"""How good are predictions, measured only on what was annotated: metrics, statistics, tables, warning signs."""
