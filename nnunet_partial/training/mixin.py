"""Make any nnU-Net trainer train and validate only on what each case is annotated for.

    class nnUNetTrainerMarginal(PartialLabelMixin, nnUNetTrainer):
        loss_class = MarginalLoss

The mixin stands first, so that its methods run before those of the trainer it is combined with; all of them call
`super()`. Which classes a sample is annotated for is looked up by the case identifiers that nnU-Net's loader puts into
every batch.
"""

from __future__ import annotations

import contextlib
import locale
import math
import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)
from torch import Tensor, nn

from nnunet_partial.dataset.domains import domain_probabilities
from nnunet_partial.dataset.plans import MIN_STAGES
from nnunet_partial.dataset.summary import annotation_states, annotation_table
from nnunet_partial.dataset_json import WIDENED_KEY, channel_names, has_regions, nested_regions, region_values
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.evaluation.independence import WIDENED_NAME, cases_seen_in_training, independence_text
from nnunet_partial.evaluation.results import CHECKPOINT_KEY, FINAL_CHECKPOINT
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.losses import REGION_LOSSES
from nnunet_partial.training.loss_wrapper import AnnotatedClasses, UnmaskedLoss, masked_counts, to_device
from nnunet_partial.training.nnunet_patches import (
    PartialLabelLoss,
    patch_domain_sampling,
    patch_ema_logging,
    patch_traceback,
    patch_validation_metrics,
)
from nnunet_partial.training.run_record import (
    RunSettings,
    check_training_cases,
    describe_other_annotations,
    record_run,
    require_other_annotations_allowed,
    save_trained_on,
)
from nnunet_partial.training.startup_checks import TrainingData, require_wide_patch
from nnunet_partial.training.stop_signal import STOPPED, StopSignal
from nnunet_partial.training.validation import (
    INTERVAL_EPOCHS,
    SizeMonitor,
    mask_unknown,
    size_warnings_text,
)
from nnunet_partial.utils.files import sync_file
from nnunet_partial.utils.process import available_cores

#: In the plans of a model: that it has an output for each region, and none for the background.
REGIONS_KEY = "nnunet_partial_regions"

# The class that uses a mixin decides what super() is: here some nnUNetTrainer, of which nothing is typed.
_Trainer: Any = object


