"""Make datasets from datasets: merge several, or hide labels on purpose."""
