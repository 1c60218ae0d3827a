"""Teaches any nnU-Net trainer to train and validate only on what each case was annotated for.

    class nnUNetTrainerMarginal(PartialLabelMixin, nnUNetTrainer):
        loss_class = MarginalLoss

The mixin stands first, so that its methods run before those of the trainer it is combined with; all of them call
`super()`. What is known is looked up by the case identifiers that nnU-Net's loader puts into every batch.

The moving average of the pseudo Dice, by which nnU-Net chooses its best checkpoint, in epochs that know nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import save_summary_json
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer_module
from torch import Tensor, nn

from nnunet_partial.dataset.domains import domain_probabilities
from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.preprocessed import read_manifest
from nnunet_partial.dataset.summary import annotation_table
from nnunet_partial.labels import MANIFEST_NAME, Manifest, class_names, has_regions
from nnunet_partial.training.domain_sampling import weighted_by_domain
from nnunet_partial.training.loss_wrapper import (
    AnnotatedClasses,
    PartialLabelLoss,
    UnmaskedLoss,
    masked_counts,
    to_device,
)
from nnunet_partial.training.run_record import (
    OLD_LOG_KEY,
    Entry,
    RunSettings,
    check_training_cases,
    from_old_log,
    record_run,
    save_training_cases,
)
from nnunet_partial.training.startup_checks import (
    check_entries,
    check_every_class_annotated,
    check_labels,
    prepare_splits,
)
from nnunet_partial.training.validation import INTERVAL, SizeMonitor, mask_unknown, size_warnings_text

#: What nnU-Net logs of the pseudo Dice.
DICE_KEYS = ("dice_per_class_or_region", "mean_fg_dice", "ema_fg_dice")


def patch_ema_logging(logger: Any) -> None:
    """Makes nnU-Net's logger skip epochs without a pseudo Dice when it averages; call once, before the first epoch.

    An epoch in which nothing was known has no pseudo Dice (NaN): the moving average stays as it was, where nnU-Net
    would carry the NaN on for ever. Before the first epoch that knows something there is no average (NaN). The value is
    mended on its way in, so that every logger (Weights & Biases too) gets the same one.

    Dice values become Python's own numbers: counted in float64, where nnU-Net counts in float32, they would otherwise
    take more room than its own in every checkpoint, which holds the log.
    """
    log = logger.log

    def mended(key: str, value: Any, step: int) -> None:
        if key == "ema_fg_dice":
            value = _average(logger, value, step)
        log(key, _plain(value) if key in DICE_KEYS else value, step)

    # nnU-Net's logger computes the average itself, once it is given a mean, and logs it by this name
    logger.log = mended


def _average(logger: Any, value: float, step: int) -> float:
    before = [average for average in logger.get_value("ema_fg_dice", None)[:step] if not math.isnan(average)]
    mean = float(logger.get_value("mean_fg_dice", step))
    if math.isnan(mean):
        return before[-1] if before else mean
    return value if before else mean


def _plain(value: Any) -> Any:
    return [float(one) for one in value] if isinstance(value, list) else float(value)


# What a mixin's super() is, is chosen by the class that uses it: some nnUNetTrainer, of which nothing is typed.
_Trainer: Any = object


class PartialLabelMixin(_Trainer):
    """To be put before a nnUNetTrainer: `class Mine(PartialLabelMixin, nnUNetTrainerDA5): loss_class = MarginalLoss`.

    loss_class: one of `nnunet_partial.losses`, or None for nnU-Net's own loss (unlabelled = background).
    loss_arguments: what it is built with beside what nnU-Net's plan says.
    epochs: number of epochs, or None for the trainer's own; the environment wins (see run_settings).

    Before the first iteration it raises PartialLabelError for any mistake in manifest, labels or split, and
    NotImplementedError for region-based data sets.
    """

    loss_class: ClassVar[type[nn.Module] | None] = None
    loss_arguments: ClassVar[dict[str, Any]] = {}
    epochs: ClassVar[int | None] = None

    # nnUNetTrainer's
    num_epochs: int
    num_iterations_per_epoch: int
    num_val_iterations_per_epoch: int
    _best_ema: float | None
    # made by initialize()
    manifest: Manifest
    training_cases_sum: str
    known_classes: AnnotatedClasses
    loss_of_known: PartialLabelLoss
    patch_signs: SizeMonitor

    # nnUNetTrainer.__init__ looks up its arguments by the names in this signature, hence no *args.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.run_settings = RunSettings.from_environment()
        self._run_in_checkpoint: list[Entry] = []
        patch_ema_logging(self.logger)

    # ---- before the first iteration -------------------------------------------------------------------------------

    def initialize(self) -> None:
        if has_regions(self.dataset_json):
            raise NotImplementedError(
                "This data set is region-based (a label in dataset.json is a list of values); partial labels are not "
                "implemented for regions. Give each structure one value of its own."
            )
        self._use_own_cores()
        self._apply_run_settings()
        with self._first_rank_first():
            self._read_what_is_known()
        super().initialize()

    def _use_own_cores(self) -> None:
        """nnU-Net takes all cores of the machine for -device cpu; a scheduler (SLURM, taskset) may have given fewer."""
        if self.device.type == "cpu" and hasattr(os, "sched_getaffinity"):
            torch.set_num_threads(min(torch.get_num_threads(), len(os.sched_getaffinity(0))))

    def _apply_run_settings(self) -> None:
        settings = self.run_settings
        self.num_epochs = settings.epochs or self.epochs or self.num_epochs
        self.num_iterations_per_epoch = settings.iterations or self.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.val_iterations or self.num_val_iterations_per_epoch
        self.print_to_log_file(
            f"Run length: {self.num_epochs} epochs of {self.num_iterations_per_epoch} training and "
            f"{self.num_val_iterations_per_epoch} validation iterations. Set by the environment: {settings}"
        )
        self._reseed(0)

    def _reseed(self, epoch: int) -> None:
        """Seeds by (seed, rank, epoch), so that a continued training draws what an uninterrupted one would have drawn.

        Loader processes (nnUNet_n_proc_DA > 0) draw for themselves, as nnU-Net starts them unseeded.
        """
        if self.run_settings.seed is None:
            return
        state = np.random.SeedSequence([self.run_settings.seed, self.local_rank, epoch]).generate_state(1)
        random.seed(int(state[0]))
        np.random.seed(state[0])  # noqa: NPY002  (batchgenerators draws from the global state)
        torch.manual_seed(int(state[0]))

    @contextlib.contextmanager
    def _first_rank_first(self) -> Iterator[None]:
        """In DDP the first process makes missing files; the others come after it and find them."""
        if self.is_ddp and self.local_rank != 0:
            torch.distributed.barrier()
        yield
        if self.is_ddp and self.local_rank == 0:
            torch.distributed.barrier()

    def _read_what_is_known(self) -> None:
        preprocessed = Path(self.preprocessed_dataset_folder_base)
        raw = Path(str(nnUNet_raw)) / self.plans_manager.dataset_name if nnUNet_raw.is_set() else None
        classes = class_names(self.dataset_json)
        cases = list(
            infer_dataset_class(self.preprocessed_dataset_folder).get_identifiers(self.preprocessed_dataset_folder)
        )
        self.manifest = read_manifest(preprocessed, raw)
        for warning in check_entries(self.manifest, raw, cases):
            self.print_to_log_file(f"WARNING: {MANIFEST_NAME}: {warning}")
        check_labels(preprocessed, self.manifest, self.dataset_json, cases, default_num_processes, raw)
        for warning in prepare_splits(preprocessed, raw, self.manifest, cases, self.fold):
            self.print_to_log_file(f"WARNING: split: {warning}")
        training_cases, validation_cases = self.do_split()
        check_every_class_annotated(self.manifest, classes, training_cases)
        self.training_cases_sum = hash_names(training_cases)
        self.known_classes = AnnotatedClasses(self.manifest, classes, sorted({*training_cases, *validation_cases}))
        self.patch_signs = SizeMonitor(self.manifest, classes, validation_cases)
        for title, members in (("Training", training_cases), ("Validation", validation_cases)):
            table = annotation_table(self.manifest, classes, members)
            heading = f"{title} cases that know each structure: annotated / absent / unknown"
            self.print_to_log_file(f"\n{heading}\n{table}", add_timestamp=False)

    # ---- training ----------------------------------------------------------------------------------------------------

    def get_dataloaders(self) -> Any:
        if not self.manifest.domain_weights:
            return super().get_dataloaders()
        training_cases, _ = self.do_split()
        chances = domain_probabilities(self.manifest, training_cases)
        self.print_to_log_file(f"Probability of each domain in training batches (domain_weights): {chances}")
        with weighted_by_domain(self.manifest, training_cases):
            return super().get_dataloaders()

    def make_loss(self, plain: nn.Module) -> nn.Module:
        """A loss called with (logits, target, class_mask). `plain` is nnU-Net's own. Override for other arguments."""
        if self.loss_class is None:
            return UnmaskedLoss(plain)
        loss: nn.Module = self.loss_class(
            batch_dice=self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            ddp=self.is_ddp,
            **self.loss_arguments,
        )
        return loss

    def _build_loss(self) -> nn.Module:
        built: nn.Module = super()._build_loss()
        plain = built.loss if isinstance(built, DeepSupervisionWrapper) else built
        self.loss_of_known = PartialLabelLoss(self.make_loss(plain), self.label_manager.ignore_label)
        if not isinstance(built, DeepSupervisionWrapper):
            return self.loss_of_known
        built.loss = self.loss_of_known
        return built

    def known_in_training(self, batch: dict[str, Any]) -> Tensor:
        """bool (B, C), on the CPU: the classes that the samples of a training batch may teach."""
        return self.known_classes.of(batch["keys"])

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.loss_of_known.known = to_device(self.known_in_training(batch), self.device)
        return super().train_step(batch)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.local_rank == 0:
            self._record_run()

    def _record_run(self) -> None:
        """Beside the checkpoints, not in them: a checkpoint is no larger than nnU-Net's own."""
        settings = {
            "epochs": self.num_epochs,
            "iterations": self.num_iterations_per_epoch,
            "val_iterations": self.num_val_iterations_per_epoch,
            "seed": self.run_settings.seed,
        }
        changed = record_run(Path(self.output_folder), self.current_epoch, settings, self._run_in_checkpoint)
        if changed:
            self.print_to_log_file(f"WARNING: this training goes on with other settings than before: {changed}")

    def on_epoch_start(self) -> None:
        super().on_epoch_start()
        self._reseed(self.current_epoch)

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.device.type == "cuda":
            gib = torch.cuda.max_memory_allocated(self.device) / 2**30
            self.print_to_log_file(f"Peak memory of the graphics card: {gib:.2f} GiB")

    def save_checkpoint(self, filename: str) -> None:
        """Under a temporary name first: a kill while writing leaves the last good checkpoint in place."""
        # torch writes the name, without its ending, before each tensor: a longer one would make a larger file
        temporary = Path(filename).with_suffix(".tmp")
        if self.local_rank == 0:
            temporary.unlink(missing_ok=True)  # what an earlier kill left; nnU-Net may decide to write nothing now
        super().save_checkpoint(str(temporary))
        if self.local_rank == 0 and temporary.exists():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(filename)
            save_training_cases(Path(filename), self.training_cases_sum)

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(filename_or_checkpoint, str):
            check_training_cases(Path(filename_or_checkpoint), self.training_cases_sum)
        log = self.logger.local_logger.my_fantastic_logging
        # a list that no longer grows must not stay: nnU-Net plots as many epochs as the shortest list has
        self._run_in_checkpoint = from_old_log(log.pop(OLD_LOG_KEY, []))

    # ---- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        loss, known = self.loss_of_known, self.known_classes.of(batch["keys"])
        loss.known = to_device(known, self.device)
        loss.counting, loss.counts = True, None
        result: dict[str, Any] = super().validation_step(batch)
        loss.counting = False
        assert loss.counts is not None, "validation_step did not call the loss"
        counts = loss.counts.cpu()
        result["tp_hard"], result["fp_hard"], result["fn_hard"] = masked_counts(counts, known).numpy()
        self.patch_signs.add(batch["keys"], counts.numpy())
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
            super().on_validation_epoch_end(val_outputs)
        done = self.current_epoch + 1
        if done % INTERVAL == 0 or done == self.num_epochs:
            sentence = self.patch_signs.sentence(self.is_ddp)
            if sentence and self.local_rank == 0:
                self.print_to_log_file(sentence)

    def on_epoch_end(self) -> None:
        # While there is no average, no epoch is the best: nnU-Net would take NaN for the best ever.
        undecided = self._best_ema is None and np.isnan(self.logger.get_value("ema_fg_dice", step=-1))
        if undecided:
            self._best_ema = -np.inf
        super().on_epoch_end()
        if undecided:
            self._best_ema = None

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self._masked_metrics():
            super().perform_actual_validation(save_probabilities)

    @contextlib.contextmanager
    def _masked_metrics(self) -> Iterator[None]:
        """nnU-Net computes, saves and logs its summary in one go: masked here before it is saved or logged."""
        original = nnunet_trainer_module.compute_metrics_on_folder
        _, cases = self.do_split()

        def masked(folder_ref: str, folder_pred: str, output_file: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
                summary: dict[str, Any] = original(folder_ref, folder_pred, None, *args, **kwargs)
            about = (self.manifest, class_names(self.dataset_json), self.dataset_json["file_ending"], set(cases))
            signs = size_warnings_text(summary, *about, model=type(self).__name__)
            mask_unknown(summary, *about)
            save_summary_json(summary, output_file)
            if signs:
                self.print_to_log_file(f"\n{signs}", add_timestamp=False)
            return summary

        nnunet_trainer_module.compute_metrics_on_folder = masked
        try:
            yield
        finally:
            nnunet_trainer_module.compute_metrics_on_folder = original


class ZeroBackgroundMixin(_Trainer):
    """For losses with one sigmoid per structure: the network's background logit is 0.

    Then nnU-Net's argmax says background exactly where every sigmoid is below one half, with the standard prediction
    commands. A forward hook, so that the names of the weights stay those of the stock trainer.
    """

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        network: nn.Module = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        network.register_forward_hook(_zero_background)
        return network


def _zero_background(network: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, (list, tuple)):
        return type(output)(_zero_background(network, inputs, scale) for scale in output)
    return torch.cat((torch.zeros_like(output[:, :1]), output[:, 1:]), 1)  # (B, C, *S)