class PartialLabelMixin(_Trainer):
    """Train on partial labels; to be put before an nnUNetTrainer.

        class Mine(PartialLabelMixin, nnUNetTrainerDA5):
            loss_class = MarginalLoss

    Before the first iteration it raises PartialLabelError for any mistake in manifest, labels or split, and for
    region-based datasets with any loss but aBCE and nnU-Net's own.
    """

    #: One of `nnunet_partial.losses`, or None for nnU-Net's own loss (not annotated = background).
    loss_class: ClassVar[type[nn.Module] | None] = None
    #: What the loss is built with beside what nnU-Net's plan says.
    loss_arguments: ClassVar[dict[str, Any]] = {}
    #: Of region-based datasets: whether a region that is known says what a region inside or around it is.
    nested: ClassVar[bool] = True
    #: Number of epochs, or None for the trainer's own; the environment wins, see `RunSettings`.
    epochs: ClassVar[int | None] = None

    # nnUNetTrainer's
    dataset_json: dict[str, Any]
    local_rank: int
    num_epochs: int
    num_iterations_per_epoch: int
    num_val_iterations_per_epoch: int
    current_epoch: int
    _best_ema: float | None
    # made by initialize()
    training_data: TrainingData
    annotated_classes: AnnotatedClasses
    partial_loss: PartialLabelLoss
    size_monitor: SizeMonitor
    #: Set by load_checkpoint(): that the checkpoint was trained on other annotations; empty where not.
    other_annotations: str = ""

    #: Whether the training goes on from a checkpoint.
    is_continued: bool = False

    # nnUNetTrainer.__init__ looks up its arguments by the names in this signature, hence no *args.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        patch_traceback()
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.run_settings = RunSettings.from_environment()
        #: file of the checkpoint that the weights are those of: the final one at the end of a training
        self.checkpoint_name = FINAL_CHECKPOINT
        self.stop_signal = StopSignal()
        patch_ema_logging(self.logger)

    def print_to_log_file(self, *args: Any, **options: Any) -> None:
        """Log as nnU-Net does, whose log is in the encoding of the locale; what that lacks is escaped.

        Args:
            args: What to log.
            options: nnU-Net's.
        """
        encoding = "utf-8" if sys.flags.utf8_mode else locale.getencoding()  # as open() without an encoding takes
        texts = (str(part).encode(encoding, "backslashreplace").decode(encoding) for part in args)
        super().print_to_log_file(*texts, **options)

    def _global_rank(self) -> int:
        """Return the rank of this process in the whole job.

        nnU-Net's branch for several nodes has `global_rank`, beside `local_rank`, which is 0 once on each node.
        """
        return getattr(self, "global_rank", self.local_rank)

    # ---- before the first iteration -------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Check the dataset, apply run length and seed, and build everything as nnU-Net does.

        Raises:
            PartialLabelError: Manifest, labels, split or preprocessed data are wrong, or a trainer that must not mirror
                swaps axes.
            DatasetError: The dataset is region-based, and the loss cannot learn that.
        """
        if isinstance(self, nnUNetTrainerDA5) and isinstance(
            self, (nnUNetTrainerNoMirroring, nnUNetTrainer_onlyMirror01)
        ):
            raise PartialLabelError(
                f"{type(self).__name__} joins nnUNetTrainerDA5 with an ending against mirroring; but DA5 swaps axes, "
                "which mirrors as well. Take the trainer without DA5, or without the ending."
            )
        if has_regions(self.dataset_json):
            if self.loss_class is not None and self.loss_class not in REGION_LOSSES:
                raise DatasetError(
                    "This dataset is region-based (a label in dataset.json is a list of values), so structures may "
                    f"overlap, which {type(self).__name__} cannot learn. Train with nnUNetTrainerABCE, or give each "
                    "structure one value of its own."
                )
            # nnU-Net writes the plans beside the model, where `build_network_architecture` finds this at prediction
            self.plans_manager.plans[REGIONS_KEY] = True
        channel_names(self.dataset_json)  # refuses names and numbers that are exchanged
        require_wide_patch(self.configuration_manager.patch_size, self.configuration_name)
        self._limit_threads()
        self._apply_run_settings()
        with self._main_process_first():
            self._load_annotations()
        super().initialize()

    def _limit_threads(self) -> None:
        """Use no more cores than OMP_NUM_THREADS or a scheduler allows; on -device cpu nnU-Net takes all there are."""
        if self.device.type == "cpu":
            torch.set_num_threads(min(torch.get_num_threads(), available_cores(os.environ.get("OMP_NUM_THREADS"))))

    def _apply_run_settings(self) -> None:
        settings = self.run_settings
        self.num_epochs = settings.epochs or self.epochs or self.num_epochs
        self.num_iterations_per_epoch = settings.iterations or self.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.val_iterations or self.num_val_iterations_per_epoch
        self.print_to_log_file(
            f"Run length: {self.num_epochs} epochs of {self.num_iterations_per_epoch} training and "
            f"{self.num_val_iterations_per_epoch} validation iterations. Set by the environment: {settings}"
        )
        self._seed_epoch(0)

    def _seed_epoch(self, epoch: int) -> None:
        """Seed by (seed, rank, epoch), so that a continued training draws what an uninterrupted one would have drawn.

        Loader processes (nnUNet_n_proc_DA > 0) draw for themselves, as nnU-Net starts them unseeded.
        """
        if self.run_settings.seed is None:
            return
        state = np.random.SeedSequence([self.run_settings.seed, self._global_rank(), epoch]).generate_state(1)
        random.seed(int(state[0]))
        np.random.seed(state[0])  # noqa: NPY002  (batchgenerators draws from the global state)
        torch.manual_seed(int(state[0]))

    @contextlib.contextmanager
    def _main_process_first(self) -> Iterator[None]:
        """In DDP, let the first process make missing files; the others come after it and find them, or its error.

        All processes then stop with that error, and none with one about a connection, which could be shown instead.

        Raises:
            PartialLabelError: The first process raised it.
        """
        if not self.is_ddp:
            yield
            return
        errors: list[PartialLabelError | None] = [None]
        if self._global_rank() != 0:
            torch.distributed.broadcast_object_list(errors)
            if errors[0] is not None:
                raise errors[0]
            yield
            return
        try:
            yield
        except PartialLabelError as error:
            torch.distributed.broadcast_object_list([error])
            raise
        torch.distributed.broadcast_object_list(errors)

    def _load_annotations(self) -> None:
        """Read the dataset once, check it, and log how many cases of the fold are annotated for each class."""
        cases = infer_dataset_class(self.preprocessed_dataset_folder).get_identifiers(self.preprocessed_dataset_folder)
        data = TrainingData.from_folders(
            Path(self.preprocessed_dataset_folder_base),
            Path(str(nnUNet_raw)) / self.plans_manager.dataset_name if nnUNet_raw.is_set() else None,
            self.dataset_json,
            list(cases),
        )
        for warning in data.check_entries():
            self.print_to_log_file(f"WARNING: {MANIFEST_NAME}: {warning}")
        data = data.check_labels(default_num_processes)
        data.check_configuration(Path(self.preprocessed_dataset_folder))
        for warning in data.prepare_splits(self.fold):
            self.print_to_log_file(f"WARNING: split: {warning}")
        data = data.with_fold(*self.do_split())
        data.check_every_class_annotated()
        training, validation = data.training_cases, data.validation_cases
        self.training_data = data
        self.annotated_classes = AnnotatedClasses(
            data.manifest, data.classes, {*training, *validation}, has_background=not has_regions(self.dataset_json)
        )
        self.size_monitor = SizeMonitor(data.manifest, data.classes, validation)
        for title, members in (("Training", training), ("Validation", validation)):
            table = annotation_table(data.manifest, data.classes, members)
            heading = f"{title} cases by structure: {annotation_states(data.manifest, members)}"
            self.print_to_log_file(f"\n{heading}\n{table}", add_timestamp=False)

    # ---- training ----------------------------------------------------------------------------------------------------

    def get_dataloaders(self) -> Any:
        """Build nnU-Net's loaders, which follow the manifest's domain weights, if it has any.

        Returns:
            The loaders for training and validation.

        Raises:
            ManifestError: A domain of the training cases has no weight.
            NotImplementedError: There are weights, but the trainer does not use nnU-Net's loader.
        """
        data = self.training_data
        if not data.manifest.domain_weights:
            return super().get_dataloaders()
        probabilities = domain_probabilities(data.manifest, data.training_cases)
        self.print_to_log_file(f"Probability of each domain in training batches (domain_weights): {probabilities}")
        with patch_domain_sampling(data.manifest, data.training_cases):
            return super().get_dataloaders()

    def build_partial_loss(self, default_loss: nn.Module) -> nn.Module:
        """Build the loss; override this to pass other arguments.

        Args:
            default_loss: nnU-Net's own loss.

        Returns:
            A loss that is called with logits (B, C, *S), target (B, 1, *S) and class mask (B, C); of regions with
            logits (B, R, *S), target (B, R, *S), one more channel for the ignore label, and class mask (B, R).
        """
        if self.loss_class is None:
            return UnmaskedLoss(default_loss, self.label_manager.has_regions)
        if self.label_manager.has_regions:
            return REGION_LOSSES[self.loss_class](
                batch_dice=self.configuration_manager.batch_dice,
                inside=nested_regions(region_values(self.dataset_json)) if self.nested else (),
                has_ignore_channel=self.label_manager.has_ignore_label,
                ddp=self.is_ddp,
                **self.loss_arguments,
            )
        loss: nn.Module = self.loss_class(
            batch_dice=self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            ddp=self.is_ddp,
            **self.loss_arguments,
        )
        return loss

    def _build_loss(self) -> nn.Module:
        """Put the partial loss where nnU-Net has its own; the weights of deep supervision stay nnU-Net's.

        It is compiled where nnU-Net compiles, but not over several processes, where that was never tried.

        Returns:
            The loss, called with logits and target, or lists of them under deep supervision.

        Raises:
            PartialLabelError: nnU-Net's weights of deep supervision are NaN, as for networks of two stages.
        """
        built: nn.Module = super()._build_loss()
        default_loss = built.loss if isinstance(built, DeepSupervisionWrapper) else built
        loss = self.build_partial_loss(default_loss)
        if self.loss_class is not None and self._do_i_compile() and not self.is_ddp:
            loss.compile()
        self.partial_loss = PartialLabelLoss(loss, self.label_manager.ignore_label, self.label_manager.has_regions)
        if not isinstance(built, DeepSupervisionWrapper):
            return self.partial_loss
        if not all(map(math.isfinite, built.weight_factors)):
            raise PartialLabelError(
                f"The network of {self.configuration_name} has two stages, for which nnU-Net weights its only output "
                f"0 / 0: the loss would be NaN. Plan at least {MIN_STAGES} stages."
            )
        built.loss = self.partial_loss
        return built

    def training_class_mask(self, batch: dict[str, Any]) -> Tensor:
        """Return which classes the samples of a training batch are annotated for; override this to train on fewer.

        Args:
            batch: A batch of nnU-Net's loader.

        Returns:
            bool (B, C), on the CPU.
        """
        return self.annotated_classes.for_cases(batch["keys"], in_training=True)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Train on a batch, as nnU-Net does, after telling the loss which classes its samples are annotated for.

        Args:
            batch: A batch of nnU-Net's loader.

        Returns:
            nnU-Net's result: the loss.
        """
        self.partial_loss.class_mask = to_device(self.training_class_mask(batch), self.device)
        return super().train_step(batch)

    def run_training(self) -> None:
        """Train as nnU-Net does; SIGUSR1 and SIGTERM end the training after the running epoch, with exit code 75.

        Without checkpoints, from which it could go on, the signals do what they do elsewhere.
        """
        with contextlib.nullcontext() if self.disable_checkpointing else self.stop_signal:
            try:
                super().run_training()
            finally:
                self._end_loaders()

    def _end_loaders(self) -> None:
        """End the loader processes, as nnU-Net does at the end of a training, but not where one stops before."""
        for loader in (self.dataloader_train, self.dataloader_val):
            if isinstance(loader, NonDetMultiThreadedAugmenter):
                loader._finish()

    def on_train_start(self) -> None:
        """Start as nnU-Net does, and record length and seed beside the checkpoints.

        Raises:
            ManifestError: The training goes on from a checkpoint of other annotations, and that is not allowed.
            PartialLabelError: The record of an earlier run is broken, or the fold was widened, but not with --c.
        """
        require_other_annotations_allowed(self.other_annotations)
        model, record = Path(self.output_folder_base), Path(self.output_folder, WIDENED_NAME)
        if record.exists() and not self.is_continued:
            raise PartialLabelError(
                f"{record} says that this fold starts from another model, and it would start from scratch. Train with "
                "--c; or remove that file, if from scratch is what you want."
            )
        if any(model.glob(f"fold_*/{WIDENED_NAME}")):  # said beside every prediction of the model, of whatever fold
            self.dataset_json = {**self.dataset_json, WIDENED_KEY: f"{model.parent.name}/{model.name}"}
        super().on_train_start()
        with self._main_process_first():
            if self._global_rank() == 0:
                self._record_run()

    def _record_run(self) -> None:
        """Write the record to a file of its own: a checkpoint is no larger than nnU-Net's."""
        settings = {
            "epochs": self.num_epochs,
            "iterations": self.num_iterations_per_epoch,
            "val_iterations": self.num_val_iterations_per_epoch,
            "seed": self.run_settings.seed,
        }
        changed = record_run(Path(self.output_folder), self.current_epoch, settings)
        if changed:
            self.print_to_log_file(f"WARNING: this training goes on with other settings than before: {changed}")

    def on_epoch_start(self) -> None:
        """Start an epoch as nnU-Net does, with a seed of its own."""
        super().on_epoch_start()
        self._seed_epoch(self.current_epoch)

    def on_train_end(self) -> None:
        """End the training as nnU-Net does, and log the peak memory of the GPU.

        Raises:
            SystemExit: A signal asked to stop in the last epoch; `--c` does the final validation.
        """
        super().on_train_end()
        self.checkpoint_name = FINAL_CHECKPOINT
        if self.device.type == "cuda":
            gib = torch.cuda.max_memory_allocated(self.device) / 2**30
            self.print_to_log_file(f"Peak memory of the GPU: {gib:.2f} GiB")
        if self._is_asked_to_stop():
            self._exit()

    def save_checkpoint(self, filename: str) -> None:
        """Save a checkpoint under a temporary name first: a kill while writing leaves the last good one in place.

        Args:
            filename: Path of the checkpoint.
        """
        # torch writes the name, without its ending, before each tensor: a longer one would make a larger file
        temporary = Path(filename).with_suffix(".tmp")
        if self._global_rank() == 0:
            temporary.unlink(missing_ok=True)  # what an earlier kill left; nnU-Net may decide to write nothing now
        super().save_checkpoint(str(temporary))
        if self._global_rank() == 0 and temporary.exists():
            sync_file(temporary)
            temporary.replace(filename)
            save_trained_on(Path(filename), self.training_data.trained_on)

    def load_checkpoint(self, checkpoint: Any, /) -> None:
        """Load a checkpoint, unless it was trained on other cases than this fold has.

        Of other annotations it may be validated, with a warning, but is not trained on: see `on_train_start`.

        Args:
            checkpoint: Path of the checkpoint, or its content; by position, as nnU-Net is about to rename it.

        Raises:
            SplitError: It was trained on other cases.
            PartialLabelError: The record of the training cases cannot be read.
        """
        super().load_checkpoint(checkpoint)
        self.is_continued = True
        if isinstance(checkpoint, str):
            self.checkpoint_name = Path(checkpoint).name
            trained_on = self.training_data.trained_on
            check_training_cases(Path(checkpoint), trained_on)
            self.other_annotations = describe_other_annotations(Path(checkpoint), trained_on)
            if self.other_annotations:
                self.print_to_log_file(f"WARNING: {self.other_annotations}")

    # ---- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Validate a batch; what its samples are not annotated for does not count.

        Args:
            batch: A batch of nnU-Net's loader.

        Returns:
            nnU-Net's result with masked counts: the loss, and true positives, false positives and false negatives of
            each foreground class, (C - 1,) each.
        """
        loss, class_mask = self.partial_loss, self.annotated_classes.for_cases(batch["keys"])
        loss.class_mask = to_device(class_mask, self.device)
        loss.is_counting, loss.counts = True, None
        result: dict[str, Any] = super().validation_step(batch)
        loss.is_counting = False
        assert loss.counts is not None, "validation_step did not call the loss"
        counts = loss.counts.cpu()
        result["tp_hard"], result["fp_hard"], result["fn_hard"] = masked_counts(counts, class_mask).numpy()
        self.size_monitor.add(batch["keys"], counts.numpy())
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the pseudo Dice as nnU-Net does, and now and then which structures are predicted at odd sizes.

        Args:
            val_outputs: The results of `validation_step`.
        """
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
            super().on_validation_epoch_end(val_outputs)
        n_done = self.current_epoch + 1
        if n_done % INTERVAL_EPOCHS == 0 or n_done == self.num_epochs:
            text = self.size_monitor.warning_text(self.is_ddp)
            if text and self._global_rank() == 0:
                self.print_to_log_file(text)

    def on_epoch_end(self) -> None:
        """End an epoch as nnU-Net does; while there is no moving average of the pseudo Dice, it is not the best.

        Raises:
            SystemExit: A signal asked to stop; checkpoint_latest.pth has been written.
        """
        # nnU-Net would take NaN for the best ever
        has_no_average = self._best_ema is None and np.isnan(self.logger.get_value("ema_fg_dice", step=-1))
        if has_no_average:
            self._best_ema = -np.inf
        super().on_epoch_end()
        if has_no_average:
            self._best_ema = None
        if self.current_epoch < self.num_epochs and self._is_asked_to_stop():
            self.current_epoch -= 1  # as in nnU-Net's on_train_end: a checkpoint has the next one
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            self.current_epoch += 1
            self._exit()

    def _is_asked_to_stop(self) -> bool:
        """Return whether one of the processes got the signal."""
        if not self.is_ddp:
            return self.stop_signal.is_received
        is_received = torch.tensor(int(self.stop_signal.is_received), device=self.device)
        torch.distributed.all_reduce(is_received, torch.distributed.ReduceOp.MAX)
        return bool(is_received)

    def _exit(self) -> NoReturn:
        self.print_to_log_file(
            f"Stopped by a signal after {self.current_epoch} of {self.num_epochs} epochs, with exit code {STOPPED}. "
            "The same command with --c goes on."
        )
        if self.is_ddp:
            torch.distributed.barrier()  # PyTorch ends all processes with the first, also one that is writing
        sys.exit(STOPPED)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate on whole images as nnU-Net does; what a case is not annotated for does not count.

        The summary.json of an earlier validation is removed first: until this one has ended, there are predictions of
        both.

        Args:
            save_probabilities: Whether to save the predicted probabilities, too.
        """
        if self._global_rank() == 0:
            Path(self.output_folder, "validation", "summary.json").unlink(missing_ok=True)
        with patch_validation_metrics(self._mask_summary):
            super().perform_actual_validation(save_probabilities)

    def _mask_summary(self, summary: dict[str, Any]) -> None:
        """Log the size warnings, set every metric that is not annotated to NaN, and name the checkpoint, in place."""
        data = self.training_data
        labels = self.label_manager
        keys = labels.foreground_regions if labels.has_regions else labels.foreground_labels
        names = dict(zip(keys, data.classes, strict=True))
        scope = (data.manifest, names, self.dataset_json["file_ending"], set(data.validation_cases))
        text = size_warnings_text(summary, *scope, model=type(self).__name__)
        mask_unknown(summary, *scope)
        summary[CHECKPOINT_KEY] = self.checkpoint_name
        seen = cases_seen_in_training(data.manifest, data.validation_cases, Path(self.output_folder))
        if seen:
            summary["not_independent"] = len(seen)
            self.print_to_log_file(f"NOTE: these figures are {independence_text(seen, data.validation_cases)}")
        if text:
            self.print_to_log_file(f"\n{text}", add_timestamp=False)


class ZeroBackgroundMixin(_Trainer):
    """Set the network's background logit to 0, for losses with one sigmoid per class; to be put first.

    A network of regions has no background; it stays as it is.

    Then nnU-Net's argmax gives background exactly where every sigmoid is below one half, with the standard prediction
    commands. A forward hook does it, so that the names of the weights stay those of the stock trainer.
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
        """Build the trainer's network, in training and prediction alike, with a background logit of 0.

        Args:
            plans_manager: nnU-Net's, as all other arguments.
            configuration_manager: Of the configuration that is trained.
            num_input_channels: Channels of the image.
            num_output_channels: Classes, background among them; or regions.
            enable_deep_supervision: Whether there is an output for each resolution.

        Returns:
            The network.
        """
        network: nn.Module = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        if not plans_manager.plans.get(REGIONS_KEY):
            network.register_forward_hook(_zero_background)
        return network


def _zero_background(network: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, (list, tuple)):
        return type(output)(_zero_background(network, inputs, scale) for scale in output)
    return torch.cat((torch.zeros_like(output[:, :1]), output[:, 1:]), 1)  # (B, C, *S)
