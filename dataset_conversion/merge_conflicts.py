"""What speaks against merging data sets, as dataset.json, the manifests and the lists of files show it."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import common_order, strangers
from nnunet_partial.out_of_view import off_as_absent
from nnunet_partial.splits import for_test_text, training_cases_for_test
from nnunet_partial.utils.text import some

from .merge_source import PARTS, Source
from .same_people import persons


def unreadable(source: Source) -> list[str]:
    """What is wrong with dataset.json and the manifest of one data set, each on its own."""
    found = []
    for read in (
        lambda: source.dataset.classes,
        lambda: source.channel_names,
        lambda: source.dataset.manifest,
    ):
        try:
            read()
        except PartialLabelError as problem:
            if f"{source.name}: {problem}" not in found:
                found.append(f"{source.name}: {problem}")
    return found


def incomplete(source: Source) -> list[str]:
    """Images without labels, labels without images, cases without entry or with a wrong one: as lists of files and
    the manifest show it."""
    found = []
    images, labels = source.images, source.labels
    if not images["Tr"]:
        found.append(f"{source.name}: no training images in imagesTr")
    unlabelled = set(images["Tr"]) - set(labels["Tr"])
    if unlabelled:
        found.append(f"{source.name}: {len(unlabelled)} training image(s) without a label file: {some(unlabelled)}")
    for part in PARTS:
        alone = set(labels[part]) - set(images[part])
        if alone:
            found.append(f"{source.name}: {len(alone)} label file(s) in labels{part} without an image: {some(alone)}")
    twice = set(images["Tr"]) & set(images["Ts"])
    if twice:
        found.append(f"{source.name}: {len(twice)} case(s) in imagesTr and in imagesTs: {some(twice)}")
    for_test = training_cases_for_test(source.dataset.manifest, list(images["Tr"]))
    if for_test:
        found.append(f"{source.name}: {for_test_text(for_test)}")
    manifest = source.dataset.manifest
    found += [f"{source.name}: {p}" for p in manifest.problems(source.cases, source.dataset.classes)]
    entries = {case: entry for case in source.cases if (entry := manifest.find(case))}
    return found + [f"{source.name}: {p}" for p in off_as_absent(entries)]


def conflicts(sources: Sequence[Source]) -> list[str]:
    """Where the data sets do not fit each other, as dataset.json, manifests and the lists of files show it."""
    found = []
    for what, values in (
        ("file endings", [source.dataset.file_ending for source in sources]),
        ("channels", [", ".join(source.channel_names.values()) for source in sources]),
        ("readers", [str(s.dataset.dataset_json.get("overwrite_image_reader_writer")) for s in sources]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(f"{source.name}: {value}" for source, value in zip(sources, values, strict=True))
            found.append(f"different {what}: {each}. Convert one of them so that they agree")
    found += _alike_names(sources)
    return found + _same_cases(sources) + _patients_on_both_sides(sources) + _people_under_other_names(sources)


def _people_under_other_names(sources: Sequence[Source]) -> list[str]:
    """Data sets of the same people who are named differently, as the manifests say."""
    entries = {case: source.dataset.manifest.find(case) for source in sources for case in source.cases}
    return strangers({case: labels for case, labels in entries.items() if labels is not None})


def _alike_names(sources: Sequence[Source]) -> list[str]:
    spelled: dict[str, list[str]] = {}
    for name in common_order(name for source in sources for name in source.dataset.classes):
        spelled.setdefault(name.casefold().strip(), []).append(name)
    return [
        f"classes that differ in spelling only: {', '.join(names)}. Use one spelling in dataset.json and manifest"
        for names in spelled.values()
        if len(names) > 1
    ]


def _same_cases(sources: Sequence[Source]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for source in sources:
        for case in dict.fromkeys(source.cases):
            owners.setdefault(case, []).append(source.name)
    shared: dict[str, list[str]] = {}
    for case, names in owners.items():
        if len(names) > 1:
            shared.setdefault(" and ".join(names), []).append(case)
    return [
        f"{len(cases)} case(s) with the same identifier in {names}: {some(cases)}. Convert one data set with other "
        "identifiers, or leave it out"
        for names, cases in shared.items()
    ]


def _patients_on_both_sides(sources: Sequence[Source]) -> list[str]:
    """Patients who train, in one data set or in another, and are test patients: their test would be too good to be
    true."""
    found = [
        (s, part, case, s.dataset.manifest.find(case)) for s in sources for part in PARTS for case in s.images[part]
    ]
    entries = [(source, part, case, labels) for source, part, case, labels in found if labels is not None]
    person = persons((case, labels) for _, _, case, labels in entries)
    sides: dict[str, dict[str, set[str]]] = {}
    for source, part, case, labels in entries:
        side = "test" if part == "Ts" or labels.split == "test" else "training"
        sides.setdefault(person[labels.patient or case], {}).setdefault(source.name, set()).add(side)
    leaking: dict[str, list[str]] = {}
    for patient, by_source in sides.items():
        if len(set.union(*by_source.values())) > 1:
            where = ", ".join(f"{' and '.join(sorted(s))} in {name}" for name, s in by_source.items())
            leaking.setdefault(where, []).append(patient)
    return [
        f"{len(patients)} patient(s) on different sides of the official splits ({where}): {some(patients)}. "
        "Leave their cases out on one side; if they are different people, give them different 'patient' entries"
        for where, patients in leaking.items()
    ]
