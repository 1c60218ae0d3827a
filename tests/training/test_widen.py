"""`widen`: the weights of an old model, by the names of its classes, and no patient that it has seen in validation."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.nnunet_in_process import InProcess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.raw_datasets import Drawn, snapshot, write_dataset
from helpers.readme import as_run, commands
from helpers.toy_dataset import Project
from helpers.toy_trainers import DATASET, edit, trainer_of
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_partial.cli import main
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.evaluation.independence import WIDENED_NAME
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.trainers.nnUNetTrainerABCE import nnUNetTrainerABCE
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.training.run_record import RECORD_NAME, TRAINED_ON_NAME
from nnunet_partial.training.widen import NOISE, RARE, widen, widened_weights

pytestmark = WARNINGS_OF_NNUNET
NEW = "Dataset702_Wide"
KEY, BACK = "decoder.seg_layers.0", "background"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-structure.md"
CALL = ("-d", "702", "-c", "2d", "-tr", "nnUNetTrainerMarginal", "-f", "0")


def write_wide(project: Project, labels: dict[str, int]) -> None:
    """The toy dataset under another number, with these classes; domain b is annotated for the first of them only."""
    for kind in (project.raw, project.preprocessed):
        shutil.copytree(kind(DATASET), kind(NEW))
        edit(kind(NEW) / "dataset.json", lambda content: content.update(labels={"background": 0, **labels}))
    edit(project.preprocessed(NEW) / "nnUNetPlans.json", lambda content: content.update(dataset_name=NEW))
    known = json.loads((project.raw(DATASET) / MANIFEST_NAME).read_text())
    for case, entry in known["cases"].items():
        entry["annotated"] = list(labels)[: None if case.startswith("a") else 1]
    (project.raw(NEW) / MANIFEST_NAME).write_text(json.dumps(known))


def old_model(project: Project, trainer_class: type[Any] = nnUNetTrainerMarginal) -> Path:
    """The results of a training of the toy dataset that ended at once, of fold 0."""
    trainer = trainer_of(project, trainer_class)
    trainer.initialize()
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    for name, source in (("plans.json", "nnUNetPlans.json"), ("dataset.json", "dataset.json")):
        shutil.copy(project.preprocessed(DATASET) / source, Path(trainer.output_folder_base, name))
    return Path(trainer.output_folder_base)


def results(project: Project, trainer: str = "nnUNetTrainerMarginal") -> Path:
    return project.root / "results" / NEW / f"{trainer}__nnUNetPlans__2d" / "fold_0"


def load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(file, weights_only=False)
    return content


@pytest.fixture
def wide(project: Project) -> Project:
    """An old model of LV and MYO, and a dataset in which MYO has another number and LA is new."""
    write_wide(project, {"LA": 1, "LV": 2, "MYO": 3})
    (project.preprocessed(NEW) / MANIFEST_NAME).unlink(missing_ok=True)
    return project


def ramp(channels: int) -> dict[str, torch.Tensor]:
    """Channel c of the segmentation layer has weights of 10 c + 1, 10 c + 2 and a bias of c; another layer has 5s."""
    weight = torch.tensor([[10.0 * c + f for f in (1, 2)] for c in range(channels)])[..., None, None]
    return {
        "stem.weight": torch.full((2, 2), 5.0),
        f"{KEY}.weight": weight,
        f"{KEY}.bias": torch.arange(1.0 * channels),
    }


def test_known_classes_are_copied_by_name_and_a_new_one_starts_as_background() -> None:
    new = {key: torch.zeros_like(value) for key, value in ramp(4).items()}
    state = widened_weights(ramp(3), new, [BACK, "LV", "MYO"], [BACK, "LA", "MYO", "LV"], independent=False)
    assert state["stem.weight"].unique().tolist() == [5]
    weight, bias = state[f"{KEY}.weight"][..., 0, 0], state[f"{KEY}.bias"]
    # background 0, LA new, MYO was channel 2, LV channel 1
    assert weight[[0, 2, 3]].tolist() == [[1, 2], [21, 22], [11, 12]]
    assert bias.tolist() == [0, 0, 2, 1]
    noise = weight[1] - weight[0]
    assert 0 < noise.abs().max() < 6 * NOISE
    assert new["stem.weight"].sum() == 0


def test_a_new_class_with_a_sigmoid_of_its_own_says_no() -> None:
    state = widened_weights(ramp(2), ramp(3), [BACK, "LV"], [BACK, "LV", "LA"], independent=True)
    assert state[f"{KEY}.weight"][:2].tolist() == ramp(2)[f"{KEY}.weight"].tolist()
    assert 0 < state[f"{KEY}.weight"][2].abs().max() < 6 * NOISE
    assert state[f"{KEY}.bias"].tolist() == [0, 1, pytest.approx(RARE)]
    assert torch.sigmoid(torch.tensor(RARE)).item() == pytest.approx(0.01)  # -ln(0.99 / 0.01) = -4.59512


def test_regions_have_no_background_channel() -> None:
    """Of regions EPI and LV, and of a class LV with a sigmoid; LA is new."""
    state = widened_weights(ramp(2), ramp(3), ["EPI", "LV"], ["LV", "LA", "EPI"], independent=True)
    assert state[f"{KEY}.bias"].tolist() == [1, pytest.approx(RARE), 0]
    assert state[f"{KEY}.weight"][[0, 2], :, 0, 0].tolist() == [[11, 12], [1, 2]]
    state = widened_weights(ramp(2), ramp(2), [BACK, "LV"], ["EPI", "LV"], independent=True)
    assert state[f"{KEY}.bias"].tolist() == [pytest.approx(RARE), 1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ramp(2), {**ramp(3), "stem.weight": torch.zeros(3, 2)}),
        (ramp(2), {**ramp(3), f"{KEY}.weight": torch.zeros(3, 4, 1, 1)}),
        (ramp(2), {**ramp(3), "more.weight": torch.zeros(1)}),
        ({"a": torch.zeros(1)}, {"a": torch.zeros(1)}),
    ],
    ids=["shape", "features", "layers", "no U-Net"],
)
def test_other_networks_are_refused(old: dict[str, Any], new: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"differ in 1 layer|U-Nets"):
        widened_weights(old, new, [BACK, "LV"], [BACK, "LV", "LA"], independent=False)


@pytest.mark.slow
def test_the_training_starts_from_it(wide: Project, capsys: pytest.CaptureFixture[str]) -> None:
    model = old_model(wide)
    capsys.readouterr()
    assert main(["widen", "--from", str(model), *CALL]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["copied: LV, MYO", "new: LA"]
    folder = results(wide)
    old, new = load(model / "fold_0" / "checkpoint_final.pth"), load(folder / "checkpoint_latest.pth")
    assert (new["current_epoch"], new["_best_ema"], new["optimizer_state"]["state"]) == (0, None, {})
    assert {len(values) for values in new["logging"].values()} == {0}
    assert json.loads((folder / RECORD_NAME).read_text())[0]["from_epoch"] == 0
    assert json.loads((folder / WIDENED_NAME).read_text())["new"] == ["LA"]
    assert "checkpoint_latest.pth" in json.loads((folder / TRAINED_ON_NAME).read_text())
    heads = [key for key in new["network_weights"] if ".seg_layers." in key]
    assert heads
    for key, value in new["network_weights"].items():
        before = old["network_weights"][key]
        assert torch.equal(value[[0, 2, 3]] if key in heads else value, before)  # background, LV, MYO
    trainer = get_trainer_from_args("702", "2d", 0, "nnUNetTrainerMarginal", device=torch.device("cpu"))
    with pytest.raises(PartialLabelError, match=r"--c"):  # from scratch it would not be what the file says
        trainer.on_train_start()
    # nnU-Net's --c takes it up
    trainer = get_trainer_from_args("702", "2d", 0, "nnUNetTrainerMarginal", device=torch.device("cpu"))
    maybe_load_checkpoint(trainer, True, False)
    assert trainer.current_epoch == 0
    assert all(torch.equal(value, new["network_weights"][key]) for key, value in trainer.network.state_dict().items())
    short = {f"nnUNet_partial_{name}": "1" for name in ("epochs", "iterations", "val_iterations")}
    InProcess(wide.root).train("702", "2d", "0", "-tr", "nnUNetTrainerMarginal", "--c", **short)
    assert json.loads((folder.parent / "dataset.json").read_text())["widened"] == f"{NEW}/{folder.parent.name}"
    final = load(folder / "checkpoint_final.pth")
    assert (final["current_epoch"], len(final["logging"]["train_losses"])) == (1, 1)
    assert not (folder / "checkpoint_latest.pth").exists()
    # a training that has begun is left alone
    before = snapshot(folder)
    assert main(["widen", "--from", str(model), *CALL]) == 1
    assert "checkpoint_final.pth" in capsys.readouterr().err
    assert snapshot(folder) == before


def test_what_is_drawn_depends_on_the_seed_on_record(wide: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training may go on with another seed, which is the one that the record of the run keeps."""
    model, heads, recorded = old_model(wide), [], []
    for seed in ("7", "7", "8"):
        monkeypatch.setenv("nnUNet_partial_seed", seed)
        done = widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)
        heads.append(load(done.checkpoint)["network_weights"][f"{KEY}.weight"])
        recorded.append(json.loads(done.checkpoint.with_name(WIDENED_NAME).read_text())["seed"])
        shutil.rmtree(results(wide))
    assert recorded == [7, 7, 8]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_with_abce(wide: Project) -> None:
    model = old_model(wide, nnUNetTrainerABCE)
    done = widen(model / "fold_0" / "checkpoint_final.pth", NEW, "2d", "nnUNetTrainerABCE", "nnUNetPlans", 0)
    assert (done.copied, done.new, done.warnings) == (("LV", "MYO"), ("LA",), ())
    weights = load(done.checkpoint)["network_weights"]
    biases = [value for key, value in weights.items() if ".seg_layers." in key and key.endswith("bias")]
    assert [bias[1].item() for bias in biases] == [pytest.approx(RARE)] * len(biases)


