"""Two data sets may hold the same people under different names: then nobody may train in one and test in the other.

A case says so in `partial_labels.json` by `"same_people_as": "camus"`, the domain of the other data set. It may stand
beside that domain once its `patient` is named as there (camus_patient0002), so that splits keep the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import some

#: Entry of a case in the manifest: the domain that holds the same people.
SAME_PEOPLE_AS = "same_people_as"


def strangers(entries: Mapping[str, CaseLabels]) -> list[str]:
    """One line per domain whose people are here a second time under other names; empty where all is well.

    `entries`: what is known of each case. Patients are named alike where only the digits at the end differ.
    """
    schemes: dict[str, set[str]] = {}
    for case, labels in entries.items():
        schemes.setdefault(labels.domain, set()).add(_scheme(labels.patient or case))
    leaking: dict[tuple[str, str], set[str]] = {}
    for case, labels in entries.items():
        twin = labels.info.get(SAME_PEOPLE_AS)
        patient = labels.patient or case
        if isinstance(twin, str) and schemes.get(twin, set()) - {_scheme(patient)}:
            leaking.setdefault((labels.domain, twin), set()).add(patient)
    return [
        f"{len(patients)} patient(s) of {domain} are people of {twin} under other names, so that one of them could be "
        f"on both sides of a split: {some(patients)}. {_way_out(domain, twin)}"
        for (domain, twin), patients in leaking.items()
    ]


def _way_out(domain: str, twin: str) -> str:
    if domain == twin:
        return "Take one of the two releases."
    return (
        f"Convert {domain} again so that its patients get the names they have in {twin} (for ted: --camus FOLDER, the "
        f"folder that {twin} was converted from), or leave one out"
    )


def _scheme(patient: str) -> str:
    """The name without the digits at its end: camus_patient for camus_patient0002."""
    return patient.rstrip("0123456789")
