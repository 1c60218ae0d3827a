"""Know which structures a view does not show, and find cases of Unity that are wrongly declared absent.

Unity labels a structure `off` where it is not in the image, and also where it was not asked for; only the first
would be *absent*. Earlier conversions took every `off` as absent. A case says how it was read by `"off": "unknown"` or
`"off": "absent"` in `partial_labels.json`; one without that entry is of an earlier conversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import format_names

#: Structures of the heart that a view does not show: the right heart in the apical two-chamber view.
OUT_OF_VIEW = {"2CH": ("RV", "RA")}

#: Entry of a case of Unity in the manifest: what its conversion took `off` for.
OFF = "off"

#: Identifier of a case of Unity, the code of the image in it; a merge and a scenario keep it.
_UNITY = re.compile(r"unity_[0-9A-Za-z]{2}-[0-9A-Fa-f]{64}-\d{4}")


def off_as_absent(entries: Mapping[str, CaseLabels]) -> list[str]:
    """Find the cases of Unity in which structures count as absent only because an earlier conversion read `off` so.

    Args:
        entries: What the manifest says of each case, by identifier.

    Returns:
        One line that names the cases and what to do; empty where there is no such case. What the view does not show
        may be absent in any case.
    """
    wrong = [
        case
        for case, labels in entries.items()
        if _UNITY.fullmatch(case)
        and OFF not in labels.info
        and not set(labels.absent) <= set(OUT_OF_VIEW.get(str(labels.info.get("view")), ()))
    ]
    if not wrong:
        return []
    return [
        f"{len(wrong)} case(s) of Unity are wrongly declared, by a conversion of an earlier version: a structure that "
        f"was labeled off counts as absent, though it may be in the image: {format_names(wrong, 3)}. Convert Unity "
        "again with this version, make merges and scenarios with it again, and train again"
    ]
