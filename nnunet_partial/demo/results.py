"""Score both models of the demo against the complete labels; present the result as table, sentences and figure."""

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
from nnunet_partial.report.figure_style import add_legend, legend_patch, new_figure, style
from nnunet_partial.utils.colors import class_colors
from nnunet_partial.utils.files import link_or_copy
from nnunet_partial.utils.text import text_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Below this Dice a structure counts as lost.
LOST_DICE = 0.3
#: A model is better than another if its Dice is higher by at least this much.
CLEAR_GAIN = 0.3
PANEL_INCHES = 2.6

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Scores:
    """Hold the Dice of each test case and model.

    Attributes:
        structures: names of the classes in the order of their labels 1, 2, ...
        domains: domain of each case.
        annotated: classes annotated for training in each domain.
        dice: by model, then by case; one number per class.
    """

    structures: Sequence[str]
    domains: Mapping[str, str]
    annotated: Mapping[str, Sequence[str]]
    dice: Mapping[str, Mapping[str, Sequence[float]]]

    def mean(self, model: str, domain: str, structure: str) -> float:
        """Average the Dice over the cases of a domain.

        Args:
            model: its trainer.
            domain: name of the domain.
            structure: name of the class.

        Returns:
            The mean of the numbers that are not NaN; NaN if there is none.
        """
        index = self.structures.index(structure)
        values = [dices[index] for case, dices in self.dice[model].items() if self.domains[case] == domain]
        counted = [value for value in values if not math.isnan(value)]
        return sum(counted) / len(counted) if counted else math.nan

    def cases(self, domain: str) -> list[str]:
        """List the cases of a domain.

        Args:
            domain: name of the domain.

        Returns:
            The case identifiers, sorted.
        """
        return sorted(case for case, of_case in self.domains.items() if of_case == domain)

    def table(self) -> str:
        """Format the mean Dice, one line per domain and model.

        Returns:
            The table; a star marks classes that were not annotated there for training.
        """
        head = ["images of", "cases", "trainer", *self.structures]
        rows = [
            [
                domain,
                str(len(self.cases(domain))),
                model,
                *(
                    f"{self.mean(model, domain, name):.2f}{' ' if name in annotated else '*'}"
                    for name in self.structures
                ),
            ]
            for domain, annotated in self.annotated.items()
            for model in self.dice
        ]
        return text_table(head, rows)

    def compare(self, plain: str, partial: str) -> list[str]:
        """Compare two models on each class that was not annotated in a domain.

        Args:
            plain: trainer that takes unannotated classes for background.
            partial: trainer with a partial-label loss.

        Returns:
            A sentence per domain and class.
        """
        return [
            f"{name} in images of {domain} (not annotated for training): "
            + compare_dice(plain, self.mean(plain, domain, name), partial, self.mean(partial, domain, name))
            for domain, annotated in self.annotated.items()
            for name in self.structures
            if name not in annotated
        ]


def score_models(folder: DemoFolder, trainers: tuple[str, str]) -> Scores:
    """Score both models on the test cases; their complete labels are collected in `folder.truth`.

    Args:
        folder: of the demo.
        trainers: of the two models.

    Returns:
        The scores.
    """
    dataset = RawDataset(folder.merged)
    labels = {case: dataset.manifest.labels_of(case) for case in dataset.label_files("Ts")}
    for case, case_labels in labels.items():
        truth = dataset.label_files("Ts")[case]
        if case_labels.domain == "echonet":  # labelsTs holds the LV only
            stem = str(case_labels.patient).removeprefix("echonet_")
            truth = folder.echonet_truth / f"{stem}_{case_labels.info['frame']}{dataset.file_ending}"
        link_or_copy(truth, folder.truth / f"{case}{dataset.file_ending}")
    return score(
        _case_files(folder.truth, labels, dataset.file_ending),
        {trainer: _case_files(folder.predictions(trainer), labels, dataset.file_ending) for trainer in trainers},
        dataset.classes,
        {case: case_labels.domain for case, case_labels in labels.items()},
        {case_labels.domain: case_labels.annotated for case_labels in labels.values()},
    )


