"""Let Snakemake ask SLURM every second: each answer that no job has ended makes it wait ten seconds longer.

In a folder of its own, for PYTHONPATH: Python imports it in each process, also in those that a command starts.
"""

import sys

if "snakemake" in sys.orig_argv and "slurm" in sys.orig_argv:
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda *_: None)
