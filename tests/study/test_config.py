"""study.yaml is read strictly: every mistake is named at once, with its line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import ARCHITECTURES, METHODS, Network, Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.steps import derived_datasets, filled_models, models, steps
from nnunet_partial.training.architectures import PRIMUS_CUBE_VOXELS

GOOD = """\
name: camus-echonet
datasets: {camus: 501, two: 511}
scenarios:
  - {from: camus, missing: [LA], fraction: [0.25, 0.5]}
  - {from: two, domain: cardiacuda, missing: [MYO, LA]}
losses: [naive, complete-cases, marginal]
seeds: [0, 1]
architectures: [plain, resenc-m]
folds: 0
epochs: 5
"""


def read(tmp_path: Path, text: str) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return Study.read(file)


def test_a_study_as_in_the_documentation(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert study.scenarios == (
        Scenario("camus", ("LA",), 0.25),
        Scenario("camus", ("LA",), 0.5),
        Scenario("two", ("MYO", "LA"), 1.0, "cardiacuda"),
    )
    assert [scenario.name for scenario in study.scenarios] == [
        "camus-without-LA-25",
        "camus-without-LA-50",
        "two-cardiacuda-without-MYO-LA",
    ]
    assert (study.folds, study.epochs, study.iterations, study.device) == ((0,), 5, None, "cuda")
    assert study.folder == tmp_path / "camus-echonet"


def test_every_combination_is_a_model_and_seeds_come_last(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    names = [model.name for model in models(study)]
    assert len(names) == len(set(names)) == 2 * 3 * 2 * 3  # seeds, scenarios, networks, losses
    assert all(name.endswith("seed0") for name in names[:18])
    # two data sets; three scenarios and their complete cases, both with plans for resenc-m; train, predict, evaluate
    assert len(steps(study)) == 2 * 2 + 2 * 6 + 3 * 36


def test_complete_cases_are_a_data_set_of_their_own(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert derived_datasets(study)["camus-without-LA-25-complete"] == (study.scenarios[0], True)
    (model,) = [m for m in models(study) if m.name == "camus-without-LA-25/complete-cases/plain/seed0"]
    assert (model.dataset, model.trainer) == ("camus-without-LA-25-complete", "nnUNetTrainerNaive")


def test_a_smaller_network(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD + "network: {features: [8, 16, 16], patch: [64, 64]}\n")
    assert study.network == Network((8, 16, 16), (64, 64), 8)


def test_all_mistakes_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """\
name: my study
datasets: {camus: CAMUS}
scenarios:
  - {from: camuss, missing: [LA], fraction: 1.5}
  - {from: camus, mising: [LA]}
