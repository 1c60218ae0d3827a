"""What came out of the demo: both models beside the truth, in numbers, in words and as a picture.

How well each model of the demo finds each structure on each scanner: Dice, as a table and in words.

The demo's picture: for some unseen images the echo, the truth, and what each model finds.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.utils.colors import class_colors
from nnunet_partial.utils.files import link_or_copy
from nnunet_partial.utils.text import text_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Labels = NDArray[np.integer[Any]]

#: Below LOST nobody would say that a structure was found; a model is better than another by at least CLEAR.
LOST, CLEAR = 0.3, 0.3


def read_labels(file: Path) -> Labels:
    """The picture in a file, as it stands there: (rows, cols)."""
    import SimpleITK as sitk

    labels: Labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    return labels


def dice(predicted: Labels, truth: Labels, value: int) -> float:
    """Dice of the pixels that have `value`, from 0 to 1: twice the common ones, divided by those of both.

    NaN where both have none, as in nnU-Net: nothing to find, nothing found. 0 where one has none.
    """
    here, there = predicted == value, truth == value
    total = int(here.sum()) + int(there.sum())
    return 2 * int((here & there).sum()) / total if total else math.nan


@dataclass(frozen=True)
class Scores:
    """Dice of each test case, by model: `of[model][case]` holds one number per structure.

    `structures`: names in the order of their values 1, 2, ...; `domains`: the domain of each case; `labelled`: what
    was labelled for training in each domain.
    """

    structures: Sequence[str]
    domains: Mapping[str, str]
    labelled: Mapping[str, Sequence[str]]
    of: Mapping[str, Mapping[str, Sequence[float]]]

    def mean(self, model: str, domain: str, structure: str) -> float:
        """Plain mean over the cases of a domain; those where there is nothing to find and nothing was found are left
        out, NaN where none remains."""
        index = self.structures.index(structure)
        found = [values[index] for case, values in self.of[model].items() if self.domains[case] == domain]
        counted = [value for value in found if not math.isnan(value)]
        return sum(counted) / len(counted) if counted else math.nan

    def cases(self, domain: str) -> list[str]:
        return sorted(case for case, its in self.domains.items() if its == domain)

    def table(self) -> str:
        """One line per domain and model; a star marks what nobody labelled there for training."""
        head = ["images of", "cases", "trainer", *self.structures]
        rows = [
            [
                domain,
                str(len(self.cases(domain))),
                model,
                *(
                    f"{self.mean(model, domain, name):.2f}{' ' if name in labelled else '*'}"
                    for name in self.structures
                ),
            ]
            for domain, labelled in self.labelled.items()
            for model in self.of
        ]
        return text_table(head, rows).rstrip("\n")

    def words(self, plain: str, partial: str) -> list[str]:
        """A sentence on each structure that was not labelled in a domain, comparing two models there."""
        return [
            f"{name} in images of {domain}, where nobody labelled it for training: "
            + compared(plain, self.mean(plain, domain, name), partial, self.mean(partial, domain, name))
            for domain, labelled in self.labelled.items()
            for name in self.structures
            if name not in labelled
        ]


def compared(plain: str, plain_dice: float, partial: str, partial_dice: float) -> str:
    """What two numbers say, in words; never more than they say."""
    numbers = f"Dice {plain_dice:.2f} and {partial_dice:.2f}"
    better = partial_dice - plain_dice
    if plain_dice < LOST and better >= CLEAR:
        return f"{plain} loses it, {partial} finds it ({numbers})."
    if better >= CLEAR:
        return f"{partial} finds it better than {plain} ({numbers})."
    if better <= -CLEAR:
        return f"{plain} finds it better than {partial} ({numbers})."
    if max(plain_dice, partial_dice) < LOST:
        return f"both {plain} and {partial} lose it ({numbers})."
    return f"no clear difference between {plain} and {partial} ({numbers})."


def score(
    truth: Mapping[str, Path],
    predicted: Mapping[str, Mapping[str, Path]],
    structures: Sequence[str],
    domains: Mapping[str, str],
    labelled: Mapping[str, Sequence[str]],
) -> Scores:
    """Compares the predictions of each model, `predicted[model][case]`, with the truth, case by case."""
    values = range(1, len(structures) + 1)
    references = {case: read_labels(file) for case, file in truth.items()}
    of = {
        model: {
            case: [dice(read_labels(files[case]), reference, value) for value in values]
            for case, reference in references.items()
        }
        for model, files in predicted.items()
    }
    return Scores(structures, domains, labelled, of)


INCHES = 2.6


@dataclass(frozen=True)
class Row:
    """One case: the image, and labels with a caption for each further column. All of them (rows, cols)."""

    title: str
    image: NDArray[Any]
    labels: Sequence[tuple[Labels, str]]


def draw_figure(file: Path, columns: Sequence[str], rows: Sequence[Row], structures: Sequence[str], title: str) -> None:
    """Writes a PNG: a line of panels per case; `columns` names the image's column and those of the labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES * len(columns), INCHES * 1.08 * len(rows) + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        _draw_row(row, axes, list(class_colors(structures).values()))
    for name, axis in zip(columns, panels[0], strict=True):
        axis.set_title(name, fontsize=11)
    _legend(figure, structures)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _draw_row(row: Row, axes: Sequence[Axes], colours: Sequence[str]) -> None:
    for axis, (labels, caption) in zip(axes, [(None, ""), *row.labels], strict=True):
        axis.imshow(row.image, cmap="gray", vmin=0, vmax=255)
        if labels is not None:
            _paint(axis, labels, colours)
        axis.set_xlabel(caption, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel(row.title, fontsize=10)


def _paint(axis: Axes, labels: Labels, colours: Sequence[str]) -> None:
    """Each structure as a tinted area within its outline."""
    for value, colour in enumerate(colours, start=1):
        here = (labels == value).astype(float)
        if here.any():
            axis.contourf(here, levels=[0.5, 1.5], colors=[colour], alpha=0.4)
            axis.contour(here, levels=[0.5], colors=[colour], linewidths=1.6)


def _legend(figure: Figure, structures: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=colour, label=name) for name, colour in class_colors(structures).items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=11, frameon=False)


