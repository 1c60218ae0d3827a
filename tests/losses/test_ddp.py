"""Two processes with parts of a batch train as one process with all of it: same mean loss, same mean gradient.

Sums over the processes of a training, with the other process played by a number: no process is started.

The real thing, two processes with gloo, is in test_ddp.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.ddp_worker import RANKS, Case, Network, cases, step
from helpers.loss_batches import NESTED, VARIANTS, Variant
from torch import Tensor

from nnunet_partial.losses._terms import _ratio, sum_over_ranks

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 300  # on a busy machine the import of PyTorch alone takes a minute
Result = tuple[float, Tensor, float]  # loss, gradient of the weight, loss without a graph


def last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[-15:])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[Result]]:
    """What each process computed, case by case; both are started once, and stopped after SECONDS at the latest."""
    folder = tmp_path_factory.mktemp("ddp")
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(TESTS / "helpers" / "ddp_worker.py"), str(folder)]
    with (
        (folder / "log").open("w", encoding="utf-8") as out,
        subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            said = "\n---\n".join(last_lines(folder / f"rank{rank}.log") for rank in range(RANKS))
            pytest.fail(f"the processes wait for each other; last of all\n{said}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, last_lines(folder / "log")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
@pytest.mark.parametrize("variant", [*VARIANTS, NESTED], ids=lambda variant: variant.name)
def test_two_processes_are_one(ranks: list[list[Result]], variant: Variant, batch_dice: bool) -> None:
    chosen = [(i, c) for i, c in enumerate(cases()) if c.variant == variant and c.options["batch_dice"] is batch_dice]
    wrong = [
        problem for index, case in chosen if (problem := disagreement(case, [results[index] for results in ranks]))
    ]
    assert len(chosen) > 15
    assert not wrong, "\n".join(wrong)


def disagreement(case: Case, of_ranks: list[Result]) -> str:
    """What two processes got that one does not get; empty if they agree."""
    value, gradient, _ = step(Network(), case.loss(ddp=False), case.batch())
    values, gradients, without_graph = zip(*of_ranks, strict=True)
    for what, mean in (("loss", sum(values) / RANKS), ("loss without a graph", sum(without_graph) / RANKS)):
        if mean != pytest.approx(value, rel=1e-10, abs=1e-12):
            return f"{case}: mean {what} {mean}, one process {value}"
    for averaged in gradients:  # DistributedDataParallel leaves the mean on every rank
        if not torch.allclose(averaged, gradient, rtol=1e-9, atol=1e-12):
            return f"{case}: mean gradient {averaged.tolist()}, one process {gradient.tolist()}"
    return ""


@pytest.fixture
def three_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is one of three; the other two hold 10 together."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.add_(10))


@pytest.mark.usefixtures("three_ranks")
def test_a_sum_over_ranks_and_the_gradient_that_averaging_needs() -> None:
    local = torch.tensor([1.0, 2.0], requires_grad=True)
    total = sum_over_ranks(local)
    assert total.tolist() == [11, 12]
    (total * torch.tensor([1.0, 5.0])).sum().backward()
    assert local.grad is not None
    assert local.grad.tolist() == [3, 15]  # three times the own gradient: the average over three ranks is the sum
    assert local.tolist() == [1, 2]  # the argument stays as it was


@pytest.mark.usefixtures("three_ranks")
def test_without_a_gradient_it_is_the_sum_alone() -> None:
    total = sum_over_ranks(torch.tensor([1.0]))
    assert total.tolist() == [11]
    assert not total.requires_grad


@pytest.mark.usefixtures("three_ranks")
def test_a_ratio_that_the_average_over_ranks_gives_back() -> None:
    assert _ratio(torch.tensor(2.0), torch.tensor(2.0), ddp=True).item() == 0.5  # 3 * 2 / (2 + 10)
