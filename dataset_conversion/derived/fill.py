"""Make a dataset in which a trained model has filled structures that were not annotated: pseudo-labels.

A prediction is accepted, per case and structure, where it is sure, in one piece and of a usual size. It is written
where the label is 0 alone: what a human annotated stays. The manifest calls it pseudo: it is trained on, and counts in
no figure.

References:
    Lee, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks, ICML 2013
    workshop.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import Geometry, read_array, spacing_is_known
from nnunet_partial.dataset.label_check import inspect_label_files
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder, short_name
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, has_regions
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import (
    FULL_MANIFEST_NAME,
    FULL_SUBSET,
    MANIFEST_NAME,
    SEEN_BY_FILLING_MODEL,
    CaseLabels,
    Manifest,
)
from nnunet_partial.utils.files import link_or_copy, write_json
from nnunet_partial.utils.masks import Floats, Mask
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.tables import write_csv
from nnunet_partial.utils.text import NO_DOMAIN, first_lines, format_names

from ..base import DEPTH_KEY
from ..staging import refuse_existing, staged_dataset, write_metadata
from .files import FileToWrite, write_files, write_values
from .source import InputDataset, find_case_problems, find_metadata_problems

#: Share of the predicted voxels that must lie where the label is 0, and in the largest component there.
MIN_LARGEST_COMPONENT = 0.75
#: The folder of the tables, in the raw folder of a filled dataset.
TABLES = "fill"

ACCEPTED = "accepted"
NOT_PREDICTED, LOW_CONFIDENCE = "not predicted", "low confidence"
LABELED, SEVERAL_PARTS = "mostly on labeled voxels", "several components"
TOO_SMALL, TOO_LARGE, NO_USUAL_SIZE = "too small", "too large", "no usual size"
NO_FOLD, SEVERAL_FOLDS, NOT_FILLING = "in no validation fold", "in several validation folds", "its fold does not fill"
HELD_OUT = "not a training case of the clean fold"

COLUMNS = (
    *("case", "domain", "patient", "class", "fold", "outcome"),
    *("confidence", "largest_component", "size_ratio", "usual_size_from", "voxels"),
)
SUMMARY_COLUMNS = ("domain", "class", "outcome", "n_cases")


@dataclass(frozen=True)
class FillOptions:
    """Hold what a prediction must fulfill.

    Attributes:
        min_confidence: Mean probability inside the predicted voxels, from 0 to 1.
        size: Smallest and largest size, in times the median size of the class where it is annotated.
    """

    min_confidence: float = 0.9
    size: tuple[float, float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            DatasetError: A number is out of range.
        """
        if not 0 <= self.min_confidence <= 1:
            raise DatasetError(f"--min-confidence is {self.min_confidence}; expected a probability from 0 to 1.")
        low, high = self.size
        if not 0 <= low < high:
            raise DatasetError(f"--size is {low:g} {high:g}; expected two numbers from 0, the smaller one first.")


@dataclass(frozen=True)
class FillingModel:
    """Describe the model that fills.

    Attributes:
        trainer: Name of the trainer.
        plans: Plans identifier.
        configuration: Name of the configuration.
        folds: The folds that fill.
        seen: Cases that at least one of these folds was trained on.
        splits: The folds that the model was trained with, all of them.
        checkpoints: A hash of each fold's weights, so that an interrupted fill goes on with the same ones.
        clean_fold: The fold whose training cases are filled by its own model; None: each fold fills the cases that it
            validates.
    """

    trainer: str
    plans: str
    configuration: str
    folds: tuple[int, ...]
    seen: frozenset[str]
    splits: tuple[Split, ...]
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    clean_fold: int | None = None

    def fold_of(self, case: str) -> int | str:
        """Tell which fold fills a case.

        Args:
            case: Case identifier.

        Returns:
            The fold, or why there is none: NO_FOLD, SEVERAL_FOLDS or NOT_FILLING; HELD_OUT with a clean fold.
        """
        if self.clean_fold is not None:
            return self.clean_fold if case in self.splits[self.clean_fold]["train"] else HELD_OUT
        validating = [index for index, split in enumerate(self.splits) if case in split["val"]]
        folds = [index for index in validating if index in self.folds]
        if len(folds) == 1:
            return folds[0]
        if folds:
            return SEVERAL_FOLDS
        return NOT_FILLING if validating else NO_FOLD


