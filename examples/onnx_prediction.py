"""Segment an image with an exported ONNX model: ONNX Runtime, NumPy and SciPy are all that it needs.

    python onnx_prediction.py MODEL_FOLDER image.npy labels.npy --spacing 0.3 0.3

MODEL_FOLDER holds model.json and a fold_N.onnx for each fold. The image is an array (C, Y, X) or (C, Z, Y, X), the
spacing in mm along its axes but the first. The steps, and their order, are nnU-Net's: transpose, crop to what is not
zero, normalize, resample, predict window by window with mirroring, and all the way back. Copy what you need.
"""

import argparse
import itertools
import json
import os
from pathlib import Path

# ONNX Runtime's official builds from 1.29 on send events to Microsoft unless told not to before they are imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from scipy import ndimage

ANISOTROPIC = 3  # a ratio of spacings above which the coarse axis is resampled by itself


# ---- before the network ----------------------------------------------------------------------------------------------


def bounding_box(image):
    """Find the smallest box with all voxels that are not zero in some channel, and a mask of these within it."""
    mask = ndimage.binary_fill_holes(np.any(image != 0, axis=0))
    if not mask.any():
        return tuple(slice(0, size) for size in mask.shape), mask
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return box, mask[box]


def normalize(channel, mask, scheme):
    """Normalize the gray values of a channel in the way that model.json gives for it."""
    name, known = scheme["scheme"], scheme["intensities"]
    if name == "ZScoreNormalization":
        inside = mask if scheme["inside_mask_only"] else np.ones_like(mask)
        values = channel[inside]
        result = channel.copy()
        result[inside] = (values - values.mean()) / max(values.std(), 1e-8)
        return result
    if name == "CTNormalization":
        clipped = np.clip(channel, known["percentile_00_5"], known["percentile_99_5"])
        return (clipped - known["mean"]) / max(known["std"], 1e-8)
    if name == "RescaleTo01Normalization":
        shifted = channel - channel.min()
        return shifted / max(shifted.max(), 1e-8)
    if name == "RGBTo01Normalization":
        return channel / 255
    if name == "NoNormalization":
        return channel
    raise ValueError(f"unknown normalization {name}")


