"""Is what nnU-Net preprocessed still the data set? It keeps copies of the label files as they were then."""

from __future__ import annotations

import filecmp
from pathlib import Path

from nnunet_partial.errors import some
from nnunet_partial.raw_dataset import RawDataset

#: The folder of the copies, in the preprocessed folder of a data set.
COPIES = "gt_segmentations"


def outdated(raw: Path, preprocessed: Path) -> str | None:
    """What of the raw data set `raw` is not as it was preprocessed, in words; None where all is, or nothing was.

    Cases that were added or removed since, and label files with other bytes. A training would take the preprocessed
    labels for what the manifest says of the new ones: a structure drawn since would be taught as background.
    """
    copies, dataset = preprocessed / COPIES, RawDataset(raw)
    if not copies.is_dir():
        return None
    ours = dataset.label_files()
    theirs = {path.name: path for path in copies.glob(f"*{dataset.file_ending}")}
    names = {path.name: case for case, path in ours.items()}
    added = [case for name, case in names.items() if name not in theirs]
    removed = [name.removesuffix(dataset.file_ending) for name in theirs if name not in names]
    changed = [case for case, path in ours.items() if path.name in theirs and not _same(path, theirs[path.name])]
    found = [
        f"{len(cases)} case(s) {what}: {some(cases)}"
        for cases, what in ((added, "were added"), (removed, "are gone"), (changed, "have other label files"))
        if cases
    ]
    if not found:
        return None
    return (
        f"since {preprocessed.name} was preprocessed, {'; '.join(found)}. Preprocess it again: "
        f"nnUNetv2_plan_and_preprocess -d {raw.name[7:10]}"
    )


def _same(ours: Path, theirs: Path) -> bool:
    return ours.samefile(theirs) or filecmp.cmp(ours, theirs, shallow=False)
