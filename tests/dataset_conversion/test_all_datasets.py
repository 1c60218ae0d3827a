"""What every converter must stand: wrong folders, spoiled files, strange names and tables, a full disk, a kill."""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from helpers.dataset_copies import COPIES, Copy
from helpers.source_datasets import read_nifti, write_video
from nnunet_partial.dataset_conversion import DATASETS, writer

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset

NAME = "Dataset501_Any"
EVERY = pytest.mark.parametrize("name", list(COPIES))
WITH_TABLES = pytest.mark.parametrize(
    ("name", "table"), [(name, table) for name, copy in COPIES.items() for table in copy.tables]
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a sound copy of the data set of a name, drawn once; do not change it, take `source`."""

    @functools.cache
    def draw(name: str) -> Path:
        root = tmp_path_factory.mktemp("sound")
        COPIES[name].make(root)
        return root

    return draw


@pytest.fixture
def source(name: str, sound: Callable[[str], Path], tmp_path: Path) -> Path:
    """A sound copy of the data set."""
    return shutil.copytree(sound(name), tmp_path / "in", symlinks=True)


def convert(name: str, root: Path, *more: str) -> int:
    """The exit code of `nnunet_partial convert`."""
    own = [] if "--help" in more else list(COPIES[name].options)
    words = ["convert", name, "-i", str(root), "-d", "501", "--name", "Any", "-np", "1", *own, *more]
    return main(words)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte by byte."""
    return {
        os.fsencode(path.relative_to(folder)).decode("utf-8", "replace"): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


REPORT = "conversion_report.json"


def made(raw: Path, source: Path) -> dict[str, bytes]:
    """The dataset, file by file; the report names a source folder, which is left out."""
    files = snapshot(raw / NAME)
    return {**files, REPORT: files[REPORT].replace(os.fsencode(source), b"SOURCE")}


def without_report(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != REPORT}


@pytest.fixture(scope="module")
def converted(sound: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Gives what a sound copy is converted to, file by file, converted once."""

    @functools.cache
    def convert_once(name: str) -> dict[str, bytes]:
        raw = tmp_path_factory.mktemp("converted")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("nnUNet_raw", str(raw))
            assert convert(name, sound(name)) == 0
        return made(raw, sound(name))

    return convert_once


@pytest.fixture
def whole(name: str, converted: Callable[[str], Any]) -> Any:
    """What the sound copy is converted to."""
    return converted(name)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    return out + err


def test_every_data_set_has_a_small_copy() -> None:
    assert set(COPIES) == set(DATASETS)


@EVERY
def test_a_sound_copy_is_converted_and_only_read(name: str, source: Path, raw: Path) -> None:
    before = snapshot(source)
    for path in (source, *source.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert convert(name, source) == 0
    assert snapshot(source) == before
    assert len(RawDataset(raw / NAME).label_files()) >= 2
    assert check(raw / NAME).findings == {}


@EVERY
def test_a_first_look(name: str, source: Path, raw: Path) -> None:
    assert convert(name, source) == 0
    whole = len(RawDataset(raw / NAME).label_files())
    assert convert(name, source, "--limit", "1", "--overwrite") == 0
    assert 1 <= len(RawDataset(raw / NAME).label_files()) < whole


@pytest.mark.parametrize("name", ["echonet-dynamic", "echonet-pediatric", "hmc-qu"])
def test_pixels_of_videos_need_not_be_square(name: str, source: Path, raw: Path) -> None:
    """Videos whose container says that pixels are twice as wide as high."""
    for path in source.rglob("*.avi"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames, shape = stream.frames, (stream.height, stream.width)
        write_video(path, frames, shape, codec="mpeg4", aspect=2)
    assert convert(name, source) == 0
    for path in RawDataset(raw / NAME).label_files().values():
        height, width = read_nifti(path)[1]
        assert width == pytest.approx(2 * height)


# ---- the wrong folder ------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("there", ["nothing", "empty", "other", "archive", "archive inside", "file"])
def test_a_wrong_folder_is_explained(
    name: str, there: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "wrong"
    if there not in ("nothing", "archive", "file"):
        root.mkdir()
    if there == "other":
        COPIES["camus" if name != "camus" else "echocp"].make(root)
    if there == "archive inside":
        (root / "download.zip").touch()
    if there in ("archive", "file"):
        root = tmp_path / ("wrong.zip" if there == "archive" else "wrong.txt")
        root.touch()
    assert convert(name, root) == 1
    message = said(capsys)
    expected = {
        "nothing": "does not exist",
        "empty": "the folder is empty",
        "other": "Is it the right folder, and the right dataset?",
        "archive": "Unpack it and give the folder",
        "archive inside": "Unpack download.zip first",
        "file": "is a file; expected the folder",
    }
    assert expected[there] in message
    assert "Traceback" not in message
    assert not (raw / NAME).exists()


# ---- spoiled files ---------------------------------------------------------------------------------------------------


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOIL: dict[str, Callable[[Path], object]] = {
    "a folder of its name": as_folder,
    "a link to nothing": as_dead_link,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": cut_off,
    "text": lambda path: path.write_text("not found\n" * 50),
}


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("how", SPOIL)
def test_an_unreadable_file_is_named_and_the_rest_is_converted(
    name: str, how: str, source: Path, raw: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOIL[how](source / COPIES[name].broken)
    said(capsys)
    code = convert(name, source)
    message = said(capsys)
    assert "Traceback" not in message
    cases = {file: content for file, content in snapshot(raw / NAME).items() if file.startswith(("images", "labels"))}
    assert cases.items() <= whole.items()  # nothing else than before, and nothing of it changed
    lost = len(whole) - 4 - len(cases)  # without dataset.json, manifest, folds and report
    assert (code == 1 and "skipped" in message and lost > 0) or (name, how) in STILL_READ


#: Half a motion JPEG still holds the frames that are asked for, as far as they are whole; one picture of Unity may be
#: missing: a known fault of the release.
STILL_READ = {
    ("echonet-dynamic", "cut off"),
    ("echonet-pediatric", "cut off"),
    ("hmc-qu", "cut off"),
    ("unity", "a folder of its name"),
    ("unity", "a link to nothing"),
}


# ---- tables ----------------------------------------------------------------------------------------------------------


def rewritten(path: Path, separator: str, encoding: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=separator).writerows(rows)


@WITH_TABLES
def test_other_separators_and_encodings_make_no_difference(
    name: str, table: str, source: Path, raw: Path, whole: Any
) -> None:
    for separator, encoding in ((";", "utf-8-sig"), ("\t", "utf-16")):
        rewritten(source / table, separator, encoding)
        assert convert(name, source, "--overwrite") == 0
        assert without_report(made(raw, source)) == without_report(whole)
        rewritten_back(source / table, separator, encoding)


def rewritten_back(path: Path, separator: str, encoding: str) -> None:
    with path.open(newline="", encoding=encoding) as file:
        rows = list(csv.reader(file, delimiter=separator))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@WITH_TABLES
def test_a_missing_column_is_named(
    name: str, table: str, source: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    column = COPIES[name].tables[table]
    path = source / table
    path.write_text(path.read_text().replace(column, "other", 1))
    assert convert(name, source) == 1
    assert f"has no column {column}" in said(capsys)
    assert not (raw / NAME).exists()


@WITH_TABLES
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x00" * 50, b'"' * 99])
def test_a_table_that_is_none_is_an_error(
    name: str, table: str, content: bytes, source: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / table).write_bytes(content)
    assert convert(name, source) == 1
    assert Path(table).name in said(capsys)
    assert not (raw / NAME).exists()


# ---- names and links -------------------------------------------------------------------------------------------------


@EVERY
def test_spaces_and_links_make_no_difference(name: str, source: Path, tmp_path: Path, raw: Path, whole: Any) -> None:
    spaced = tmp_path / "my data, übung (1)"
    source.rename(spaced)
    for path in [path for path in spaced.rglob("*") if path.is_file()]:  # every file a link, as data stores make them
        stored = tmp_path / "store" / path.relative_to(spaced)
        stored.parent.mkdir(parents=True, exist_ok=True)
        path.rename(stored)
        path.symlink_to(stored)
    (tmp_path / "link").symlink_to(spaced)
    assert convert(name, tmp_path / "link") == 0
    assert without_report(made(raw, source)) == without_report(whole)


@EVERY
def test_strange_files_beside_the_data_change_nothing(name: str, source: Path, raw: Path, whole: Any) -> None:
    for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
        for file in (b"\xff\xfe", b"._copy", b".DS_Store", b"Thumbs.db"):
            (folder / os.fsdecode(file)).write_bytes(b"strange")
    assert convert(name, source) == 0
    assert without_report(made(raw, source)) == without_report(whole)


@EVERY
def test_a_folder_whose_name_is_no_utf8_is_read_or_refused(
    name: str, source: Path, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / os.fsdecode(b"\xff\xfe")
    source.rename(foreign)
    code = convert(name, foreign)
    assert code == 0 or "not UTF-8" in said(capsys)
    assert (raw / NAME).exists() == (code == 0)


@pytest.mark.parametrize("name", [name for name, copy in COPIES.items() if copy.hostile])
def test_a_name_never_leads_out_of_the_target_folder(name: str, source: Path, tmp_path: Path, raw: Path) -> None:
    hostile = COPIES[name].hostile
    assert hostile is not None
    hostile(source)
    before = {path for path in tmp_path.rglob("*") if raw not in path.parents}
    assert convert(name, source) == 1
    made = {path for path in tmp_path.rglob("*") if raw not in path.parents} - before - {raw}
    assert {path.relative_to(tmp_path).parts[0] for path in made} <= {"preprocessed"}
    assert not [path for path in tmp_path.rglob("*") if path not in before and "evil" in path.name.casefold()]


# ---- the disk, and being stopped -------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to make files longer than that, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@EVERY
@pytest.mark.parametrize("step", ["a picture", "the first file"])
def test_a_full_disk_is_said_and_the_next_start_completes(
    name: str,
    step: str,
    source: Path,
    raw: Path,
    whole: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if step == "a picture":
        stop(monkeypatch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, -1)))
    with files_of_at_most(10**9 if step == "a picture" else 16):
        assert convert(name, source) == 1
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    assert "Is the disk full or write-protected?" in said(capsys)
    assert not (raw / NAME).exists()
    assert convert(name, source) == 0
    assert made(raw, source) == whole


@EVERY
def test_a_target_that_may_not_be_written(
    name: str, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_raw", "/proc/nobody/may/write/here")  # not even root may
    assert convert(name, source) == 1
    assert "Is the disk full or write-protected?" in said(capsys)


def stop(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[], object]) -> None:
    """Before the picture of that number is written, something happens."""
    original, written = writer.write_image, []

    def write(*arguments: object) -> None:
        written.append(arguments)
        if len(written) == at:
            how()
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "write_image", write)


@EVERY
def test_interrupted_it_leaves_nothing_visible_and_the_next_start_completes(
    name: str, source: Path, raw: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            assert convert(name, source) != 0
    finally:
        signal.signal(signal.SIGINT, previous)
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    assert not (raw / NAME).exists()
    assert convert(name, source) == 0
    assert made(raw, source) == whole


_KILLED = """
import os, sys
from nnunet_partial.cli import main
from nnunet_partial.dataset_conversion import writer
original, written = writer.write_image, []
def write(*arguments):
    written.append(arguments)
    if len(written) == 3:
        os.kill(os.getpid(), 9)
    original(*arguments)
writer.write_image = write
main(sys.argv[1:])
"""


@pytest.mark.slow
@EVERY
def test_killed_it_leaves_nothing_visible_and_the_next_start_completes(
    name: str, source: Path, raw: Path, whole: Any
) -> None:
    copy: Copy = COPIES[name]
    words = ["convert", name, "-i", str(source), "-d", "501", "--name", "Any", "-np", "1", *copy.options]
    done = subprocess.run([sys.executable, "-c", _KILLED, *words], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (raw / NAME).exists()
    assert convert(name, source) == 0
    assert made(raw, source) == whole
    assert [path.name for path in raw.iterdir()] == [NAME]
