"""The folder of a demo: what lies where, and how a later demo replaces it without touching what is not its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.files import write_text

CAMUS, ECHONET, MERGED = "Dataset501_CAMUS", "Dataset502_EchoNetDynamic", "Dataset510_Echo"
ABOUT_NAME = "about_this_folder.txt"
FIRST_LINE = "`nnunet_partial demo` made this folder."
ABOUT = f"""{FIRST_LINE} Run again, it replaces what is listed here and leaves all else alone.

sources/            drawn images in the folder layouts of CAMUS and EchoNet-Dynamic: no patient, no scanner
nnUNet_raw/         {CAMUS}, {ECHONET}, and both as {MERGED}
nnUNet_preprocessed/, nnUNet_results/    nnU-Net's plans, data and trained models of these
predictions/        what each model finds in the unseen images
truth/              the truth of these, all structures
logs/               the whole output of every command
picture.png, result.txt    what came out
"""


@dataclass(frozen=True)
class DemoFolder:
    """`root` is an absolute path."""

    root: Path

    @property
    def camus(self) -> Path:
        return self.root / "sources" / "CAMUS_public"

    @property
    def echonet(self) -> Path:
        return self.root / "sources" / "EchoNet-Dynamic"

    @property
    def echonet_truth(self) -> Path:
        """The whole truth of the EchoNet-like frames, by video and frame."""
        return self.root / "sources" / "EchoNet-Dynamic_truth"

    @property
    def nnunet(self) -> dict[str, str]:
        """nnU-Net's three folders as its environment variables."""
        return {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    @property
    def merged(self) -> Path:
        return self.root / "nnUNet_raw" / MERGED

    @property
    def plans(self) -> Path:
        return self.root / "nnUNet_preprocessed" / MERGED / "nnUNetPlans.json"

    @property
    def truth(self) -> Path:
        """The whole truth of the test cases of both data sets, by case."""
        return self.root / "truth"

    def predictions(self, trainer: str) -> Path:
        return self.root / "predictions" / trainer

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def picture(self) -> Path:
        return self.root / "picture.png"

    @property
    def result(self) -> Path:
        return self.root / "result.txt"

    def start_afresh(self) -> None:
        """Removes what an earlier demo made. PartialLabelError for a folder with anything in it that is no demo's."""
        about = self.root / ABOUT_NAME
        if self.root.exists() and not self.root.is_dir():
            raise PartialLabelError(f"{self.root} is a file; expected a new folder. Choose another one with --out.")
        if self.root.exists() and any(self.root.iterdir()) and not _is_ours(about):
            raise PartialLabelError(
                f"{self.root} holds files that no demo made and is left as it is. Choose a new folder with --out."
            )
        for path in self._made():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_text(about, ABOUT)

    def _made(self) -> list[Path]:
        """All that a demo makes, also one that was stopped halfway; not everything that may lie in the folder."""
        made = [self.root / "sources", self.truth, self.root / "predictions", self.logs, self.picture, self.result]
        for name in (CAMUS, ECHONET, MERGED):
            made += [self.root / folder / name for folder in self.nnunet]
            made += [self.root / "nnUNet_raw" / f".{hidden}" for hidden in (f"building_{name}", f"{name}.lock")]
        return made


def _is_ours(about: Path) -> bool:
    try:
        return about.read_text(encoding="utf-8").startswith(FIRST_LINE)
    except (OSError, UnicodeDecodeError):
        return False
