"""Run every command once on small synthetic data and hash each output: for changes that must change none.

    PYTHONPATH=tests python -m helpers.reference_run -o before.txt --keep kept           # before the change
    PYTHONPATH=tests python -m helpers.reference_run --against before.txt --keep kept    # after it: shows what differs

About ten minutes of processor time, in two lanes: five minutes on two quiet cores. What changes from run to run or from
machine to machine (dates, durations, versions, folders) is taken out before hashing. Trainings are seeded, so two runs
on one computer agree; on another processor the last digits differ, so a list of hashes belongs to the computer that it
was made on. Exit code 1: something differs, or a command failed.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from helpers.dataset_copies import COPIES  # beside this file

from nnunet_partial.phantom.scanner import SCANNER_A, SCANNER_B, blend
from nnunet_partial.phantom.writers import write_camus, write_echonet_dynamic

PIXELS = 48
TRAINERS = {
    "naive": "nnUNetTrainerNaive",
    "marginal": "nnUNetTrainerMarginal",
    "acce": "nnUNetTrainerACCE",
    "acce_ignore": "nnUNetTrainerACCEIgnore",
    "abce": "nnUNetTrainerABCE",
}
MERGED = "Dataset510_Echo"
STUDY = f"""
name: small
datasets: {{camus: 501}}
scenarios: [{{from: camus, missing: [LA], fraction: 0.5}}]
losses: [naive, marginal-label-dropout]
seeds: [0]
folds: [0]
epochs: 2
iterations: 12
val_iterations: 1
network: {{features: [8, 16, 16], patch: [{PIXELS}, {PIXELS}], batch: 4}}
device: cpu
cpus_per_training: 1
"""

# ---- running ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """Hold the folder of one run, and what its commands printed."""

    root: Path
    trainers: str = ""
    said: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables of every command."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}
        return {
            **clean,
            **{f"nnUNet_{name}": str(self.root / name) for name in ("raw", "preprocessed", "results")},
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # nnUNetv2_train takes two threads all the same
            "nnUNet_extTrainer": self.trainers,
            "COLUMNS": "120",
            "nnUNet_partial_seed": "1",
            "nnUNet_partial_epochs": "2",
            "nnUNet_partial_iterations": "12",
            "nnUNet_partial_val_iterations": "1",
        }

    def command(self, title: str, *command: str, code: int = 0, **variables: str) -> str:
        """Run a command of this Python's bin folder; what it prints is kept under `title`."""
        program, started = Path(sys.executable).with_name(command[0]), time.monotonic()
        done = subprocess.run(
            [str(program), *command[1:]],
            env={**self.environment, **variables},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != code:
            tail = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            sys.exit(f"{' '.join(command)}\nexit code {done.returncode}, expected {code}\n{tail}")
        self.said[title] = done.stdout + without_bars(done.stderr)
        print(f"{title} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        return done.stdout


def without_bars(text: str) -> str:
    """Take the progress bars out of standard error."""
    return "".join(
        f"{line}\n"
        for line in re.split(r"[\r\n]+", text)
        if line.strip() and not re.search(r"\d+%\||\[\d\d:\d\d", line)
    )


def run_everything(run: Run) -> None:
    """Run all commands in two lanes, for two cores."""
    run.trainers = run.command("trainers", "nnunet_partial", "trainers", "--path").strip()
    run.command("trainers_list", "nnunet_partial", "trainers")
    with ThreadPoolExecutor(2) as lanes:
        list(lanes.map(lambda arguments: convert(run, *arguments), sources(run)))
        merge(run)
        beside = lanes.submit(study, run)
        preprocess(run)
        trainings = [lanes.submit(train_and_predict, run, name) for name in TRAINERS]
        others = lanes.submit(hide_and_declare, run)
        for each in (beside, *trainings, others):
            each.result()
        list(lanes.map(lambda step: step(run), (evaluate_networks, evaluate_moved, find_best)))


def sources(run: Run) -> list[tuple[Any, ...]]:
    """Draw CAMUS and EchoNet-Dynamic by the phantom, and a few pixels of every dataset: the arguments of `convert`."""
    camus, echonet = run.root / "sources" / "CAMUS_public", run.root / "sources" / "EchoNet-Dynamic"
    shape = (PIXELS, PIXELS)
    write_camus(camus, 9, seed=1, shape=shape, half_frames=4)
    write_echonet_dynamic(echonet, 9, seed=1001, scanner=blend(SCANNER_A, SCANNER_B, 0.5), shape=shape, frames=10)
    found = [
        ("camus", camus, 501),
        ("echonet-dynamic", echonet, 502),
        ("camus", camus, 503, "--frames", "half-sequence", "--views", "4CH", "--name", "Sequences"),
    ]
    for number, (dataset, copy) in enumerate(COPIES.items(), start=520):
        source = run.root / "sources" / "copies" / dataset
        source.mkdir(parents=True)
        copy.make(source)
        found.append((dataset, source, number, *copy.options))
    return found


def convert(run: Run, dataset: str, source: Path, number: int, *options: str) -> None:
    made = ("-i", str(source), "-d", str(number), "-np", "1", *options)
    run.command(f"convert_{number}_{dataset}", "nnunet_partial", "convert", dataset, *made)


def merge(run: Run) -> None:
    merged = ("nnunet_partial", "merge", "-i", "501", "502", "-np", "1", "-d")
    run.command("merge", *merged, "510", "--name", "Echo")
    run.command("merge_balanced", *merged, "511", "--name", "Balanced", "--balance", "--unknown-as", "ignore")


def hide_and_declare(run: Run) -> None:
    hidden = ("nnunet_partial", "scenario", "-np", "1", "-i")
    run.command("scenario", *hidden, "501", "-d", "601", "--missing", "LA", "--fraction", "0.5", "--seed", "0")
    run.command("scenario_random", *hidden, "510", "-d", "602", "--missing", "random", "--domain", "camus")
    complete = ("--missing", "MYO", "LA", "--fraction", "0.5", "--keep-only-complete")
    run.command("scenario_complete", *hidden, "501", "-d", "603", *complete)
    for number in (501, 502, 503, 510, 511, 601, 602, 603):
        run.command(f"check_{number}", "nnunet_partial", "check", "-d", str(number), "-np", "1")
    declare(run)


def declare(run: Run) -> None:
    """Declare the merged dataset anew in three ways; and let the check find something."""
    raw = run.root / "raw"
    manifest = next(path.name for path in (raw / MERGED).glob("partial_labels*.json"))
    ways = {
        701: ("--match", "echonet_*", "LV"),
        702: ("--from-masks", "--yes"),
        703: ("--csv", str(run.root / "table.csv")),
    }
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (raw / MERGED / "labelsTr").iterdir())
    rows = [(case, "LV" if case.startswith("echonet") else "LV MYO LA", case.split("_")[0]) for case in cases]
    with (run.root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("case", "annotated", "domain"), *rows])
    for number, how in ways.items():
        folder = raw / f"Dataset{number}_Declared"
        shutil.copytree(raw / MERGED, folder)
        (folder / manifest).unlink()
        (folder / "splits_final.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "imagesTs", ignore_errors=True)
        shutil.rmtree(folder / "labelsTs", ignore_errors=True)
        run.command(f"declare_{number}", "nnunet_partial", "declare", "-d", str(number), *how, "-np", "1")
    (raw / "Dataset703_Declared" / "labelsTr" / f"{cases[0]}.nii.gz").unlink()
    run.command("check_703_broken", "nnunet_partial", "check", "-d", "703", "-np", "1", code=1)


def preprocess(run: Run) -> None:
    run.command("plan", "nnUNetv2_plan_and_preprocess", "-d", "510", "-c", "2d", "-np", "1", "-npfp", "1")
    del run.said["plan"]  # nnU-Net's own
    small = ("--features", "8", "16", "16", "--patch", str(PIXELS), str(PIXELS), "--batch", "4")
    run.command("shrink", "nnunet_partial", "shrink", "-d", "510", *small)


def train_and_predict(run: Run, name: str) -> None:
    which = ("-c", "2d_small", "-f", "0", "-tr", TRAINERS[name], "-device", "cpu")
    npz = ["--npz"] if name in ("marginal", "acce") else []
    training = ("510", "2d_small", "0", "-tr", TRAINERS[name], "-device", "cpu", *npz)
    run.command(f"train_{name}", "nnUNetv2_train", *training, nnUNet_n_proc_DA="0")
    images, out = run.root / "raw" / MERGED / "imagesTs", run.root / "predictions" / name
    found = ("-i", str(images), "-o", str(out), "-npp", "0", "-nps", "0")
    run.command(f"predict_{name}", "nnUNetv2_predict", "-d", "510", *which, *found, nnUNet_n_proc_DA="0")
    del run.said[f"train_{name}"], run.said[f"predict_{name}"]  # in nnU-Net's log; nnU-Net's own


def evaluate_networks(run: Run) -> None:
    evaluate(run, "networks", [*TRAINERS])


def evaluate_moved(run: Run) -> None:
    """Evaluate predictions made of the reference: the same on every computer, and all biomarkers can be measured."""
    for far in (1, 2):
        shift_labels(run.root / "raw" / MERGED / "labelsTs", run.root / "predictions" / f"moved_{far}", far)
    evaluate(run, "moved", ["moved_1", "moved_2"])


def evaluate(run: Run, title: str, names: Sequence[str]) -> None:
    models = [f"--pred={name}={run.root / 'predictions' / name}" for name in names]
    results = str(run.root / "evaluation" / title)
    run.command(f"evaluate_{title}", "nnunet_partial", "evaluate", "-d", "510", *models, "-o", results, "-np", "1")
    for kind, ending in (("html", "html"), ("md", "md"), ("latex", "tex")):
        file = str(run.root / "reports" / f"{title}.{ending}")
        run.command(f"report_{title}_{kind}", "nnunet_partial", "report", results, "-o", file, "--format", kind)


def find_best(run: Run) -> None:
    two = ("-tr", TRAINERS["marginal"], TRAINERS["acce"], "-c", "2d_small", "-f", "0", "-np", "1")
    run.command("find_best", "nnunet_partial", "find-best", "-d", "510", *two)


def shift_labels(reference: Path, target: Path, far: int) -> None:
    """Write predictions in which each structure also reaches `far` pixels further down, over those of lower values."""
    target.mkdir(parents=True)
    for file in sorted(reference.glob("*.nii.gz")):
        image = sitk.ReadImage(str(file))
        labels = sitk.GetArrayFromImage(image)
        moved = sitk.GetImageFromArray(np.maximum(labels, np.roll(labels, far, axis=0)))
        moved.CopyInformation(image)
        sitk.WriteImage(moved, str(target / file.name))


def study(run: Run) -> None:
    file = run.root / "study.yaml"
    file.write_text(STUDY)
    run.command("study_dry_run", "nnunet_partial", "study", "run", str(file), "--dry-run", "-j", "1")
    run.command("study_run", "nnunet_partial", "study", "run", str(file), "-j", "1")
    del run.said["study_run"]  # in the order in which steps happen to finish
    run.command("study_status", "nnunet_partial", "study", "status", str(file))
    for kind, ending in (("html", "html"), ("md", "md"), ("latex", "tex"), ("csv", "csv")):
        report = str(run.root / "reports" / f"study.{ending}")
        run.command(f"study_{kind}", "nnunet_partial", "study", "report", str(file), "-o", report, "--format", kind)


# ---- what is hashed --------------------------------------------------------------------------------------------------

#: Keys of JSON files: of the day, or the hash of an Excel workbook, which holds the time at which it was drawn.
VOLATILE = ("versions", "A4C.xlsx")
#: nnU-Net's own, with addresses in memory; the project's stamps of files, with their dates; a plot with durations.
LEFT_OUT = ("debug.json", "partial_labels_checked.json", "progress.png")
#: A study's report has minutes and gigabytes, with one digit after the point; its scores have three.
STUDY_REPORTS, MEASURED = ("study", "report"), re.compile(r"\b\d+\.\d\b")
LOSSES = re.compile(r"(train_loss|val_loss|Pseudo dice|EMA pseudo Dice|Mean Validation Dice|Current learning rate).*")


def contents(run: Run) -> dict[str, str]:
    """Collect what must be the same in the next run: text by name."""
    found = {f"console/{title}.txt": plain(text, run) for title, text in run.said.items()}
    for folder in ("raw", "preprocessed", "results", "predictions", "evaluation", "reports", "small"):
        found |= dict(contents_of(run, run.root / folder))
    for log in sorted(run.root.rglob("fold_*/training_log_*.txt")):
        name = log.parent.relative_to(run.root).as_posix()
        found[f"{name}/training_log.txt"] = training_log(log.read_text(), run)
        found[f"{name}/losses.txt"] = "".join(f"{hit[0]}\n" for hit in LOSSES.finditer(log.read_text()))
    return found


def contents_of(run: Run, top: Path) -> Iterator[tuple[str, str]]:
    """Give folders of images and labels as one text each, other files by themselves, and the names of all files."""
    names: list[str] = []
    shown = [path for path in top.rglob("*") if not any(part.startswith(".") for part in path.relative_to(top).parts)]
    for folder in sorted({path.parent for path in shown if path.is_file()}):
        files = sorted(path for path in shown if path.parent == folder and path.is_file())
        name = folder.relative_to(run.root).as_posix()
        names += [f"{name}/{plain(file.name, run)}\n" for file in files]
        files = [file for file in files if file.name not in LEFT_OUT and not file.name.startswith("training_log_")]
        voxels = [described(file) for file in files if file.name.endswith((".nii.gz", ".png"))]
        if voxels:
            yield f"{name}/voxels", "".join(voxels)
        for file in files:
            read = READERS.get(file.suffix)
            if read is not None:
                text = read(file.read_text(), run)
                yield f"{name}/{file.name}", MEASURED.sub("MEASURED", text) if file.stem in STUDY_REPORTS else text
    yield f"{top.relative_to(run.root).as_posix()}/names.txt", "".join(names)


def described(file: Path) -> str:
    """Give size, spacing, position and a hash of the voxels; of label files also how many have each value."""
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    values, counts = np.unique(array, return_counts=True)
    each = dict(zip(values.tolist(), counts.tolist(), strict=True)) if len(values) < 10 else f"{len(values)} values"
    about = (array.dtype, array.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection(), each)
    return f"{file.name} {' '.join(map(str, about))} {hashlib.sha256(array.tobytes()).hexdigest()}\n"


def plain(text: str, run: Run) -> str:
    """Take out folders of this machine, versions, dates, durations and the colors of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for folder, name in ((str(run.root), "RUN"), (run.trainers, "TRAINERS"), (sys.prefix, "PYTHON")):
        text = text.replace(folder, name) if folder else text
    text = re.sub(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?)?(Z|[+-]\d\d:\d\d| UTC)?", "DATE", text)
    text = re.sub(r"\d{4}_\d+_\d+_\d\d_\d\d_\d\d", "DATE", text)
    text = re.sub(r"\b\d+(\.\d+)? (s|min|GB|GiB|MB|MiB)\b", "MEASURED", text)
    return re.sub(r"\b\d+\.\d+\.\d+(\.?(post|dev|rc)\d+)*(\+\w+)?", "VERSION", text)


def training_log(text: str, run: Run) -> str:
    text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ", "", text, flags=re.MULTILINE)
    return plain(re.sub(r"^Epoch time.*\n", "", text, flags=re.MULTILINE), run)


def plain_json(text: str, run: Run) -> str:
    return plain(json.dumps(stable(json.loads(text)), indent=1, ensure_ascii=False) + "\n", run)


def stable(content: Any) -> Any:
    """Take out what VOLATILE names; the order of keys stays, since users see it."""
    if isinstance(content, dict):
        return {key: stable(value) for key, value in content.items() if key not in VOLATILE}
    return [stable(entry) for entry in content] if isinstance(content, list) else content


def plain_html(text: str, run: Run) -> str:
    """Give the words of a page, one element a line."""
    text = re.sub(r"(?s)<(style|script|svg)\b.*?</\1>|<!--.*?-->", "", text)
    text = html.unescape(re.sub(r"\s*<[^>]*>\s*", "\n", text))
    return plain(re.sub(r"\n+", "\n", text), run)


READERS: Mapping[str, Callable[[str, Run], str]] = {
    ".json": plain_json,
    ".html": plain_html,
    **dict.fromkeys((".csv", ".md", ".tex", ".txt"), plain),
}


# ---- comparing -------------------------------------------------------------------------------------------------------


def hashes_of(found: Mapping[str, str]) -> dict[str, str]:
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(found.items())}


def kept(folder: Path, name: str, digest: str) -> Path:
    """Name a file by what is in it, so that many runs fit beside each other."""
    return folder / f"{name}.{digest[:8]}"


def keep(folder: Path, found: Mapping[str, str]) -> None:
    for name, digest in hashes_of(found).items():
        file = kept(folder, name, digest)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found[name])


def differences(before: Mapping[str, str], now: Mapping[str, str], folder: Path | None) -> list[str]:
    """Give a line for each output that is gone, new or different; where both were kept, also the lines that differ."""
    lines = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now or name not in before:
            lines.append(f"{'gone' if name in before else 'new'}: {name}")
        elif before[name] != now[name]:
            lines.append(f"different: {name}")
            if folder is not None and kept(folder, name, before[name]).exists():
                old, new = (kept(folder, name, each[name]).read_text().splitlines() for each in (before, now))
                lines += [f"    {line}" for line in difflib.unified_diff(old, new, "before", "now", lineterm="", n=0)]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, metavar="FILE", help="where the hashes go")
    parser.add_argument("--against", type=Path, metavar="FILE", help="hashes of an earlier run, to be compared with")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="what was hashed, as text; one folder for all runs")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep all files of the run in this new folder")
    given = parser.parse_args()
    if given.o is None and given.against is None:
        parser.error("give -o, --against or both")
    with tempfile.TemporaryDirectory() as temporary:
        run = Run((given.work or Path(temporary) / "run").resolve())
        run.root.mkdir(parents=True)
        run_everything(run)
        found = contents(run)
    now = hashes_of(found)
    if given.keep is not None:
        keep(given.keep, found)
    if given.o is not None:
        given.o.write_text("".join(f"{digest}  {name}\n" for name, digest in now.items()))
    if given.against is None:
        return 0
    before = {
        name: digest for digest, name in (line.split(maxsplit=1) for line in given.against.read_text().splitlines())
    }
    lines = differences(before, now, given.keep)
    print("\n".join(lines) or f"All {len(now)} outputs are the same.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
