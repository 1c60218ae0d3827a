"""On a GPU the losses read no values, which would make the host wait: tested without one, on tensors without values.

Nor do they compute in float64, which Apple's GPUs do not have.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.dtypes import Float64
from helpers.launches import Launches
from helpers.loss_batches import LEAF_DICE, VARIANTS, Variant, make_batch, mixed_known
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from nnunet_partial.losses import _fused

EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
MOST_LAUNCHES = 1.65  # of those of nnU-Net's own loss
IGNORE_LABEL = pytest.mark.parametrize("ignore_label", [None, 3], ids=["no-ignore", "ignore"])


def loss_of_fake(variant: Variant, ignore_label: int | None, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the logits, inside a FakeTensorMode."""
    logits = torch.zeros(2, 3, 8, 8, device=device, requires_grad=True)
    target = torch.zeros(2, 1, 8, 8, dtype=torch.int16, device=device)
    class_mask = torch.ones(2, 3, dtype=torch.bool, device=device)
    return variant.build(ignore_label=ignore_label)(logits, target, class_mask), logits


# torch 2.3 wants a driver for a tensor without values on a GPU, and cannot tell that a list of it would have some
OLD = pytest.mark.skipif(torch.__version__ < (2, 4), reason="wants a newer PyTorch")


@OLD
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
    monkeypatch.setattr(_fused, "_on_host", lambda x: False)
    with FakeTensorMode():
        value, logits = loss_of_fake(variant, ignore_label, "cpu")
        (gradient,) = torch.autograd.grad(value, logits, create_graph=create_graph)
        if create_graph:
            (gradient,) = torch.autograd.grad(gradient.square().sum(), logits)
    assert gradient.shape == logits.shape


@OLD
def test_a_value_that_is_read_would_be_noticed() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(2, 3, dtype=torch.bool).tolist()


@EACH
@IGNORE_LABEL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("on_host", [True, False], ids=["cpu", "gpu"])
def test_no_float64_arises(
    variant: Variant, ignore_label: int | None, dtype: torch.dtype, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fused, "_on_host", lambda x: on_host)
    batch = make_batch(7, (5, 4), mixed_known(), ignore_label=4 if ignore_label else None, dtype=dtype)
    logits = batch.logits.detach().requires_grad_()
    loss = variant.build(ignore_label=4 if ignore_label else None)
    with Float64() as seen:
        (gradient,) = torch.autograd.grad(loss(logits, batch.target, batch.known), logits, create_graph=True)
        gradient.square().sum().backward()
    assert seen.operations == set()
    assert gradient.dtype == dtype


def test_float64_would_be_noticed() -> None:
    with Float64() as seen:
        (torch.zeros(2).double() + 1).sum()
    assert "aten::sum" in seen.operations


def counted(variant: Variant | None, classes: int, *, binary: bool, do_bg: bool) -> Launches:
    """One forward and backward pass as on a GPU; of nnU-Net's own loss without a variant."""
    logits = torch.randn(2, classes, 32, 32, requires_grad=True)
    target = torch.randint(0, classes, (2, 1, 32, 32), dtype=torch.int16)
    known = torch.ones(2, classes, dtype=torch.bool)
    known[:, classes // 2 :] = False
    options = {"batch_dice": True, "smooth": 1e-5, "ddp": False}
    with Launches() as launches:
        if variant is not None:
            value = variant.build(do_bg=do_bg)(logits, target, known)
        elif binary:
            hot = torch.zeros(logits.shape).scatter_(1, target.long(), 1)[:, 1:]
            loss = DC_and_BCE_loss({}, {**options, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)
            value = loss(logits[:, 1:], hot)
        else:
            loss = DC_and_CE_loss({**options, "do_bg": do_bg}, {}, dice_class=MemoryEfficientSoftDiceLoss)
            value = loss(logits, target)
        value.backward()
    return launches


@EACH
def test_launches_and_memory_beside_nnunet(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a patch a GPU is done with an operation sooner than the host can start the next: their number is the time.
    monkeypatch.setattr(_fused, "_on_host", lambda x: False)
    situation = {"binary": not variant.has_background, "do_bg": variant == LEAF_DICE}
    few, many = (counted(variant, classes, **situation) for classes in (4, 105))
    assert few.operations == many.operations
    for classes, ours in ((4, few), (105, many)):
        nnunet = counted(None, classes, **situation)
        assert ours.total <= MOST_LAUNCHES * nnunet.total
        assert ours.peak_bytes <= nnunet.peak_bytes
