"""Make the data of the chest X-ray studies from a clone of a public repository (docs/results/chest-xray.md).

    git clone https://github.com/eveningdong/cardiothoracic_ratio_estimation_dataset
    export nnUNet_raw=... nnUNet_preprocessed=...
    python studies/chest_xray/make_datasets.py cardiothoracic_ratio_estimation_dataset chest_xray_sources

shrinks the images and masks, writes them below `chest_xray_sources`, and converts them with the project's own commands
into the datasets 931 (JSRT), 932 (Wingspan) and 933 (both). `--shift` moves the looks of Wingspan away from its own (0:
as they are, 1: the most, and inverted); other ids let several strengths and sizes exist side by side. The images and
masks have owners and terms of their own.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunet_partial.dataset_conversion.readers.images import read_own_image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from nnunet_partial.cli import main as main_of_the_command
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.masks import Floats

DOMAINS, SHIFTED = ("jsrt", "wingspan"), "wingspan"
#: In the order in which they are drawn into one label image: the heart covers the lungs.
CLASSES = ("right_lung", "left_lung", "heart")
#: A mask has soft edges; a pixel belongs to the structure from one half on.
HALF = 127.5
#: Rows of a JSRT film: 2048 of 0.175 mm. Nothing is known of Wingspan's, which get the same.
DEPTH_MM = 358.4
COLUMNS = ("case", "image", "mask", "annotated", "domain", "patient", "split")


def main() -> None:
    """Write the images of both domains, and convert and merge them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="folder with jsrt/ and wingspan/")
    parser.add_argument("folder", type=Path, help="receives the shrunk images and masks")
    parser.add_argument("--size", type=int, default=64, help="rows of the images (default: %(default)s)")
    parser.add_argument("--test", type=int, default=60, help="test images of each domain (default: %(default)s)")
    parser.add_argument("--shift", type=float, default=0.0, help=f"of {SHIFTED}, 0 to 1 (default: %(default)s)")
    parser.add_argument(
        "--ids", type=int, nargs=3, default=[931, 932, 933], metavar="ID", help="(default: 931 932 933)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of test part and shift (default: %(default)s)")
    given = parser.parse_args()
    if given.size < 1 or not 0 <= given.shift <= 1:
        parser.error(f"--size is {given.size}, --shift {given.shift:g}; expected at least 1, and 0 to 1")
    if given.test < 0 or given.seed < 0:
        parser.error(f"--test is {given.test}, --seed {given.seed}; expected at least 0")
    if len({*given.ids}) < len(given.ids) or not all(1 <= number <= 999 for number in given.ids):
        parser.error(f"--ids are {given.ids}; expected three different ones, 1 to 999")
    try:
        for number, domain in enumerate(DOMAINS):
            strength = given.shift if domain == SHIFTED else 0.0
            shrink_domain(given.clone, given.folder, domain, given.size, given.test, strength, [given.seed, number])
    except PartialLabelError as problem:
        sys.exit(str(problem))
    for domain, dataset_id in zip(DOMAINS, given.ids, strict=False):
        made = ("-i", str(given.folder / domain), "-d", str(dataset_id), "--name", domain, "--overwrite")
        images = ("--channel", "X-ray", "--depth-mm", str(DEPTH_MM))
        run("convert", "folder", *made, "--classes", *CLASSES, *images)
    sources = [str(number) for number in given.ids[:2]]
    run("merge", "-i", *sources, "-d", str(given.ids[2]), "--name", "ChestXray", "--overwrite")


