"""Reach into nnU-Net where it offers no hook: four patches, and a side channel to the loss.

Everything else overrides a method of the trainer (see `mixin.py`). What stands here depends on the inner workings of
nnU-Net (2.8), so each says why it is needed and what nnU-Net would have to offer for it to go.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nnunetv2.evaluation.evaluate_predictions import save_summary_json
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer_module
from torch import Tensor, nn

from nnunet_partial.dataset.domains import case_probabilities
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import Manifest
from nnunet_partial.training.loss_wrapper import confusion_counts, region_counts

#: What nnU-Net logs of the pseudo Dice.
DICE_KEYS = ("dice_per_class_or_region", "mean_fg_dice", "ema_fg_dice")

#: Environment variable that brings back the traceback of our errors, with any value.
TRACEBACK_VARIABLE = "nnUNet_partial_traceback"


class PartialLabelLoss(nn.Module):
    """Stand where nnU-Net expects loss(logits, target), and pass on which classes the batch is annotated for.

    Why: `train_step` and `validation_step` call `self.loss(output, target)` and do not hand over the batch, so the
    trainer sets `class_mask` before each step. In validation this also counts the voxels of each sample (`counts`),
    since nnU-Net's own count, made right after the loss, takes every prediction of a class that is not annotated for a
    false positive.

    To go: nnU-Net calls a method of the trainer with the batch, such as `compute_loss(output, batch)`, and another
    that counts, such as `compute_online_metrics(output, batch)`.

    Args:
        loss: Called with logits (B, C, *S), target (B, 1, *S) and class mask (B, C).
        ignore_label: Value of the voxels that do not count; None where there are none.
        has_regions: Whether there is an output and a channel of the target for each region.
    """

    def __init__(self, loss: nn.Module, ignore_label: int | None, has_regions: bool = False) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_label = ignore_label
        self.has_regions = has_regions
        self.class_mask: Tensor | None = None
        self.counts: Tensor | None = None
        self.is_counting = False

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one resolution; under deep supervision the first call has the full one, which is counted.

        Args:
            logits: Output of the network, (B, C, *S).
            target: Label values, (B, 1, *S).

        Returns:
            The loss, a scalar.
        """
        assert self.class_mask is not None, "the trainer sets class_mask before each step"
        if self.is_counting and self.counts is None:
            self.counts = (
                region_counts(logits, target, self.ignore_label is not None)
                if self.has_regions
                else confusion_counts(logits, target, self.ignore_label)
            )
        value: Tensor = self.loss(logits, target, self.class_mask)
        return value