def median_case(dices: Mapping[str, Sequence[float]]) -> str:
    """The case in the middle, by the mean of its numbers: neither the best nor the worst. Of two, the lower."""
    means = {case: float(np.nanmean(values)) for case, values in dices.items()}
    ordered = sorted(means, key=lambda case: (means[case], case))
    return ordered[(len(ordered) - 1) // 2]


def score_models(folder: DemoFolder, trainers: tuple[str, str]) -> Scores:
    """Dice of both models against the whole truth of the test cases, which is gathered in `folder.truth`."""
    dataset = RawDataset(folder.merged)
    labels = {case: dataset.manifest.labels_of(case) for case in dataset.label_files("Ts")}
    for case, its in labels.items():
        truth = dataset.label_files("Ts")[case]
        if its.domain == "echonet":  # labelsTs knows of the ventricle alone
            stem = str(its.patient).removeprefix("echonet_")
            truth = folder.echonet_truth / f"{stem}_{its.info['frame']}{dataset.file_ending}"
        link_or_copy(truth, folder.truth / f"{case}{dataset.file_ending}")
    return score(
        _files(folder.truth, labels, dataset.file_ending),
        {trainer: _files(folder.predictions(trainer), labels, dataset.file_ending) for trainer in trainers},
        dataset.classes,
        {case: its.domain for case, its in labels.items()},
        {its.domain: its.annotated for its in labels.values()},
    )


def _files(folder: Path, cases: Iterable[str], ending: str) -> dict[str, Path]:
    return {case: folder / f"{case}{ending}" for case in cases}


def show_models(folder: DemoFolder, trainers: tuple[str, str], scores: Scores) -> None:
    """Saves the picture: one case of the first domain, ED and ES of the second, each the second model's median."""
    dataset = RawDataset(folder.merged)
    rows = []
    for domain, moments in (("camus", ("",)), ("echonet", ("_ED", "_ES"))):
        for moment in moments:
            of = scores.of[trainers[1]]
            rows.append(median_case({case: of[case] for case in scores.cases(domain) if case.endswith(moment)}))
    draw_figure(
        folder.picture,
        ["image", "truth", *trainers],
        [_row(folder, dataset, case, trainers, scores) for case in rows],
        dataset.classes,
        "Drawn images that no training has seen. " + _missing(scores),
    )


def _missing(scores: Scores) -> str:
    """What each domain lacks, as sentences."""
    lacks = {d: [name for name in scores.structures if name not in labelled] for d, labelled in scores.labelled.items()}
    return " ".join(f"For training nobody labelled {' and '.join(n)} in {d}." for d, n in lacks.items() if n)


def _row(folder: DemoFolder, dataset: RawDataset, case: str, trainers: tuple[str, str], scores: Scores) -> Row:
    image = read_labels(dataset.image_files("Ts")[case][0])
    name = f"{case}{dataset.file_ending}"
    labels = [(read_labels(folder.truth / name), "")]
    for trainer in trainers:
        numbers = zip(scores.structures, scores.of[trainer][case], strict=True)
        caption = "Dice: " + "  ".join(f"{structure} {value:.2f}" for structure, value in numbers)
        labels.append((read_labels(folder.predictions(trainer) / name), caption))
    domain = scores.domains[case]
    return Row(f"{domain}\n(labelled for training: {', '.join(scores.labelled[domain])})", image, labels)


def in_words(scores: Scores, trainers: tuple[str, str]) -> str:
    """The table of Dice and what it says."""
    head = (
        "Dice, mean over unseen drawn images (1 perfect, 0 nothing in common).\n"
        f"* {_missing(scores)} Truth, here, is all that was drawn.\n"
    )
    words = [
        textwrap.fill(sentence, 110, initial_indent="- ", subsequent_indent="  ")
        for sentence in scores.words(*trainers)
    ]
    return "\n".join([head, scores.table(), "", *words, ""])
