"""torch.compile sees each loss as one graph, and compiled losses give the same value and gradient."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    ABCE,
    MARGINAL,
    VARIANTS,
    Batch,
    Variant,
    assert_same,
    fully_known,
    known_from,
    make_batch,
    mixed_known,
    value_and_gradient,
    without_unknown,
)

pytestmark = pytest.mark.no_cover  # tracing the compiler takes as long as compiling

IGNORE = 4
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@EACH
@pytest.mark.parametrize(
    ("space", "batch_dice", "ignore_label"),
    [((5, 4), False, None), ((3, 2, 4), True, IGNORE)],
    ids=["2d-sample-dice", "3d-batch-dice-ignore"],
)
def test_one_graph_with_the_same_result(
    variant: Variant, batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]
) -> None:
    loss = variant.build(batch_dice=batch_dice, ignore_label=ignore_label)
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compiled: Any = torch.compile(loss, backend=count, fullgraph=True)
    # What is known is data: a change of it, or of the labels, must not compile again.
    for seed, known in enumerate([mixed_known(), fully_known(4), mixed_known().flip(0)]):
        batch = make_batch(seed, space, known, ignore_label=ignore_label)
        assert_same(value_and_gradient(compiled, batch), value_and_gradient(loss, batch))
    # The same graph with the awkward batches: huge logits, nothing known, and every voxel ignored or background.
    batch, nothing_known = make_batch(50, space, mixed_known(), ignore_label=ignore_label), known_from([[]] * 4, 4)
    empty = torch.full_like(batch.target, 0 if ignore_label is None else ignore_label)
    for awkward in (
        Batch(1e4 * batch.logits.sign(), batch.target, batch.known),
        Batch(batch.logits, without_unknown(batch.target, nothing_known), nothing_known),
        Batch(batch.logits, empty, batch.known),
    ):
        assert_same(value_and_gradient(compiled, awkward), value_and_gradient(loss, awkward))
    assert graphs == 1


@pytest.mark.slow
def test_ahead_of_time_autograd() -> None:
    loss = ABCE.build(ignore_label=IGNORE)
    compiled: Any = torch.compile(loss, backend="aot_eager", fullgraph=True)
    batch = make_batch(51, (5, 4), mixed_known(), ignore_label=IGNORE)
    assert_same(value_and_gradient(compiled, batch), value_and_gradient(loss, batch))


def can_compile_cpp() -> bool:
    """The default compiler writes C++ and needs a C++ compiler and Python's header files."""
    has_header = (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
    return has_header and any(map(shutil.which, ("g++", "clang++", "c++")))


@pytest.mark.slow
@pytest.mark.skipif(not can_compile_cpp(), reason="no C++ compiler or no Python.h, which torch.compile needs")
def test_default_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It begins with ahead-of-time autograd, tested above with the one loss that has sigmoids; this one has most steps.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    loss = MARGINAL.build(ignore_label=IGNORE)
    batch = make_batch(52, (5, 4), mixed_known(), ignore_label=IGNORE)
    # vec_isa_ok: without asking the C++ compiler, and PyTorch in a process of its own, what the processor can do
    with torch._inductor.config.patch({"compile_threads": 1, "cpp.vec_isa_ok": True}):
        compiled: Any = torch.compile(loss, fullgraph=True)
        assert_same(value_and_gradient(compiled, batch), value_and_gradient(loss, batch))
