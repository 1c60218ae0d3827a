"""On a GPU the losses read no values, which would make the host wait: tested without one, on tensors without values."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.loss_batches import VARIANTS, Variant
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from nnunet_partial.losses import _kernels

EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
IGNORE_LABEL = pytest.mark.parametrize("ignore_label", [None, 3], ids=["no-ignore", "ignore"])


def loss_of_fake(variant: Variant, ignore_label: int | None, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the logits, inside a FakeTensorMode."""
    logits = torch.zeros(2, 3, 8, 8, device=device, requires_grad=True)
    target = torch.zeros(2, 1, 8, 8, dtype=torch.int16, device=device)
    class_mask = torch.ones(2, 3, dtype=torch.bool, device=device)
    return variant.build(ignore_label=ignore_label)(logits, target, class_mask), logits


@EACH
@IGNORE_LABEL
def test_forward_on_a_gpu(variant: Variant, ignore_label: int | None) -> None:
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that autocast finds no CUDA
        value, _ = loss_of_fake(variant, ignore_label, "cuda")
    assert value.device.type == "cuda"


@EACH
@IGNORE_LABEL
@pytest.mark.parametrize("create_graph", [False, True], ids=["first", "second-derivative"])
def test_forward_and_backward_as_on_a_gpu(
    variant: Variant, ignore_label: int | None, create_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backward pass of a CUDA tensor needs CUDA, fake or not.
    monkeypatch.setattr(_kernels, "_on_host", lambda x: False)
    with FakeTensorMode():
        value, logits = loss_of_fake(variant, ignore_label, "cpu")
        (gradient,) = torch.autograd.grad(value, logits, create_graph=create_graph)
        if create_graph:
            (gradient,) = torch.autograd.grad(gradient.square().sum(), logits)
    assert gradient.shape == logits.shape


def test_a_value_that_is_read_would_be_noticed() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(2, 3, dtype=torch.bool).tolist()