@dataclass(frozen=True)
class CasePrediction:
    """Hold what one fold predicts of a case.

    Attributes:
        case: Case identifier.
        fold: The fold.
        labels: Label values, in the order of the label file's voxels, z first.
        probability: Of each of C structures, (C, *S); NaN where it cannot be told.
    """

    case: str
    fold: int
    labels: NDArray[np.integer]
    probability: Floats


#: Gives the predictions of these cases; a fold's cases stand together.
Predict = Callable[[Mapping[int, Sequence[str]]], Iterable[CasePrediction]]


@dataclass(frozen=True)
class Outcome:
    """Hold whether a structure was filled in a case, and why not.

    Attributes:
        case: Case identifier.
        labels: Its entry in the source.
        structure: Name of the class.
        fold: The fold that predicted; "" where none did.
        outcome: ACCEPTED, or the first rule that the prediction breaks.
        confidence: Mean probability inside the predicted voxels.
        largest_component: Share of the predicted voxels in the largest component of those that may be written.
        size_ratio: Size of that component in times the usual one.
        usual_size_from: Domain of the cases of which the usual size is; "" where there is none.
        voxels: Number of voxels that were written.
    """

    case: str
    labels: CaseLabels
    structure: str
    fold: str
    outcome: str
    confidence: float = float("nan")
    largest_component: float = float("nan")
    size_ratio: float = float("nan")
    usual_size_from: str = ""
    voxels: int = 0

    @property
    def domain(self) -> str:
        """Return the domain of the case."""
        return self.labels.domain or NO_DOMAIN

    def row(self) -> dict[str, str]:
        """Return the row of per_case.csv."""
        numbers = {key: getattr(self, key) for key in ("confidence", "largest_component", "size_ratio")}
        return {
            "case": self.case,
            "domain": self.domain,
            "patient": self.labels.patient or self.case,
            "class": self.structure,
            "fold": self.fold,
            "outcome": self.outcome,
            **{key: "" if np.isnan(value) else f"{value:.6g}" for key, value in numbers.items()},
            "usual_size_from": self.usual_size_from,
            "voxels": str(self.voxels),
        }


@dataclass(frozen=True)
class MaskSize:
    """Hold the size of a mask.

    Attributes:
        share: Fraction of the image.
        physical: Area or volume in mm2 or mm3; None where the spacing is not known.
    """

    share: float
    physical: float | None

    @classmethod
    def of(cls, voxels: int, geometry: Geometry, labels: CaseLabels) -> MaskSize:
        """Measure a mask.

        Args:
            voxels: Number of its voxels.
            geometry: Of the label file.
            labels: Entry of the case, which says whether the spacing is known.

        Returns:
            The size; axes of one voxel, which make an image of a volume, do not count.
        """
        axes = list(zip(geometry.size, geometry.spacing_mm, strict=True))
        steps = [step for n, step in axes if n > 1]
        total = int(np.prod([n for n, _ in axes]))
        known = spacing_is_known(labels, geometry)
        return cls(voxels / max(1, total), voxels * float(np.prod(steps)) if known else None)


