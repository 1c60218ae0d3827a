"""One small planned and preprocessed data set for all tests that train."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import PROGRAMS, find_browser
from helpers.toy_dataset import Project, shrink, write_toy
from hypothesis import settings

# Threads that wait do not spin: beside other work a training is then many times as fast. Read when PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Networks and images are too small for several threads, and other test processes want the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow example on a busy machine is no fault.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

DATASET = "Dataset701_Toy"

#: Whose modules run first: what takes long must not begin when all else has ended.
FIRST = ("slurm", "install", "slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules whose tests take longest, so that all processes end at about the same time."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = next((rank for rank, mark in enumerate(FIRST) if item.get_closest_marker(mark)), len(FIRST))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])  # stable: within a module nothing moves


#: Folders whose modules share what takes ten seconds to make; each process would make it for itself.
TOGETHER = ("tests/export", "tests/inference", "tests/report")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each module to one process, as `--dist loadscope` does, and the modules of some folders to the same."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.partition("::")[0].rpartition("/")[0]
            return folder if folder in TOGETHER else super()._split_scope(nodeid)

    return ByFolder(config, log)


def pytest_collection_finish() -> None:
    """Spare every later search for garbage what the imports made, hundreds of thousands of objects that stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two-dimensional, 32 x 32, twelve cases of six patients; do not change it, take `project`."""
    from helpers.nnunet_in_process import InProcess  # PyTorch, which most tests do without

    project = InProcess(tmp_path_factory.mktemp("planned"))
    write_toy(project.raw(DATASET))
    project.must("nnUNetv2_plan_and_preprocess", "-d", "701", "-c", "2d", "-np", "1", "-npfp", "1")
    shrink(project.preprocessed(DATASET) / "nnUNetPlans.json", "2d")
    return project


@pytest.fixture
def project(planned: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the planned data set, with nnU-Net's variables set for this process too."""
    copy = planned.copy(tmp_path)
    copy.enter(monkeypatch)
    return copy


def _real_sample(name: str) -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the small real sample {name} is not available here")
    return folder


@pytest.fixture
def real_echo() -> Path:
    """A small real sample in the layouts of CAMUS and EchoNet-Dynamic."""
    return _real_sample("real_echo")


@pytest.fixture
def real_cxr() -> Path:
    """Real chest X-rays with masks of both lungs and the heart, 128 x 128: folders jsrt and wingspan."""
    return _real_sample("real_cxr")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser found ({', '.join(PROGRAMS)})")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
