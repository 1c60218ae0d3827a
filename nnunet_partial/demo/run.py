"""The demo: what training on partial labels is about, seen on drawn echo images through the real commands.

Two "scanners", two data sets. In the first, made like CAMUS, all structures are labelled; in the second, made like
EchoNet-Dynamic, the left ventricle alone. nnU-Net's own loss takes what nobody labelled for background; a loss for
partial labels does not. Both models are then asked for all structures in unseen images of both scanners.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.plans import add_small_configuration
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.demo.results import Scores, in_words, score_models, show_models
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, blend
from nnunet_partial.phantom.writers import write_camus, write_echonet_dynamic
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.process import Commands, Progress
from nnunet_partial.utils.versions import trainers_folder

NAIVE = "nnUNetTrainerNaive"
TRAINERS = {"marginal": "nnUNetTrainerMarginal", "acce": "nnUNetTrainerACCE", "abce": "nnUNetTrainerABCE"}
CONFIGURATION = "2d_small"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much of everything, so that two CPU cores need some minutes. `shift`: how far the second scanner's pictures
    are from the first's, 0 to 1 (see `phantom.blend`)."""

    camus_patients: int = 20
    echonet_patients: int = 40
    pixels: int = 96
    shift: float = 0.5
    epochs: int = 15
    iterations: int = 50
    val_iterations: int = 2
    features: tuple[int, ...] = (16, 32, 64, 64)
    seed: int = 1


def demo(out: Path, *, loss: str = "marginal", device: str = "cpu", tell: Tell, size: Size = Size()) -> Scores:
    """Runs the demo in the folder `out`; `tell` gets every line of text for the reader. Returns both models' Dice.

    loss: one of TRAINERS; device: "cpu" or "cuda". An earlier demo in `out` is replaced. Raises PartialLabelError for a
    folder that is not a demo's, a device that is not there, or a command that fails (with its output).
    """
    started = time.monotonic()
    _require_device(device)
    folder, trainers = DemoFolder(out.resolve()), (NAIVE, TRAINERS[loss])
    folder.start_afresh()
    commands = Commands(_environment(folder, device, size), folder.logs, tell)
    if device == "cpu":
        tell("With two CPU cores and nothing else running this takes about five minutes.")
    _heading(tell, "1. Two data sets, drawn")
    _draw(folder, size, tell)
    _heading(tell, "2. From their folders to one nnU-Net data set")
    tell("To type the commands yourself, first set nnU-Net's folders, the length of training and its seed:\n")
    tell(commands.exports())
    _convert(commands, folder)
    _heading(tell, "3. nnU-Net's plan")
    _plan(commands, folder, size, tell)
    _heading(tell, "4. The same network twice on the same images and labels, with two losses")
    for trainer in trainers:
        _train(commands, trainer, device, size)
    _heading(tell, "5. Unseen images of both scanners")
    for trainer in trainers:
        _predict(commands, folder, trainer, device)
    _heading(tell, "6. What came out")
    scores = score_models(folder, trainers)
    show_models(folder, trainers, scores)
    result = in_words(scores, trainers)
    write_text(folder.result, result)
    tell(result)
    tell(f"The picture: {folder.picture}\nAll files: {folder.root}")
    tell(f"This took {(time.monotonic() - started) / 60:.1f} minutes.")
    return scores


def _heading(tell: Tell, text: str) -> None:
    tell(f"\n{text}\n{'=' * len(text)}")


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
        "OMP_WAIT_POLICY": "PASSIVE",  # beside other programs training is four times as fast so
        "nnUNet_n_proc_DA": None,  # planning dies of the 0 that is best for training here
        **({"nnUNet_compile": "f"} if device == "cuda" else {}),  # compiling takes longer than this training
    }


def _draw(folder: DemoFolder, size: Size, tell: Tell) -> None:
    tell(
        f"camus: {size.camus_patients} patients of scanner A, laid out like CAMUS; labels of LV, MYO and LA.\n"
        f"echonet: {size.echonet_patients} patients of scanner B, laid out like EchoNet-Dynamic; labels of LV alone.\n"
        "No real patient, no real scanner: nnunet_partial/phantom/writers.py draws all of it."
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


def _plan(commands: Commands, folder: DemoFolder, size: Size, tell: Tell) -> None:
    progress = Progress("fingerprint, then preprocessing", r"(\d+)/\d+ \[", len(_cases(folder, "Tr")), "case")
    commands.run("nnUNetv2_plan_and_preprocess", "-d", "510", "-c", "2d", "-np", "1", "-npfp", "1", progress=progress)
    patch_size = (size.pixels, size.pixels)
    add_small_configuration(folder.plans, CONFIGURATION, features=size.features, patch_size=patch_size)
    tell(
        f"\nPlans are made to be edited. This one now also has a configuration {CONFIGURATION}, small enough for CPUs: "
        f"{len(size.features)} stages of {', '.join(map(str, size.features))} features, patches of "
        f"{size.pixels} x {size.pixels}.\n  {folder.plans}"
    )


def _train(commands: Commands, trainer: str, device: str, size: Size) -> None:
    commands.run(
        *("nnUNetv2_train", "510", CONFIGURATION, "0", "-tr", trainer, "-device", device),
        progress=Progress(trainer, r": Epoch (\d+)\s*$", size.epochs, "epoch"),
        nnUNet_n_proc_DA="0",
    )


def _predict(commands: Commands, folder: DemoFolder, trainer: str, device: str) -> None:
    images, found = str(folder.merged / "imagesTs"), str(folder.predictions(trainer))
    commands.run(
        *("nnUNetv2_predict", "-d", "510", "-c", CONFIGURATION, "-f", "0", "-tr", trainer, "-i", images, "-o", found),
        *("-device", device, "-npp", "1", "-nps", "1"),
        progress=Progress(trainer, "^done with ", len(_cases(folder, "Ts")), "case"),
    )


def _cases(folder: DemoFolder, part: str) -> list[str]:
    return list(RawDataset(folder.merged).label_files(part))