@dataclass(frozen=True)
class UsualSizes:
    """Hold the sizes of each class where it is annotated and not empty, by domain."""

    sizes: Mapping[tuple[str, str], Sequence[MaskSize]]

    def ratio(self, size: MaskSize, structure: str, domain: str) -> tuple[float, str]:
        """Compare a size with the usual one: the median in the same domain where there is any, else in all.

        Args:
            size: Of a prediction.
            structure: Name of the class.
            domain: Domain of the case.

        Returns:
            The size in times the median, and the domain of the median ("(all)" for all). NaN and "" where the class is
            annotated nowhere. Fractions of the image are compared where a spacing is not known.
        """
        own = self.sizes.get((domain, structure), ())
        chosen = own or [one for (_, name), sizes in self.sizes.items() if name == structure for one in sizes]
        if not chosen:
            return float("nan"), ""
        where = domain if own else "(all)"
        physical = [one.physical for one in chosen if one.physical is not None]
        if size.physical is not None and len(physical) == len(chosen):
            return size.physical / statistics.median(physical), where
        return size.share / statistics.median(one.share for one in chosen), where


@dataclass(frozen=True)
class FillResult:
    """Describe a filled dataset that was written.

    Attributes:
        folder: Its raw folder.
        outcomes: What became of each structure that is not annotated, case by case.
        warnings: What the user should know, one line each.
    """

    folder: Path
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]

    @property
    def accepted(self) -> tuple[Outcome, ...]:
        """Return the outcomes that were accepted."""
        return tuple(outcome for outcome in self.outcomes if outcome.outcome == ACCEPTED)

    @property
    def summary(self) -> list[tuple[str, str, str, int]]:
        """Return the numbers of cases by domain, class and outcome, sorted."""
        return summarize_outcomes(self.outcomes)


def open_source(folder: Path) -> InputDataset:
    """Read the dataset that is to be filled, and refuse what cannot be.

    Args:
        folder: Its raw folder.

    Returns:
        The dataset.

    Raises:
        DatasetError: It has regions, or something is wrong with its files or its manifest.
    """
    source = InputDataset(RawDataset(folder))
    if has_regions(source.dataset.dataset_json):
        raise DatasetError(
            f"{source.name} has regions, which cannot be filled: a voxel that a prediction gives to one region says "
            "nothing of those around it. Fill a dataset of classes."
        )
    problems = find_metadata_problems(source) or find_case_problems(source)
    if problems:
        lines = "\n- ".join(first_lines(problems))
        raise DatasetError(f"{source.name} cannot be filled; nothing was written.\n- {lines}")
    return source


