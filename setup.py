"""Packaging of nnunet-partial: metadata, dependencies, and the .pth file that tells nnU-Net where our trainers are."""

import re
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
        *find_namespace_packages(include=["nnunet_partial", "nnunet_partial.*"], exclude=["*.templates", "*.schemas"]),
        *(f"nnunet_partial.{name}" for name in converters),
    ]


def version() -> str:
    """Read our version number where it is written, without importing the package."""
    source = (HERE / "nnunet_partial" / "utils" / "versions.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]


# The lower bounds are the oldest versions that `make test-lowest` passes with.
# Snakemake (MIT): dependencies, resume, retries and clusters, in place of a scheduler of our own.
STUDY = ["snakemake>=9", "snakemake-executor-plugin-slurm>=2.7.1", "PyYAML>=6.0.1"]
# What PyTorch's exporter needs, and what runs its file (Apache-2.0, MIT, MIT). From 1.29 on, official builds of ONNX
# Runtime send events to Microsoft by default, on every system; older ones have no code for it but on Windows.
ONNX = ["onnx>=1.17", "onnxscript>=0.6", "onnxruntime>=1.20,<1.29"]
# The reader and decoders under the licenses MIT, MIT-CMU, MIT and MIT; pylibjpeg-libjpeg, for other JPEGs, is GPL
DICOM = ["pydicom>=3.0", "Pillow>=10.0", "pylibjpeg>=2.0", "pylibjpeg-openjpeg>=2.0"]
MONAI = "monai>=1.5"  # SwinUNETR; Apache-2.0, 1.7 MB, needs PyTorch and NumPy alone

# The guard matters: nnU-Net's search for trainers imports what it finds in a folder.
if __name__ == "__main__":
    setup(
        name="nnunet-partial",
        version=version(),
        description="Train nnU-Net v2 on partially labeled data: marginal, adaptive CCE and adaptive BCE losses",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        author="The nnunet-partial contributors",
        project_urls={"Paper on the losses": "https://doi.org/10.59275/j.melba.2026-3bfa"},
        keywords=[
            "medical image segmentation",
            "partially labeled data",
            "nnU-Net",
            "echocardiography",
            "deep learning",
        ],
        classifiers=[
            "Development Status :: 4 - Beta",
            "Environment :: Console",
            "Intended Audience :: Healthcare Industry",
            "Intended Audience :: Science/Research",
            "Programming Language :: Python :: 3",
            "Programming Language :: Python :: 3 :: Only",
            "Programming Language :: Python :: 3.11",
            "Programming Language :: Python :: 3.12",
            "Programming Language :: Python :: 3.13",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Topic :: Scientific/Engineering :: Image Processing",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
            "Typing :: Typed",
        ],
        license="Apache-2.0",
        python_requires=">=3.11",
        packages=packages(),
        package_dir={"nnunet_partial.dataset_conversion": "dataset_conversion"},
        package_data={
            "nnunet_partial": ["py.typed", "schemas/*.json"],
            "nnunet_partial.report": ["templates/*"],
            "nnunet_partial.study": ["Snakefile"],
        },
        install_requires=[
            "nnunetv2>=2.8,<3",
            "torch>=2.3,!=2.9.*",  # 2.3: torch.compiler.is_compiling; nnU-Net excludes 2.9
            "batchgenerators>=0.25.1",
            "numpy>=1.26",
            "SimpleITK>=2.3",
            "scipy>=1.15",  # distances and statistics of the evaluation (BSD); 1.15: `rng` in benchmarks
            "statsmodels>=0.14.2",  # Holm's correction of p values (BSD)
            "scikit-image>=0.22",  # filled polygons; nnU-Net brings it anyway
            "matplotlib>=3.8",  # the figures; nnU-Net brings it anyway
            "Jinja2>=3.1",  # the report's page (BSD); PyTorch brings it anyway
            "openpyxl>=3.1",  # the Excel workbook of HMC-QU: the maintained reader, MIT, pure Python
            "av>=12",  # PyAV: FFmpeg's own decoders, wheels for every platform, frame by frame; no GUI libraries
            "tqdm>=4.66",  # progress bars; nnU-Net brings it anyway
        ],
        extras_require={
            "study": STUDY,
            "benchmark": ["opencv-python-headless>=4.8"],  # what conversion is measured beside (Apache-2.0)
            "transformer": [MONAI],
            "onnx": ONNX,
            "dicom": DICOM,
            "test": [
                "pytest>=8",
                "pytest-cov>=5",
                "pytest-xdist>=3.7",
                "hypothesis>=6.100",
                "jsonschema>=4.20",
                "playwright>=1.45",
                MONAI,
                *ONNX,
                *DICOM,
                *STUDY,
            ],
            # the documentation site, and what runs the notebook (MIT, ISC, MIT, BSD, BSD); Zensical is young: pinned
            "docs": ["zensical==0.0.73", "mkdocstrings-python>=2", "latex2mathml>=3.78", "nbclient", "ipykernel"],
            "lint": [
                "ruff==0.17.6",
                "mypy==2.4.1",
                "types-PyYAML",
                "codespell==2.4.3",
            ],  # pinned: a new release must not turn a good change red
        },
        entry_points={"console_scripts": ["nnunet_partial = nnunet_partial.cli:main"]},
        cmdclass={"build_py": BuildPyWithPth},
    )
