"""Two processes with parts of a batch train as one process with all of it: same mean loss, same mean gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from losses.ddp_rank import RANKS, Case, Network, cases, step
from torch import Tensor

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 60
Result = tuple[float, Tensor, float]  # loss, gradient of the weight, loss without a graph


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[-15:])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[Result]]:
    """What each process computed, case by case; both are started once, and stopped after a minute at the latest."""
    folder = tmp_path_factory.mktemp("ddp")
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    logs = [folder / f"rank{rank}.log" for rank in range(RANKS)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w", encoding="utf-8") as out:
            command = [sys.executable, str(TESTS / "losses" / "ddp_rank.py"), str(rank), str(folder)]
            processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=SECONDS) for process in processes]
    except subprocess.TimeoutExpired:
        pytest.fail("the processes wait for each other; last of all\n" + "\n---\n".join(map(last_line, logs)))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * RANKS, "\n---\n".join(map(last_line, logs))
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize(("index", "case"), list(enumerate(cases())), ids=str)
def test_two_processes_are_one(ranks: list[list[Result]], index: int, case: Case) -> None:
    value, gradient, _ = step(Network(), case.loss(ddp=False), case.batch())
    values, gradients, without_graph = zip(*(results[index] for results in ranks), strict=True)
    assert sum(values) / RANKS == pytest.approx(value, rel=1e-10, abs=1e-12)
    assert sum(without_graph) / RANKS == pytest.approx(value, rel=1e-10, abs=1e-12)
    for averaged in gradients:  # DistributedDataParallel leaves the mean on every rank
        torch.testing.assert_close(averaged, gradient, rtol=1e-9, atol=1e-12)
