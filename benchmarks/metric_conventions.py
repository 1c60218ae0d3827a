"""Compare other definitions of the same metrics with those of `nnunet_partial evaluate`, on synthetic masks.

Pairs of wavy ellipses (2-D, pixels of 0.3 x 0.3 and 0.5 x 0.3 mm, tolerance 1 mm) and ellipsoids (3-D, voxels of
1 x 1 x 1 and 2.5 x 1 x 1 mm, tolerance 2 mm); the prediction is shifted and has another contour, a fifth of the
predictions also a small second piece. Then the EF of synthetic ventricles, whose volumes are known in closed form, with
the height of the discs of each phase, and with one height for both.

    python benchmarks/metric_conventions.py [--pairs 60]      (needs MONAI: pip install -e '.[transformer]')
"""

from __future__ import annotations

import argparse
import math
import warnings

import numpy as np
import torch

from nnunet_partial.biomarkers.definitions import disc_volume, ejection_fraction
from nnunet_partial.biomarkers.geometry import Discs
from nnunet_partial.biomarkers.measure import CAVITY, measure_image
from nnunet_partial.evaluation.metrics import contour_agreement
from nnunet_partial.utils.masks import Scale, nearest, surface_points

SPACINGS = {"2-D": ((0.3, 0.3), (0.5, 0.3)), "3-D": ((1.0, 1.0, 1.0), (2.5, 1.0, 1.0))}
EXTENT_MM = {"2-D": 60.0, "3-D": 56.0}
TOLERANCES = {"2-D": 1.0, "3-D": 2.0}


def blob(rng: np.random.Generator, spacing: tuple[float, ...], extent: float, differs: float) -> np.ndarray:
    """Make an ellipse or ellipsoid (*S), moved and waved by about `differs` mm."""
    shape = [round(extent / step) for step in spacing]
    points = [axis * step - extent / 2 for axis, step in zip(np.indices(shape), spacing, strict=True)]
    radii = [extent * part for part in (0.32, 0.22, 0.25)][: len(spacing)]
    moved = [p - differs * rng.normal() * 0.5 for p in points]
    angle = np.arctan2(moved[0], moved[1])
    wave = sum(rng.normal() * np.sin(n * angle + rng.uniform(0, 6)) for n in range(2, 7)) * differs / 25
    mask = np.sqrt(sum((p / r) ** 2 for p, r in zip(moved, radii, strict=True))) < 1 + wave
    if differs > 1 and rng.random() < 0.2:  # a small piece elsewhere
        mask |= sum((p - 0.4 * extent) ** 2 for p in points) < 3.0**2
    return mask


def compare(kind: str, pairs: int) -> dict[str, list[float]]:
    """Compute the other value minus ours, pair by pair."""
    from monai.metrics import compute_surface_dice

    rng = np.random.default_rng(0)
    extent, tolerance = EXTENT_MM[kind], TOLERANCES[kind]
    found: dict[str, list[float]] = {"pooled HD95": [], "MASD": [], "surface Dice by area": []}
    for number in range(pairs):
        spacing = SPACINGS[kind][number % 2]
        truth, predicted = blob(rng, spacing, extent, 0.0), blob(rng, spacing, extent, rng.uniform(1, 4))
        surface_dice, _, hd95, assd = contour_agreement(predicted, truth, spacing, tolerance)
        contours = surface_points(predicted, spacing), surface_points(truth, spacing)
        there, back = nearest(*contours), nearest(*contours[::-1])
        found["pooled HD95"].append(float(np.percentile(np.concatenate([there, back]), 95)) - hd95)
        found["MASD"].append(float(there.mean() + back.mean()) / 2 - assd)
        tensors = [torch.from_numpy(np.pad(mask, 2))[None, None] for mask in (predicted, truth)]
        theirs = compute_surface_dice(*tensors, [tolerance], True, spacing=spacing, use_subvoxels=True)
        found["surface Dice by area"].append(float(theirs) - surface_dice)
    return found


def ventricle(long: float, wide: float, base: float) -> tuple[Discs, float]:
    """Measure the discs of an ellipsoid cut off `base` mm below its center (0.5 mm pixels); also its volume in mL."""
    down, side = np.indices((240, 200)) * 0.5 - 55.0
    inside = (np.hypot(down / long, side / wide) <= 1) & (down <= base)
    measured = measure_image(inside.astype(np.uint8), ("LV",), ("LV",), "ED", Scale.from_spacing((0.5, 0.5)))
    return measured.discs[CAVITY], math.pi * wide**2 * (base + long - (base**3 + long**3) / (3 * long**2)) / 1000


def ejection_fractions(pairs: int) -> tuple[list[float], list[float]]:
    """Compute the EF of ours and of one disc height for both phases, each minus the closed form, in points."""
    rng = np.random.default_rng(0)
    ours, one_height = [], []
    for _ in range(pairs):
        long, wide = rng.uniform(40, 52), rng.uniform(19, 26)
        base = rng.uniform(0.2, 0.7) * long
        shorter, narrower = rng.uniform(0.82, 0.94), rng.uniform(0.64, 0.88)  # length and width at end-systole
        (ed, edv), (es, esv) = ventricle(long, wide, base), ventricle(long * shorter, wide * narrower, base * shorter)
        true = ejection_fraction(edv, esv)
        ours.append(ejection_fraction(disc_volume([ed]), disc_volume([es])) - true)
        stretched = Discs(max(ed.length, es.length), es.diameters)
        one_height.append(ejection_fraction(disc_volume([ed]), disc_volume([stretched])) - true)
    return ours, one_height


def line(name: str, differences: list[float], unit: str) -> str:
    low, middle, high = np.percentile(differences, [5, 50, 95])
    size = np.median(np.abs(differences))
    return f"| {name} | {middle:+.3f} | {low:+.3f} to {high:+.3f} | {size:.3f} | {unit} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    pairs = parser.parse_args().pairs
    warnings.simplefilter("ignore")
    print(
        "| other definition minus ours | median | 5th to 95th percentile | median size | unit |\n|---|---|---|---|---|"
    )
    for kind in SPACINGS:
        for name, differences in compare(kind, pairs).items():
            print(line(f"{name}, {kind}", differences, "" if "Dice" in name else "mm"))
    for name, differences in zip(("ours", "one disc height"), ejection_fractions(pairs), strict=True):
        print(line(f"EF, {name}, minus closed form", differences, "points"))
        print(f"  least {min(differences):+.2f}, greatest {max(differences):+.2f}")


if __name__ == "__main__":
    main()
