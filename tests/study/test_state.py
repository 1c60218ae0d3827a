"""What the results of a study rest on: settings, datasets and folds that changed since are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.raw_datasets import Drawn, label_array, write_dataset, write_image

from nnunet_partial import __version__
from nnunet_partial.cli import main
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.results import PER_CASE_COLUMNS
from nnunet_partial.study.checks import data_problems
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder, contents_hash
from nnunet_partial.study.runner import _reset_incomplete_models
from nnunet_partial.study.state import step_states
from nnunet_partial.study.steps import models, steps
from nnunet_partial.study.workflow import prepare_workflow
from nnunet_partial.utils.tables import write_csv
from nnunet_partial.utils.versions import versions

STUDY = """\
name: small
datasets: {toy: 701}
scenarios:
  - {from: toy, missing: [LA], fraction: 0.5}
losses: [marginal]
folds: [0, 1, 2]
epochs: 5
device: cpu
network: {features: [8, 16, 16], patch: [32, 32]}
"""
NAME = "toy-without-LA-50"
ENDING = ".nii"  # not compressed, so that a label file keeps its size


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of which everything is finished; each model was predicted with folds 0, 1 and 2."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    known = {"annotated": ["LV", "LA"], "domain": "a"}
    cases = [Drawn(f"p{number}", [1, 2], known, "Tr" if number < 6 else "Ts") for number in range(8)]
    write_dataset(tmp_path / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, cases, ending=ENDING)
    (tmp_path / "study.yaml").write_text(STUDY)
    study = Study.read(tmp_path / "study.yaml")
    finish(study, prepare_workflow(study, tmp_path / "study.yaml", assign_devices=False, save=True))
    return tmp_path / "study.yaml"


def finish(study: Study, folder: StudyFolder) -> None:
    for step in steps(study):
        folder.done(step).parent.mkdir(parents=True, exist_ok=True)
        folder.done(step).write_text("0 1 2\n" if step.startswith("predict/") else "")
    for model in models(study):
        folder.evaluation(model.name).mkdir(parents=True, exist_ok=True)
        rows = [
            {"domain": "a", "patient": case, "case": case, "class": name, "dice": 0.9}
            for case in ("p6", "p7")
            for name in ("LV", "LA")
        ]
        write_csv(folder.evaluation(model.name) / "per_case.csv", rows, PER_CASE_COLUMNS)


def report(file: Path) -> str | None:
    """The report as Markdown; None where it is refused, and nothing is written."""
    output = file.with_name("report.md")
    output.unlink(missing_ok=True)
    code = main(["study", "report", str(file), "-o", str(output), "--format", "md"])
    assert output.exists() == (code == 0)
    return output.read_text() if code == 0 else None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("epochs: 5", "epochs: 1000", "epochs: 5 when it was begun, 1000 now"),
        ("[8, 16, 16]", "[32, 64, 64]", "network"),
        ("[0, 1, 2]", "by-domain", "folds go"),
        ("toy: 701", "toy: 702", "dataset toy"),
        ("device: cpu", "device: cpu\nconfiguration: 3d_fullres", "configuration"),
    ],
)
def test_a_report_of_another_study_than_was_run_is_refused(
    file: Path, before: str, after: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = {"[32, 32]": "[8, 32, 32]"} if "3d" in after else {}
    text = STUDY.replace(before, after)
    for old, new in patch.items():
        text = text.replace(old, new)
    assert "5 epochs" in (report(file) or "")
    file.write_text(text)
    assert report(file) is None
    error = capsys.readouterr().err
    assert said in error
    assert "Set them back" in error
    for more in ([], ["--json"]):
        assert main(["study", "status", str(file), *more]) == 1
        assert said in capsys.readouterr().err


def test_labels_that_changed_are_found_through_the_link_of_the_study(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("nnUNet_raw")
    assert report(file) is not None
    manifest = tmp_path / "raw" / "Dataset701_Toy" / "partial_labels.json"
    manifest.write_text(manifest.read_text().replace('"domain": "a"', '"domain": "b"'))
    assert report(file) is None
    assert "dataset toy: " in capsys.readouterr().err


def test_a_report_counts_the_test_cases_of_which_all_is_known(file: Path, tmp_path: Path) -> None:
    assert "known in 2 of 2 test cases" in (report(file) or "")
    manifest = tmp_path / "raw" / "Dataset701_Toy" / "partial_labels.json"
    content = json.loads(manifest.read_text())
    content["cases"]["p6"] = {"annotated": ["LV"], "absent": ["LA"], "domain": "a"}
    content["cases"]["p7"] = {"annotated": ["LV"], "domain": "a"}
    manifest.write_text(json.dumps(content))
    StudyFolder(Study.read(file).folder).settings_file.unlink()  # as if it was begun so
    assert "known in 1 of 2 test cases" in (report(file) or "")
    assert main(["study", "report", str(file), "-o", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "known in 1 of 2 test cases" in page
    assert "labels are complete" not in page


def test_a_dataset_that_is_gone_is_named(file: Path, tmp_path: Path) -> None:
    assert "not compared" not in (report(file) or "")
    (tmp_path / "raw").rename(tmp_path / "archive")
    assert "- no longer there, so not compared: toy\n" in (report(file) or "")
    (StudyFolder(Study.read(file).folder).raw / "Dataset701_Toy").unlink()  # by a copy without links
    assert "- no longer there, so not compared: toy\n" in (report(file) or "")


def test_the_versions_of_the_trainings_are_reported_and_not_those_of_today(file: Path) -> None:
    text = report(file) or ""
    assert "- torch: not recorded\n" in text
    assert f"- report written by: nnunet-partial {__version__}\n" in text
    study = Study.read(file)
    folder, (model,) = StudyFolder(study.folder), models(study)
    for fold, starts in enumerate([["2.8.1"], ["2.8.1", "2.9"], ["2.9"]]):
        log = folder.log(model.train_step(fold))
        log.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"Versions: {json.dumps({**versions(), 'nnunetv2': v, 'torch': '1.0'})}\nUsing device: cuda:0\n"
            for v in starts
        ]
        log.write_text("".join(lines))
    text = report(file) or ""
    assert "- nnunetv2: 2.8.1 (2 trainings), 2.9 (2 trainings)\n" in text
    assert "- torch: 1.0\n" in text
    assert "- versions differ between trainings: nnunetv2\n" in text
    assert ", on cuda\n" in text  # the file says cpu
    folder.log(model.train_step(1)).write_text("")
    folder.log(model.train_step(2)).unlink()
    text = report(file) or ""
    assert "- nnunetv2: 2.8.1 (1 training), not recorded (2 trainings)\n" in text
    assert "versions differ" not in text


def test_predictions_of_other_folds_are_no_result(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 of 1" in (report(file) or "")
    file.write_text(STUDY.replace("[0, 1, 2]", "[2, 0, 1]"))
    assert "1 of 1" in (report(file) or "")
    file.write_text(
        STUDY.replace("[0, 1, 2]", "[0]").replace("losses", "  - {from: toy, missing: [LV], fraction: 0.5}\nlosses")
    )
    assert report(file) is None
    assert "evaluated yet" in capsys.readouterr().err
    study = Study.read(file)
    folder = StudyFolder(study.folder)
    model, other = models(study)
    assert step_states(study)[model.train_step(0)] == "done"
    assert {step_states(study)[step] for step in (model.predict_step, model.evaluate_step)} == {"waiting"}
    # of the other one fold 0 alone predicted
    for step in (other.train_step(0), other.predict_step, other.evaluate_step):
        folder.done(step).parent.mkdir(parents=True, exist_ok=True)
        folder.done(step).write_text("0\n" if step.startswith("predict/") else "")
    table = folder.evaluation(other.name) / "per_case.csv"
    table.parent.mkdir(parents=True)
    table.write_bytes((folder.evaluation(model.name) / "per_case.csv").read_bytes())
    text = report(file) or ""
    assert f"- {NAME}, plain (training: done; predicted with fold 1, 2 too): marginal (seed 0)\n" in text
    assert "LA missing in" not in text  # its table
    _reset_incomplete_models(study, folder)
    assert [folder.done(one.predict_step).exists() for one in (model, other)] == [False, True]


@pytest.mark.parametrize("part", ["Tr", "Ts"])
def test_a_mask_that_was_drawn_anew_stops_it(
    file: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    label = tmp_path / "raw" / "Dataset701_Toy" / f"labels{part}" / f"{'p6' if part == 'Ts' else 'p0'}{ENDING}"
    size = label.stat().st_size
    write_image(label, label_array(Drawn("p6", [2, 1])))
    assert label.stat().st_size == size
    study = Study.read(file)
    with pytest.raises(PartialLabelError, match="label files of dataset toy"):
        prepare_workflow(study, file, assign_devices=False, save=True)
    assert report(file) is None
    assert "label files of dataset toy" in capsys.readouterr().err
    # a study begun before contents were compared goes on, and compares them from then on
    folder = StudyFolder(study.folder)
    settings = json.loads(folder.settings_file.read_text())
    del settings["content of the label files of dataset toy"]
    folder.settings_file.write_text(json.dumps(settings))
    prepare_workflow(study, file, assign_devices=False, save=True)
    label.write_bytes(label.read_bytes()[:-1] + b"\1")
    with pytest.raises(PartialLabelError, match="label files of dataset toy"):
        prepare_workflow(study, file, assign_devices=False, save=True)


@pytest.mark.parametrize("part", ["Tr", "Ts"])
def test_an_image_that_changed_stops_it(
    file: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions of the old image would be evaluated. The size of the file is the same."""
    dataset = RawDataset(tmp_path / "raw" / "Dataset701_Toy")
    image = dataset.image_files(part)["p6" if part == "Ts" else "p0"][0]
    study = Study.read(file)
    prepare_workflow(study, file, assign_devices=False, save=True)
    read: list[Path] = []
    open_file = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode, **more: read.append(path) or open_file(path, *mode, **more))
    prepare_workflow(study, file, assign_devices=False, save=True)
    assert not [path for path in read if path.parent.name.startswith("images") and path.suffix != ".json"]
    image.touch()
    prepare_workflow(study, file, assign_devices=False, save=True)  # the time alone
    assert [path for path in read if path.parent.name.startswith("images") and path.suffix != ".json"] == [image]
    content = bytearray(image.read_bytes())
    content[-1] ^= 255
    image.write_bytes(content)
    with pytest.raises(PartialLabelError, match="image files of dataset toy"):
        prepare_workflow(study, file, assign_devices=False, save=True)
    assert report(file) is None
    assert "image files of dataset toy" in capsys.readouterr().err
    StudyFolder(study.folder).image_hashes("toy").write_text('{"x": 1}')  # broken: all are read
    with pytest.raises(PartialLabelError, match="image files of dataset toy"):
        prepare_workflow(study, file, assign_devices=False, save=True)


