"""What partial labels cost beside the stock trainer: no wait for the device, no large checkpoint or worker."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.dtypes import Float64
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from helpers.toy_trainers import TRAINERS, run_epoch, trainer_of
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginalLabelDropout

pytestmark = [pytest.mark.slow, *WARNINGS_OF_NNUNET]

#: On a GPU each of these waits until everything before it is done.
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "_unique2", "bincount")
OURS = [*TRAINERS, nnUNetTrainerMarginalLabelDropout]


class Waits(TorchDispatchMode):
    """Counts operations that wait for the device, by name; boolean masks as indices are such too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: collections.Counter[str] = collections.Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        masked = name in ("index", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if (name in WAITING or masked) and not self.paused:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def ready(project: Project, trainer_class: type[Any]) -> Any:
    trainer = trainer_of(project, trainer_class)
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    return trainer


class Watched:
    """A trainer after two iterations, of which the second was watched, and two epochs; its loader as it was before."""

    def __init__(self, trainer: Any) -> None:
        loader = trainer.dataloader_train.data_loader
        self.loader = pickle.dumps(loader)
        # nnU-Net's blur measures which of two ways is faster and keeps the answer: eight kilobytes or nothing
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loader, "transforms", None)
            self.loader_size = len(pickle.dumps(loader))
        self.waits = waits_of(trainer)
        for _ in range(2):
            run_epoch(trainer)
        self.trainer = trainer

    def checkpoint(self) -> bytes:
        file = Path(self.trainer.output_folder, "checkpoint_final.pth")
        self.trainer.save_checkpoint(str(file))
        return file.read_bytes()


@pytest.fixture(scope="module")
def watched(planned: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[type[Any], Watched]]:
    """Each of our trainers and the stock trainer."""
    with pytest.MonkeyPatch.context() as patch:
        project = planned.copy(tmp_path_factory.mktemp("costs"))
        project.enter(patch)
        yield {made: Watched(ready(project, made)) for made in (*OURS, nnUNetTrainer)}


def waits_of(trainer: Any) -> collections.Counter[str]:
    """Of the second iteration: the first may make the optimizer's state. Without the loss, which on a CPU may look."""
    batches = [next(trainer.dataloader_train) for _ in range(2)]
    trainer.train_step(batches[0])
    loss, counted = trainer.loss, Waits()

    def unwatched(*arguments: Any) -> Any:
        counted.paused = True
        value = loss(*arguments)
        counted.paused = False
        return value

    trainer.loss = unwatched
    with counted:
        trainer.train_step(batches[1])
    return counted.seen


@pytest.mark.parametrize("trainer_class", OURS)
def test_an_iteration_waits_for_the_device_no_more_often(
    watched: dict[type[Any], Watched], trainer_class: type[Any]
) -> None:
    ours, stock = watched[trainer_class].waits, watched[nnUNetTrainer].waits
    assert all(ours[name] <= stock[name] for name in ours), (ours, stock)


def test_a_wait_would_be_counted() -> None:
    with Waits() as counted:
        mask = torch.ones(2) > 0
        float(torch.ones(1).sum())
        torch.ones(2)[mask]
    assert counted.seen == {"_local_scalar_dense": 1, "index": 1}


@pytest.mark.parametrize("trainer_class", OURS)
def test_a_checkpoint_is_no_larger_and_names_no_case(
    watched: dict[type[Any], Watched], trainer_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two epochs, beside the stock trainer by the same name, as nnU-Net stores the name in the checkpoint."""
    ours, stock = watched[trainer_class], watched[nnUNetTrainer]
    monkeypatch.setattr(stock.trainer, "__class__", type(trainer_class.__name__, (nnUNetTrainer,), {}))
    written = ours.checkpoint()
    assert len(written) <= len(stock.checkpoint())
    trainer = ours.trainer
    cases = list(trainer.dataset_class.get_identifiers(trainer.preprocessed_dataset_folder))
    assert len(cases) == 12
    assert not [case for case in cases if case.encode() in written]


def test_what_a_loader_process_gets_holds_no_manifest(watched: dict[type[Any], Watched]) -> None:
    """nnU-Net hands its loader to each worker: ours is the stock trainer's, with the same cases and nothing more."""
    ours, stock = watched[TRAINERS[0]], watched[nnUNetTrainer]
    for word in (b"CaseLabels", b"Manifest", b"AnnotatedClasses"):
        assert word not in ours.loader
    assert ours.loader_size <= stock.loader_size + 1024


@pytest.mark.parametrize("trainer_class", OURS)
def test_no_float64_arises_in_training_and_validation(project: Project, trainer_class: type[Any]) -> None:
    """As MPS has none. The metrics are counted in integers, which are exact."""
    trainer = ready(project, trainer_class)
    trainer.network.train()
    training, validation = next(trainer.dataloader_train), next(trainer.dataloader_val)
    with Float64() as seen:
        trainer.train_step(training)
        counted = trainer.validation_step(validation)
    assert seen.operations == set()
    assert counted["tp_hard"].dtype == "int64"


@pytest.mark.no_cover
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # PyTorch's compiler looks at it
@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_the_loss_is_compiled_where_nnunet_compiles(
    project: Project, trainer_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same values; nnU-Net's own loss, of Naive, stays as it is. Here nothing follows the graphs."""
    graphs, compile_function = [], torch.compile

    def compile_to_graphs(what: Any) -> Any:
        def keep(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
            graphs.append(graph)
            return graph.forward

        # modules: nnU-Net's network and Dice
        return what if isinstance(what, torch.nn.Module) else compile_function(what, backend=keep, fullgraph=True)

    def losses(compiles: bool) -> list[float]:
        monkeypatch.setattr(trainer_class, "_do_i_compile", lambda self: compiles)
        torch.manual_seed(0)
        trainer = ready(project, trainer_class)
        trainer.network.train()
        values = [float(trainer.train_step(training)["loss"])]
        with torch.no_grad():
            return [*values, float(trainer.validation_step(validation)["loss"])]

    loaders = ready(project, trainer_class)
    training, validation = next(loaders.dataloader_train), next(loaders.dataloader_val)
    expected = losses(compiles=False)
    monkeypatch.setattr(torch, "compile", compile_to_graphs)
    assert losses(compiles=True) == pytest.approx(expected, rel=1e-5)
    assert bool(graphs) == (trainer_class.loss_class is not None)
    torch.compiler.reset()


def test_the_loss_is_not_compiled_over_several_processes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = ready(project, TRAINERS[0])
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(type(trainer), "_do_i_compile", lambda self: True)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    trainer._build_loss()
    assert compiled == [trainer.partial_loss.loss]
    trainer.is_ddp = True
    trainer._build_loss()
    assert len(compiled) == 1
