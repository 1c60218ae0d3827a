"""Packaging of nnunet-partial: metadata, dependencies, and the .pth file that tells nnU-Net where our trainers are."""

import shutil
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
PTH = "nnunet_partial.pth"


class BuildPyWithPth(build_py):
    """Put nnunet_partial.pth at the root of the wheel, so that nnU-Net finds our trainers without any setup.

    Not in editable mode: there is no site folder of ours to point at (use `nnunet_partial trainers --path`).
    """

    def run(self) -> None:
        """Build, and copy the .pth file."""
        super().run()
        if not self.editable_mode:
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / PTH, Path(self.build_lib) / PTH)

    def get_outputs(self, include_bytecode: bool = True) -> list:
        """List the files of the build, the .pth file among them."""
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(Path(self.build_lib) / PTH)]


def packages() -> list[str]:
    """List every package. `trainers` is a namespace package: nnU-Net imports its files as top-level modules."""
    converters = find_namespace_packages(include=["dataset_conversion", "dataset_conversion.*"])
    return [
        *find_namespace_packages(include=["nnunet_partial", "nnunet_partial.*"], exclude=["*.templates"]),
        *(f"nnunet_partial.{name}" for name in converters),
    ]


# Snakemake (MIT): dependencies, resume, retries and clusters, in place of a scheduler of our own.
STUDY = ["snakemake>=9", "snakemake-executor-plugin-slurm>=2.7.1", "PyYAML"]

# The guard matters: nnU-Net's search for trainers imports what it finds in a folder.
if __name__ == "__main__":
    setup(
        name="nnunet-partial",
        version="0.1.0",
        description="Train nnU-Net v2 on partially labelled data: marginal, adaptive CCE and adaptive BCE losses",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.11",
        packages=packages(),
        package_dir={"nnunet_partial.dataset_conversion": "dataset_conversion"},
        package_data={
            "nnunet_partial": ["py.typed"],
            "nnunet_partial.report": ["templates/*"],
            "nnunet_partial.study": ["Snakefile"],
        },
        install_requires=[
            "nnunetv2>=2.8,<3",
            "torch",
            "batchgenerators",
            "numpy",
            "SimpleITK",
            "scipy>=1.15",  # distances and statistics of the evaluation (BSD); 1.15: `rng` in benchmarks
            "statsmodels",  # Holm's correction of p values (BSD)
            "scikit-image",  # polygon rasterising; nnU-Net brings it anyway
            "matplotlib",  # the pictures; nnU-Net brings it anyway
            "Jinja2",  # the report's page (BSD); PyTorch brings it anyway
            "openpyxl",  # the Excel workbook of HMC-QU: the maintained reader, MIT, pure Python
            "av",  # PyAV: FFmpeg's own decoders, wheels for every platform, frame by frame; no GUI libraries
            "tqdm",  # progress bars; nnU-Net brings it anyway
        ],
        extras_require={
            "study": STUDY,
            "benchmark": ["opencv-python-headless"],  # what conversion is measured beside (Apache-2.0)
            "transformer": ["monai>=1.5"],  # SwinUNETR; Apache-2.0, 1.7 MB, needs PyTorch and NumPy alone
            "test": ["pytest", "pytest-cov", "pytest-xdist", "hypothesis", "monai>=1.5", "playwright", *STUDY],
            "lint": [
                "ruff==0.17.6",
                "mypy==2.4.1",
                "types-PyYAML",
            ],  # pinned: a new release must not turn a good change red
        },
        entry_points={"console_scripts": ["nnunet_partial = nnunet_partial.cli:main"]},
        cmdclass={"build_py": BuildPyWithPth},
    )
