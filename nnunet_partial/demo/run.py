"""Run the demo: what training on partial labels changes, on synthetic echo images, through the real commands.

Two "scanners", two datasets. In the first, like CAMUS, all structures are annotated; in the second, like
EchoNet-Dynamic, only the left ventricle. nnU-Net's own loss takes unannotated structures for background; a loss for
partial labels does not. Both models then predict all structures in test images of both scanners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.plans import add_small_configuration
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.demo.results import Scores, result_text, save_figure, score_models
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, blend
from nnunet_partial.phantom.writers import write_camus, write_echonet_dynamic
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.process import Command, Commands, Progress, available_cores
from nnunet_partial.utils.trainers import trainers_folder

NAIVE = "nnUNetTrainerNaive"
TRAINERS = {"marginal": "nnUNetTrainerMarginal", "acce": "nnUNetTrainerACCE", "abce": "nnUNetTrainerABCE"}
CONFIGURATION = "2d_small"

Log = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Set the amount of data and training; the defaults take some minutes on two CPU cores.

    Attributes:
        camus_patients: of the first dataset.
        echonet_patients: of the second dataset.
        pixels: height and width of all images.
        shift: how far the second scanner's images differ from the first's, 0 to 1 (see `phantom.scanner.blend`).
        epochs: of a training.
        iterations: per epoch.
        val_iterations: per epoch.
        batch_size: images per iteration.
        features: per stage of the network.
        seed: of data and training.
    """

    camus_patients: int = 20
    echonet_patients: int = 40
    pixels: int = 64
    shift: float = 0.8
    epochs: int = 6
    iterations: int = 100
    val_iterations: int = 2
    batch_size: int = 4
    features: tuple[int, ...] = (16, 32, 64, 64)
    seed: int = 1


def demo(out: Path, *, loss: str = "marginal", device: str = "cpu", log: Log, size: Size = Size()) -> Scores:
    """Run the demo.

    Args:
        out: folder to write; an earlier demo in it is replaced.
        loss: of the second model, one of TRAINERS.
        device: "cpu" or "cuda".
        log: receives every line of text for the reader.
        size: amount of data and training.

    Returns:
        Dice of both models.

    Raises:
        PartialLabelError: for a folder that is not a demo's, a device that does not exist, or a command that fails
            (with its output).
    """
    start_time = time.monotonic()
    _require_device(device)
    folder, trainers = DemoFolder(out.resolve()), (NAIVE, TRAINERS[loss])
    folder.prepare()
    commands = Commands(_environment(folder, device, size), folder.logs, log)
    if device == "cpu":
        log("With two CPU cores and nothing else running this takes two to four minutes.")
    _heading(log, "1. Two synthetic datasets")
    _write_sources(folder, size, log)
    _heading(log, "2. Conversion into one nnU-Net dataset")
    log("To run the commands yourself, first set nnU-Net's folders, the length of training and its seed:\n")
    log(commands.exports())
    _convert(commands, folder)
    _heading(log, "3. Planning and preprocessing")
    _plan(commands, folder, size, log)
    _heading(log, "4. Training: the same network, images and labels with two losses")
    _run_both(commands, [_training(trainer, device, size) for trainer in trainers], device)
    _heading(log, "5. Prediction of test images of both scanners")
    _run_both(commands, [_prediction(folder, trainer, device) for trainer in trainers], device)
    _heading(log, "6. Results")
    scores = score_models(folder, trainers)
    save_figure(folder, trainers, scores)
    result = result_text(scores, trainers)
    write_text(folder.result, result)
    log(result)
    log(f"Figure: {folder.figure}\nAll files: {folder.root}")
    log(f"This took {(time.monotonic() - start_time) / 60:.1f} minutes.")
    return scores


def _heading(log: Log, text: str) -> None:
    log(f"\n{text}\n{'=' * len(text)}")


def _require_device(device: str) -> None:
    if device == "cuda":
        import torch  # takes seconds, so only here

        if not torch.cuda.is_available():
            raise PartialLabelError("PyTorch finds no CUDA device on this computer. Use --device cpu.")