def write_folds(folder: Path, n_folds: int) -> None:
    cases = [f"p{number}" for number in range(6)]
    folds = [
        {"train": [c for c in cases if c not in cases[k::n_folds]], "val": cases[k::n_folds]} for k in range(n_folds)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps(folds))


def test_folds_are_looked_for_where_the_steps_of_the_study_find_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study asks for folds 0, 1 and 2; of two folds there is no third."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "mine"))
    write_folds(tmp_path / "mine" / "Dataset701_Toy", 2)
    assert data_problems(Study.read(file)) == []
    write_folds(StudyFolder(Study.read(file).folder).preprocessed / "Dataset701_Toy", 2)
    ((line, said),) = data_problems(Study.read(file))
    assert line == 4
    assert "has 2 fold(s)" in said


def test_folds_that_were_made_anew_stop_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario that is added would be trained on other folds than those before it."""
    raw = tmp_path / "raw" / "Dataset701_Toy"
    study = Study.read(file)
    assert main(["splits", "-d", "701", "--by-patient"]) == 0
    prepare_workflow(study, file, assign_devices=False, save=True)  # the same as without the file
    write_folds(raw, 3)
    with pytest.raises(PartialLabelError, match="splits of dataset toy"):
        prepare_workflow(study, file, assign_devices=False, save=True)
    assert report(file) is None
    assert "splits of dataset toy" in capsys.readouterr().err


def test_the_spacing_of_tiff_files_is_content(tmp_path: Path) -> None:
    raw = write_dataset(tmp_path, "Dataset702_Tiff", {"LV": 1}, [Drawn("p0", [1])], ending=".tif")
    before = contents_hash(raw.folder)
    assert before == contents_hash(raw.folder)
    (raw.folder / "labelsTr" / "p0.json").write_text('{"spacing": [1, 1, 1]}')
    assert contents_hash(raw.folder) != before