def separate_axis(spacing, target):
    """Find the coarse axis that is resampled by itself; None where all are resampled together."""
    for steps in (spacing, target):
        if max(steps) / min(steps) > ANISOTROPIC:
            coarse = [axis for axis, step in enumerate(steps) if step == max(steps)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def zoom(array, shape, order):
    """Interpolate with splines, pixel centers at halves; not beyond the range of the values that go in."""
    if array.shape == tuple(shape):
        return array
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    zoomed = ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(zoomed, array.min(), array.max())


def resample(array, shape, spacing, target, how):
    """Resample (C, Z, Y, X) to (C, *shape), slice by slice where one axis is much coarser than the others."""
    if how["function"] != "resample_data_or_seg_to_shape" or how["order_z"] != 0 or how["force_separate_z"]:
        raise ValueError(f"unknown resampling {how}")
    if array.shape[1:] == tuple(shape):
        return array
    axis = None if how["force_separate_z"] is False else separate_axis(spacing, target)
    array = array.astype(np.float64)
    if axis is None:
        return np.stack([zoom(channel, shape, how["order"]) for channel in array]).astype(np.float32)
    in_plane = [size for other, size in enumerate(shape) if other != axis]
    slices = np.moveaxis(array, axis + 1, 1)
    zoomed = np.stack([[zoom(plane, in_plane, how["order"]) for plane in channel] for channel in slices])
    centers = (np.arange(shape[axis]) + 0.5) * array.shape[axis + 1] / shape[axis] - 0.5
    nearest = np.clip(np.floor(centers + 0.5).astype(int), 0, array.shape[axis + 1] - 1)
    return np.moveaxis(zoomed[:, nearest], 1, axis + 1).astype(np.float32)


# ---- the network -----------------------------------------------------------------------------------------------------


def gaussian_weights(patch):
    """Weigh the voxels of a window: those in its center most, those at its border least."""
    weights = np.zeros(patch)
    weights[tuple(size // 2 for size in patch)] = 1
    weights = ndimage.gaussian_filter(weights, [size / 8 for size in patch], mode="constant")
    weights = (weights / weights.max() * 10).astype(np.float16)  # nnU-Net's precision
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)


def window_starts(size, window, step=0.5):
    """Place windows along an axis, evenly, at most half a window apart."""
    number = int(np.ceil((size - window) / (window * step))) + 1
    return [round((size - window) / max(number - 1, 1) * index) for index in range(number)]


def predict_patch(session, patch, mirroring_axes):
    """Average the logits of a patch (C, *S) over all mirrored versions, which go through the network as one batch."""
    flips = [axes for n in range(len(mirroring_axes) + 1) for axes in itertools.combinations(mirroring_axes, n)]
    flips = [tuple(axis + 1 for axis in axes) for axes in flips]
    batch = np.stack([np.flip(patch, axes) for axes in flips])
    (logits,) = session.run(None, {"image": batch})
    return np.mean([np.flip(one, axes) for one, axes in zip(logits, flips, strict=True)], axis=0)


def sliding_window(session, image, model):
    """Predict the logits of a preprocessed image (C, Z, Y, X), window by window; a 2-D network slice by slice."""
    patch = model["patch_size"]
    if len(patch) == 2:
        slices = np.moveaxis(image, 1, 0)
        return np.stack([_sliding_window(session, one, model) for one in slices], axis=1)
    return _sliding_window(session, image, model)


def _sliding_window(session, image, model):
    patch = model["patch_size"]
    missing = [max(0, window - size) for window, size in zip(patch, image.shape[1:], strict=True)]
    before = [total // 2 for total in missing]
    padded = np.pad(image, [(0, 0), *((first, total - first) for first, total in zip(before, missing, strict=True))])
    weights = gaussian_weights(patch)
    starts = [window_starts(size, window) for size, window in zip(padded.shape[1:], patch, strict=True)]
    total = np.zeros(padded.shape[1:], np.float32)
    logits = np.zeros((session.get_outputs()[0].shape[1], *padded.shape[1:]), np.float32)
    for corner in itertools.product(*starts):
        window = tuple(slice(start, start + size) for start, size in zip(corner, patch, strict=True))
        predicted = predict_patch(session, padded[(slice(None), *window)], model["mirroring_axes"])
        logits[(slice(None), *window)] += predicted * weights
        total[window] += weights
    inside = tuple(slice(first, first + size) for first, size in zip(before, image.shape[1:], strict=True))
    return (logits / total)[(slice(None), *inside)]


# ---- everything ------------------------------------------------------------------------------------------------------


def load(folder):
    """Read model.json, and start ONNX Runtime with the network of each fold."""
    model = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    onnxruntime.disable_telemetry_events()  # official builds for Windows
    return model, [onnxruntime.InferenceSession(Path(folder) / name) for name in model["networks"]]


def predict(model, sessions, image, spacing_mm):
    """Segment an image (C, Y, X) or (C, Z, Y, X); returns label values (Y, X) or (Z, Y, X)."""
    image, spacing_mm = np.asarray(image, np.float32), [float(step) for step in spacing_mm]
    is_slice = image.ndim == 3
    if is_slice:
        image, spacing_mm = image[:, None], [999 * max(spacing_mm), *spacing_mm]
    if image.ndim != 4 or len(image) != len(model["channels"]) or len(spacing_mm) != 3:
        raise ValueError(f"image {image.shape} or spacing {spacing_mm} does not fit the channels {model['channels']}")

    order = model["transpose_forward"]
    image = image.transpose(0, *(axis + 1 for axis in order))
    spacing = [spacing_mm[axis] for axis in order]
    box, mask = bounding_box(image)
    cropped = image[(slice(None), *box)]
    data = np.stack([normalize(one, mask, how) for one, how in zip(cropped, model["normalization"], strict=True)])
    target = [*spacing[: 3 - len(model["spacing_mm"])], *model["spacing_mm"]]  # a 2-D network keeps the slices
    shape = [round(old / new * size) for old, new, size in zip(spacing, target, cropped.shape[1:], strict=True)]
    data = resample(data, shape, spacing, target, model["resampling_image"]).astype(np.float32)

    logits = np.mean([sliding_window(session, data, model) for session in sessions], axis=0)
    logits = resample(logits, cropped.shape[1:], target, spacing, model["resampling_logits"])
    if model["regions"]:
        labels = np.zeros(logits.shape[1:], np.uint16)
        for region, logit in zip(model["regions"], logits, strict=True):
            labels[logit > 0] = region["value"]  # a sigmoid above one half; later ones on top
    else:
        labels = logits.argmax(0)

    whole = np.zeros(image.shape[1:], np.uint8 if labels.max() < 255 else np.uint16)
    whole[box] = labels
    whole = whole.transpose(model["transpose_backward"])
    return whole[0] if is_slice else whole


def main():
    parser = argparse.ArgumentParser(description="Segment an image with an exported ONNX model.")
    parser.add_argument("model", help="folder with model.json")
    parser.add_argument("image", help="array (C, Y, X) or (C, Z, Y, X), .npy")
    parser.add_argument("labels", help="where the label values go, .npy")
    parser.add_argument("--spacing", type=float, nargs="+", required=True, help="mm along each axis but the first")
    args = parser.parse_args()
    model, sessions = load(args.model)
    image = np.load(args.image, allow_pickle=False)
    np.save(args.labels, predict(model, sessions, image, args.spacing))


if __name__ == "__main__":
    main()
