"""`nnunet_partial report`: the results of an evaluation as one HTML page, or as tables for a paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import require_output_file

ENDINGS = {"html": ".html", "md": ".md", "latex": ".tex"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "report",
        help="one HTML page of an evaluation with pictures, or its tables as Markdown or LaTeX",
        description="Makes one HTML file that opens anywhere without a network, of the folder that `nnunet_partial "
        "evaluate` wrote; its pictures also lie in RESULTS/pictures as PNG and PDF. With --format md or latex: the "
        "tables for a paper, without pictures. Exit code 0: all is in it; 1: an image, a prediction or the labels "
        "are gone or cannot be read: named, also in the page, and everything else is in it; or RESULTS is incomplete, "
        "and nothing is written.",
        epilog="Example: nnunet_partial report results -o report.html",
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder that evaluate wrote")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the report goes (default: report.html, .md or .tex in RESULTS)",
    )
    parser.add_argument(
        "--format",
        choices=ENDINGS,
        default="html",
        help="a page with pictures, or tables for a paper (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from nnunet_partial.report.evaluation_report import write_html, write_latex, write_markdown
    from nnunet_partial.report.results import read_results

    file = args.output or args.results / f"report{ENDINGS[args.format]}"
    require_output_file(file)
    results = read_results(args.results)
    problems: list[str] = []
    if args.format == "html":
        print("drawing ...", flush=True)
        problems = write_html(results, file)
    else:
        (write_markdown if args.format == "md" else write_latex)(results, file)
    for problem in problems:
        print(f"Not drawn: {problem}")
    print(f"{file.resolve()}")
    return 1 if problems else 0
