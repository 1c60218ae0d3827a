"""A checkpoint is not taken for that of another fold: it would be validated on patients that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from helpers.toy_trainers import DATASET, edit_manifests, trainer_of

from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import ManifestError, PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.training.run_record import (
    OTHER_MANIFEST_VARIABLE,
    TRAINED_ON_NAME,
    TrainedOn,
    check_training_cases,
    describe_other_annotations,
    save_trained_on,
)

pytestmark = WARNINGS_OF_NNUNET


def saved(project: Project) -> tuple[Any, str]:
    """A trainer that was just started, and its checkpoint."""
    trainer = trainer_of(project)
    trainer.initialize()
    checkpoint = str(Path(trainer.output_folder, "checkpoint_latest.pth"))
    trainer.save_checkpoint(checkpoint)
    return trainer, checkpoint


def test_folds_that_changed_are_not_gone_on_with(project: Project) -> None:
    first = trainer_of(project)
    first.initialize()
    folder = Path(first.output_folder)
    for name in ("checkpoint_latest.pth", "checkpoint_final.pth"):
        first.save_checkpoint(str(folder / name))
    trained, _ = first.do_split()
    assert not any(case in (folder / TRAINED_ON_NAME).read_text() for case in trained)
    trainer_of(project).load_checkpoint(str(folder / "checkpoint_latest.pth"))

    splits_file = project.preprocessed(DATASET) / SPLITS_NAME
    splits = json.loads(splits_file.read_text())
    splits_file.write_text(json.dumps(splits[1:] + splits[:1]))
    second = trainer_of(project)
    with pytest.raises(SplitError, match=r"/checkpoint_latest\.pth .*splits_final\.json"):
        second.load_checkpoint(str(folder / "checkpoint_latest.pth"))

    # begun anew and killed after its first checkpoint: that goes on, the final one of before does not
    second.save_checkpoint(str(folder / "checkpoint_latest.pth"))
    trainer_of(project).load_checkpoint(str(folder / "checkpoint_latest.pth"))
    with pytest.raises(SplitError, match=r"/checkpoint_final\.pth .*splits_final\.json"):
        trainer_of(project).load_checkpoint(str(folder / "checkpoint_final.pth"))

    splits_file.write_text(json.dumps(splits))
    trainer_of(project).load_checkpoint(str(folder / "checkpoint_final.pth"))


def test_the_order_of_cases_is_none_and_an_older_checkpoint_passes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    check_training_cases(checkpoint, TrainedOn(hash_names(["a", "b"])))
    save_trained_on(checkpoint, TrainedOn(hash_names(["a", "b"])))
    check_training_cases(checkpoint, TrainedOn(hash_names(["b", "a"])))
    check_training_cases(tmp_path / "checkpoint_best.pth", TrainedOn(hash_names(["a"])))
    with pytest.raises(SplitError, match=r"/checkpoint_final\.pth .*splits_final\.json"):
        check_training_cases(checkpoint, TrainedOn(hash_names(["a"])))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"checkpoint_final.pth": 1}',
        '{"checkpoint_final.pth": {"cases": 1}}',
        '{"checkpoint_final.pth": {"cases": "a", "annotated": {"LV": "many"}}}',
        '{"checkpoint_final.pth": {"cases": "a", "patients": 3}}',
    ],
)
def test_a_broken_record_is_said_and_written_anew(tmp_path: Path, content: str) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    (tmp_path / TRAINED_ON_NAME).write_text(content)
    with pytest.raises(PartialLabelError, match=TRAINED_ON_NAME):
        check_training_cases(checkpoint, TrainedOn("sum"))
    save_trained_on(checkpoint, TrainedOn("sum"))
    check_training_cases(checkpoint, TrainedOn("sum"))


def test_the_hash_of_the_cases_alone_is_read_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    (tmp_path / TRAINED_ON_NAME).write_text(json.dumps({checkpoint.name: "sum"}))
    check_training_cases(checkpoint, TrainedOn("sum", "manifest"))
    assert describe_other_annotations(checkpoint, TrainedOn("sum", "manifest")) == ""
    with pytest.raises(SplitError, match=r"checkpoint_final\.pth"):
        check_training_cases(checkpoint, TrainedOn("other", "manifest"))


def test_what_differs_between_two_manifests() -> None:
    old = TrainedOn("sum", "a", {"LV": 8, "MYO": 4}, {"LV": 0, "MYO": 0}, {"camus": 2.0})
    new = TrainedOn("sum", "b", {"LV": 8, "MYO": 3}, {"LV": 0, "MYO": 1}, None)
    assert old.differences(new) == [
        says("MYO", "annotated", "4 -> 3"),
        says("MYO", "absent", "0 -> 1"),
        says("domain_weights", "camus=2 -> none"),
    ]
    assert old.differences(old) == []


def test_another_manifest_is_not_gone_on_with_unless_allowed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OTHER_MANIFEST_VARIABLE, raising=False)
    first, checkpoint = saved(project)
    trained, _ = first.do_split()
    assert not [case for case in trained if case in Path(first.output_folder, TRAINED_ON_NAME).read_text()]

    def load() -> Any:
        trainer = trainer_of(project)
        trainer.load_checkpoint(checkpoint)
        return trainer

    manifest = project.raw(DATASET) / MANIFEST_NAME
    manifest.write_text(json.dumps(json.loads(manifest.read_text())))  # the layout alone
    assert load().other_annotations == ""

    (case,) = [case for case in sorted(trained) if case.startswith("b_")][:1]
    edit_manifests(project, lambda m: m["cases"][case].update(absent=["MYO"]))
    second = load()
    with pytest.raises(ManifestError, match="MYO absent in 0 -> 1 training cases") as caught:
        second.on_train_start()
    assert str(caught.value) == says(checkpoint, MANIFEST_NAME, f"{OTHER_MANIFEST_VARIABLE}=1")
    assert case not in str(caught.value)
    assert f"WARNING: {checkpoint}" in Path(second.log_file).read_text()  # validated, too

    monkeypatch.setenv(OTHER_MANIFEST_VARIABLE, "1")
    allowed = load()
    allowed.on_train_start()
    allowed.save_checkpoint(checkpoint)
    monkeypatch.delenv(OTHER_MANIFEST_VARIABLE)
    load().on_train_start()  # its own manifest by now


def test_other_contours_are_not_gone_on_with_unless_allowed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training case, under the same manifest, in the raw folder and in the copies that preprocessing renewed."""
    monkeypatch.delenv(OTHER_MANIFEST_VARIABLE, raising=False)
    first, checkpoint = saved(project)

    def load_with(case: str) -> Any:
        for folder in (project.raw(DATASET) / "labelsTr", project.preprocessed(DATASET) / GT_SEGMENTATIONS):
            file = folder / f"{case}.nii.gz"
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
            file.unlink()
            sitk.WriteImage(sitk.GetImageFromArray(np.roll(values, 1, axis=0)), str(file))
        trainer = trainer_of(project)
        trainer.load_checkpoint(checkpoint)
        return trainer

    trained, validated = first.do_split()
    load_with(validated[0]).on_train_start()  # no training case
    second = load_with(trained[0])
    with pytest.raises(ManifestError) as caught:
        second.on_train_start()
    assert str(caught.value) == says(checkpoint, "label files", f"{OTHER_MANIFEST_VARIABLE}=1")
    assert f"WARNING: {checkpoint}" in Path(second.log_file).read_text()
    monkeypatch.setenv(OTHER_MANIFEST_VARIABLE, "1")
    second.on_train_start()
    second.save_checkpoint(checkpoint)
    assert load_with(validated[0]).other_annotations == ""


def test_another_manifest_with_the_same_counts_is_told_too(project: Project) -> None:
    first, checkpoint = saved(project)
    trained, _ = first.do_split()
    edit_manifests(project, lambda m: m["cases"][trained[0]].update(quality="Good"))
    second = trainer_of(project)
    second.load_checkpoint(checkpoint)
    with pytest.raises(ManifestError, match=r"numbers .* are the same"):
        second.on_train_start()
