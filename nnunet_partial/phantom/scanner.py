"""Simulate the scanner: turn a synthetic heart into an ultrasound image with speckle, haze and vendor differences."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.anatomy import Floats, HeartModel, Mask, View, heart_masks, pixel_grid

LV, MYO, LA = 1, 2, 3
Bytes = npt.NDArray[np.uint8]

PROBE_HEIGHT = 0.06  # how far above the top row the sides of the sector meet


@dataclass(frozen=True)
class Scanner:
    """Describe how a type of scanner changes every image (the domain). Echo strengths run from 0 (silent) to 1."""

    half_angle_deg: float  # of the sector
    blood: float  # echo strength inside the chambers
    tissue: float  # ... around the heart
    wall: float  # ... of the muscle
    speckle: float  # 0 smooth, 1 fully developed speckle
    grain_axial: float  # size of a speckle along the beam, fraction of the depth
    grain_lateral: float  # ... across the beam, fraction of the sector's opening
    blur: float  # softness of edges, fraction of the depth
    attenuation: float  # share of the strength lost from top to bottom
    dropout: float  # share of the strength lost at the sides of the sector
    haze: float  # clutter: strength added near the probe and as veils
    shading: float  # -1 to 1: brighter on the left or on the right
    compression: float  # of the dynamic range: large lifts weak echoes
    gain: float
    gamma: float


SCANNER_A = Scanner(
    half_angle_deg=43.0,
    blood=0.02,
    tissue=0.16,
    wall=0.34,
    speckle=0.85,
    grain_axial=0.005,
    grain_lateral=0.014,
    blur=0.006,
    attenuation=0.35,
    dropout=0.45,
    haze=0.03,
    shading=0.1,
    compression=12.0,
    gain=0.95,
    gamma=1.2,
)

SCANNER_B = Scanner(
    half_angle_deg=39.0,
    blood=0.06,
    tissue=0.24,
    wall=0.45,
    speckle=0.75,
    grain_axial=0.009,
    grain_lateral=0.035,
    blur=0.010,
    attenuation=-0.3,
    dropout=0.1,
    haze=0.10,
    shading=-0.35,
    compression=10.0,
    gain=1.0,
    gamma=0.9,
)


def blend(a: Scanner, b: Scanner, strength: float) -> Scanner:
    """Interpolate between two scanners, so that the strength of a domain shift is one number.

    Args:
        a: scanner at strength 0.
        b: scanner at strength 1.
        strength: from 0 to 1; every setting is interpolated linearly.

    Returns:
        The scanner; exactly `a` at 0 and `b` at 1.

    Raises:
        PartialLabelError: for a strength outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise PartialLabelError(
            f"blend: strength is {strength}, expected a number from 0 (first scanner) to 1 (second)"
        )
    mixed = {f.name: getattr(a, f.name) * (1.0 - strength) + getattr(b, f.name) * strength for f in fields(Scanner)}
    return Scanner(**mixed)


def draw_heart(
    rng: np.random.Generator,
    *,
    anatomy: HeartModel,
    scanner: Scanner,
    shape: tuple[int, int] = (96, 96),
    view: View = "4CH",
    contraction: float = 0.0,
) -> tuple[Bytes, Bytes]:
    """Simulate one image and its complete label map.

    Speckle depends on `rng`, the labels do not: the same heart gives the same labels for every scanner, as far as the
    sector shows it. Labels end at the sector. The 4CH view also shows a right ventricle and atrium, which are not
    labeled.

    Args:
        rng: source of the speckle, haze and texture.
        anatomy: the patient.
        scanner: the domain.
        shape: of the image, (rows, cols).
        view: "2CH" or "4CH".
        contraction: 0 at end-diastole, 1 at end-systole, or between.

    Returns:
        Image and labels, both uint8 (rows, cols); labels: 0 background, 1 LV, 2 MYO, 3 LA.

    Raises:
        PartialLabelError: for another view, or a contraction outside [0, 1].
    """
    x, y = pixel_grid(shape)
    sector, rho, theta = _sector(x, y, scanner)
    parts = heart_masks(x, y, anatomy, view, contraction)
    labels = _labels(parts, sector)
    strength = _strength(rng, parts, scanner, theta)
    strength = _smooth(strength, scanner.blur * shape[0]) * _speckle(rng, rho, theta, scanner)
    echo = np.maximum(strength, 0.0) * _attenuation(rho, theta, scanner) + _haze(rng, rho, scanner)
    gray = np.log1p(scanner.compression * echo) / np.log1p(scanner.compression)
    image = np.clip(255.0 * scanner.gain * gray**scanner.gamma, 0, 255)
    return np.where(sector, image, 0.0).astype(np.uint8), labels


def draw_labels(
    *,
    anatomy: HeartModel,
    scanner: Scanner,
    shape: tuple[int, int] = (96, 96),
    view: View = "4CH",
    contraction: float = 0.0,
) -> Bytes:
    """Compute the label map of `draw_heart` without the image, in a tenth of the time.

    Args:
        anatomy: the patient.
        scanner: the domain.
        shape: of the image, (rows, cols).
        view: "2CH" or "4CH".
        contraction: 0 at end-diastole, 1 at end-systole, or between.

    Returns:
        Labels, uint8 (rows, cols): 0 background, 1 LV, 2 MYO, 3 LA.

    Raises:
        PartialLabelError: for another view, or a contraction outside [0, 1].
    """
    x, y = pixel_grid(shape)
    return _labels(heart_masks(x, y, anatomy, view, contraction), _sector(x, y, scanner)[0])


