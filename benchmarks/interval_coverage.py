"""Count how often 95 % intervals of a mean hold the true mean, by the number of patients, on simulated values.

Samples patients whose own means of Dice or distance follow a distribution, one to five cases of each around it, and
asks of each kind of interval whether it holds the true mean over patients. Prints the share of repetitions in which it
does, in percent.

- ours: `statistics.mean_interval`, Student's t over patients on the logit of the mean (of distances the logarithm)
- t: the same without a transformation
- t of logits: Student's t on the logits (of distances the logarithms) of the patients' own means
- percentile, BCa: bootstraps that sample patients (SciPy), 2,000 resamples

    python benchmarks/interval_coverage.py [--repetitions 2000] [--patients 5 10 20 50]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import bootstrap, t

from nnunet_partial.evaluation.statistics import DIFFERENCE, DISTANCE, SHARE, mean_interval

Floats = NDArray[np.float64]
RESAMPLES = 2000


def dice(rng: np.random.Generator, mean: Floats | float, spread: float, n: int) -> Floats:
    """Sample (n,) numbers from 0 to 1 with this mean and a variance of mean (1 - mean) / (spread + 1)."""
    return rng.beta(np.multiply(mean, spread), np.multiply(1 - np.asarray(mean), spread), n).clip(1e-6, 1 - 1e-6)


def with_failures(rng: np.random.Generator, n: int) -> Floats:
    """Sample patients with a mean Dice of about 0.92, one in ten of whom fails: 0.33 on average."""
    return np.where(rng.random(n) < 0.1, dice(rng, 1 / 3, 3, n), dice(rng, 0.92, 40, n))


#: By name: the patients' own means, and the true mean over patients. HD95: median 4 mm, SD of the logarithm 0.8.
POPULATIONS: dict[str, tuple[Callable[[np.random.Generator, int], Floats], float]] = {
    "Dice 0.92, SD 0.04": (lambda rng, n: dice(rng, 0.92, 40, n), 0.92),
    "Dice 0.85, SD 0.13": (lambda rng, n: dice(rng, 0.85, 6, n), 0.85),
    "Dice 0.60, SD 0.19": (lambda rng, n: dice(rng, 0.60, 6, n), 0.60),
    "Dice, 1 in 10 fails": (with_failures, 0.9 * 0.92 + 0.1 / 3),
    "HD95, log-normal": (lambda rng, n: rng.lognormal(np.log(4), 0.8, n), 4 * float(np.exp(0.8**2 / 2))),
}


def sample(rng: np.random.Generator, population: str, n: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return values, and the patient of each."""
    means = POPULATIONS[population][0](rng, n)
    patient = np.repeat(np.arange(n), rng.integers(1, 6, n))
    if population.startswith("Dice"):
        return dice(rng, means[patient], 50, len(patient)), patient
    return means[patient] * rng.lognormal(-(0.2**2) / 2, 0.2, len(patient)), patient


def intervals(
    rng: np.random.Generator, values: Floats, patient: NDArray[np.intp], distances: bool
) -> dict[str, tuple[float, ...]]:
    """Return (low, high) of each kind."""
    names = [str(one) for one in patient]
    counts, sums = np.bincount(patient).astype(float), np.bincount(patient, weights=values)
    n = len(counts)
    there, back = (np.log, np.exp) if distances else (logit, expit)
    own = there(sums / counts)
    half = t.ppf(0.975, n - 1) * own.std(ddof=1) / np.sqrt(n)
    found: dict[str, tuple[float, ...]] = {
        "ours": mean_interval(values, names, DISTANCE if distances else SHARE),
        "t": mean_interval(values, names, DIFFERENCE),
        "t of logits": (float(back(own.mean() - half)), float(back(own.mean() + half))),
    }
    previous = None
    for name in ("percentile", "BCa"):  # of the same resamples
        previous = bootstrap(
            (sums, counts),
            lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=0 if previous else RESAMPLES,
            method=name,
            bootstrap_result=previous,
            rng=rng,
        )
        found[name] = tuple(map(float, previous.confidence_interval))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--patients", type=int, nargs="+", default=(5, 10, 20, 50))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Dd]egenerate")
    print("| values | patients | ours | t | t of logits | percentile | BCa |\n|---|---:|---:|---:|---:|---:|---:|")
    for population, (_, true) in POPULATIONS.items():
        for n in args.patients:
            rng, held = np.random.default_rng(n), dict.fromkeys(("ours", "t", "t of logits", "percentile", "BCa"), 0)
            for _ in range(args.repetitions):
                values, patient = sample(rng, population, n)
                for name, (low, high) in intervals(rng, values, patient, population.startswith("HD95")).items():
                    held[name] += low <= true <= high
            shares = " | ".join(f"{100 * count / args.repetitions:.0f}" for count in held.values())
            print(f"| {population} | {n} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
