"""Compare losses over scenarios, seeds and networks: a Snakemake workflow of ordinary commands."""