def fill(
    folder: Path,
    name: str,
    model: FillingModel,
    predict: Predict,
    options: FillOptions,
    *,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> FillResult:
    """Make the new dataset nnUNet_raw/`name`: the source dataset with pseudo-labels.

    Images, and labels that stay as they are, are hard links (copies where the file system has no links). Pseudo-labels
    of an earlier fill are removed first: they are unknown here.

    Args:
        folder: Raw folder of the source dataset.
        name: Name of the new dataset, such as Dataset611_Echo_filled.
        model: The model that fills.
        predict: Predicts cases with the model.
        options: What a prediction must fulfill.
        overwrite: Whether to replace an existing dataset of this name.
        processes: Number of processes that read and write files.
        progress: Whether to print the progress.

    Returns:
        The filled dataset.

    Raises:
        DatasetError: The source cannot be filled, nothing is unknown in it, no label file has room for a
            pseudo-label, or the new dataset exists; nothing was written. Or a prediction does not fit its label file.
        SplitError: With a clean fold, a case would be in that fold's validation and training.
    """
    if nnunet_folder("nnUNet_raw") / name == folder:
        raise DatasetError(f"{name} is the dataset to be filled. Choose another id with -d.")
    refuse_existing(name, overwrite)
    source = open_source(folder)
    entries = {case: source.dataset.manifest.labels_of(case) for case in source.images["Tr"]}
    unknown = {
        case: names
        for case, labels in entries.items()
        if (names := tuple(name for name in source.classes if name not in labels.known))
    }
    if not unknown:
        raise DatasetError(f"Every training case of {source.name} is annotated for every class; nothing to fill.")
    _require_background(source, unknown, _stored_values(source, processes, progress))
    usual = _usual_sizes(source, entries, model.seen, processes)
    to_predict: dict[int, list[str]] = {}
    outcomes: list[Outcome] = []
    for case, names in unknown.items():
        fold = model.fold_of(case)
        if isinstance(fold, int):
            to_predict.setdefault(fold, []).append(case)
        else:
            outcomes += [Outcome(case, entries[case], structure, "", fold) for structure in names]
    with staged_dataset(name, _options_record(source, model, options), overwrite) as staging:
        filler = _Filler(source, entries, unknown, usual, options, staging)
        for prediction in predict(dict(sorted(to_predict.items()))):
            outcomes += filler.fill(prediction)
        order = {case: place for place, case in enumerate(entries)}
        outcomes.sort(key=lambda one: (order[one.case], source.classes.index(one.structure)))
        _link_rest(source, entries, filler, staging, processes, progress)
        manifest, warnings = _manifest(source, model, options, entries, outcomes)
        write_metadata(
            staging,
            manifest,
            source.classes,
            channel_names=source.channel_names,
            file_ending=source.dataset.file_ending,
            ignore=source.dataset.ignore_label is not None,
            **_dataset_json_entries(source, model, name),
        )
        splits = [dict(model.splits[model.clean_fold])] if model.clean_fold is not None else list(model.splits)
        check_splits(splits, manifest, list(entries))
        write_json(staging / SPLITS_NAME, splits, ascii_only=True)
        if (folder / FULL_MANIFEST_NAME).exists():
            _full_manifest(source, manifest).write(staging / FULL_MANIFEST_NAME)
        _write_tables(staging / TABLES, outcomes)
    return FillResult(nnunet_folder("nnUNet_raw") / name, tuple(outcomes), (*warnings, *_warnings(outcomes)))


def judge(
    predicted: Mask, writable: Mask, probability: Floats, min_confidence: float
) -> tuple[str, float, float, Mask]:
    """Judge the prediction of a structure by its confidence and its components.

    Args:
        predicted: Where the structure is predicted, (*S).
        writable: Where the label is 0, (*S).
        probability: Of the structure, (*S); NaN where it cannot be told.
        min_confidence: Mean probability inside the predicted voxels, at least.

    Returns:
        ACCEPTED or the first rule that is broken; the confidence; the share of the predicted voxels in the largest
        component of those that may be written (voxels that touch at a corner are of one component); that component.
    """
    from scipy import ndimage

    n_predicted = int(np.count_nonzero(predicted))
    if not n_predicted:
        return NOT_PREDICTED, float("nan"), float("nan"), predicted
    inside = probability[predicted]
    inside = inside[~np.isnan(inside)]
    confidence = float(inside.mean()) if inside.size else float("nan")
    parts, n_parts = ndimage.label(predicted & writable, np.ones((3,) * predicted.ndim))
    sizes = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
    component: Mask = parts == (int(sizes.argmax()) + 1 if n_parts else -1)
    share = int(sizes.max(initial=0)) / n_predicted
    if not confidence >= min_confidence:
        return LOW_CONFIDENCE, confidence, share, component
    if int(sizes.sum()) / n_predicted < MIN_LARGEST_COMPONENT:
        return LABELED, confidence, share, component
    return (ACCEPTED if share >= MIN_LARGEST_COMPONENT else SEVERAL_PARTS), confidence, share, component


def summarize_outcomes(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str, int]]:
    """Count cases by domain, class and outcome.

    Args:
        outcomes: Of all cases.

    Returns:
        Domain, class, outcome and number, sorted, accepted first; empty without outcomes.
    """
    counts = Counter((one.domain, one.structure, one.outcome) for one in outcomes)
    ordered = sorted(counts, key=lambda key: (key[0], key[1], key[2] != ACCEPTED, key[2]))
    return [(*key, counts[key]) for key in ordered]


