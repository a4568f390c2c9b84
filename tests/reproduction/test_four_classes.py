"""The four-class set: its parts, hard links or copies, one line for what is missing, and the recipe that trains it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swin_core.commands import train as command
from swin_core.data.downloads import prepare
from swin_core.data.registry import DATA_SETS
from swin_core.errors import DataError, DownloadError
from swin_core.reproduction.four_classes import CLASSES, compose
from tests.data.test_downloads import Server, files_below, left_over, packed, run_script, serve

FIRST = "Dog-Cat-Classifier-master"
MEMBERS = {
    f"{FIRST}/Data/Train_Data/{kind}/{kind}.{number}.jpg": b"\xff\xd8\xff" + f"{kind} {number}".encode()
    for kind in ("cat", "dog")
    for number in range(3)
}
OTHERS = {f"{FIRST}/README.md": b"#", f"{FIRST}/Data/Layer/cat/0.jpg": b"x", f"{FIRST}/Data/Train_Data/cat/.x": b""}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of a small archive of cats and dogs, as GitHub packs a repository: of no size that is known before."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as served:
        served.content = packed(MEMBERS | OTHERS)
        archive = replace(
            DATA_SETS["cats_dogs"].archive, url=served.url, size=4 * 10**6, unpacked=10**6, counts={"cat": 3, "dog": 3}
        )
        serve(monkeypatch, "cats_dogs", archive)
        threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield served
        served.shutdown()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with both parts in it."""
    for number, kinds in enumerate(("cats_dogs/cat", "cats_dogs/dog", "flower_photos/roses", "flower_photos/tulips")):
        (tmp_path / "data" / kinds).mkdir(parents=True)
        for name in range(number + 1):
            (tmp_path / "data" / kinds / f"{name}.jpg").write_text(f"{kinds} {name}")
    for kind in ("daisy", "dandelion", "sunflowers"):
        (tmp_path / "data" / "flower_photos" / kind).mkdir()
    (tmp_path / "data" / "flower_photos" / "roses" / "LICENSE.txt").write_text("no image")
    return tmp_path / "data"


def test_cats_and_dogs_are_taken_out_of_the_repositorys_archive(server: Server, tmp_path: Path) -> None:
    assert prepare("cats_dogs", tmp_path) == (tmp_path / "cats_dogs", True)
    expected = {f"{name.split('/', 3)[3]}": content for name, content in MEMBERS.items()}
    assert files_below(tmp_path / "cats_dogs") == expected
    assert left_over(tmp_path) == {"cats_dogs", "cats_dogs.sha256"}
    assert prepare("cats_dogs", tmp_path) == (tmp_path / "cats_dogs", False)


CAT = next(iter(MEMBERS))
FAULTS = {
    "cannot be unpacked": lambda whole: whole[: len(whole) // 2],
    "holds 1 images of 'dog'": lambda _: packed(dict([*MEMBERS.items()][:4])),
    "holds cat/cat.0.jpg, which is a web page": lambda _: packed(MEMBERS | {CAT: b"<html>"}),
    "unpacks to more than 1 MB": lambda _: packed(MEMBERS | {CAT: b"\xff\xd8\xff" + bytes(10**6)}),
    "has more than 4 MB": lambda _: packed(MEMBERS | {f"{FIRST}/video.mp4": bytes(8 * 10**6)}),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_an_archive_without_a_checksum_is_judged_by_what_is_in_it(reason: str, server: Server, tmp_path: Path) -> None:
    """Where the connection broke, the next call starts anew: the server cannot go on in the middle."""
    whole = server.content
    server.content = FAULTS[reason](whole)
    with pytest.raises(DownloadError, match=reason) as caught:
        prepare("cats_dogs", tmp_path)
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) <= {f"{server.url.rpartition('/')[2]}.part"}
    server.content = whole
    assert prepare("cats_dogs", tmp_path)[1]
    assert server.requested == [None, None]
    assert left_over(tmp_path) == {"cats_dogs", "cats_dogs.sha256"}


def test_other_images_than_at_the_first_download_are_refused(server: Server, tmp_path: Path) -> None:
    """However the server packs them; the same ones are accepted."""
    assert prepare("cats_dogs", tmp_path)[1]
    record = tmp_path / "cats_dogs.sha256"
    shutil.rmtree(tmp_path / "cats_dogs")
    server.content = packed(dict(reversed([*MEMBERS.items()])))
    assert prepare("cats_dogs", tmp_path)[1]
    shutil.rmtree(tmp_path / "cats_dogs")
    first = record.read_text()
    server.content = packed(MEMBERS | {CAT: MEMBERS[CAT] + b"changed"})
    with pytest.raises(
        DownloadError, match=rf"other images than at the first .* instead of {first[:12]}\); .*\.sha256"
    ):
        prepare("cats_dogs", tmp_path)
    assert not (tmp_path / "cats_dogs").exists()
    record.unlink()
    assert prepare("cats_dogs", tmp_path)[1]
    assert record.read_text() != first


@pytest.mark.parametrize("linked", [True, False])
def test_the_four_classes_are_links_or_copies(linked: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_paths: object) -> None:
        raise OSError(18, os.strerror(18))

    if not linked:
        monkeypatch.setattr(os, "link", refused)
    folder, counts = compose(root)
    assert folder == root / "four_classes"
    assert counts == {"cat": 1, "dog": 2, "rose": 3, "tulip": 4}
    for kind, (data, place) in CLASSES.items():
        pictures = files_below(folder / kind)
        assert pictures == {name: text for name, text in files_below(root / data / place).items() if ".jpg" in name}
        assert all(os.path.samefile(folder / kind / name, root / data / place / name) is linked for name in pictures)
    assert compose(root) == (folder, counts)
    assert left_over(root) == {"cats_dogs", "flower_photos", "four_classes"}


def test_what_is_missing_or_in_the_way_is_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_script("four-classes", "--data-root", str(root), "--out", str(out)) == 0
    assert capsys.readouterr().out == f"four-classes is ready: {out} (1 cat, 2 dog, 3 rose, 4 tulip)\n"
    with pytest.raises(SystemExit, match="2"):
        run_script("flower_photos", "--data-root", str(root), "--out", str(out))
    assert "--out is for four-classes" in capsys.readouterr().err
    (out / "cat" / "0.jpg").unlink()
    with pytest.raises(DataError, match="move it away"):
        compose(root, out)
    (root / "cats_dogs").rename(root / "elsewhere")
    assert run_script("four-classes", "--data-root", str(root)) == 1
    line = f"four-classes: cats_dogs is not in {root}; run swinlens data cats_dogs, or set SWIN_DATA_ROOT.\n"
    assert capsys.readouterr() == ("", line)
    assert left_over(root) == {"elsewhere", "flower_photos"}


def test_custom_trains_on_the_four_classes(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (data_root / "cats_dogs").is_dir():
        pytest.skip("there is no cats_dogs in SWIN_DATA_ROOT")
    folder, counts = compose(data_root, tmp_path / "four")
    assert counts == {"cat": 700, "dog": 699, "rose": 641, "tulip": 799}
    monkeypatch.chdir(tmp_path)
    small = ["--image-size", "32", "--window-size", "4", "--limit", "8", "--batch-size", "4", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["train.py", "custom", "--data", str(folder), *small])
    assert command.main() == 0, capsys.readouterr().err
    run = Path(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((run / "status.json").read_text())["step"] == 2
