"""Make the data of the phantom studies: the same kind of heart under two scanners, all structures annotated.

    export nnUNet_raw=... nnUNet_preprocessed=...
    python studies/draw_phantom.py phantom_sources

writes synthetic images, masks and tables below `phantom_sources`, and converts them with the project's own commands
into the datasets 901 (scanner A), 902 (scanner B) and 910 (both). `--shift` says how far B's images are from A's (0:
the same, 1: the full difference); other ids let several strengths exist side by side. No patient data is used.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunet_partial.cli import main as main_of_the_command
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, Scanner, blend, draw_heart

TRAINING, TEST, PIXELS, DEPTH_MM = 75, 20, 64, 150.0
COLUMNS = ("case", "image", "mask", "annotated", "absent", "domain", "patient", "split", "view", "phase")


def main() -> None:
    """Write the images of both scanners, and convert and merge them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shift", type=float, default=1.0, help="strength of the domain shift (default: %(default)s)")
    parser.add_argument(
        "--ids", type=int, nargs=3, default=[901, 902, 910], metavar="ID", help="(default: 901 902 910)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the hearts (default: %(default)s)")
    given = parser.parse_args()
    scanners = {"scannerA": SCANNER_A, "scannerB": blend(SCANNER_A, SCANNER_B, given.shift)}
    for number, (domain, scanner) in enumerate(scanners.items()):
        draw(given.folder / domain, domain, scanner, [given.seed, number])
        made = ("-i", str(given.folder / domain), "-d", str(given.ids[number]), "--name", domain, "--overwrite")
        run("convert", "folder", *made, "--classes", "LV", "MYO", "LA")
    sources = [str(number) for number in given.ids[:2]]
    run("merge", "-i", *sources, "-d", str(given.ids[2]), "--name", "TwoScanners", "--overwrite")


def draw(folder: Path, domain: str, scanner: Scanner, seed: list[int]) -> None:
    """Write every patient in the 4CH view at ED and ES; the first TRAINING patients are for training.

    Args:
        folder: receives images, masks and cases.csv.
        domain: name of the scanner, the first part of every case name.
        scanner: the simulated scanner.
        seed: the patient's number is appended for each patient.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in tqdm(range(1, TRAINING + TEST + 1), desc=domain, unit="patient"):
            rng = np.random.default_rng([*seed, number])
            heart, patient = HeartModel.random(rng), f"{domain}_{number:03d}"
            for phase, contraction in (("ED", 0.0), ("ES", 1.0)):
                image, labels = draw_heart(
                    rng, anatomy=heart, scanner=scanner, shape=(PIXELS, PIXELS), view="4CH", contraction=contraction
                )
                case = f"{patient}_{phase}"
                write(folder / "images" / f"{case}.nii.gz", image)
                write(folder / "masks" / f"{case}.nii.gz", labels)
                part = "train" if number <= TRAINING else "test"
                names = (case, f"{case}.nii.gz", f"{case}.nii.gz", "LV MYO LA", "", domain, patient, part)
                table.writerow([*names, "4CH", phase])


def write(path: Path, array: np.ndarray) -> None:
    """Write an image or mask with the spacing of the study.

    Args:
        path: of the NIfTI file.
        array: uint8 (rows, cols).
    """
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((DEPTH_MM / PIXELS, DEPTH_MM / PIXELS))
    sitk.WriteImage(image, str(path))


def run(*command: str) -> None:
    """Print and run a command of nnunet_partial; exit with its code if it fails.

    Args:
        command: its arguments.
    """
    print("$ nnunet_partial", *command, flush=True)
    code = main_of_the_command(command)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
