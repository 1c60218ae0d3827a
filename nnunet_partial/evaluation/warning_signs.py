"""What partially labelled training can do unseen: hand a background to a structure nobody drew there, or lose it.

Where a structure was not annotated no metric can be had, but its size can: is it predicted about as large as it is
where it was drawn?
"""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_partial.evaluation.records import PredictedSize, mean

#: Predicted at this many times its usual size, or at less than this part of it, a structure is worth a look; and
#: where it is not predicted at all in this share of the cases.
LARGE, SMALL, LOST = 2.0, 0.5, 0.5

COLUMNS = (
    *("model", "domain", "class", "unit", "n_unknown", "n_not_predicted", "predicted_unknown", "largest_unknown"),
    *("usual_from", "n_usual", "usual", "predicted_where_known", "times_usual", "sign", "words"),
)
SHARE = "share of image"

Row = dict[str, str | float | int]


def warning_signs(sizes: Sequence[PredictedSize], classes: Sequence[str]) -> list[Row]:
    """One row per model, domain and structure that at least one case of the domain does not know.

    predicted_unknown: the mean predicted size over the n_unknown cases that do not know the structure, those included
    in which it is not predicted. usual: its mean true size over the n_usual cases that know it and show it: those of
    the same domain where there are any, else all others (`usual_from`); predicted_where_known: the mean predicted size
    there. times_usual: predicted_unknown / usual, NaN where nobody drew it. Sizes are in cm2 or mL where all images
    of the evaluation have the same one of these units, else a share of the image. sign: "too large", "too small",
    "not predicted" (in half of the cases or more) or empty; words: a sentence for each sign.
    """
    share = len({size.unit for size in sizes}) > 1 or any(size.unit in ("pixels", "voxels") for size in sizes)
    rows = []
    for model in dict.fromkeys(size.model for size in sizes):
        for domain in sorted({size.subject.domain for size in sizes}):
            for structure in classes:
                chosen = [size for size in sizes if (size.model, size.structure) == (model, structure)]
                unknown = [size for size in chosen if size.reference is None and size.subject.domain == domain]
                if unknown:
                    rows.append(_row(model, domain, structure, unknown, chosen, share))
    return rows


def _row(
    model: str, domain: str, structure: str, unknown: list[PredictedSize], chosen: list[PredictedSize], share: bool
) -> Row:
    shown = [size for size in chosen if size.reference]
    at_home = [size for size in shown if size.subject.domain == domain]
    usual_cases = at_home or shown
    predicted = [size.share if share else size.size for size in unknown]
    usual = mean((size.reference_share if share else size.reference) or 0.0 for size in usual_cases)
    row: Row = {
        "model": model,
        "domain": domain,
        "class": structure,
        "unit": SHARE if share else unknown[0].unit,
        "n_unknown": len(unknown),
        "n_not_predicted": sum(size == 0 for size in predicted),
        "predicted_unknown": mean(predicted),
        "largest_unknown": max(predicted),
        "usual_from": ", ".join(sorted({size.subject.domain for size in usual_cases})),
        "n_usual": len(usual_cases),
        "usual": usual,
        "predicted_where_known": mean(size.share if share else size.size for size in usual_cases),
        "times_usual": mean(predicted) / usual,
    }
    sign = _sign(row)
    return {**row, "sign": sign, "words": _message(row, sign, _dimension([*unknown, *usual_cases]))}


def _sign(row: Row) -> str:
    times = float(row["times_usual"])
    if float(row["n_not_predicted"]) >= LOST * float(row["n_unknown"]):
        return "not predicted"
    return "too large" if times >= LARGE else "too small" if times < SMALL else ""


def _dimension(sizes: Sequence[PredictedSize]) -> str:
    """What the sizes are sizes of: a share may be of an area, of a volume, or of both."""
    units = {size.unit for size in sizes}
    return "area" if units <= {"cm2", "pixels"} else "volume" if units == {"mL"} else "size"


def _message(row: Row, sign: str, dimension: str) -> str:
    """The sentence; empty without a sign."""
    where = f"{row['model']}: in {row['domain']}, {row['class']}"
    unknown = f"{row['n_unknown']} case(s) that do not know it"
    if sign == "not predicted":
        return f"{where} is not predicted at all in {row['n_not_predicted']} of {unknown}."
    if not sign:
        return ""
    return (
        f"{where} is predicted at {float(row['times_usual']):.2g} times its usual {dimension} in {unknown} "
        f"(usual: as drawn in {row['n_usual']} case(s) of {row['usual_from']})."
    )
