"""Sums over the processes of a training, with the other process played by a number: no process is started.

The real thing, two processes with gloo, is in test_ddp.py.
"""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from nnunet_partial.losses._terms import _ratio, sum_over_ranks


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