@dataclass
class _Filler:
    """Write the label files of cases in which a prediction was accepted.

    Attributes:
        source: The source dataset.
        entries: Its manifest entries by training case.
        unknown: Names of the classes to fill, by case.
        usual: The usual sizes.
        options: What a prediction must fulfill.
        staging: Folder in which the dataset is built.
        written: Cases whose label file was written.
    """

    source: InputDataset
    entries: Mapping[str, CaseLabels]
    unknown: Mapping[str, Sequence[str]]
    usual: UsualSizes
    options: FillOptions
    staging: Path
    written: set[str] = field(default_factory=set)

    def fill(self, prediction: CasePrediction) -> list[Outcome]:
        """Judge the prediction of a case and write its label file where something changes.

        Raises:
            DatasetError: The prediction has another size than the label file.
        """
        case = prediction.case
        labels, path = self.entries[case], self.source.labels["Tr"][case]
        geometry, old = read_array(path)
        if np.squeeze(prediction.labels).shape != np.squeeze(old).shape:
            raise DatasetError(
                f"{case}: the prediction of fold {prediction.fold} has the shape {prediction.labels.shape}, the label "
                f"file {old.shape}. Was the image changed since? Validate the fold again."
            )
        predicted = prediction.labels.reshape(old.shape)
        probability = prediction.probability.reshape(-1, *old.shape)
        new = without_pseudo(old, labels, self.source.classes)
        writable, outcomes = new == 0, []
        for structure in self.unknown[case]:
            value = self.source.classes.index(structure) + 1
            outcome, component = self._judge(
                prediction, structure, predicted == value, writable, probability[value - 1], geometry
            )
            outcomes.append(outcome)
            if outcome.outcome == ACCEPTED:
                new[component] = value
        if not np.array_equal(new, old):
            target = self.staging / "labelsTr" / self.source.label_name(case)
            write_values(path, target, new, geometry.skewed)
            self.written.add(case)
        return outcomes

    def _judge(
        self,
        prediction: CasePrediction,
        structure: str,
        predicted: Mask,
        writable: Mask,
        probability: Floats,
        geometry: Geometry,
    ) -> tuple[Outcome, Mask]:
        labels = self.entries[prediction.case]
        verdict, confidence, share, component = judge(predicted, writable, probability, self.options.min_confidence)
        voxels = int(np.count_nonzero(component))
        size = MaskSize.of(voxels, geometry, labels)
        ratio, where = self.usual.ratio(size, structure, labels.domain or NO_DOMAIN)
        if verdict == ACCEPTED:
            low, high = self.options.size
            verdict = (
                NO_USUAL_SIZE if not where else TOO_SMALL if ratio < low else TOO_LARGE if ratio > high else verdict
            )
        if verdict == NOT_PREDICTED:
            ratio, where = float("nan"), ""
        outcome = Outcome(
            prediction.case,
            labels,
            structure,
            str(prediction.fold),
            verdict,
            confidence,
            share,
            ratio,
            where,
            voxels if verdict == ACCEPTED else 0,
        )
        return outcome, component


def without_pseudo(values: NDArray[Any], labels: CaseLabels, classes: Sequence[str]) -> NDArray[Any]:
    """Remove the pseudo-labels of an earlier fill.

    Args:
        values: Label values.
        labels: Entry of the case.
        classes: Foreground classes in the order of their values.

    Returns:
        A copy in which their voxels are 0.
    """
    filled = [classes.index(name) + 1 for name in labels.pseudo]
    return np.where(np.isin(values, filled), 0, values).astype(values.dtype)


def _stored_values(source: InputDataset, processes: int, progress: bool) -> dict[str, tuple[float, ...]]:
    """Read which values the label file of each training case holds.

    Raises:
        DatasetError: A label file cannot be read or does not fit its entry.
    """
    files = [source.label_file(case, path, source.dataset.manifest) for case, path in source.labels["Tr"].items()]
    infos = list(inspect_label_files(files, processes, "reading the labels" if progress else None))
    problems = [info.problem for info in infos if info.problem]
    if problems:
        raise DatasetError(
            f"{source.name} cannot be filled; nothing was written.\n- " + "\n- ".join(first_lines(problems))
        )
    return {file.case: tuple(info.values) for file, info in zip(files, infos, strict=True)}


