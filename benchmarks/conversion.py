"""Time the conversion of EchoNet-Dynamic beside a straightforward reader that decodes every frame with OpenCV.

Both start as a command, read the same folder, and write the same images and masks as .nii.gz: `nnunet_partial convert
echonet-dynamic` with two processes, and a plain loop in one process that reads each video from the first frame to the
last, as the dataset's own code does (https://github.com/echonet/dynamic, echonet/utils/__init__.py), and keeps the two
traced frames. Ours also reads each file back, syncs all to disk, and writes manifest, folds and report. They take
turns; ratios are those of the medians. On a machine that does other things at the same time look at the work (CPU time
of all processes) rather than at the clock. Memory: the largest process that each of them started.

The videos are synthetic: 112 x 112 pixels, 200 frames, motion JPEG. There are ten hearts, each under many names.
Ours needs two seconds to start its processes: the fewer videos, the smaller the ratio.

    pip install opencv-python-headless      (Apache-2.0; only for this benchmark)
    python benchmarks/conversion.py [--videos 1000] [--frames 200] [--rounds 3] [--processes 2]
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_partial.phantom.writers import write_echonet_dynamic
from nnunet_partial.utils.files import link_or_copy

HEARTS = 10


def make_videos(root: Path, videos: int, frames: int) -> None:
    """Write EchoNet-Dynamic with `videos` videos: a few synthetic hearts, each under several names."""
    originals = root.with_name("originals")
    write_echonet_dynamic(originals, min(HEARTS, videos), seed=0, frames=frames)
    (root / "Videos").mkdir(parents=True)
    for table in ("FileList.csv", "VolumeTracings.csv"):
        with (originals / table).open(newline="") as file:
            header, *rows = csv.reader(file)
        with (root / table).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for copy in range(-(-videos // HEARTS)):
                writer.writerows([_renamed(row[0], copy), *row[1:]] for row in rows)
    for video in sorted((originals / "Videos").iterdir()):
        for copy in range(-(-videos // HEARTS)):
            link_or_copy(video, root / "Videos" / f"{_renamed(video.stem, copy)}.avi")


def _renamed(name: str, copy: int) -> str:
    stem, dot, ending = name.partition(".")
    return f"{stem}{copy:04d}{dot}{ending}"


def plain_reader(root: Path, out: Path) -> None:
    """Convert in the straightforward way: every frame of every video, one after the other."""
    import cv2
    from skimage.draw import polygon

    tracings: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    with (root / "VolumeTracings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            chord = [float(row[name]) for name in ("X1", "Y1", "X2", "Y2")]
            tracings[row["FileName"].removesuffix(".avi")][int(row["Frame"])].append(chord)
    out.mkdir(parents=True)
    for stem, frames in tracings.items():
        capture = cv2.VideoCapture(str(root / "Videos" / f"{stem}.avi"))
        video = []
        while True:
            there, image = capture.read()
            if not there:
                break
            video.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        for frame, chords in frames.items():
            x1, y1, x2, y2 = np.array(chords[1:]).T
            x, y = np.concatenate([x1, x2[::-1]]), np.concatenate([y1, y2[::-1]])
            mask = np.zeros(video[frame].shape, np.uint8)
            mask[polygon(np.rint(y).astype(int), np.rint(x).astype(int), mask.shape)] = 1
            for name, array in ((f"{stem}_{frame}_0000", video[frame]), (f"{stem}_{frame}", mask)):
                image = sitk.GetImageFromArray(array)
                image.SetSpacing([150 / array.shape[0]] * 2)
                sitk.WriteImage(image, str(out / f"{name}.nii.gz"))


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Return seconds on the clock, seconds of work on all cores, and MiB of the largest process of the command."""
    script = (
        "import resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], check=True, capture_output=True, text=True, env=environment
    )
    seconds, work, mib = map(float, done.stdout.split())
    return seconds, work, mib


def compare(folder: Path, videos: int, frames: int, rounds: int, processes: int) -> None:
    """Make the videos, let both convert them in turn, and print the table."""
    root = folder / "EchoNet-Dynamic"
    start = time.perf_counter()
    make_videos(root, videos, frames)
    print(f"{videos} videos of {frames} frames made in {time.perf_counter() - start:.0f} s", flush=True)
    environment = {**os.environ, "nnUNet_raw": str(folder / "raw"), "OMP_NUM_THREADS": "1"}
    environment.pop("nnUNet_preprocessed", None)
    program = str(Path(sys.executable).with_name("nnunet_partial"))
    ours = [program, "convert", "echonet-dynamic", "-i", str(root), "-d", "1", "-np", str(processes)]
    plain = [sys.executable, __file__, "--plain", str(root), str(folder / "plain")]
    names = {f"nnunet_partial, {processes} processes": ours, "every frame with OpenCV, 1 process": plain}
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, command in names.items():
            shutil.rmtree(folder / "raw", ignore_errors=True)
            shutil.rmtree(folder / "plain", ignore_errors=True)
            measured[name].append(timed(command, environment))
    clock, work = ({name: statistics.median(row[k] for row in rows) for name, rows in measured.items()} for k in (0, 1))
    print(f"{'':36s} {'clock s':>8s} {'work s':>8s} {'videos/s':>9s} {'MiB':>6s}")
    for name, rows in measured.items():
        mib = max(row[2] for row in rows)
        print(f"{name:36s} {clock[name]:8.1f} {work[name]:8.1f} {videos / clock[name]:9.1f} {mib:6.0f}")
    ours_name, plain_name = names
    print(f"ratio on the clock {clock[plain_name] / clock[ours_name]:.1f}", end="; ")
    print(f"of the work, shared by {processes} cores {processes * work[plain_name] / work[ours_name]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Conversion of EchoNet-Dynamic beside a straightforward reader.")
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plain", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        plain_reader(*arguments.plain)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.videos, arguments.frames, arguments.rounds, arguments.processes)


if __name__ == "__main__":
    main()