def test_with_regions(project: Project) -> None:
    """whole (LV and MYO) and LV become LV, MYO and whole; a softmax of classes has no head for a region."""
    write_wide(project, {"whole": 1, "MYO": 2, "LV": 3})  # for the manifest: domain b knows whole
    regions = {"background": 0, "whole": [1, 2], "LV": 1}
    new = {"background": 0, "whole": [1, 2], "MYO": 2, "LV": 1}
    for kind in (project.raw, project.preprocessed):
        edit(kind(DATASET) / "dataset.json", lambda content: content.update(labels=regions, regions_class_order=[2, 1]))
        edit(kind(NEW) / "dataset.json", lambda content: content.update(labels=new, regions_class_order=[2, 2, 1]))
        known = json.loads((project.raw(NEW) / MANIFEST_NAME).read_text())
        (kind(NEW) / MANIFEST_NAME).write_text(json.dumps(known))
        for entry in known["cases"].values():
            entry["annotated"] = [name for name in entry["annotated"] if name != "MYO"]
        (kind(DATASET) / MANIFEST_NAME).write_text(json.dumps(known))
    model = old_model(project, nnUNetTrainerABCE)
    done = widen(model, NEW, "2d", "nnUNetTrainerABCE", "nnUNetPlans", 0)
    assert (done.copied, done.new, done.dropped) == (("whole", "LV"), ("MYO",), ())
    old = load(model / "fold_0" / "checkpoint_final.pth")["network_weights"]
    for key, value in load(done.checkpoint)["network_weights"].items():
        assert torch.equal(value[[0, 2]] if ".seg_layers." in key else value, old[key])
    trainer = get_trainer_from_args("702", "2d", 0, "nnUNetTrainerABCE", device=torch.device("cpu"))
    maybe_load_checkpoint(trainer, True, False)  # nnU-Net's --c takes it up
    assert trainer.current_epoch == 0


