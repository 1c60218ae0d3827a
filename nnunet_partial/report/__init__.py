"""Present an evaluation: figures, tables for a paper, one HTML page."""
