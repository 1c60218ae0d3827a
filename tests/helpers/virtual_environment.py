"""A small virtual environment: PyTorch and other heavy packages are borrowed, nnU-Net and we are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

#: Not borrowed: what the tests install themselves, and what acts by itself when Python starts.
OWN = ("nnunet", "__editable__", "__pycache__")

#: Would tell Python or nnU-Net where to look, or measure coverage.
REMOVED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "COVERAGE_", "nnUNet_", "VIRTUAL_ENV")

#: As setuptools' own .pth file does: nnU-Net copies files with distutils, which Python lacks from 3.12 on.
DISTUTILS = "import _distutils_hack; _distutils_hack.add_shim()"


@dataclass(frozen=True)
class SmallVenv:
    """A virtual environment in `root`; its commands run without any variable of nnU-Net's or ours, unless given."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> SmallVenv:
        venv.create(root, symlinks=True)
        new = cls(root)
        borrowed = root / "borrowed"
        borrowed.mkdir()
        for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(site).iterdir():
                if not entry.name.startswith(OWN) and entry.suffix != ".pth":
                    (borrowed / entry.name).symlink_to(entry)
        (new.site / "zz_borrowed.pth").write_text(f"{borrowed}\n{DISTUTILS}\n")
        return new

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def site(self) -> Path:
        """Its site-packages."""
        return self.root / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def run(self, *command: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of this environment's bin folder; output is captured as text."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED)}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env={**kept, "OMP_NUM_THREADS": "1", "PATH": f"{self.bin}{os.pathsep}{kept['PATH']}", **variables},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *command: str, **variables: str) -> str:
        """Like run, and the command must succeed; gives its standard output."""
        done = self.run(*command, **variables)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def install(self, *requirements: str) -> None:
        """pip install of folders and wheels alone: nothing is downloaded."""
        pip = ("python", "-m", "pip", "--disable-pip-version-check", "install")
        self.must(*pip, "--no-deps", "--no-index", "--no-build-isolation", *requirements)
