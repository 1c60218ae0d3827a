"""Time the evaluation of predictions, files and all: pairs per second on synthetic data, all metrics.

Makes hearts of three structures (an ellipse, a wall around it, an atrium below), predictions that differ from them by
shift, size and a ragged contour, writes both as compressed NIfTI, and runs what `nnunet_partial evaluate` runs:
metrics, statistics, and biomarkers of patients with four images each.

    python benchmarks/evaluate.py [--pairs 2000] [--shape 549 389] [-np 2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_partial.evaluation.evaluate import evaluate_folders, find_predictions, find_reference
from nnunet_partial.evaluation.results import Tables, write_results

DIFFERENT_PAIRS = 40  # more are copies under other names


def heart(rng: np.random.Generator, shape: tuple[int, int], shift: float, ragged: float) -> np.ndarray:
    """Return labels (rows, cols): 1 LV, 2 MYO, 3 LA; `shift` and `ragged` as parts of the image's size."""
    rows, cols = (axis / (shape[0] - 1) for axis in np.indices(shape))
    row, col = 0.45 + shift * rng.normal(), 0.35 + shift * rng.normal()
    angle = np.arctan2(rows - row, cols - col)
    wobble = 1 + ragged * sum(np.sin(n * angle + rng.uniform(0, 6)) for n in range(2, 9))
    ventricle = np.hypot((rows - row) / 0.22, (cols - col) / 0.12) / wobble
    atrium = np.hypot((rows - row - 0.32) / 0.12, (cols - col) / 0.11) / wobble
    return np.where(ventricle < 1, 1, np.where(ventricle < 1.35, 2, np.where(atrium < 1, 3, 0))).astype(np.uint8)


def write(root: Path, pairs: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for folder, shift, ragged in (("labelsTs", 0.02, 0.0), ("pred", 0.02, 0.02)):
        (root / folder).mkdir()
        for number in range(pairs):
            path = root / folder / f"case{number:05d}.nii.gz"
            if number < DIFFERENT_PAIRS:
                image = sitk.GetImageFromArray(heart(rng, shape, shift, ragged))
                image.SetSpacing([0.3, 0.3])
                sitk.WriteImage(image, str(path), True)
            else:
                path.hardlink_to(root / folder / f"case{number % DIFFERENT_PAIRS:05d}.nii.gz")
    labels = {"background": 0, "LV": 1, "MYO": 2, "LA": 3}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    cases = {
        f"case{n:05d}": {
            "annotated": ["LV", "MYO", "LA"],
            "patient": f"p{n // 4}",
            "view": ("2CH", "4CH")[n // 2 % 2],
            "phase": ("ED", "ES")[n % 2],
        }
        for n in range(pairs)
    }
    (root / "partial_labels.json").write_text(json.dumps({"version": 1, "cases": cases}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--shape", type=int, nargs=2, default=(549, 389))
    parser.add_argument("-np", "--processes", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, args.pairs, tuple(args.shape))
        start = time.perf_counter()
        reference = find_reference(root)
        predictions = find_predictions([f"model={root / 'pred'}"], ".nii.gz")
        done = evaluate_folders(reference, predictions, 2.0, args.processes, progress=True)
        measured = time.perf_counter()
        write_results(root / "out", done, Tables.from_evaluation(done), reference, predictions)
        end = time.perf_counter()
    dice = np.mean([record.value("dice") for record in done.records])
    print(
        f"{args.pairs} pairs of {args.shape[0]} x {args.shape[1]}, {args.processes} process(es), mean Dice {dice:.3f}: "
        f"metrics {measured - start:.1f} s ({args.pairs / (measured - start):.1f} pairs/s), "
        f"tables {end - measured:.1f} s, together {end - start:.1f} s"
    )


if __name__ == "__main__":
    main()
