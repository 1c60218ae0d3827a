"""Studies: scenarios, losses, seeds and networks compared in one go, as a Snakemake workflow over ordinary commands."""
