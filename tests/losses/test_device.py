"""On a GPU the losses read no values, which would make the host wait: tested without one, on tensors without values.

Nor do they compute in float64, which Apple's GPUs do not have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from helpers.dtypes import Float64
from helpers.launches import Launches
from helpers.loss_batches import LEAF_DICE, VARIANTS, Variant, known_from, make_batch, mixed_known
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from nnunet_partial.losses import RegionBCELoss, _fused

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


def count(loss: Callable[..., Tensor], logits: Tensor, *arguments: Tensor) -> Launches:
    """One forward and backward pass."""
    logits.grad = None
    with Launches() as launches:
        loss(logits, *arguments).backward()
    return launches


def assert_no_more_than_nnunet(ours: dict[int, Launches], nnunet: dict[int, Launches]) -> None:
    """By number of classes: the same operations whatever it is, and not many more than nnU-Net's own loss has."""
    assert len({tuple(sorted(launches.operations.items())) for launches in ours.values()}) == 1
    for classes, launches in ours.items():
        assert launches.total <= MOST_LAUNCHES * nnunet[classes].total
        assert launches.peak_bytes <= nnunet[classes].peak_bytes


DICE = {"batch_dice": True, "smooth": 1e-5, "ddp": False}


@EACH
def test_launches_and_memory_beside_nnunet(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a patch a GPU is done with an operation sooner than the host can start the next: their number is the time.
    monkeypatch.setattr(_fused, "_on_host", lambda x: False)
    do_bg = variant == LEAF_DICE
    ce = DC_and_CE_loss({**DICE, "do_bg": do_bg}, {}, dice_class=MemoryEfficientSoftDiceLoss)
    bce = DC_and_BCE_loss({}, {**DICE, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)

    def bce_of_labels(logits: Tensor, target: Tensor) -> Tensor:
        value: Tensor = bce(logits[:, 1:], torch.zeros(logits.shape).scatter_(1, target.long(), 1)[:, 1:])
        return value

    ours, nnunet = {}, {}
    for classes in (4, 105):
        logits = torch.randn(2, classes, 32, 32, requires_grad=True)
        target = torch.randint(0, classes, (2, 1, 32, 32), dtype=torch.int16)
        known = known_from([[], list(range(1, classes))], classes)
        ours[classes] = count(variant.build(do_bg=do_bg), logits, target, known)
        nnunet[classes] = count(ce if variant.has_background else bce_of_labels, logits, target)
    assert_no_more_than_nnunet(ours, nnunet)


def test_launches_and_memory_of_regions_beside_nnunet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fused, "_on_host", lambda x: False)
    bce = DC_and_BCE_loss({}, {**DICE, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)
    ours, nnunet = {}, {}
    for regions in (4, 105):
        logits = torch.randn(2, regions, 32, 32, requires_grad=True)
        target = torch.rand(2, regions, 32, 32) < 0.5
        ours[regions] = count(RegionBCELoss(), logits, target, torch.rand(2, regions) < 0.5)
        nnunet[regions] = count(bce, logits, target)
    assert_no_more_than_nnunet(ours, nnunet)