def test_a_softmax_has_no_heads_for_regions(project: Project) -> None:
    write_wide(project, {"LV": 1, "whole": 2})
    new = {"background": 0, "whole": [1, 2], "LV": 1}
    edit(
        project.preprocessed(NEW) / "dataset.json",
        lambda content: content.update(labels=new, regions_class_order=[2, 1]),
    )
    with pytest.raises(DatasetError, match=r"softmax.*-tr"):
        widen(old_model(project), NEW, "2d", "nnUNetTrainerABCE", "nnUNetPlans", 0)
    assert not (project.root / "results" / NEW).exists()


def swap_folds(project: Project) -> None:
    """Fold 0 of the new dataset validates what fold 1 of the old one does."""
    splits = json.loads((project.preprocessed(DATASET) / SPLITS_NAME).read_text())
    (project.preprocessed(NEW) / SPLITS_NAME).write_text(json.dumps([splits[1], splits[0], *splits[2:]]))


def test_a_fold_that_validates_what_the_model_has_seen_is_refused(wide: Project) -> None:
    model = old_model(wide)
    swap_folds(wide)
    validated = json.loads((wide.preprocessed(NEW) / SPLITS_NAME).read_text())[0]["val"]
    with pytest.raises(SplitError, match=validated[0]):
        widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)
    assert not (wide.root / "results" / NEW).exists()
    # the same patients under other names of their cases
    splits = json.loads((wide.preprocessed(DATASET) / SPLITS_NAME).read_text())
    (wide.preprocessed(NEW) / SPLITS_NAME).write_text(json.dumps([splits[1], splits[0]]))
    # the other fold's model has not seen them
    shutil.copytree(model / "fold_0", model / "fold_1")
    edit(model / "fold_1" / TRAINED_ON_NAME, lambda content: content.clear())
    done = widen(model / "fold_1" / "checkpoint_final.pth", NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)
    assert "fold_1" in done.warnings[0]  # no record: it is not known


