"""Detect implausible predicted sizes for unannotated classes.

Where a class was not annotated no metric is defined, but its predicted size is. A network trained on partial labels
can label a whole background as such a class, or lose it. So its mean predicted size in these cases is compared with its
mean true size in the cases in which it was annotated.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_partial.evaluation.records import PredictedSize, Row, mean

#: A predicted size of at least this many times the reference size is "too large".
MAX_SIZE_RATIO = 2.0
#: A predicted size below this many times the reference size is "too small".
MIN_SIZE_RATIO = 0.5
#: From this fraction of cases without a predicted pixel on, a class is "not predicted".
MAX_EMPTY_FRACTION = 0.5

COLUMNS = (
    *("model", "domain", "class", "unit", "n_unannotated", "n_not_predicted"),
    *("predicted_size_unannotated", "largest_size_unannotated", "reference_source", "n_reference", "reference_size"),
    *("predicted_size_annotated", "size_ratio", "warning", "message"),
)
#: The unit of sizes where the images of an evaluation have no physical unit in common.
FRACTION_OF_IMAGE = "fraction of image"


def warning_signs(sizes: Sequence[PredictedSize], classes: Sequence[str]) -> list[Row]:
    """Compare the predicted size of each class where it is not annotated with its true size where it is.

    Columns:
        unit: cm2 or mL where all images of the evaluation have the same one of these units, else fraction of image.
        n_unannotated: Cases of the domain not annotated for the class; in n_not_predicted of them it is not predicted.
        predicted_size_unannotated, largest_size_unannotated: Mean and largest predicted size over these cases, those
            without a predicted pixel included.
        reference_size: Mean true size over the n_reference cases in which the class was annotated and is not empty:
            those of the same domain where there are any, else all others. reference_source: the domains of these cases.
        predicted_size_annotated: Mean predicted size over the same cases.
        size_ratio: predicted_size_unannotated / reference_size; NaN where no case shows the class.
        warning: "not predicted" (in at least MAX_EMPTY_FRACTION of the cases), "too large" (from MAX_SIZE_RATIO on),
            "too small" (below MIN_SIZE_RATIO) or empty. message: a sentence for each warning, else empty.

    Args:
        sizes: Of every class in every prediction.
        classes: The classes to look at, in the order of the rows.

    Returns:
        The rows of warning_signs.csv: one per model, domain and class for which at least one case of the domain is not
        annotated. Empty where every case is annotated for every class.
    """
    as_fraction = len({size.unit for size in sizes}) > 1 or any(size.unit in ("pixels", "voxels") for size in sizes)
    rows = []
    for model in dict.fromkeys(size.model for size in sizes):
        for domain in sorted({size.subject.domain for size in sizes}):
            for structure in classes:
                of_class = [size for size in sizes if (size.model, size.structure) == (model, structure)]
                unannotated = [size for size in of_class if size.reference is None and size.subject.domain == domain]
                if unannotated:
                    rows.append(_row(model, domain, structure, unannotated, of_class, as_fraction))
    return rows


def _row(
    model: str,
    domain: str,
    structure: str,
    unannotated: Sequence[PredictedSize],
    of_class: Sequence[PredictedSize],
    as_fraction: bool,
) -> Row:
    not_empty = [size for size in of_class if size.reference]
    same_domain = [size for size in not_empty if size.subject.domain == domain]
    reference_cases = same_domain or not_empty
    predicted = [size.share if as_fraction else size.size for size in unannotated]
    reference_size = mean((size.reference_share if as_fraction else size.reference) or 0.0 for size in reference_cases)
    row: Row = {
        "model": model,
        "domain": domain,
        "class": structure,
        "unit": FRACTION_OF_IMAGE if as_fraction else unannotated[0].unit,
        "n_unannotated": len(unannotated),
        "n_not_predicted": sum(size == 0 for size in predicted),
        "predicted_size_unannotated": mean(predicted),
        "largest_size_unannotated": max(predicted),
        "reference_source": ", ".join(sorted({size.subject.domain for size in reference_cases})),
        "n_reference": len(reference_cases),
        "reference_size": reference_size,
        "predicted_size_annotated": mean(size.share if as_fraction else size.size for size in reference_cases),
        "size_ratio": mean(predicted) / reference_size,
    }
    warning = _warning(row)
    return {**row, "warning": warning, "message": _message(row, warning, _quantity([*unannotated, *reference_cases]))}


def _warning(row: Row) -> str:
    ratio = float(row["size_ratio"])
    if float(row["n_not_predicted"]) >= MAX_EMPTY_FRACTION * float(row["n_unannotated"]):
        return "not predicted"
    return "too large" if ratio >= MAX_SIZE_RATIO else "too small" if ratio < MIN_SIZE_RATIO else ""


def _quantity(sizes: Sequence[PredictedSize]) -> str:
    """Return what the sizes are sizes of: a fraction of the image may be of an area, of a volume, or of both."""
    units = {size.unit for size in sizes}
    return "area" if units <= {"cm2", "pixels"} else "volume" if units == {"mL"} else "size"


def _message(row: Row, warning: str, quantity: str) -> str:
    """Return the warning as a sentence; empty without one."""
    where = f"{row['model']}: in {row['domain']}, {row['class']}"
    cases = f"{row['n_unannotated']} case(s) not annotated for it"
    if warning == "not predicted":
        return f"{where} is not predicted at all in {row['n_not_predicted']} of {cases}."
    if not warning:
        return ""
    return (
        f"{where} is predicted at {float(row['size_ratio']):.2g} times its reference {quantity} in {cases} "
        f"(reference: annotated in {row['n_reference']} case(s) of {row['reference_source']})."
    )