def save_figure(folder: DemoFolder, trainers: tuple[str, str], scores: Scores) -> None:
    """Save the figure: one case of the first domain, ED and ES of the second, each the median case of the second model.

    Args:
        folder: of the demo.
        trainers: of the two models.
        scores: of both.
    """
    dataset = RawDataset(folder.merged)
    cases = []
    for domain, phases in (("camus", ("",)), ("echonet", ("_ED", "_ES"))):
        for phase in phases:
            of_model = scores.dice[trainers[1]]
            cases.append(median_case({case: of_model[case] for case in scores.cases(domain) if case.endswith(phase)}))
    draw_figure(
        folder.figure,
        ["image", "truth", *trainers],
        [_figure_row(folder, dataset, case, trainers, scores) for case in cases],
        dataset.classes,
        "Synthetic test images. " + _missing(scores),
    )


def result_text(scores: Scores, trainers: tuple[str, str]) -> str:
    """Format the table of Dice and the comparison of both models.

    Args:
        scores: of both models.
        trainers: of the two models.

    Returns:
        The text; ends with a line break.
    """
    head = (
        "Dice, mean over synthetic test images (1: perfect, 0: no overlap), against the complete labels.\n"
        f"* {_missing(scores)}\n"
    )
    sentences = [
        textwrap.fill(sentence, 110, initial_indent="- ", subsequent_indent="  ")
        for sentence in scores.compare(*trainers)
    ]
    return "\n".join([head, scores.table(), *sentences, ""])


def score(
    truth: Mapping[str, Path],
    predicted: Mapping[str, Mapping[str, Path]],
    structures: Sequence[str],
    domains: Mapping[str, str],
    annotated: Mapping[str, Sequence[str]],
) -> Scores:
    """Compare the predictions of each model with the complete labels.

    Args:
        truth: file with the complete labels of each case.
        predicted: file by model, then by case.
        structures: names of the classes in the order of their labels.
        domains: domain of each case.
        annotated: classes annotated for training in each domain.

    Returns:
        The scores.
    """
    values = range(1, len(structures) + 1)
    references = {case: read_labels(file) for case, file in truth.items()}
    dices = {
        model: {
            case: [dice(read_labels(files[case]), reference, value) for value in values]
            for case, reference in references.items()
        }
        for model, files in predicted.items()
    }
    return Scores(structures, domains, annotated, dices)


def compare_dice(plain: str, plain_dice: float, partial: str, partial_dice: float) -> str:
    """Describe the difference of two Dice values.

    Args:
        plain: name of the first model.
        plain_dice: its Dice.
        partial: name of the second model.
        partial_dice: its Dice.

    Returns:
        The end of a sentence; only differences of at least CLEAR_GAIN are called one.
    """
    numbers = f"Dice {plain_dice:.2f} and {partial_dice:.2f}"
    better = partial_dice - plain_dice
    if plain_dice < LOST_DICE and better >= CLEAR_GAIN:
        return f"{plain} loses it, {partial} finds it ({numbers})."
    if better >= CLEAR_GAIN:
        return f"{partial} finds it better than {plain} ({numbers})."
    if better <= -CLEAR_GAIN:
        return f"{plain} finds it better than {partial} ({numbers})."
    if max(plain_dice, partial_dice) < LOST_DICE:
        return f"both {plain} and {partial} lose it ({numbers})."
    return f"no clear difference between {plain} and {partial} ({numbers})."


def dice(predicted: Labels, truth: Labels, value: int) -> float:
    """Compute the Dice coefficient of one class.

    Args:
        predicted: label map.
        truth: label map of the same shape.
        value: label of the class.

    Returns:
        From 0 to 1; NaN if neither contains the class (as nnU-Net does), 0 if only one does.
    """
    mask, reference = predicted == value, truth == value
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else math.nan


