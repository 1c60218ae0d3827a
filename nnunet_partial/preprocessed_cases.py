"""Did nnU-Net preprocess every case? One that was interrupted, or cases that came later, leave some out, and a training
would take the others for the whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.preprocessed import COPIES, changed_labels, labels_of_images
from nnunet_partial.dataset.raw import RawDataset, dataset_id
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.text import some


def at_hand(raw: Path | None) -> RawDataset | None:
    """The raw data set, where its label files are there to compare with; on a cluster it is often not."""
    if raw is None or not (raw / "dataset.json").exists():
        return None
    dataset = RawDataset(raw)
    listed = "dataset" in dataset.dataset_json  # nnU-Net then takes the files of each case from there
    return dataset if not listed and any((raw / "labelsTr").glob(f"*{dataset.file_ending}")) else None


def require_preprocessed(preprocessed: Path, raw: RawDataset | None, cases: Sequence[str], file_ending: str) -> None:
    """Raises DatasetError where the preprocessed `cases` are not those of the data set, in words what to do.

    The data set is what the raw folder holds, and without it what nnU-Net copied: the copies stay when a case is
    removed and all is preprocessed again, so more of them are no mistake where the raw folder can be asked.
    """
    again = f"nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
    copies = preprocessed / COPIES
    if not copies.is_dir():
        raise DatasetError(f"{copies} does not exist: preprocessing did not end. Preprocess again: {again}")
    here = {path.name.removesuffix(file_ending) for path in copies.iterdir() if path.name.endswith(file_ending)}
    wanted, done = set(raw.label_files()) if raw else here, set(cases)
    if raw and wanted != done:
        wanted = set(labels_of_images(raw))  # twice the time, so only where it matters
    if wanted - done:
        removed = "" if raw else f"; or, if they were removed from the data set, delete their files in {copies}"
        raise DatasetError(
            f"{len(wanted - done)} case(s) are not preprocessed: {some(wanted - done)}. Preprocess again: "
            f"{again}{removed}"
        )
    if done - wanted and raw:
        raise DatasetError(
            f"{len(done - wanted)} preprocessed case(s) are not in {raw.folder / 'labelsTr'}: {some(done - wanted)}. "
            f"Preprocess again: {again}"
        )
    if done - here:
        raise DatasetError(f"{copies} lacks {len(done - here)} case(s): {some(done - here)}. Preprocess again: {again}")


def require_same_labels(preprocessed: Path, raw: RawDataset) -> None:
    """Raises DatasetError where a label file is not as it was preprocessed. Reads them all, unless they are links."""
    changed = changed_labels(labels_of_images(raw), preprocessed)
    if changed:
        raise DatasetError(
            f"The label files of {len(changed)} case(s) changed since {preprocessed.name} was preprocessed: "
            f"{some(changed)}. Delete {preprocessed / COPIES}, of which nnU-Net renews only what is older, and "
            f"preprocess again: nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
        )
