"""`nnunet_partial splits`: recreate the folds of a dataset, by domain or by patient."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import above_zero
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "splits",
        help="recreate the folds of a dataset, by domain or by patient",
        description="Writes splits_final.json, from which nnU-Net takes the training and validation cases of each "
        "fold, into the raw folder of a dataset and, if there is one, the preprocessed folder. No patient is on both "
        "sides of a fold. Cases with "
        '"left_out": true in partial_labels.json are in no fold.',
        epilog="Examples: nnunet_partial splits -d 510 --leave-domain-out; "
        "nnunet_partial splits -d 510 --by-patient --folds 3",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--leave-domain-out",
        action="store_true",
        help="a fold per domain, which trains on all others and is validated on it; none for a domain without which a "
        "class would be annotated nowhere",
    )
    how.add_argument("--by-patient", action="store_true", help="the folds that a new dataset has")
    parser.add_argument(
        "--folds",
        type=above_zero,
        metavar="N",
        help="with --by-patient: how many folds (default: 5, fewer where there are fewer patients); an official "
        "validation part is one more",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.domains import leave_domain_out
    from nnunet_partial.dataset.raw import RawDataset
    from nnunet_partial.dataset.splits import (
        N_FOLDS,
        make_splits,
        patient_warnings,
        require_unfilled,
        write_splits,
    )
    from nnunet_partial.errors import SplitError
    from nnunet_partial.model_selection.candidates import cross_validation
    from nnunet_partial.utils.text import NO_DOMAIN, text_table

    if args.folds is not None and (args.leave_domain_out or args.folds < 2):
        raise SplitError(
            f"--folds {args.folds}: expected 2 or more, and --by-patient; --leave-domain-out makes a fold per domain."
        )
    dataset = RawDataset(find_dataset(args.dataset))
    manifest, cases, names = dataset.manifest, list(dataset.image_files()), []
    manifest.require(cases, dataset.structures)
    require_unfilled(manifest, dataset.folder.name)
    if args.leave_domain_out:
        made = leave_domain_out(manifest, cases, dataset.structures)
        folds, warnings = list(made.folds), list(made.warnings)
        names = [domain or NO_DOMAIN for domain in made.domains]
    else:
        folds, warnings = make_splits(manifest, cases, n_folds=args.folds or N_FOLDS)
        n_folds = len(cross_validation(folds))
        if not folds or n_folds < (args.folds or 0):
            patients = {manifest.patient_of(case) for case in cases if not manifest.labels_of(case).left_out}
            problem = f"{n_folds} can be made of {len(patients)} patient(s); nothing was written"
            raise SplitError(f"{args.folds or N_FOLDS} folds were asked for, " + "; ".join([problem, *warnings]))
    files = write_splits(dataset.folder, folds, manifest, cases)
    rows = [
        [str(fold), str(len(split["train"])), str(len(split["val"])), *names[fold : fold + 1]]
        for fold, split in enumerate(folds)
    ]
    print(text_table(["fold", "training", "validation", *(["validated on"] if names else [])], rows), end="")
    for warning in [*patient_warnings(manifest, cases), *warnings]:
        print(f"Warning: {warning}")
    for file in files:
        print(f"Written: {file}")
    return 0
