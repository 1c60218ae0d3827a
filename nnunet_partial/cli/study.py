"""`nnunet_partial study`: compare losses, scenarios, seeds and networks, on one machine or a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import above_zero, require_output_file

FORMATS = ("html", "md", "latex", "csv")


class _Action(argparse.ArgumentParser):
    """Report unknown options with a hint; argparse would leave that to the command above."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and stop with an error at options that are not known."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hint = (
                "; Snakemake's options come after --, as in: -- --retries 2" if self.get_default("takes_more") else ""
            )
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "study",
        help="compare losses over labeling scenarios: one file, one command, resumable",
        description="Runs every training that a study.yaml asks for, predicts the test cases, evaluates them against "
        "their labels, and makes one report. Finished work is never repeated.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Action)
    _add_run(actions)
    add_json_option(
        actions.add_parser("status", help="show the progress", description="Shows the state of every step.")
    )
    report = actions.add_parser(
        "report",
        help="write tables and figures of what has finished",
        description="Writes the report of what has finished so far, and names what has not.",
        epilog="Example: nnunet_partial study report study.yaml -o report.html",
    )
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the report")
    report.add_argument("--format", choices=FORMATS, default="html", help="(default: %(default)s)")
    for action in actions.choices.values():
        action.add_argument(
            "study",
            type=Path,
            metavar="STUDY.yaml",
            help="what to compare; documented in docs/how-to/compare-losses.md",
        )
    parser.set_defaults(run=run)


def _add_run(actions: Any) -> None:
    run_parser = actions.add_parser(
        "run",
        help="run what is not done yet",
        description="Runs what is not done yet. Options after -- go to Snakemake, as in: -- --retries 2 "
        "--default-resources slurm_partition=gpu",
        epilog="Example: nnunet_partial study run study.yaml --executor slurm",
    )
    run_parser.add_argument(
        "--executor", default="local", metavar="NAME", help="local, slurm, kubernetes, ... (default: %(default)s)"
    )
    run_parser.add_argument(
        "-j",
        "--jobs",
        type=above_zero,
        metavar="N",
        help="locally: CPU cores to use (all); on a cluster: jobs at a time (100)",
    )
    run_parser.add_argument("--dry-run", action="store_true", help="show what would be run, and run nothing")
    run_parser.set_defaults(takes_more=True)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.study.checks import data_problems
    from nnunet_partial.study.config import Study

    if args.action == "report":
        require_output_file(args.output, "report.html")
    study = Study.read(args.study, data_problems if args.action == "run" else None)
    return {"run": _run, "status": _status, "report": _report}[args.action](study, args)


def _run(study: Any, args: argparse.Namespace) -> int:
    from nnunet_partial.study import runner

    return runner.run(study, args.study, args.executor, args.jobs, args.dry_run, args.more)


def _status(study: Any, args: argparse.Namespace) -> int:
    from nnunet_partial.study.state import STEP_STATES, check_results, status_table, step_states

    check_results(study)
    sys.stdout.write(status_table(study))
    states = step_states(study)
    args.document = {
        "study": study.folder,
        "count": {state: [*states.values()].count(state) for state in STEP_STATES},
        "steps": states,
    }
    return 0


def _report(study: Any, args: argparse.Namespace) -> int:
    from nnunet_partial.study.report import write_report

    write_report(study, args.study, args.output, args.format)
    print(args.output)
    return 0
