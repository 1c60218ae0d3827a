"""`nnunet_partial card`: describe a trained model for whoever is to use it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.cli.export import add_model_options, require_new_file
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "card",
        help="write a model card: training data, cross-validated scores, warning signs, limits",
        description="Writes a Markdown page about a trained model from files that exist: what it was trained on and "
        "who annotated which structure, plans and network, scores of the cross-validation with intervals over what is "
        "known, warning signs, length, hardware and versions. License, citation and intended users are left to fill "
        "in. It names domains and structures, but no case, person, computer or folder. `export` puts one into its zip.",
        epilog="Example: nnunet_partial card -d 510 -tr nnUNetTrainerMarginal -o MODEL_CARD.md",
    )
    add_model_options(parser, needs_configuration=False)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the page; must not exist, as people fill it in",
    )
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.export.card import model_card
    from nnunet_partial.export.selection import prediction_commands, select_models
    from nnunet_partial.utils.files import write_text

    require_new_file(args.output, "MODEL_CARD.md")
    results = find_dataset(args.dataset, "nnUNet_results")
    selected = select_models(results, args.tr, args.c, args.p, args.f, args.chk)
    card = model_card(results.name, selected, prediction_commands(results.name, selected), args.processes)
    write_text(args.output, card.text)
    for note in card.notes:
        print(f"NOTE: {note}")
    print(args.output.resolve())
    return 0
