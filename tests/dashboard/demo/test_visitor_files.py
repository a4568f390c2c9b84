"""Tests of the limits on visitors' files and of their deletion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dashboard.demo.visitor_files import VisitorFiles
from swin_core.errors import ImageError


def put(files: VisitorFiles, folder: Path, name: str, size: int, address: str, session: str = "") -> Path:
    path = folder / name / "image.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    files.add(path, address, session)
    return path


def kept(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.rglob("image.png")}


def test_a_visitor_above_the_limit_loses_the_oldest_file(tmp_path: Path) -> None:
    files = VisitorFiles(per_visitor=100, total=1000)
    put(files, tmp_path, "other", 90, "b")
    for name in ("1", "2", "3", "4"):
        put(files, tmp_path, name, 40, "a")
    assert kept(tmp_path) == {"other", "3", "4"}
    assert {path.name for path in tmp_path.iterdir()} == kept(tmp_path)


def test_above_the_total_the_largest_visitor_loses_files(tmp_path: Path) -> None:
    files = VisitorFiles(per_visitor=100, total=150)
    put(files, tmp_path, "small", 30, "b")
    for name in ("1", "2"):
        put(files, tmp_path, name, 50, "a")
    put(files, tmp_path, "new", 30, "c")
    assert kept(tmp_path) == {"small", "2", "new"}


def test_files_are_deleted_when_all_their_sessions_ended(tmp_path: Path) -> None:
    files = VisitorFiles()
    shared = put(files, tmp_path, "shared", 1, "a")
    put(files, tmp_path, "answer", 1, "a", "first")
    put(files, tmp_path, "unused", 1, "a")
    for session in ("first", "second"):
        files.use(str(shared), session)
    files.end("first")
    files.sweep(grace=60)
    assert kept(tmp_path) == {"shared", "answer", "unused"}
    files.sweep(grace=0)
    assert kept(tmp_path) == {"shared", "unused"}
    files.end("second")
    files.sweep(grace=0)
    assert kept(tmp_path) == {"unused"}


def test_a_session_that_comes_back_keeps_its_files(tmp_path: Path) -> None:
    files = VisitorFiles()
    path = put(files, tmp_path, "image", 1, "a")
    files.use(str(path), "first")
    files.end("first")
    files.use(str(path), "first")
    files.sweep(grace=0)
    assert kept(tmp_path) == {"image"}


def test_an_image_that_is_uploaded_again_outlives_the_first_session(tmp_path: Path) -> None:
    files = VisitorFiles()
    path = put(files, tmp_path, "image", 1, "a")
    files.use(str(path), "first")
    put(files, tmp_path, "image", 1, "b")
    files.end("first")
    files.sweep(grace=0)
    assert kept(tmp_path) == {"image"}


def test_uploads_that_arrive_at_once_are_limited() -> None:
    files = VisitorFiles(per_visitor=100, total=150)
    files.arrive("a", 90)
    files.arrive("b", 50)
    for address in ("a", "c"):
        with pytest.raises(ImageError, match="too many uploads arrive at once"):
            files.arrive(address, 11)
        files.arrive(address, -11)
    files.arrive("a", -90)
    files.arrive("c", 90)


def test_bytes_of_an_upload_that_was_cut_off_count_until_its_file_is_deleted(tmp_path: Path) -> None:
    files = VisitorFiles(per_visitor=100, total=150)
    partial = tmp_path / "tmpabc"
    partial.write_bytes(bytes(90))
    files.arrive("a", 90)
    files.cut_off("a", 90)
    files.delete_unfinished(tmp_path, silent_seconds=60)
    assert partial.exists()
    with pytest.raises(ImageError, match="too many uploads arrive at once"):
        files.arrive("a", 11)
    files.arrive("a", -11)
    os.utime(partial, (0, 0))
    files.delete_unfinished(tmp_path, silent_seconds=0)
    assert not partial.exists()
    files.arrive("a", 90)