def test_a_patient_whom_a_merge_gave_another_name_is_known_by_the_recording(wide: Project) -> None:
    model = old_model(wide)
    split = json.loads((wide.preprocessed(DATASET) / SPLITS_NAME).read_text())[0]
    trained, validated = split["train"][0], split["val"][0]
    shutil.copy(wide.preprocessed(DATASET) / SPLITS_NAME, wide.preprocessed(NEW))
    for file, case, patient in (
        (wide.preprocessed(DATASET) / MANIFEST_NAME, trained, "pb"),
        (wide.raw(NEW) / MANIFEST_NAME, validated, "pa"),
    ):
        content = json.loads(file.read_text())
        content["cases"][case] |= {"patient": patient, "frame_hash": "0123456789abcdef"}
        file.write_text(json.dumps(content))
    with pytest.raises(SplitError, match=validated):
        widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)


def test_a_fold_that_validates_what_a_filling_model_has_seen_is_refused(wide: Project) -> None:
    """The old model validated the same cases, but learned from a model that was trained on one of them."""
    model = old_model(wide)
    (validated, *_) = json.loads((wide.preprocessed(DATASET) / SPLITS_NAME).read_text())[0]["val"]
    seen = lambda content: content["cases"][validated].update(seen_by_filling_model=True)  # noqa: E731
    edit(wide.preprocessed(DATASET) / "partial_labels.json", seen)
    with pytest.raises(SplitError, match=validated):
        widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)


def test_test_cases_that_the_model_has_seen_are_named(wide: Project) -> None:
    model = old_model(wide)
    trained = json.loads((wide.preprocessed(DATASET) / SPLITS_NAME).read_text())[0]["train"][0]
    tests = wide.raw(NEW) / "imagesTs"
    tests.mkdir(exist_ok=True)
    shutil.copy(wide.raw(NEW) / "imagesTr" / f"{trained}_0000.nii.gz", tests)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    gone = {"annotated": [], "patient": "gone", "seen_by_filling_model": True}  # left out of a filled dataset
    for dataset in (DATASET, NEW):
        edit(wide.raw(dataset) / MANIFEST_NAME, lambda content: content["cases"].update(gone=gone))
    shutil.copy(wide.raw(DATASET) / MANIFEST_NAME, wide.preprocessed(DATASET))
    (warning,) = widen(checkpoint, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", "all").warnings
    assert warning.startswith("1 test case(s)")
    assert trained in warning


def test_test_cases_that_only_the_manifest_names_are_found(wide: Project) -> None:
    """On a cluster there is no nnUNet_raw."""
    model = old_model(wide)
    trained = json.loads((wide.preprocessed(DATASET) / SPLITS_NAME).read_text())[0]["train"][0]
    shutil.copy(wide.raw(NEW) / MANIFEST_NAME, wide.preprocessed(NEW))
    patient = json.loads((wide.preprocessed(DATASET) / MANIFEST_NAME).read_text())["cases"][trained].get("patient")
    tested = {"annotated": ["LV"], "patient": patient or trained, "split": "test"}
    edit(wide.preprocessed(NEW) / MANIFEST_NAME, lambda content: content["cases"].update(other_frame=tested))
    shutil.rmtree(wide.raw(NEW))
    raw, seen = widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0).warnings
    assert "nnUNet_raw" in raw
    assert "other_frame" in seen


def test_where_the_cases_of_the_model_are_not_known_it_says_so(wide: Project) -> None:
    model = old_model(wide)
    shutil.rmtree(wide.preprocessed(DATASET))
    done = widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)
    assert len(done.warnings) == 1
    # a model that was widened itself: the cases of the first one are not on record
    again = done.checkpoint.with_name("checkpoint_final.pth")
    done.checkpoint.rename(again)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(wide.preprocessed(NEW) / name.replace("plans", "nnUNetPlans"), again.parents[1] / name)
    third = widen(again, NEW, "2d", "nnUNetTrainerMarginalLabelDropout", "nnUNetPlans", 0)
    assert (third.new, len(third.warnings)) == ((), 1)