def _require_background(source: InputDataset, unknown: Iterable[str], values: Mapping[str, Collection[float]]) -> None:
    """Raise DatasetError where no case with an unknown class has background, as `--unknown-as ignore` leaves none."""
    ignore = source.dataset.ignore_label
    if ignore is not None and all(0 not in values[case] and ignore in values[case] for case in unknown):
        raise DatasetError(
            f"{source.name} cannot be filled; nothing was written. A pseudo-label is written where the label is 0, and "
            f"in every case that lacks a class the ignore label ({ignore}) stands there, as --unknown-as ignore writes "
            "it. Make the dataset without --unknown-as ignore, and fill that one."
        )


def _usual_sizes(
    source: InputDataset, entries: Mapping[str, CaseLabels], seen: frozenset[str], processes: int
) -> UsualSizes:
    """Measure each class where it is annotated, in cases that the model saw: others may be to be evaluated on."""
    measured: dict[tuple[str, str], list[MaskSize]] = {}
    tasks = [
        (source.labels["Tr"][case], labels, tuple(source.classes))
        for case, labels in entries.items()
        if case in seen and labels.annotated and not labels.interpolated
    ]
    for (_, labels, _), sizes in zip(tasks, parallel_map(_sizes, tasks, processes), strict=True):
        for structure, size in sizes.items():
            measured.setdefault((labels.domain or NO_DOMAIN, structure), []).append(size)
    return UsualSizes(measured)


def _sizes(task: tuple[Path, CaseLabels, tuple[str, ...]]) -> dict[str, MaskSize]:
    """Measure the annotated classes of a case; empty ones are left out."""
    path, labels, classes = task
    geometry, values = read_array(path)
    counts = {name: int(np.count_nonzero(values == classes.index(name) + 1)) for name in labels.annotated}
    return {name: MaskSize.of(count, geometry, labels) for name, count in counts.items() if count}


def _link_rest(
    source: InputDataset,
    entries: Mapping[str, CaseLabels],
    filler: _Filler,
    staging: Path,
    processes: int,
    progress: bool,
) -> None:
    """Link all other files; what an interrupted run wrote into label files is replaced."""
    files: list[FileToWrite] = []
    for subset, cases in source.images.items():
        files += source.images_to_write(subset, cases, staging)
    for subset in ("Ts", FULL_SUBSET):
        for case, path in source.label_files(subset).items():
            files.append(FileToWrite(path, staging / f"labels{subset}" / source.label_name(case)))
    write_files(files, processes, progress)
    for case, labels in entries.items():
        if case in filler.written:
            continue
        path, target = source.labels["Tr"][case], staging / "labelsTr" / source.label_name(case)
        target.unlink(missing_ok=True)
        if labels.pseudo:
            geometry, values = read_array(path)
            write_values(path, target, without_pseudo(values, labels, source.classes), geometry.skewed)
        else:
            link_or_copy(path, target)