@contextlib.contextmanager
def patch_validation_metrics(change_summary: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Change the summary of nnU-Net's final validation before it is saved and logged.

    Why: `perform_actual_validation` computes, saves and logs the metrics in one go, by a function that its module
    imports. Means over classes that are not annotated would stand in summary.json and in the log. And nnU-Net's branch
    for several nodes asks for 0 processes where nnUNet_n_proc_DA=0, which no pool of processes takes: at least 1 works.

    To go: nnU-Net computes the metrics in a method of the trainer that can be overridden.

    Args:
        change_summary: Changes, in place, what nnU-Net's `compute_metrics_on_folder` returns.

    Yields:
        Nothing; the patch holds inside the block.
    """
    original = nnunet_trainer_module.compute_metrics_on_folder

    def changed(folder_ref: str, folder_pred: str, output_file: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if "num_processes" in kwargs:
            kwargs["num_processes"] = max(1, kwargs["num_processes"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
            summary: dict[str, Any] = original(folder_ref, folder_pred, None, *args, **kwargs)
        change_summary(summary)
        save_summary_json(summary, output_file)
        return summary

    nnunet_trainer_module.compute_metrics_on_folder = changed
    try:
        yield
    finally:
        nnunet_trainer_module.compute_metrics_on_folder = original


@contextlib.contextmanager
def patch_domain_sampling(manifest: Manifest, training_cases: Sequence[str]) -> Iterator[None]:
    """Make the first loader over the training cases sample each domain with the probability of its weight.

    nnU-Net samples every training case equally often, so that a domain of ten thousand images drowns one of a hundred.
    Where `partial_labels.json` has `domain_weights` (`nnunet_partial balance` writes them), a domain is sampled
    with the probability of its weight, and within it every case equally often. Validation is not touched.

    Why: nnU-Net's loader can do so (`sampling_probabilities`), but `get_dataloaders` always passes None, and its worker
    processes start before anyone gets hold of the loader.

    To go: nnU-Net takes the probabilities from the trainer, by a method or an attribute.

    Args:
        manifest: The manifest, with domain weights.
        training_cases: Identifiers of the training cases of the fold.

    Yields:
        Nothing; the patch holds inside the block.

    Raises:
        ManifestError: A domain of the training cases has no weight.
        NotImplementedError: The trainer made no such loader, so the weights would be ignored.
    """
    original, expected = nnUNetDataLoader.__init__, set(training_cases)
    is_done = False

    @functools.wraps(original)
    def weighted(loader: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal is_done
        original(loader, data, *args, **kwargs)
        if not is_done and set(data.identifiers) == expected:
            loader.sampling_probabilities = case_probabilities(manifest, list(data.identifiers))
            is_done = True

    nnUNetDataLoader.__init__ = weighted
    try:
        yield
    finally:
        nnUNetDataLoader.__init__ = original
    if not is_done:
        raise NotImplementedError(
            "partial_labels.json has 'domain_weights', but this trainer does not use nnU-Net's data loader, which "
            "follows them. Remove them, or use another trainer."
        )


def patch_ema_logging(logger: Any) -> None:
    """Make nnU-Net's logger skip epochs without a pseudo Dice when it averages.

    Why: an epoch whose validation samples are annotated for nothing has no pseudo Dice (NaN), and the logger's moving
    average, by which nnU-Net chooses its best checkpoint, would stay NaN for ever. Here it stays as it was; before the
    first epoch with a Dice there is none (NaN). The value is changed on its way in, so that every logger (Weights &
    Biases, too) gets the same one.

    Dice values become Python's own numbers: counted in float64, where nnU-Net counts in float32, they would otherwise
    take more room than its own in every checkpoint, which holds the log.

    To go: the logger leaves NaN out of the average.

    Args:
        logger: nnU-Net's MetaLogger; to be patched once, before the first epoch.
    """
    log = logger.log

    def log_without_nan(key: str, value: Any, step: int) -> None:
        if key == "ema_fg_dice":
            value = _moving_average(logger, value, step)
        log(key, _to_python(value) if key in DICE_KEYS else value, step)

    # nnU-Net's logger computes the average itself, once it is given a mean, and logs it by this name
    logger.log = log_without_nan


def _moving_average(logger: Any, value: float, step: int) -> float:
    """Return the average that nnU-Net computed, `value`, or a better one where the mean or the last average is NaN."""
    previous = [average for average in logger.get_value("ema_fg_dice", None)[:step] if not math.isnan(average)]
    mean = float(logger.get_value("mean_fg_dice", step))
    if math.isnan(mean):
        return previous[-1] if previous else mean
    return value if previous else mean


def _to_python(value: Any) -> Any:
    return [float(number) for number in value] if isinstance(value, list) else float(value)


def patch_traceback() -> None:
    """End `nnUNetv2_train` in the message alone where an error of this package stops it; the error stays what it is.

    Why: `nnUNetv2_train` lets every error run to the end of the process, so that the message, which says what to do,
    stands below twenty lines of traceback. In processes that another program began nothing is changed, and under
    `TRACEBACK_VARIABLE` the traceback is shown. With several GPUs PyTorch shows the traceback of a process; the message
    is its end.

    To go: nnU-Net's commands show a ValueError by its message.
    """
    began = Path(sys.argv[0] if sys.argv else "").name.startswith("nnUNetv2_train")
    if not began or os.environ.get(TRACEBACK_VARIABLE) or isinstance(sys.excepthook, _MessageAlone):
        return
    sys.excepthook = _MessageAlone(sys.excepthook)


class _MessageAlone:
    """Show the errors of this package by their message, and all others as before."""

    def __init__(self, previous: Callable[..., Any]) -> None:
        self._previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, PartialLabelError):
            print(error, file=sys.stderr)
        else:
            self._previous(kind, error, trace)
