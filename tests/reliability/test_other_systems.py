"""What Windows and macOS lack is hidden from our packages, in a process of its own: all commands run nevertheless.

No Windows and no Mac: see helpers/other_systems.py for what is shown.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.dataset_copies import COPIES
from helpers.evaluated_dataset import MODELS, Story, draw
from helpers.other_systems import pretend
from helpers.raw_datasets import Drawn, write_dataset
from helpers.source_datasets import camus_view
from helpers.toy_dataset import Project

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset

ROOT = Path(__file__).resolve().parents[2]

#: Runs commands of ours one after the other, in one process, up to the first that fails.
COMMANDS = """
import json, sys
from nnunet_partial.cli import main
for command in json.loads(sys.argv[1]):
    code = main(command)
    if code:
        sys.exit(f"{command} ends with {code}")
"""


class System:
    """A Python that takes this machine for another system."""

    def __init__(self, name: str, folder: Path) -> None:
        self.variables = pretend(name, folder)

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)

    def run(self, *commands: list[str]) -> str:
        done = self.python(COMMANDS, json.dumps(commands))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    (tmp_path / "site").mkdir()
    return System("windows", tmp_path / "site")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import fcntl", "No module named 'fcntl'"),
        ("import os; os.sched_getaffinity(0)", "no attribute 'sched_getaffinity'"),
        ("import os; os.open('/', os.O_RDONLY)", "Permission denied"),
        ("import os; open('a', 'wb').close(); f = open('a', 'rb'); os.fsync(f.fileno())", "Bad file descriptor"),
        ("import pathlib; p = pathlib.Path('a'); f = p.open('wb'); p.unlink()", "Permission denied"),
        ("import pathlib; p = pathlib.Path('a'); f = p.open('wb'); p.replace('b')", "Permission denied"),
        ("import pathlib; p = pathlib.Path('a'); p.touch(); p.with_name('b').touch(); p.rename('b')", "File exists"),
        ("import pathlib; pathlib.Path('a').symlink_to('b')", "Operation not permitted"),
        ("import subprocess; subprocess.run('true', pass_fds=[2])", "pass_fds not supported"),
        ("import pathlib; pathlib.Path('a').write_text('a')", "EncodingWarning"),
    ],
    ids=str,
)  # fmt: skip
def test_it_is_refused_to_us_and_to_nobody_else(
    windows: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    as_ours = "import sys; exec(sys.argv[1], {'__name__': sys.argv[2], '__builtins__': __builtins__})"
    done = windows.python(as_ours, code, "nnunet_partial.x")
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    done = windows.python(as_ours, code, "somebody.else")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_module_is_imported(windows: System) -> None:
    names = [path.relative_to(ROOT) for path in (ROOT / "nnunet_partial").rglob("*.py") if "trainers" not in path.parts]
    names += ["nnunet_partial" / path.relative_to(ROOT) for path in (ROOT / "dataset_conversion").rglob("*.py")]
    modules = [".".join(name.with_suffix("").parts).removesuffix(".__init__") for name in names]
    modules += [f"nnunet_partial.trainers.{path.stem}" for path in (ROOT / "nnunet_partial" / "trainers").glob("*.py")]
    done = windows.python(
        "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)", *modules
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_datasets_are_made_and_checked(windows: System, tmp_path: Path) -> None:
    copies = ("camus", "echonet-dynamic", "hmc-qu")  # images; videos; a reader in a process of its own
    for number, name in enumerate(copies, 501):
        (tmp_path / name).mkdir()
        COPIES[name].make(tmp_path / name)
        convert = ["convert", name, "-i", str(tmp_path / name), "-d", str(number), *COPIES[name].options]
        windows.run(convert, [*convert, "--overwrite"])
    windows.run(
        ["merge", "-i", "501", "502", "-d", "510", "--name", "Echo"],
        ["scenario", "-i", "510", "-d", "601", "--domain", "camus", "--missing", "LA", "--fraction", "0.5"],
        ["check", "-d", "510"],
        ["check", "-d", "601"],
    )
    made = sorted(path.name for path in (tmp_path / "raw").iterdir())
    assert [name.partition("_")[0] for name in made] == [f"Dataset{number}" for number in (501, 502, 503, 510, 601)]
    for name in made:  # no lock, no hidden folder is left
        assert check(tmp_path / "raw" / name).findings == {}


@pytest.mark.slow
def test_many_files_are_converted_by_several_processes(windows: System, tmp_path: Path) -> None:
    for number in range(35):  # two views each: more than are converted without further processes
        camus_view(tmp_path / "in", f"patient{number:04d}", "2CH")
        camus_view(tmp_path / "in", f"patient{number:04d}", "4CH")
    windows.run(["convert", "camus", "-i", str(tmp_path / "in"), "-d", "501", "-np", "2"])
    assert len(RawDataset(tmp_path / "raw" / "Dataset501_CAMUS").label_files()) == 140  # ED and ES of 70 views


def test_a_dataset_is_declared(windows: System, tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, [Drawn(f"p{n}", [1, 2]) for n in "ab"]
    )
    (dataset.folder / "partial_labels.json").unlink()
    windows.run(["declare", "-d", "701", "--match", "*", "LV", "LA", "--yes"], ["check", "-d", "701"])
    assert RawDataset(dataset.folder).manifest.labels_of("pa").annotated == ("LV", "LA")


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_share_without_file_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """CIFS, NTFS, WSL and OneDrive refuse chmod."""

    def refuse(*path: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    for name in ("camus", "echonet-dynamic"):
        (tmp_path / name).mkdir()
        COPIES[name].make(tmp_path / name)
    missing = ["--missing", "LA", "--fraction", "0.5"]
    for command in (
        ["convert", "camus", "-i", str(tmp_path / "camus"), "-d", "501", *COPIES["camus"].options],
        ["convert", "echonet-dynamic", "-i", str(tmp_path / "echonet-dynamic"), "-d", "502"],
        ["merge", "-i", "501", "502", "-d", "510", "--name", "Echo"],
        ["scenario", "-i", "501", "-d", "601", *missing],
        ["declare", "-d", "501", "--match", "*", "LV", "MYO", "LA", "--yes", "--overwrite"],
    ):
        assert main(command) == 0
    for path in (tmp_path / "raw").iterdir():
        assert check(path).findings == {}


@pytest.mark.slow
def test_a_training_starts_and_goes_on_from_its_checkpoint(windows: System, project: Project) -> None:
    arguments = ("2d", "0", "-tr", "nnUNetTrainerMarginal")
    project = Project(project.root, windows.variables)
    project.train("701", *arguments, nnUNet_partial_epochs="1")
    said = project.train("701", *arguments, "--c")
    assert "Epoch 1" in said
    (fold,) = project.root.glob("results/*/*/fold_0")
    assert {path.name for path in fold.glob("checkpoint_*")} >= {"checkpoint_final.pth", "checkpoint_best.pth"}
    assert list(fold.glob("*.tmp")) == []


@pytest.mark.slow
def test_predictions_are_evaluated_and_reported(windows: System, tmp_path: Path) -> None:
    story = Story(tmp_path)
    draw(story)
    predictions = [word for n, model in enumerate(MODELS) for word in ("--pred", f"model{n}={story.root / model}")]
    evaluate = ["evaluate", "-d", "510", *predictions, "-o", str(story.results), "-np", "1"]
    page = tmp_path / "report.html"
    windows.run(evaluate, evaluate, ["report", str(story.results), "-o", str(page)])
    assert (story.results / "per_case.csv").exists()
    assert "<html" in page.read_text(encoding="utf-8")
    done = windows.python(COMMANDS, json.dumps([[*evaluate, "--pred", f"a:b={story.root / MODELS[0]}"]]))
    assert (done.returncode, "'a:b'" in done.stderr) == (1, True)  # would be a stream of a file


DEMO = """
import sys
from pathlib import Path
from nnunet_partial.demo import run as demo
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.utils.process import Commands
folder, size = DemoFolder(Path(sys.argv[1])), demo.Size(camus_patients=3, echonet_patients=3, pixels=48)
commands = Commands(demo._environment(folder, "cpu", size), folder.logs, print)
for _ in range(2):  # the second replaces the first
    folder.prepare()
    demo._write_sources(folder, size, print)
    demo._convert(commands, folder)
