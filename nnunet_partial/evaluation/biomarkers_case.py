"""One case of the evaluation as its biomarkers need it: its truth and each prediction, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from nnunet_partial.evaluation.biomarkers_heart import LV
from nnunet_partial.evaluation.biomarkers_picture import PARTS, Picture, measure_picture, view_and_phase
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.masks import Mask, Scale


@dataclass
class HeartCase:
    """An apical picture of a known view at ED or ES; `predictions` by model, none where nobody predicted it."""

    case: str
    phase: str
    classes: tuple[str, ...]
    possible: tuple[str, ...]
    guides: tuple[str, ...] | None
    scale: Scale
    reference: Picture
    predictions: dict[str, Picture] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        case: str,
        labels: CaseLabels,
        classes: Sequence[str],
        values: NDArray[Any],
        scale: Scale,
        ignored: Mask | None,
    ) -> HeartCase | None:
        """Measures the annotated structures of the truth; None for a volume, another view or another moment.

        `values` (rows, cols); `ignored`, of the same shape: pixels of the ignore label, None where there are none.
        Where there are, the truth is not whole and has no value.
        """
        place = place_of(labels)
        if place is None or values.ndim != 2:
            return None
        if ignored is not None and ignored.any():
            reason = "part of the picture carries the ignore label"
            reference = Picture(why_not=dict.fromkeys(PARTS[place[1]], reason))
        else:
            reference = measure_picture(values, classes, labels.annotated, place[1], scale)
        possible = tuple(name for name in classes if name not in labels.absent)
        # where there is a true ventricle, the predicted one is measured with no more than what helped with that
        guides = labels.annotated if LV in labels.annotated else None
        return cls(case, place[1], tuple(classes), possible, guides, scale, reference)

    def add(self, model: str, values: NDArray[Any]) -> None:
        """Measures all that a model predicted, but for what is known not to be there; `values` (rows, cols)."""
        self.predictions[model] = measure_picture(
            values, self.classes, self.possible, self.phase, self.scale, self.guides
        )


def place_of(labels: CaseLabels) -> tuple[str, str] | None:
    """View and phase of a case; None where it is no apical view, or neither ED nor ES."""
    return view_and_phase(str(labels.info.get("view") or ""), str(labels.info.get("phase") or ""))
