"""Atomic writes: a file is replaced completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swin_core.errors import ConfigError
from swin_core.system.atomic import atomic_write, check_writable, write_file


def test_the_new_file_stands_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"  # until all of it is there
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(b"old")

    def stopped() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "status.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    sync, rename = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else f"file of {os.fstat(descriptor).st_size}")
        sync(descriptor)

    def renaming(source: Path, target: Path) -> None:
        steps.append("rename")
        assert source.parent == target.parent  # one file system, or it would be a copy
        rename(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    with atomic_write(tmp_path / "status.json") as file:
        file.write(b"new")
    assert steps == ["file of 3", "rename", "folder"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # the last to end
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_the_error_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"), atomic_write(place / "status.json"):
            pass


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing/result.json", "No such file or directory"),
        ("file/result.json", "Not a directory"),
        ("folder", "Is a directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_known_before_the_work(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for call in (check_writable, lambda path: write_file(path, b"content")):
        with pytest.raises(ConfigError, match=f"cannot be written: .*{words}.*; name another file") as caught:
            call(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_check_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []
    write_file(tmp_path / "old.json", b"old")
    check_writable(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_bytes() == b"old"