losses: [naive, dice]
seeds: [0, 0]
epoch: 5
device: tpu
"""
    with pytest.raises(PartialLabelError, match="nothing was started") as caught:
        read(tmp_path, text)
    lines = [line.strip().partition(": ")[::2] for line in str(caught.value).splitlines()[1:]]
    found = [(where, what.split(";")[0].split(": which")[0]) for where, what in lines]
    assert found == [
        ("study.yaml, line 1", "invalid name 'my study'"),
        ("study.yaml, line 2", "'CAMUS': expected an integer >= 1"),
        ("study.yaml, line 4", "'from' is 'camuss'"),
        ("study.yaml, line 4", "a fraction is 1.5"),
        ("study.yaml, line 5", "'missing' is missing"),
        ("study.yaml, line 5", "unknown key 'mising'"),
        ("study.yaml, line 6", "losses: there is no 'dice'"),
        ("study.yaml, line 7", "duplicate entry in 'seeds'"),
        ("study.yaml, line 8", "unknown key 'epoch'"),
        ("study.yaml, line 9", "the device is 'tpu'"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nname: y\n", "line 2: duplicate key 'name'"),
        ("name: [\n", "is not YAML"),
        ("name: !!python/object/apply:os.system ['true']\n", r"line 1: invalid name \['true'\]"),
        ("- a\n- b\n", "expected 'key: value' lines"),
        ("", "expected 'key: value' lines"),
        ("? [a]\n: 1\n", "a key must be plain text"),
        (GOOD.replace("losses: [naive, complete-cases, marginal]", "losses: []"), "line 6: 'losses' is empty"),
        (GOOD.replace("[0.25, 0.5]", "[0.5, 0.5]"), "line 4: duplicate entry in 'fraction'"),
        (GOOD.replace("[MYO, LA]", "[random, LA]"), "line 5: 'random' selects the structures"),
        (GOOD + "configuration: 3d\n", "line 11: .* '3d'; expected 2d or 3d_fullres or 3d_lowres"),
        (GOOD + "gpus_per_training: 2\ndevice: cpu\n", "line 11: several GPUs"),
        (GOOD + "network: {features: [8, 16]}\n", r"line 11: 'features' .* 3 stages"),
        (GOOD + "network: {features: []}\n", r"line 11: 'features' is \[\]; expected .*integers"),
        (GOOD + "network: {patch: [64]}\n", r"line 11: a 2d patch has 2 numbers, not \(64,\)"),
        (GOOD + "network: {}\nconfiguration: 3d_fullres\n", r"line 11: a 3d_fullres patch has 3 numbers"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PartialLabelError, match=message):
        read(tmp_path, text)


def test_numbers_once_given_stay(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.assign_ids(["a", "b"], {601}) == {"a": 602, "b": 603}
    assert folder.assign_ids(["c", "b"], {601}) == {"a": 602, "b": 603, "c": 604}
    with pytest.raises(PartialLabelError, match="given the ids 603 to its scenarios"):
        folder.assign_ids(["a"], {601, 603})


@pytest.mark.parametrize(("folder", "expected"), [("", "{here}/x"), ("~/runs", "{home}/runs"), ("runs", "{here}/runs")])
def test_where_everything_goes(folder: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    study = read(tmp_path, GOOD.replace("camus-echonet", "x") + f"folder: {folder}\n")
    assert str(study.folder) == expected.format(here=tmp_path, home="/home/somebody")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "folder: [a]\n", r"line 11: the folder is \['a'\]; expected a path"),
        (GOOD + "folder: ~nosuchperson/x\n", "line 11: the folder is '~nosuchperson/x'"),
        (GOOD.replace("camus-echonet", ""), "line 1: invalid name None"),
    ],
)
def test_a_folder_or_a_name_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PartialLabelError, match=message):
        read(tmp_path, text)


def test_a_patch_that_cannot_be_cut_into_cubes(tmp_path: Path) -> None:
    primus = GOOD.replace("[plain, resenc-m]", "[plain, primus-m]") + "configuration: 3d_fullres\n"
    read(tmp_path, primus + "network: {patch: [24, 32, 40]}\n")
    with pytest.raises(PartialLabelError, match=r"line 12: primus-m: .* 24 36 40; .* multiples of 8"):
        read(tmp_path, primus + "network: {patch: [24, 36, 40]}\n")
    assert ARCHITECTURES["primus-m"].patch_multiple == PRIMUS_CUBE_VOXELS


def test_a_loss_without_mirroring_is_a_trainer_of_its_own(tmp_path: Path) -> None:
    assert METHODS["marginal-no-mirroring"].trainer == "nnUNetTrainerMarginalNoMirroring"
    assert METHODS["complete-cases-only-mirror-01"].trainer == "nnUNetTrainerNaive_onlyMirror01"
    assert METHODS["complete-cases-only-mirror-01"].complete_cases
    assert len({method.title for method in METHODS.values()}) == len(METHODS) == 3 * 12
    with pytest.raises(PartialLabelError, match=r"abce-no-mirroring.*swin-unetr"):
        read(tmp_path, GOOD.replace("marginal]", "abce-no-mirroring]").replace("resenc-m", "swin-unetr"))


def test_pseudo_labels_need_the_models_that_fill(tmp_path: Path) -> None:
    for losses in ("marginal-fill", "[naive, marginal-fill]", "[marginal, marginal-fill-no-mirroring]"):
        with pytest.raises(PartialLabelError, match=r"line 6: .*marginal-fill"):
            read(tmp_path, GOOD.replace("[naive, complete-cases, marginal]", losses))
    with pytest.raises(PartialLabelError, match=r"line 6: .*marginal-fill"):
        read(tmp_path, GOOD.replace("complete-cases", "marginal-fill").replace("folds: 0", "folds: by-domain"))
    study = read(tmp_path, GOOD.replace("complete-cases", "marginal-fill"))
    filled = filled_models(study)
    assert len(filled) == 2 * 3 * 2  # seeds, scenarios, networks: each seed fills its own
    model = filled["camus-without-LA-25-marginal-fill-resenc-m-seed1-folds0"]
    assert (model.trainer, model.seed) == ("nnUNetTrainerMarginal", 1)
    assert model.filled_by is not None
    assert model.filled_by.name == "camus-without-LA-25/marginal/resenc-m/seed1"
    assert set(derived_datasets(study)) == {scenario.name for scenario in study.scenarios}
    assert METHODS["marginal-fill-no-mirroring"].filled_by == "marginal-no-mirroring"
    # another fold makes another dataset, so that no training goes on under other labels
    more = filled_models(
        read(tmp_path, GOOD.replace("complete-cases", "marginal-fill").replace("folds: 0", "folds: [0, 1]"))
    )
    assert not set(more) & set(filled)
