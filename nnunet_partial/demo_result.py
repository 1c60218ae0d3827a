"""What came out of the demo: both models beside the truth, in numbers, in words and as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.demo_folder import DemoFolder
from nnunet_partial.demo_picture import Row, draw_picture, median_case
from nnunet_partial.demo_scores import Scores, read_labels, score
from nnunet_partial.utils.files import link_or_copy


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
    draw_picture(
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
