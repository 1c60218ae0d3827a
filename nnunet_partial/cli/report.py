"""`nnunet_partial report`: write an evaluation as one HTML page, or as tables for a paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import require_output_file

ENDINGS = {"html": ".html", "md": ".md", "latex": ".tex"}


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "report",
        help="write an evaluation as an HTML page with figures, or its tables as Markdown or LaTeX",
        description="Writes the results of `nnunet_partial evaluate` as one HTML file that opens anywhere without a "
        "network; its figures are also saved in RESULTS/figures as PNG and PDF. With --format md or latex: the tables "
        "for a paper, without figures. Exit code 0: complete; 1: an image, a prediction or a label file is missing or "
        "cannot be read (named here and in the page, which has everything else), or RESULTS is incomplete and nothing "
        "is written.",
        epilog="Example: nnunet_partial report results -o report.html",
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder that evaluate wrote")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the report (default: report.html, .md or .tex in RESULTS)",
    )
    parser.add_argument(
        "--format",
        choices=ENDINGS,
        default="html",
        help="a page with figures, or tables for a paper (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.report.evaluation_report import write_html, write_latex, write_markdown
    from nnunet_partial.report.results import read_results

    file = args.output or args.results / f"report{ENDINGS[args.format]}"
    require_output_file(file, f"report{ENDINGS[args.format]}")
    results = read_results(args.results)
    problems: list[str] = []
    if args.format == "html":
        print("drawing ...", flush=True)
        problems = write_html(results, file)
    else:
        (write_markdown if args.format == "md" else write_latex)(results, file)
    for problem in problems:
        print(f"Missing figure: {problem}")
    print(f"{file.resolve()}")
    return 1 if problems else 0
