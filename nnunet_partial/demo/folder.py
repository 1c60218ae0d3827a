"""Define the layout of a demo's folder, and how a new demo replaces an earlier one without touching other files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.files import files_of_users, write_text

CAMUS, ECHONET, MERGED = "Dataset501_CAMUS", "Dataset502_EchoNetDynamic", "Dataset510_Echo"
ABOUT_NAME = "about_this_folder.txt"
FIRST_LINE = "`nnunet_partial demo` made this folder."
ABOUT = f"""{FIRST_LINE} Another run replaces what is listed here and nothing else.

sources/            synthetic images in the folder layouts of CAMUS and EchoNet-Dynamic: no patient data
nnUNet_raw/         {CAMUS}, {ECHONET}, and both merged as {MERGED}
nnUNet_preprocessed/, nnUNet_results/    nnU-Net's plans, data and trained models of these
predictions/        predictions of each model for the test images
truth/              complete labels of the test images, all structures
logs/               complete output of every command
figure.png, result.txt    the results
"""


@dataclass(frozen=True)
class DemoFolder:
    """Hold the paths of a demo's folder.

    Attributes:
        root: absolute path of the folder.
    """

    root: Path

    @property
    def camus(self) -> Path:
        """Return the folder of the synthetic CAMUS."""
        return self.root / "sources" / "CAMUS_public"

    @property
    def echonet(self) -> Path:
        """Return the folder of the synthetic EchoNet-Dynamic."""
        return self.root / "sources" / "EchoNet-Dynamic"

    @property
    def echonet_truth(self) -> Path:
        """Return the folder of the complete labels of the traced EchoNet frames, by video and frame."""
        return self.root / "sources" / "EchoNet-Dynamic_truth"

    @property
    def nnunet(self) -> dict[str, str]:
        """Return nnU-Net's three folders by the name of their environment variable."""
        return {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    @property
    def merged(self) -> Path:
        """Return the folder of the merged raw dataset."""
        return self.root / "nnUNet_raw" / MERGED

    @property
    def plans(self) -> Path:
        """Return the plans file of the merged dataset."""
        return self.root / "nnUNet_preprocessed" / MERGED / "nnUNetPlans.json"

    @property
    def truth(self) -> Path:
        """Return the folder of the complete labels of the test cases of both datasets."""
        return self.root / "truth"

    def predictions(self, trainer: str) -> Path:
        """Return the folder of the predictions of a model.

        Args:
            trainer: the model's trainer.

        Returns:
            The folder.
        """
        return self.root / "predictions" / trainer

    @property
    def logs(self) -> Path:
        """Return the folder of the commands' output."""
        return self.root / "logs"

    @property
    def figure(self) -> Path:
        """Return the file of the figure."""
        return self.root / "figure.png"

    @property
    def result(self) -> Path:
        """Return the file of the result in words."""
        return self.root / "result.txt"

    def prepare(self) -> None:
        """Remove the output of an earlier demo and create the folder.

        Raises:
            PartialLabelError: if the path is a file, or a folder with content that no demo made.
        """
        about = self.root / ABOUT_NAME
        if self.root.exists() and not self.root.is_dir():
            raise PartialLabelError(f"{self.root} is a file; expected a new folder. Choose another one with -o.")
        if self.root.exists() and files_of_users(self.root) and not _is_demo_folder(about):
            raise PartialLabelError(
                f"{self.root} holds files that no demo made; nothing was changed. Choose a new folder with -o."
            )
        for path in self._outputs():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_text(about, ABOUT)

    def _outputs(self) -> list[Path]:
        """List all that a demo writes, also one that was interrupted; users' files in the folder are not among them."""
        outputs = [self.root / "sources", self.truth, self.root / "predictions", self.logs, self.figure, self.result]
        for name in (CAMUS, ECHONET, MERGED):
            outputs += [self.root / folder / name for folder in self.nnunet]
            outputs += [self.root / "nnUNet_raw" / f".{hidden}" for hidden in (f"building_{name}", f"{name}.lock")]
        return outputs


def _is_demo_folder(about: Path) -> bool:
    try:
        return about.read_text(encoding="utf-8-sig").startswith(FIRST_LINE)
    except (OSError, UnicodeDecodeError):
        return False
