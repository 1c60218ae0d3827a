"""Small files are written whole or not at all, and links never touch what they point to."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_partial.errors import ManifestError, PartialLabelError
from nnunet_partial.utils.files import (
    atomic_path,
    equal_files,
    files_of_users,
    link_or_copy,
    read_json,
    sync_to_disk,
    write_json,
    write_text,
)


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "Übung\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\x9cbung\n"


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "two"


def test_the_temporary_name_has_the_same_ending(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_text("x")


def test_a_very_long_name(tmp_path: Path) -> None:
    name = "a" * 200 + ".nii.gz"
    write_text(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [RuntimeError("full disk"), KeyboardInterrupt("stop")])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error), match=str(error)):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_until_the_end_the_old_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_hard_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    write_text(tmp_path / "original", "old")
    (tmp_path / "link").hardlink_to(tmp_path / "original")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "original").read_text() == "old"


def test_files_are_as_readable_as_the_users_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_text(tmp_path / "a", "x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "other")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_share_without_file_modes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse_modes(monkeypatch, code)
    write_text(tmp_path / "a", "x")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "x"}


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_modes(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_text(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def refuse_modes(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*path: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, refuse, raising=False)


def test_json_keeps_the_order_of_keys_and_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "Größe"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["b", "a"]
    assert "Größe" in text
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": "Größe"}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is not valid JSON"),
        (b"{'a': 1}", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"9" * 5000, "is not valid JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate key 'c' in one object"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=match):
        read_json(path, ManifestError)


def test_json_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json", ManifestError)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_json(tmp_path, ManifestError)


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        read_json(path)
    except PartialLabelError as problem:
        text = str(problem)
    else:
        text = str(path)
    assert str(path) in text


def test_a_link_is_the_same_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "new" / "b"
    source.write_text("x")
    link_or_copy(source, target)
    assert target.samefile(source)


def test_a_link_replaces_what_was_there(tmp_path: Path) -> None:
    source, target, third = (tmp_path / name for name in "abc")
    source.write_text("new")
    third.write_text("old")
    target.hardlink_to(third)
    link_or_copy(source, target)
    link_or_copy(source, target)
    assert target.read_text() == "new"
    assert third.read_text() == "old"


def test_a_symbolic_link_gives_the_file_behind_it(tmp_path: Path) -> None:
    source, link, target = (tmp_path / name for name in "abc")
    source.write_text("x")
    link.symlink_to(source)
    link_or_copy(link, target)
    assert not target.is_symlink()
    assert target.samefile(source)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EINVAL])
def test_where_no_link_can_be_made_the_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "a").write_text("x")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
    assert not (tmp_path / "b").samefile(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_another_error_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        link_or_copy(tmp_path / "missing", tmp_path / "b")


def test_many_files_are_synced_at_once(tmp_path: Path) -> None:
    sync_to_disk(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        sync_to_disk(tmp_path / "nowhere")


def test_system_files_are_none_of_the_user(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".git", "Thumbs.db", "Desktop.ini", ".DS_Store", "._a.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in files_of_users(tmp_path)] == [".git", "a.csv", "b.csv"]


def test_equal_files_are_found_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bytes(range(256)) * 40
    contents = {
        **{"a": big, "b": big[::-1], "c": big[:-1] + b"x", "empty": b"", "alone": b"alone"},
        **{"A": big, "A2": big, "B": big[1:] + b"x", "Empty": b"", "larger": big * 2},
    }
    paths = {name: tmp_path / f"file_{number}" for number, name in enumerate([*contents, "linked", "Linked", "gone"])}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    paths["linked"].write_bytes(b"linked")
    os.link(paths["linked"], paths["Linked"])
    files = {name: paths[name] for name in ("a", "b", "c", "empty", "alone", "linked", "gone")}
    others = {name: paths[name] for name in ("A", "A2", "B", "Empty", "larger", "Linked", "gone")}
    opened: list[Path] = []
    open_file = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode: opened.append(path) or open_file(path, *mode))
    assert equal_files(files, others) == {"a": ["A", "A2"], "empty": ["Empty"], "linked": ["Linked"]}
    assert not {paths[name] for name in ("alone", "larger", "linked", "Linked")} & {*opened}
    assert opened.count(paths["b"]) == 1  # its middle is that of none
    assert equal_files({}, others) == equal_files(files, {}) == {}
