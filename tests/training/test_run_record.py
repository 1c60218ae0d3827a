"""A checkpoint is not taken for that of another fold: it would be validated on patients that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.toy_dataset import Project
from training.test_mixin import DATASET, trainer_of

from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.training.run_record import TRAINING_CASES_NAME, check_training_cases, save_training_cases

# nnU-Net's learning-rate scheduler uses what its libraries are about to drop
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_folds_that_changed_are_not_gone_on_with(project: Project) -> None:
    first = trainer_of(project)
    first.initialize()
    folder = Path(first.output_folder)
    for name in ("checkpoint_latest.pth", "checkpoint_final.pth"):
        first.save_checkpoint(str(folder / name))
    trained, _ = first.do_split()
    assert not any(case in (folder / TRAINING_CASES_NAME).read_text() for case in trained)
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
    check_training_cases(checkpoint, hash_names(["a", "b"]))
    save_training_cases(checkpoint, hash_names(["a", "b"]))
    check_training_cases(checkpoint, hash_names(["b", "a"]))
    check_training_cases(tmp_path / "checkpoint_best.pth", hash_names(["a"]))
    with pytest.raises(SplitError, match=r"/checkpoint_final\.pth .*splits_final\.json"):
        check_training_cases(checkpoint, hash_names(["a"]))


@pytest.mark.parametrize("content", ["", "[]", '{"checkpoint_final.pth": 1}'])
def test_a_broken_record_is_said_and_written_anew(tmp_path: Path, content: str) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    (tmp_path / TRAINING_CASES_NAME).write_text(content)
    with pytest.raises(PartialLabelError, match=TRAINING_CASES_NAME):
        check_training_cases(checkpoint, "sum")
    save_training_cases(checkpoint, "sum")
    check_training_cases(checkpoint, "sum")