def _environment(folder: DemoFolder, device: str, size: Size) -> dict[str, str | None]:
    return {
        **folder.nnunet,
        "nnUNet_extTrainer": str(trainers_folder()),
        "nnUNet_partial_epochs": str(size.epochs),
        "nnUNet_partial_iterations": str(size.iterations),
        "nnUNet_partial_val_iterations": str(size.val_iterations),
        "nnUNet_partial_seed": str(size.seed),
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",  # a network this small gains nothing by more, whose sums come out in another order
        "OMP_WAIT_POLICY": "PASSIVE",  # makes training four times as fast if other programs run
        "nnUNet_n_proc_DA": None,  # planning fails if it is 0, which is best for training here
        **({"nnUNet_compile": "f"} if device == "cuda" else {}),  # compiling takes longer than this training
    }


def _write_sources(folder: DemoFolder, size: Size, log: Log) -> None:
    log(
        f"camus: {size.camus_patients} patients of scanner A in the layout of CAMUS; LV, MYO, LA annotated.\n"
        f"echonet: {size.echonet_patients} patients of scanner B in the layout of EchoNet-Dynamic; LV annotated.\n"
        "All images are synthetic (nnunet_partial/phantom/writers.py)."
    )
    shape = (size.pixels, size.pixels)
    write_camus(folder.camus, size.camus_patients, seed=size.seed, shape=shape, half_sequence=False)
    write_echonet_dynamic(
        folder.echonet,
        size.echonet_patients,
        seed=size.seed + 1000,
        scanner=blend(SCANNER_A, SCANNER_B, size.shift),
        shape=shape,
        frames=10,
        truth_dir=folder.echonet_truth,
    )


def _convert(commands: Commands, folder: DemoFolder) -> None:
    commands.run("nnunet_partial", "convert", "camus", "-i", str(folder.camus), "-d", "501")
    commands.run("nnunet_partial", "convert", "echonet-dynamic", "-i", str(folder.echonet), "-d", "502")
    commands.run("nnunet_partial", "merge", "-i", "501", "502", "-d", "510", "--name", "Echo")
    commands.run("nnunet_partial", "check", "-d", "510")


def _plan(commands: Commands, folder: DemoFolder, size: Size, log: Log) -> None:
    progress = Progress("fingerprint, then preprocessing", r"(\d+)/\d+ \[", len(_cases(folder, "Tr")), "case")
    commands.run("nnUNetv2_plan_and_preprocess", "-d", "510", "-c", "2d", "-np", "1", "-npfp", "1", progress=progress)
    patch_size = (size.pixels, size.pixels)
    add_small_configuration(
        folder.plans, CONFIGURATION, features=size.features, batch_size=size.batch_size, patch_size=patch_size
    )
    log(
        f"\nPlans may be edited. The configuration {CONFIGURATION} was added, small enough for CPUs: "
        f"{len(size.features)} stages of {', '.join(map(str, size.features))} features, batches of "
        f"{size.batch_size} patches of {size.pixels} x {size.pixels}.\n  {folder.plans}"
    )


def _training(trainer: str, device: str, size: Size) -> Command:
    return Command(
        ("nnUNetv2_train", "510", CONFIGURATION, "0", "-tr", trainer, "-device", device),
        Progress(trainer, r": Epoch (\d+)\s*$", size.epochs, "epoch"),
        {"nnUNet_n_proc_DA": "0"},
    )


def _prediction(folder: DemoFolder, trainer: str, device: str) -> Command:
    images, output = str(folder.merged / "imagesTs"), str(folder.predictions(trainer))
    model = ("-d", "510", "-c", CONFIGURATION, "-f", "0", "-tr", trainer, "-i", images, "-o", output)
    return Command(
        # in one process: each other one imports PyTorch for seconds
        ("nnUNetv2_predict", *model, "-device", device, "-npp", "0", "-nps", "0"),
        Progress(trainer, "^perform_everything_on_device: ", len(_cases(folder, "Ts")), "case"),
    )


def _run_both(commands: Commands, both: Sequence[Command], device: str) -> None:
    """Run two commands at the same time where each has a core of its own; they would share one GPU."""
    if device == "cpu" and available_cores() > 1:
        commands.tell("\nAt the same time:")
        commands.run_together(*both)
    else:
        for command in both:
            commands.run_together(command)


def _cases(folder: DemoFolder, part: str) -> list[str]:
    return list(RawDataset(folder.merged).label_files(part))
