"""Test how well beats and ejection fractions are found in synthetic clips, and time the measuring of a frame.

    PYTHONPATH=tests python benchmarks/beats.py

Prints a table in Markdown. Masks are the true ones, and such as are roughened independently in each frame to a Dice of
0.94. The constants of the finder were chosen with other seeds.
"""

from __future__ import annotations

import argparse
import time
from itertools import cycle, product

import numpy as np
from helpers.measured_hearts import CLASSES, EFS_PERCENT, SCALE, MeasuredHeart, draw, measure_heart, random_rhythm

from nnunet_partial.biomarkers.measure import FRAME_MEASUREMENTS, measure_parts
from nnunet_partial.clips.beats import find_beats
from nnunet_partial.phantom.anatomy import HeartModel

RHYTHMS = {"regular to SD 10 %": (0.0, 0.05, 0.1), "SD 15 %": (0.15,)}


def judge(
    heart: MeasuredHeart, masks: str, irregularities: tuple[float, ...], rng: np.random.Generator
) -> tuple[bool, float]:
    """Return whether the number of whole beats of a clip is right, and the error of its median EF in points."""
    rhythm, times, _ = random_rhythm(rng, irregularities)
    contractions = rhythm.contraction(times)
    volumes = heart.perfect_curve(contractions) if masks == "true" else heart.rough_curve(rng, contractions)
    found = find_beats(volumes, times)
    right = len(rhythm.whole_beats(times)) == (0 if found.partial else len(found.beats))
    return right, (found.median_ef_percent or np.nan) - heart.ef_percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[91, 92, 93, 94, 95])
    parser.add_argument("--clips", type=int, default=120, help="of each seed, each kind of mask and rhythm")
    parser.add_argument("--hearts", type=int, default=12, help="of each seed")
    arguments = parser.parse_args()
    hearts = {
        seed: [
            measure_heart(np.random.default_rng([seed, number]), EFS_PERCENT[number % 3], repeats=6)
            for number in range(arguments.hearts)
        ]
        for seed in arguments.seeds
    }
    print("| masks | rhythm | EF (%) | clips | number of beats right | mean error of EF | mean abs. error | largest |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for masks, (rhythm_name, irregularities) in product(("true", "rough"), RHYTHMS.items()):
        results = []
        for seed in arguments.seeds:
            for number, heart in zip(range(arguments.clips), cycle(hearts[seed]), strict=False):
                rng = np.random.default_rng([seed, 1000 + number])
                results.append((seed, heart.ef_percent, *judge(heart, masks, irregularities, rng)))
        table = np.array(results)
        rows = {f"{ef}": table[table[:, 1] == ef] for ef in EFS_PERCENT}
        rows |= {f"all, seed {seed}": table[table[:, 0] == seed] for seed in arguments.seeds} | {"all": table}
        for name, row in rows.items():
            right, errors = row[:, 2], row[:, 3]
            print(
                f"| {masks} | {rhythm_name} | {name} | {len(row)} | {100 * right.mean():.1f} % "
                f"| {errors.mean():+.1f} | {np.abs(errors).mean():.1f} | {np.abs(errors).max():.1f} |"
            )
    heart = HeartModel.random(np.random.default_rng(1))
    frames = [draw(heart, contraction) for contraction in np.linspace(0, 1, 100)]
    start = time.process_time()
    for frame in frames:
        measure_parts(frame, CLASSES, CLASSES, FRAME_MEASUREMENTS, SCALE)
    print(f"\nA frame of 128 x 128: {10 * (time.process_time() - start):.1f} ms of processor time.")


if __name__ == "__main__":
    main()
