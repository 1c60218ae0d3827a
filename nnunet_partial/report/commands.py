"""The commands that give the same numbers and the same report again."""

from __future__ import annotations

import shlex
from pathlib import Path

from nnunet_partial.report.results_folder import Results


def repeat(results: Results, page: Path) -> list[str]:
    """`nnunet_partial evaluate` and `report` as they would be typed; DATASET where the data set has no nnU-Net name."""
    home = results.manifest.parent
    dataset = home.name if home.name.startswith("Dataset") else "DATASET"
    evaluate = ["nnunet_partial", "evaluate", "-d", dataset, "--ref", str(results.reference)]
    for model, predictions in results.models.items():
        evaluate += ["--pred", f"{model}={predictions}"]
    tolerance = results.about.get("surface_dice_tolerance")
    if isinstance(tolerance, (int, float)):
        evaluate += ["--tolerance-mm", f"{tolerance:g}"]
    folder = str(results.folder.absolute())
    report = ["nnunet_partial", "report", folder, "-o", str(page.absolute())]
    return [shlex.join([*evaluate, "-o", folder]), shlex.join(report)]