def _manifest(
    source: InputDataset,
    model: FillingModel,
    options: FillOptions,
    entries: Mapping[str, CaseLabels],
    outcomes: Sequence[Outcome],
) -> tuple[Manifest, list[str]]:
    """Build the manifest, and warnings about cases that are left out of the only fold."""
    accepted: dict[str, list[str]] = {}
    for one in outcomes:
        if one.outcome == ACCEPTED:
            accepted.setdefault(one.case, []).append(one.structure)
    before, warnings = source.dataset.manifest, []
    split = model.splits[model.clean_fold] if model.clean_fold is not None else None
    outside = {case for case in entries if split and case not in (*split["train"], *split["val"])}
    new_outside = [case for case in outside if not entries[case].left_out]
    if new_outside:
        warnings.append(
            f"{len(new_outside)} case(s) are not in fold {model.clean_fold}, the only one of the new dataset, and are "
            f"declared left_out: {format_names(new_outside)}"
        )
    cases = {}
    for case in source.cases:
        labels = before.labels_of(case)
        info = dict(labels.info)
        if case in model.seen:
            info[SEEN_BY_FILLING_MODEL] = True
        if case in outside:
            info["left_out"] = True
        cases[case] = replace(labels, pseudo=tuple(accepted.get(case, ())), info=info)
    cases |= before.seen_without_image(cases)
    counts = Counter(name for names in accepted.values() for name in names)
    entry: dict[str, Any] = {
        "source": source.name,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "folds": list(model.folds),
        "clean_fold": model.clean_fold,
        "min_confidence": options.min_confidence,
        "size": list(options.size),
        "counts": {"cases": len(accepted), "accepted": {c: counts[c] for c in source.classes if counts[c]}},
    }
    if before.fill:
        entry["source_fill"] = dict(before.fill)
    return Manifest(cases, scenario=before.scenario, domain_weights=before.domain_weights, fill=entry), warnings


def _full_manifest(source: InputDataset, manifest: Manifest) -> Manifest:
    """Build the manifest of the complete labels of a scenario, which hold no pseudo-label."""
    full = Manifest.read(source.dataset.folder / FULL_MANIFEST_NAME)
    cases = {}
    for case, labels in manifest.cases.items():
        complete = full.find(case)
        if complete is not None:
            cases[case] = replace(complete, info=labels.info)
    cases |= manifest.seen_without_image(cases)
    return Manifest(cases, fill=manifest.fill)


def _dataset_json_entries(source: InputDataset, model: FillingModel, name: str) -> dict[str, Any]:
    """Build the entries of dataset.json: who filled what is seen beside every model and prediction."""
    content = source.dataset.dataset_json
    entries: dict[str, Any] = {
        "dataset_name": short_name(name),
        "description": f"{source.name} with pseudo-labels of {model.trainer}; see {MANIFEST_NAME}",
        PSEUDO_LABELS_KEY: {"dataset": name, "source": source.name, "trainer": model.trainer},
    }
    for key in ("licence", "reference", DEPTH_KEY, "overwrite_image_reader_writer"):  # as nnU-Net spells it
        if key in content:
            entries[key] = content[key]
    return entries


def _options_record(source: InputDataset, model: FillingModel, options: FillOptions) -> dict[str, Any]:
    """Record the source files, the model and the options; an interrupted fill is only resumed if they are the same."""
    return {
        "command": "fill",
        "source": source.file_hashes(f"labels{FULL_SUBSET}", FULL_MANIFEST_NAME, SPLITS_NAME),
        "model": [model.trainer, model.plans, model.configuration, list(model.folds), model.clean_fold],
        "checkpoints": dict(model.checkpoints),
        "min_confidence": options.min_confidence,
        "size": list(options.size),
    }


def _write_tables(folder: Path, outcomes: Sequence[Outcome]) -> None:
    folder.mkdir(exist_ok=True)
    write_csv(folder / "per_case.csv", [one.row() for one in outcomes], COLUMNS)
    summary: list[dict[str, str | int]] = [
        dict(zip(SUMMARY_COLUMNS, row, strict=True)) for row in summarize_outcomes(outcomes)
    ]
    write_csv(folder / "summary.csv", summary, SUMMARY_COLUMNS)


def _warnings(outcomes: Sequence[Outcome]) -> list[str]:
    """Name the cases that no fold could fill, and say where nothing was accepted."""
    lines = []
    for reason in (NO_FOLD, SEVERAL_FOLDS, NOT_FILLING):
        cases = dict.fromkeys(one.case for one in outcomes if one.outcome == reason)
        if cases:
            lines.append(f"{len(cases)} case(s) stay as they are, {reason}: {format_names(list(cases))}")
    if not any(one.outcome == ACCEPTED for one in outcomes):
        lines.append("nothing was accepted: the new dataset is annotated as the old one")
    return lines
