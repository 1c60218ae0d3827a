"""The demo: a quick real run of all of it, and its parts."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from nnunet_partial.cli import demo as cli
from nnunet_partial.cli import main
from nnunet_partial.dataset.plans import add_small_configuration
from nnunet_partial.demo import run
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.demo.results import FigureRow, Scores, compare_dice, dice, draw_figure, median_case
from nnunet_partial.demo.run import NAIVE, TRAINERS, Size, demo
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.colors import COLORS
from nnunet_partial.utils.process import Command, Commands

slow = pytest.mark.slow

OURS = "nnUNetTrainerACCE"
QUICK = Size(
    camus_patients=5, echonet_patients=5, pixels=32, epochs=2, iterations=2, val_iterations=1, features=(4, 8, 8)
)

# ---- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Scores]:
    """The folder of a quick demo, what it said, and its scores; the user has nnU-Net folders of his own.

    nnU-Net's commands run in this process; as processes of their own: tests/install, tests/slurm.
    """
    from helpers.nnunet_in_process import follow_nnunet  # PyTorch, which the other tests do without

    users, out = tmp_path_factory.mktemp("user"), tmp_path_factory.mktemp("demo") / "out"
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, str(users))
        patch.setenv("nnUNet_n_proc_DA", "0")  # planning would die of it
        patch.setenv("OMP_NUM_THREADS", "1")
        follow_nnunet(patch)
        bars = io.StringIO()
        with contextlib.redirect_stderr(bars):
            scores = demo(out, loss="acce", log=said.append, size=QUICK)
        said.append(bars.getvalue())
        assert os.environ["nnUNet_raw"] == str(users)
    assert list(users.iterdir()) == []
    return out, "\n".join(said), scores


@slow
def test_every_command_is_shown_and_ran(done: tuple[Path, str, Scores]) -> None:
    out, said, _ = done
    typed = [line[2:] for line in said.splitlines() if line.startswith("$ ")]
    images = f"{out}/nnUNet_raw/Dataset510_Echo/imagesTs"
    expected = [
        f"nnunet_partial convert camus -i {out}/sources/CAMUS_public -d 501",
        f"nnunet_partial convert echonet-dynamic -i {out}/sources/EchoNet-Dynamic -d 502",
        "nnunet_partial merge -i 501 502 -d 510 --name Echo",
        "nnunet_partial check -d 510",
        "nnUNetv2_plan_and_preprocess -d 510 -c 2d -np 1 -npfp 1",
        *(f"nnUNet_n_proc_DA=0 nnUNetv2_train 510 2d_small 0 -tr {trainer} -device cpu" for trainer in (NAIVE, OURS)),
        *(
            f"nnUNetv2_predict -d 510 -c 2d_small -f 0 -tr {trainer} -i {images} "
            f"-o {out}/predictions/{trainer} -device cpu -npp 0 -nps 0"
            for trainer in (NAIVE, OURS)
        ),
    ]
    assert typed == expected
    logs = [log.read_text().splitlines()[0][2:] for log in sorted((out / "logs").iterdir())]
    assert logs == typed
    for variable, value in {"raw": f"{out}/nnUNet_raw", "partial_epochs": "2", "partial_seed": "1"}.items():
        assert f"\nexport nnUNet_{variable}={value}\n" in said
    assert "\nunset nnUNet_n_proc_DA\n" in said
    assert "Nothing is wrong." in said  # the output of our own commands is shown


@slow
def test_bars_of_the_predictions_reach_their_end(done: tuple[Path, str, Scores]) -> None:
    _, said, _ = done
    cases = 6  # one patient with 2 views x 2 phases, and one video with two frames
    assert [bool(re.search(rf"  {trainer}: 100%.* {cases}/{cases} ", said)) for trainer in (NAIVE, OURS)] == [True] * 2


@slow
def test_both_trainings_have_the_asked_for_length_and_small_network(done: tuple[Path, str, Scores]) -> None:
    out, _, _ = done
    for trainer in (NAIVE, OURS):
        fold = out / f"nnUNet_results/Dataset510_Echo/{trainer}__nnUNetPlans__2d_small/fold_0"
        log = next(fold.glob("training_log_*.txt")).read_text()
        assert re.findall(r": Epoch (\d+)", log) == ["0", "1"]
        assert "'features_per_stage': [4, 8, 8]" in log
        assert (fold / "checkpoint_final.pth").exists()


@slow
def test_table_tells_what_the_files_hold(done: tuple[Path, str, Scores]) -> None:
    """Dice again from the files on disk, by a count of its own."""
    out, said, scores = done
    truths = sorted((out / "truth").glob("*.nii.gz"))
    # the last of five patients is for testing: 2 views x 2 phases, and one video with two frames
    assert [sum(file.name.startswith(domain) for file in truths) for domain in ("camus", "echonet")] == [4, 2]
    for trainer in (NAIVE, OURS):
        for domain in ("camus", "echonet"):
            cells = []
            for value in (1, 2, 3):
                of_case = []
                for file in truths:
                    if file.name.startswith(domain):
                        a, b = (
                            sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == value
                            for path in (file, out / "predictions" / trainer / file.name)
                        )
                        assert a.sum() > 0  # all structures are in the truth, also those that nobody labeled
                        of_case.append(2 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))
                cells.append(np.mean(of_case))
            stars = ["", "", ""] if domain == "camus" else ["", r"\*", r"\*"]
            numbers = r"\s+".join(f"{cell:.2f}{star}" for cell, star in zip(cells, stars, strict=True))
            count = {"camus": 4, "echonet": 2}[domain]
            assert re.search(rf"^{domain}\s+{count}\s+{trainer}\s+{numbers}$", said, re.MULTILINE)
            assert scores.mean(trainer, domain, "LV") == pytest.approx(cells[0])
    assert (out / "result.txt").read_text() in said


@slow
def test_picture_is_there(done: tuple[Path, str, Scores]) -> None:
    out, said, _ = done
    picture = imread(out / "figure.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 600
    assert str(out / "figure.png") in said


@slow
def test_overview_of_the_readme_is_drawn_from_a_demo(done: tuple[Path, str, Scores], tmp_path: Path) -> None:
    copy, picture = tmp_path / "demo", tmp_path / "overview.png"
    shutil.copytree(done[0], copy)
    shutil.copytree(copy / "predictions" / OURS, copy / "predictions" / TRAINERS["marginal"])
    script = Path(__file__).resolve().parents[2] / "studies" / "draw_overview.py"
    subprocess.run([sys.executable, str(script), str(copy), str(picture)], check=True)
    assert imread(picture).shape[:2] == (616, 1210)  # 5.6 x 11 inches of 110 pixels


@slow
def test_sources_hold_the_ventricle_alone_on_scanner_b(done: tuple[Path, str, Scores]) -> None:
    out, _, scores = done
    labels = sorted((out / "nnUNet_raw/Dataset510_Echo/labelsTr").glob("echonet_*"))
    assert len(labels) == 8  # four of five videos, two frames each
    for file in labels:
        assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(file))))) == {0, 1}
    assert {domain: list(names) for domain, names in scores.annotated.items()} == {
        "camus": ["LV", "MYO", "LA"],
        "echonet": ["LV"],
    }


# ---- its folder -----------------------------------------------------------------------------------------------------


def test_leaves_a_folder_alone_that_is_no_demos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "thesis.txt").write_text("years of work")
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert f"{tmp_path} holds files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["truth", "thesis.txt"]


def test_system_files_are_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    DemoFolder(tmp_path).prepare()
    assert (tmp_path / ".DS_Store").exists()


def test_refuses_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(PartialLabelError, match="is a file; expected a new folder"):
        DemoFolder(file).prepare()
    assert file.read_text() == "text"


def test_starts_afresh_and_removes_only_its_own(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "new" / "demo")
    folder.prepare()
    own = [
        folder.camus,
        folder.merged / "imagesTs",
        folder.logs,
        folder.root / "nnUNet_raw" / ".building_Dataset501_CAMUS",
    ]
    for path in own:
        path.mkdir(parents=True)
    folder.figure.touch()
    users = [folder.root / "notes.txt", folder.root / "nnUNet_raw" / "Dataset007_Mine" / "dataset.json"]
    for path in users:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    folder.prepare()
    assert [path.exists() for path in [*own, folder.figure]] == [False] * 5
    assert [path.read_text() for path in users] == ["mine", "mine"]


def test_does_not_follow_a_link_out_of_its_folder(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    folder.prepare()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    folder.truth.symlink_to(elsewhere)
    folder.prepare()
    assert not folder.truth.is_symlink()
    assert (elsewhere / "file").exists()


def test_missing_device_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(PartialLabelError, match=r"no CUDA device.* --device cpu"):
        demo(tmp_path / "out", device="cuda", log=print, size=QUICK)
    assert not (tmp_path / "out").exists()


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(TRAINERS) == cli.LOSSES
    asked = []

    def stopped(out: Path, **options: object) -> None:
        asked.append((out, options["loss"], options["device"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("nnunet_partial.demo.run.demo", stopped)
    assert main(["demo"]) == 130
    assert main(["demo", "-o", str(tmp_path), "--loss", "abce", "-device", "cuda"]) == 130
    assert asked == [(Path("demo_output"), "marginal", "cpu"), (tmp_path, "abce", "cuda")]
    assert "interrupted; the same command starts it again" in capsys.readouterr().err


# ---- its processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "cores", "together"), [("cpu", 2, [2]), ("cpu", 8, [2]), ("cpu", 1, [1, 1]), ("cuda", 8, [1, 1])]
)
def test_both_models_at_the_same_time_where_each_has_a_core(
    device: str, cores: int, together: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "available_cores", lambda: cores)
    ran: list[tuple[Command, ...]] = []
    monkeypatch.setattr(Commands, "run_together", lambda _, *commands: ran.append(commands))
    both = [run._training(trainer, device, QUICK) for trainer in (NAIVE, OURS)]
    run._run_both(Commands({}, tmp_path, print), both, device)
    assert [len(commands) for commands in ran] == together
    assert [command for commands in ran for command in commands] == both


def test_each_process_has_one_thread(tmp_path: Path) -> None:
    assert run._environment(DemoFolder(tmp_path), "cpu", QUICK)["OMP_NUM_THREADS"] == "1"


# ---- its plan -------------------------------------------------------------------------------------------------------


def plans(tmp_path: Path) -> Path:
    network = {
        "n_stages": 4,
        "features_per_stage": [32, 64, 128, 256],
        "strides": [[1, 1], [2, 2], [2, 2], [2, 1]],
        "kernel_sizes": [[3, 3]] * 4,
        "n_conv_per_stage": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2],
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5},
    }
    architecture = {"network_class_name": "PlainConvUNet", "arch_kwargs": network}
    file = tmp_path / "nnUNetPlans.json"
    planned = {"batch_size": 49, "patch_size": [256, 256], "architecture": architecture}
    file.write_text(json.dumps({"configurations": {"2d": planned, "2d_other": {"inherits_from": "2d"}}}))
    return file


def test_small_configuration(tmp_path: Path) -> None:
    file = plans(tmp_path)
    before = json.loads(file.read_text())["configurations"]["2d"]
    add_small_configuration(file, "tiny", features=(4, 8, 16), batch_size=2, patch_size=(8, 12))
    after = json.loads(file.read_text())["configurations"]
    assert after["2d"] == before
    assert after["tiny"] == {
        "inherits_from": "2d",
        "batch_size": 2,
        "patch_size": [8, 12],
        "architecture": {
            "network_class_name": "PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 16],
                "strides": [[1, 1], [2, 2], [2, 2]],
                "kernel_sizes": [[3, 3]] * 3,
                "n_conv_per_stage": [2, 2, 2],
                "n_conv_per_stage_decoder": [2, 2],
                "conv_bias": True,
                "norm_op_kwargs": {"eps": 1e-5},
            },
        },
    }


def test_network_with_few_stages_keeps_them(tmp_path: Path) -> None:
    file = plans(tmp_path)
    add_small_configuration(file, "tiny", features=(4, 8, 16, 32, 64), patch_size=(8, 4))
    network = json.loads(file.read_text())["configurations"]["tiny"]["architecture"]["arch_kwargs"]
    assert network["n_stages"] == 4
    assert network["features_per_stage"] == [4, 8, 16, 32]
    assert network["n_conv_per_stage_decoder"] == [2, 2, 2]


def test_patch_that_cannot_be_halved(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"10 along axis 1 .* by 4"):
        add_small_configuration(plans(tmp_path), "tiny", features=(4, 8, 16), patch_size=(8, 10))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"patch_size": (96,)}, "patch size 96: expected 2 numbers"),
        ({"patch_size": (96, 96, 96)}, "patch size 96 96 96: expected 2 numbers"),
        ({"patch_size": (0, 96)}, "patch: 0 96; expected integers above 0"),
        ({"batch_size": -3}, "batch: -3; expected"),
        ({"features": (16, 0)}, "features: 16 0; expected"),
        ({"features": (16, 32)}, r"2 stage\(s\); expected at least 3"),
    ],
)
def test_sizes_of_no_network_are_not_written(tmp_path: Path, sizes: dict[str, Any], said: str) -> None:
    file = plans(tmp_path)
    before = file.read_bytes()
    with pytest.raises(PartialLabelError, match=said):
        add_small_configuration(file, "tiny", **sizes)
    assert file.read_bytes() == before


def test_a_configuration_that_inherits_its_network(tmp_path: Path) -> None:
    file = plans(tmp_path)
    add_small_configuration(file, "tiny", base="2d_other")
    tiny = json.loads(file.read_text())["configurations"]["tiny"]
    assert (tiny["inherits_from"], tiny["patch_size"]) == ("2d_other", [96, 96])
    assert tiny["architecture"]["arch_kwargs"]["n_stages"] == 4


def test_plans_without_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match="has no configuration '3d_fullres'; there: 2d, 2d_other"):
        add_small_configuration(plans(tmp_path), "tiny", base="3d_fullres")


# ---- its numbers ----------------------------------------------------------------------------------------------------


def test_dice() -> None:
    truth, found = np.array([[1, 1, 2, 0]]), np.array([[1, 0, 1, 0]])
    assert dice(found, truth, 1) == 0.5  # 1 common pixel of 2 and 2
    assert dice(found, truth, 2) == 0.0  # missed
    assert dice(truth, found, 2) == 0.0  # invented
    assert math.isnan(dice(found, truth, 3))  # nothing to find, nothing found


SCORES = Scores(
    ("LV", "LA"),
    {"a1": "a", "a2": "a", "b1": "b"},
    {"a": ("LV", "LA"), "b": ("LV",)},
    {
        "plain": {"a1": (0.5, math.nan), "a2": (1.0, 0.5), "b1": (1.0, 0.0)},
        "ours": {"a1": (1.0, 1.0), "a2": (1.0, 0.0), "b1": (0.25, 0.75)},
    },
)


def test_table() -> None:
    assert SCORES.table().splitlines() == [
        "images of  cases  trainer     LV     LA",
        "---------  -----  -------  -----  -----",
        "a              2    plain  0.75   0.50",  # the NaN is left out
        "a              2     ours  1.00   0.50",
        "b              1    plain  1.00   0.00*",
        "b              1     ours  0.25   0.75*",
    ]


def test_words_speak_of_what_was_not_labeled() -> None:
    (sentence,) = SCORES.compare("plain", "ours")
    assert sentence.startswith("LA in images of b ")
    assert sentence.endswith(f": {compare_dice('plain', 0.0, 'ours', 0.75)}")


@pytest.mark.parametrize(
    ("plain", "ours", "words"),
    [
        (0.0, 0.9, "P loses it, O finds it (Dice 0.00 and 0.90)."),
        (0.1, 0.29, "both P and O lose it (Dice 0.10 and 0.29)."),
        (0.4, 0.9, "O finds it better than P (Dice 0.40 and 0.90)."),
        (0.9, 0.4, "P finds it better than O (Dice 0.90 and 0.40)."),
        (0.8, 0.9, "no clear difference between P and O (Dice 0.80 and 0.90)."),
        (math.nan, 0.9, "no clear difference between P and O (Dice nan and 0.90)."),
    ],
)
def test_words_say_no_more_than_the_numbers(plain: float, ours: float, words: str) -> None:
    assert compare_dice("P", plain, "O", ours) == words


# ---- its picture ----------------------------------------------------------------------------------------------------


def test_picture_shows_each_structure_in_its_color(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[5:15, 5:35], labels[25:35, 5:35] = 1, 3
    row = FigureRow("a", np.full((40, 40), 255, np.uint8), [(labels, "Dice: LV 1.00"), (np.zeros_like(labels), "")])
    file = tmp_path / "new" / "figure.png"
    draw_figure(file, ["image", "truth", "found"], [row], ["LV", "MYO", "LA"], "title")
    pixels = (imread(file)[..., :3] * 255).round().astype(int)
    for color, tinted in zip([COLORS[name] for name in ("LV", "MYO", "LA")], (True, False, True), strict=True):
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        tint = np.abs(pixels - (0.4 * rgb + 0.6 * 255)).max(-1) <= 2  # 0.4 of the color over white
        assert (tint.sum() > 500) == tinted
        assert (np.abs(pixels - rgb).max(-1) <= 2).sum() > 50  # the legend has all of them


def test_median_case() -> None:
    dices = {"good": (1.0, 0.9), "bad": (0.1, 0.1), "middle": (0.9, math.nan), "fair": (0.5, 0.5)}
    assert median_case(dices) == "fair"  # 0.1 bad, 0.5 fair, 0.9 middle, 0.95 good: the lower of the two in the middle
    assert median_case({"only": (math.nan, 0.5)}) == "only"