def median_case(dices: Mapping[str, Sequence[float]]) -> str:
    """Find the case in the middle by the mean of its Dice values.

    Args:
        dices: of each case.

    Returns:
        The case; the lower of the two middle ones.
    """
    means = {case: float(np.nanmean(values)) for case, values in dices.items()}
    ranked = sorted(means, key=lambda case: (means[case], case))
    return ranked[(len(ranked) - 1) // 2]


def read_labels(file: Path) -> Labels:
    """Read a 2-D image or label map.

    Args:
        file: a format that SimpleITK reads.

    Returns:
        The values as stored, shape (rows, cols).
    """
    import SimpleITK as sitk

    labels: Labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    return labels


@dataclass(frozen=True)
class FigureRow:
    """Hold one case of the figure.

    Attributes:
        title: printed left of it.
        image: gray values from 0 to 255, shape (rows, cols).
        labels: a label map with its caption for each further column.
    """

    title: str
    image: NDArray[Any]
    labels: Sequence[tuple[Labels, str]]


def draw_figure(
    file: Path, columns: Sequence[str], rows: Sequence[FigureRow], structures: Sequence[str], title: str
) -> None:
    """Save a PNG with a row of panels per case.

    Args:
        file: to write.
        columns: names of the image's column and of those of the label maps.
        rows: the cases.
        structures: names of the classes in the order of their labels.
        title: of the figure.
    """
    colors = class_colors(structures)
    with style():
        figure = new_figure(PANEL_INCHES * len(columns), PANEL_INCHES * 1.08 * len(rows) + 1.0)
        figure.suptitle(title, fontsize=12)
        panels = figure.subplots(len(rows), len(columns), squeeze=False)
        for row, axes in zip(rows, panels, strict=True):
            _draw_figure_row(row, axes, list(colors.values()))
        for name, axis in zip(columns, panels[0], strict=True):
            axis.set_title(name, fontsize=11)
        patches = [legend_patch(name, facecolor=color, edgecolor="none") for name, color in colors.items()]
        add_legend(figure, patches, columns=len(patches), font_size=11)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)


def _draw_figure_row(row: FigureRow, axes: Sequence[Axes], colors: Sequence[str]) -> None:
    for axis, (labels, caption) in zip(axes, [(None, ""), *row.labels], strict=True):
        axis.imshow(row.image, cmap="gray", vmin=0, vmax=255)
        if labels is not None:
            overlay_labels(axis, labels, colors)
        axis.set_xlabel(caption, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel(row.title, fontsize=10)


def overlay_labels(axis: Axes, labels: Labels, colors: Sequence[str]) -> None:
    """Draw each structure as a tinted area within its contour.

    Args:
        axis: to draw on.
        labels: label map, shape (rows, cols).
        colors: of the classes, in the order of their labels 1, 2, ...
    """
    for value, color in enumerate(colors, start=1):
        mask = (labels == value).astype(float)
        if mask.any():
            axis.contourf(mask, levels=[0.5, 1.5], colors=[color], alpha=0.4)
            axis.contour(mask, levels=[0.5], colors=[color], linewidths=1.6)


def _case_files(folder: Path, cases: Iterable[str], ending: str) -> dict[str, Path]:
    return {case: folder / f"{case}{ending}" for case in cases}


def _missing(scores: Scores) -> str:
    """Return which classes each domain lacks, as sentences."""
    lacks = {
        d: [name for name in scores.structures if name not in annotated] for d, annotated in scores.annotated.items()
    }
    return " ".join(f"{' and '.join(n)} not annotated in {d} for training." for d, n in lacks.items() if n)


def _figure_row(
    folder: DemoFolder, dataset: RawDataset, case: str, trainers: tuple[str, str], scores: Scores
) -> FigureRow:
    image = read_labels(dataset.image_files("Ts")[case][0])
    name = f"{case}{dataset.file_ending}"
    labels = [(read_labels(folder.truth / name), "")]
    for trainer in trainers:
        numbers = zip(scores.structures, scores.dice[trainer][case], strict=True)
        caption = "Dice: " + "  ".join(f"{structure} {value:.2f}" for structure, value in numbers)
        labels.append((read_labels(folder.predictions(trainer) / name), caption))
    domain = scores.domains[case]
    return FigureRow(f"{domain}\n(annotated for training: {', '.join(scores.annotated[domain])})", image, labels)