def _labels(parts: dict[str, Mask], sector: Mask) -> Bytes:
    labels = np.zeros(sector.shape, np.uint8)
    for value, name in ((LV, "lv"), (MYO, "myo"), (LA, "la")):
        labels[parts[name] & sector] = value
    return labels


def sector_mask(shape: tuple[int, int], scanner: Scanner) -> Mask:
    """Return the field of view of a scanner: narrow at the top, wide at the bottom; every image is black outside.

    Args:
        shape: of the image, (rows, cols).
        scanner: sets the opening angle.

    Returns:
        A mask (rows, cols), True inside the sector.
    """
    return _sector(*pixel_grid(shape), scanner)[0]


def _sector(x: Floats, y: Floats, scanner: Scanner) -> tuple[Mask, Floats, Floats]:
    """Return the sector mask, the distance from the probe (0 to 1) and the angle (-1 to 1 from edge to edge)."""
    rho = np.hypot(x, y + PROBE_HEIGHT) / (1.0 + PROBE_HEIGHT)
    theta = np.arctan2(x, y + PROBE_HEIGHT) / np.deg2rad(scanner.half_angle_deg)
    return (rho <= 1.0) & (np.abs(theta) <= 1.0), rho, theta


def _strength(rng: np.random.Generator, parts: dict[str, Mask], scanner: Scanner, theta: Floats) -> Floats:
    """Return how strongly each point echoes, before the beam acts on it."""
    rows = theta.shape[0]
    uneven = _smooth(rng.standard_normal(theta.shape), 0.05 * rows)
    uneven = 1.0 + 0.45 * uneven / max(float(uneven.std()), 1e-6)
    strength = scanner.tissue * np.clip(uneven, 0.15, 2.0) * np.clip(1.0 - 0.8 * theta**2, 0.1, None)
    wall = scanner.wall * (1.0 - scanner.dropout * theta**2)
    for name, level in (("rv_wall", 0.8), ("ra_wall", 0.7), ("la_wall", 0.8), ("sac", 1.5), ("myo", 1.0)):
        if name in parts:
            strength = np.where(parts[name], level * wall * np.clip(0.3 + 0.7 * uneven, 0.4, 1.6), strength)
    for name in ("rv", "ra", "la", "lv"):
        if name in parts:
            strength = np.where(parts[name], scanner.blood * np.clip(uneven, 0.5, 1.5), strength)
    return np.where(parts["valve"], 1.3 * wall, strength)


def _speckle(rng: np.random.Generator, rho: Floats, theta: Floats, scanner: Scanner) -> Floats:
    """Return speckle with a mean of about 1: Rayleigh noise with grains across the beam that widen with depth."""
    rows, cols = rho.shape
    real, imaginary = (
        _smooth(rng.standard_normal((rows, cols)), scanner.grain_axial * rows, scanner.grain_lateral * cols)
        for _ in range(2)
    )
    speckle = np.hypot(real, imaginary)
    speckle /= speckle.mean()
    return 1.0 + scanner.speckle * (_interpolate(speckle, rho * (rows - 1), (theta + 1.0) / 2.0 * (cols - 1)) - 1.0)


def _attenuation(rho: Floats, theta: Floats, scanner: Scanner) -> Floats:
    """Return the fraction of the strength that is left at each depth and side."""
    return (1.0 - scanner.attenuation * rho) * (1.0 + scanner.shading * np.clip(theta, -1.0, 1.0))


def _haze(rng: np.random.Generator, rho: Floats, scanner: Scanner) -> Floats:
    """Return clutter: bright near the probe, plus a veil that varies over the image."""
    veil = _smooth(rng.standard_normal(rho.shape), 0.12 * rho.shape[0])
    veil = np.clip(veil / max(float(veil.std()), 1e-6), 0.0, 2.0)
    grain = 0.7 + 0.3 * rng.random(rho.shape)
    near: Floats = 2.5 * np.exp(-rho / 0.09)
    return scanner.haze * grain * (near + 0.35 * veil)


def _interpolate(field: Floats, row: Floats, col: Floats) -> Floats:
    """Interpolate `field` bilinearly at fractional positions; the border is repeated."""
    row, col = np.clip(row, 0, field.shape[0] - 1.001), np.clip(col, 0, field.shape[1] - 1.001)
    i, j = row.astype(np.intp), col.astype(np.intp)
    a, b = row - i, col - j
    above: Floats = field[i, j] * (1 - b) + field[i, j + 1] * b
    below: Floats = field[i + 1, j] * (1 - b) + field[i + 1, j + 1] * b
    return above * (1 - a) + below * a


def _smooth(field: Floats, sigma_rows: float, sigma_cols: float | None = None) -> Floats:
    """Apply a Gaussian filter, sigma in pixels, that wraps around at the border (outside the sector, or noise)."""
    rows, cols = field.shape
    sigma_cols = sigma_rows if sigma_cols is None else sigma_cols
    by_row = np.exp(-2.0 * (np.pi * sigma_rows * np.fft.fftfreq(rows)) ** 2)
    by_col = np.exp(-2.0 * (np.pi * sigma_cols * np.fft.rfftfreq(cols)) ** 2)
    smooth: Floats = np.fft.irfft2(np.fft.rfft2(field) * by_row[:, None] * by_col[None, :], s=(rows, cols))
    return smooth