@pytest.mark.parametrize("fold", ["-1", "first", "1.0", ""])
def test_what_is_no_fold_is_refused_by_the_parser(fold: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["widen", "--from", "nowhere", *CALL[:-1], fold])
    assert repr(fold) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--from", "nowhere", *CALL], "nowhere"),
        (["--from", "MODEL", *CALL[:-1], "3"], "fold_3"),
        (["--from", "MODEL", *CALL, "-p", "otherPlans"], "otherPlans"),
        (["--from", "MODEL", *CALL, "-c", "3d_fullres"], "3d_fullres"),
        (["--from", "MODEL", *CALL, "-tr", "nnUNetTrainerABCE"], "nnUNetTrainerABCE"),
        (["--from", "MODEL", *CALL, "-tr", "nnUNetTrainer"], "nnUNetTrainer is"),
        (["--from", "MODEL", *CALL, "-tr", "nnUNetTrainerNowhere"], "nnUNetTrainerNowhere"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(
    wide: Project, options: Sequence[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = old_model(wide)
    assert main(["widen", *(str(model) if word == "MODEL" else word for word in options)]) == 1
    assert named in capsys.readouterr().err
    assert not (wide.root / "results" / NEW).exists()


def test_images_in_another_form_are_warned_of(wide: Project) -> None:
    model = old_model(wide)
    other = {"spacing": [0.25, 0.125], "normalization_schemes": ["RescaleTo01Normalization"]}
    plans, dataset_json = (wide.preprocessed(NEW) / name for name in ("nnUNetPlans.json", "dataset.json"))
    edit(plans, lambda content: content["configurations"]["2d"].update(other))
    edit(dataset_json, lambda content: content.update(channel_names={"0": "infrared"}))
    warnings = widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0).warnings
    known = json.loads((model / "plans.json").read_text())["configurations"]["2d"]
    (channel,) = json.loads((model / "dataset.json").read_text())["channel_names"].values()
    before = (str(known["spacing"]), known["normalization_schemes"][0], channel)
    for warning, old, new in zip(warnings, before, ("0.125", "To01", "infrared"), strict=True):
        assert old in warning
        assert new in warning


def test_datasets_without_a_class_in_common(project: Project) -> None:
    write_wide(project, {"RV": 1, "RA": 2})
    model = old_model(project)
    with pytest.raises(PartialLabelError, match="none of the classes"):
        widen(model, NEW, "2d", "nnUNetTrainerMarginal", "nnUNetPlans", 0)
    assert not (project.root / "results" / NEW).exists()


@pytest.mark.slow
def test_the_commands_of_the_page(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old dataset and its model have the page's number and name; LA is annotated in another one."""
    monkeypatch.chdir(project.root)
    (project.raw(DATASET) / "imagesTs" / "new_0000.nii.gz").unlink()  # nobody says what is known of it
    for kind in (project.raw, project.preprocessed):
        kind(DATASET).rename(kind("Dataset510_Echo"))
    edit(
        project.preprocessed("Dataset510_Echo") / "nnUNetPlans.json",
        lambda plans: plans.update(dataset_name="Dataset510_Echo"),
    )
    new = [
        Drawn(f"n{i}", (0, 1), {"annotated": ["LA"], "patient": f"n{i}"}, part, (32, 32), 1.0)
        for i, part in enumerate(["Tr"] * 4 + ["Ts"])
    ]
    write_dataset(project.root / "raw", "Dataset520_LA", {"LA": 1}, new)
    short = {f"nnUNet_partial_{name}": "1" for name in ("epochs", "iterations", "val_iterations")}
    here = InProcess(project.root)
    here.train("510", "2d", "0", "-tr", "nnUNetTrainerMarginal", **short)
    for words in commands("\n".join(re.findall(r"^    (.+)$", PAGE.read_text(), re.MULTILINE))):
        command = as_run([word for word in words if word != "&&"], project.environment)
        if command[0] == "nnUNetv2_train":
            here.train(*command[1:-2], **short)
        else:
            here.must(*command, *(("-npp", "0", "-nps", "0") if command[0] == "nnUNetv2_predict" else ()))
    (fold,) = (project.root / "results" / "Dataset612_WithLA").glob("*/fold_*")
    assert json.loads((fold / WIDENED_NAME).read_text())["new"] == ["LA"]
    assert json.loads((fold / RECORD_NAME).read_text())[0]["from_epoch"] == 0
    assert (project.root / "predictions" / "n4.nii.gz").exists()