def shrink_domain(
    clone: Path, folder: Path, domain: str, size: int, n_test: int, strength: float, seed: list[int]
) -> None:
    """Write images, masks and cases.csv of one domain; print where structures overlap.

    Args:
        clone: Folder with DOMAIN/png and DOMAIN/mask/STRUCTURE.
        folder: Receives DOMAIN/images, DOMAIN/masks and DOMAIN/cases.csv.
        domain: One of DOMAINS, the first part of every case name.
        size: Rows of the images written.
        n_test: Number of images for testing.
        strength: Of the shift of looks, 0 to 1.
        seed: Chooses the test images; with the number of the image appended, its noise.

    Raises:
        PartialLabelError: If there are no images, not enough for a test part, or a mask is missing or empty.
    """
    images = sorted((clone / domain / "png").glob("*.png"))
    if len(images) <= n_test:
        raise PartialLabelError(
            f"{clone / domain / 'png'} holds {len(images)} images (*.png); expected more than the {n_test} for "
            "testing. Name the folder of the clone, the one that holds jsrt and wingspan."
        )
    test = set(np.random.default_rng(seed).permutation(len(images))[:n_test].tolist())
    for name in ("images", "masks"):
        (folder / domain / name).mkdir(parents=True, exist_ok=True)
    overlaps = []
    with (folder / domain / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, path in enumerate(tqdm(images, desc=domain, unit="image")):
            image = shrink(read_own_image(path).array.astype(np.float64), size)
            masks = {name: read_mask(clone / domain / "mask" / name / path.name, size) for name in CLASSES}
            overlaps.append(count_overlaps(masks))
            rng = np.random.default_rng([*seed, number])
            case = f"{domain}_{path.stem.replace('.', '-')}"  # of a DICOM identifier, whose dots no case name may have
            write(folder / domain / "images" / f"{case}.png", shift_looks(image / 255, strength, rng) * 255)
            write(folder / domain / "masks" / f"{case}.png", draw_labels(masks))
            part = "test" if number in test else "train"
            table.writerow([case, f"{case}.png", f"{case}.png", " ".join(CLASSES), domain, case, part])
    for name, counts in zip(("heart and lungs", "both lungs"), zip(*overlaps, strict=True), strict=True):
        shared, mean = np.count_nonzero(counts), np.mean(counts)
        print(f"{domain}: {name} overlap in {shared} of {len(counts)} images, by {mean:.1f} pixels on average")


def read_mask(path: Path, size: int) -> np.ndarray:
    """Read a mask with soft edges (0 to 255).

    Args:
        path: Of the PNG file.
        size: Rows of the mask returned.

    Returns:
        bool (size, cols).

    Raises:
        PartialLabelError: If it is missing or empty: every structure is in every image.
    """
    mask = shrink(read_own_image(path).array.astype(np.float64), size) >= HALF
    if not mask.any():
        raise PartialLabelError(f"{path} has no pixel of at least {HALF}; expected the structure, drawn with 255")
    return mask


def shrink(image: Floats, size: int) -> Floats:
    """Average over boxes: each new pixel is the mean of the area that it covers, also where sizes do not divide.

    Args:
        image: (rows, cols).
        size: Number of new rows; columns follow in proportion.

    Returns:
        (size, new cols).
    """
    rows, cols = image.shape
    return _box_weights(rows, size) @ image @ _box_weights(cols, max(1, round(size * cols / rows))).T


def _box_weights(old: int, new: int) -> Floats:
    """Return (new, old): the share of each old pixel in each new one; every row sums to 1."""
    edges, pixels = np.arange(new + 1)[:, None] * (old / new), np.arange(old)[None]
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return covered.clip(0) * (new / old)


def count_overlaps(masks: dict[str, np.ndarray]) -> tuple[int, int]:
    """Count the pixels of the heart in a lung, and those of both lungs.

    Args:
        masks: bool (rows, cols), by structure.

    Returns:
        The two numbers.
    """
    right, left, heart = (masks[name] for name in CLASSES)
    return int((heart & (right | left)).sum()), int((right & left).sum())


def draw_labels(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Draw the structures into one label image, the heart over the lungs.

    Args:
        masks: bool (rows, cols), by structure.

    Returns:
        uint8 (rows, cols): 0, or the position in CLASSES, from 1.
    """
    labels = np.zeros(masks[CLASSES[0]].shape, np.uint8)
    for value, name in enumerate(CLASSES, start=1):
        labels[masks[name]] = value
    return labels


def shift_looks(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Move the looks of an image away from its own: contrast, gamma, noise, blur; at strength 1 it is inverted, too.

    Args:
        image: (rows, cols), 0 to 1.
        strength: 0: the image itself. At 1: half the contrast, a gamma of 2, noise with an SD of 0.1, a blur of one
            64th of the rows.
        rng: Of the noise.

    Returns:
        (rows, cols), 0 to 1.
    """
    shifted = (0.5 + (1 - strength / 2) * (image - 0.5)) ** (1 + strength)
    shifted = shifted + rng.normal(0, 0.1 * strength, image.shape)
    shifted = gaussian_filter(shifted, strength * len(image) / 64).clip(0, 1)
    return 1 - shifted if strength == 1 else shifted


def write(path: Path, array: np.ndarray) -> None:
    """Write an image or mask as a gray PNG of 8 bits.

    Args:
        path: Of the PNG file.
        array: (rows, cols), 0 to 255.
    """
    sitk.WriteImage(sitk.GetImageFromArray(np.round(array).astype(np.uint8)), str(path))


def run(*command: str) -> None:
    """Print and run a command of nnunet_partial; exit with its code if it fails.

    Args:
        command: Its arguments.
    """
    print("$ nnunet_partial", *command, flush=True)
    code = main_of_the_command(command)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
