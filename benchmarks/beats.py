"""How well beats and ejection fractions are found in clips of synthetic hearts, and how long a frame takes to measure.

    PYTHONPATH=tests python benchmarks/beats.py

Prints a table in Markdown. Masks are the true ones, and such as are roughened independently in each frame to a Dice of
0.94. The constants of the finder were chosen with other seeds.
"""

from __future__ import annotations

import argparse
import time
from itertools import chain

import numpy as np
from helpers.measured_hearts import CLASSES, EFS_PERCENT, SCALE, draw, measure_heart, random_rhythm

from nnunet_partial.biomarkers.measure import FRAME_MEASUREMENTS, measure_parts
from nnunet_partial.clips.beats import find_beats
from nnunet_partial.phantom.anatomy import HeartModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=30)
    parser.add_argument("--clips", type=int, default=300, help="of each kind of mask")
    parser.add_argument("--hearts", type=int, default=6)
    arguments = parser.parse_args()
    hearts = [
        measure_heart(np.random.default_rng([arguments.seed, number]), EFS_PERCENT[number % 3])
        for number in range(arguments.hearts)
    ]
    print("| masks | rhythm | EF (%) | clips | number of beats right | mean error of EF | mean abs. error | largest |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for masks in ("true", "rough"):
        for rhythm_name, irregularities in (("regular to SD 10 %", (0.0, 0.05, 0.1)), ("SD 15 %", (0.15,))):
            rows: dict[float, list[tuple[bool, float]]] = {ef: [] for ef in EFS_PERCENT}
            for number in range(arguments.clips):
                rng = np.random.default_rng([arguments.seed, 1000 + number])
                heart = hearts[number % len(hearts)]
                rhythm, times, _ = random_rhythm(rng, irregularities)
                contractions = rhythm.contraction(times)
                levels = np.linspace(0, 1, len(heart.perfect_ml))
                exact = np.interp(contractions, levels, heart.perfect_ml)
                found = find_beats(exact if masks == "true" else heart.rough_curve(rng, contractions), times)
                right = len(rhythm.whole_beats(times)) == (0 if found.partial else len(found.beats))
                rows[heart.ef_percent].append((right, (found.median_ef_percent or np.nan) - heart.ef_percent))
            for ef, results in [*rows.items(), ("all", list(chain(*rows.values())))]:
                right, errors = np.array(results).T
                print(
                    f"| {masks} | {rhythm_name} | {ef} | {len(errors)} | {100 * right.mean():.0f} % "
                    f"| {errors.mean():+.1f} | {np.abs(errors).mean():.1f} | {np.abs(errors).max():.1f} |"
                )
    heart = HeartModel.random(np.random.default_rng(arguments.seed))
    frames = [draw(heart, contraction) for contraction in np.linspace(0, 1, 100)]
    start = time.process_time()
    for frame in frames:
        measure_parts(frame, CLASSES, CLASSES, FRAME_MEASUREMENTS, SCALE)
    print(f"\nA frame of 128 x 128: {10 * (time.process_time() - start):.1f} ms of processor time.")


if __name__ == "__main__":
    main()