print(commands.exports())
"""


@pytest.mark.slow
def test_the_demo_begins(windows: System, tmp_path: Path) -> None:
    done = windows.python(DEMO, str(tmp_path / "demo"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert check(tmp_path / "demo" / "nnUNet_raw" / "Dataset510_Echo").findings == {}
    assert not (tmp_path / "raw").exists()  # the user's own, in the environment that the demo was started in
    assert f"$env:nnUNet_raw = '{tmp_path / 'demo' / 'nnUNet_raw'}'" in done.stdout.splitlines()


STUDY = """\
name: small
datasets: {toy: 701}
scenarios:
  - {from: toy, missing: [LA], fraction: 0.5}
losses: [naive]
folds: [0]
device: cpu
"""


@pytest.mark.slow
def test_a_study_is_looked_at_but_not_run(windows: System, tmp_path: Path) -> None:
    pytest.importorskip("snakemake", reason="Snakemake is not installed")
    known = {"annotated": ["LV", "LA"], "domain": "a"}
    cases = [Drawn(f"p{number}", [1, 2], known, part) for number, part in enumerate(["Tr", "Tr", "Tr", "Ts"])]
    write_dataset(tmp_path / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, cases)
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    said = windows.run(["study", "run", str(file), "--dry-run"], ["study", "status", str(file)])
    assert re.search(r"train +0 +1 +0", said)
    done = windows.python(COMMANDS, json.dumps([["study", "run", str(file)]]))
    assert done.returncode == 1
    assert "WSL" in done.stderr
    assert "Traceback" not in done.stderr
