"""Downloads against a server on loopback: damage, broken connections, no network, and nothing half-extracted."""

import contextlib
import hashlib
import io
import os
import pty
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tarfile
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from swin_core.data import downloads
from swin_core.data.downloads import downloadable, prepare
from swin_core.data.flowers import CLASSES as FLOWERS
from swin_core.data.flowers import flower_photos
from swin_core.data.public import Archive
from swin_core.data.registry import DATA_SETS
from swin_core.errors import DownloadError
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "prepare_data.py"
FILE = "flower_photos.tgz"


class Server(ThreadingHTTPServer):
    """Serves one file, faithfully or with a fault."""

    content = b""
    ranges = True  # answers requests for the rest of the file
    break_after: int | None = None  # bytes of a body after which the connection is cut
    status: int | None = None
    requested: list[str | None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.requested = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data/{FILE}"


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        if wanted and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # raised when the reader has gone
            self.wfile.write(body[: self.server.break_after])

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output free of requests."""


def packed(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=0) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return file.getvalue()


MEMBERS = {
    f"flower_photos/{kind}/{number}.jpg": b"\xff\xd8\xff" + np.random.default_rng(number).bytes(60_000)
    for kind in FLOWERS
    for number in range(4)
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of a small flower_photos.tgz, which the registry names during a test."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as served:
        served.content = packed(MEMBERS)
        serve(monkeypatch, "flowers", archive_of(served))
        threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield served
        served.shutdown()


def serve(monkeypatch: pytest.MonkeyPatch, name: str, archive: Archive) -> None:
    """Replace the archive of a registered data set."""
    monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], archive=archive))


def archive_of(server: Server) -> Archive:
    content = server.content
    checksum = hashlib.sha256(content).hexdigest()
    return Archive("flower_photos", server.url, len(content), checksum, "flower_photos", 2 * len(content))


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_over(root: Path) -> set[str]:
    """What lies in the data root apart from the lock."""
    return {path.name for path in root.iterdir() if not path.name.endswith(".lock")} if root.exists() else set()


def refused(root: Path) -> str:
    with pytest.raises(DownloadError) as error:
        prepare("flower_photos", root)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def test_a_download_arrives_whole_and_once(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "new" / "data"
    assert prepare("flower_photos", root) == (root / "flower_photos", True)
    assert files_below(root / "flower_photos") == {name.split("/", 1)[1]: content for name, content in MEMBERS.items()}
    assert left_over(root) == {"flower_photos"}
    assert prepare("flower_photos", root) == (root / "flower_photos", False)
    assert server.requested == [None]
    assert flower_photos(root, "train").classes == FLOWERS


def test_a_corrupt_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    whole = server.content
    server.content = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    assert "checksum" in refused(tmp_path)
    assert left_over(tmp_path) == set()
    server.content = whole
    assert prepare("flower_photos", tmp_path)[1]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = 400_000
    assert "run this again to go on" in refused(tmp_path)
    assert left_over(tmp_path) == {f"{FILE}.part"}
    assert (tmp_path / f"{FILE}.part").read_bytes() == server.content[:400_000]
    assert "0.8 of" in refused(tmp_path)
    server.break_after = None
    assert prepare("flower_photos", tmp_path)[1]
    assert server.requested == [None, "bytes=400000-", "bytes=800000-"]
    assert left_over(tmp_path) == {"flower_photos"}


def test_a_server_that_cannot_go_on_is_asked_for_all(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.break_after = 400_000
    refused(tmp_path)
    server.break_after = None
    assert prepare("flower_photos", tmp_path)[1]
    assert server.requested == [None, "bytes=400000-"]
    assert len(files_below(tmp_path / "flower_photos")) == len(MEMBERS)


@pytest.mark.parametrize("length", [1, 400_000, len(packed(MEMBERS)), len(packed(MEMBERS)) + 10])
def test_a_part_of_another_file_is_replaced(length: int, server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(b"?" * length)
    assert prepare("flower_photos", tmp_path)[1]
    assert server.requested[-1] is None
    assert left_over(tmp_path) == {"flower_photos"}


def test_a_page_in_place_of_the_file_is_not_stored(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Log in to the network</html>"
    assert "34 bytes are offered" in refused(tmp_path)
    assert left_over(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_a_refusal_of_the_server_is_one_line(status: int, server: Server, tmp_path: Path) -> None:
    server.status = status
    assert f"HTTP status {status}" in refused(tmp_path)
    assert left_over(tmp_path) == set()


def test_without_a_network_the_advice_is_how_to_go_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(server)
    for url in (f"http://127.0.0.1:{free_port()}/{FILE}", f"http://nowhere.invalid/{FILE}"):
        serve(monkeypatch, "flowers", replace(archive, url=url))
        message = refused(tmp_path)
        assert "check the network" in message
        assert str(tmp_path / FILE) in message
        assert left_over(tmp_path) == set()
    # The advice works.
    (tmp_path / FILE).write_bytes(server.content)
    assert prepare("flower_photos", tmp_path)[1]
    assert left_over(tmp_path) == {"flower_photos", FILE}
    assert server.requested == []


def test_a_damaged_file_put_there_by_hand_is_refused_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(server.content[:-1])
    assert "damaged" in refused(tmp_path)
    assert left_over(tmp_path) == {FILE}
    assert server.requested == []


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/{FILE}"
        serve(monkeypatch, "flowers", replace(archive_of(server), url=url))
        assert "timed out" in refused(tmp_path)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE: dict[str, Callable[[], bytes]] = {
    "parent": lambda: packed({**MEMBERS, "../outside": b"x"}),
    "absolute": lambda: packed({**MEMBERS, "/tmp/outside": b"x"}),
    "parent in the middle": lambda: packed({**MEMBERS, "flower_photos/../../outside": b"x"}),
    "link": lambda: packed(MEMBERS, link("flower_photos/up", "../../outside")),
    "link to a root": lambda: packed(MEMBERS, link("flower_photos/up", "/etc")),
    "hard link": lambda: packed(MEMBERS, link("flower_photos/up", "../outside", tarfile.LNKTYPE)),
    "device": lambda: packed(MEMBERS, link("flower_photos/device", "", tarfile.CHRTYPE)),
    "cut short": lambda: packed(MEMBERS)[:-100_000],
    "text": lambda: b"just text",
    "another folder": lambda: packed({"elsewhere/a": b"x"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_cannot_be_trusted_leaves_nothing(
    kind: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with a right checksum, as from a mirror that was taken over before the checksum was written down."""
    root = tmp_path / "data"
    (tmp_path / "outside").write_text("untouched")
    server.content = HOSTILE[kind]()
    serve(monkeypatch, "flowers", archive_of(server))
    refused(root)
    assert left_over(root) <= {f"{FILE}.part"}
    assert (tmp_path / "outside").read_text() == "untouched"
    assert left_over(tmp_path) == {"data", "outside"}


def test_what_a_killed_run_left_is_cleared(server: Server, tmp_path: Path) -> None:
    unfinished = tmp_path / ".flower_photos.unfinished" / "flower_photos" / "daisy"
    unfinished.mkdir(parents=True)
    (unfinished / "half.jpg").write_bytes(b"x")
    assert prepare("flower_photos", tmp_path)[1]
    assert left_over(tmp_path) == {"flower_photos"}
    assert "daisy/half.jpg" not in files_below(tmp_path / "flower_photos")


def test_a_run_killed_while_unpacking_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    code = (
        "import dataclasses, os, sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}]\n"
        "from swin_core.data import downloads\n"
        f"archive = downloads.{archive_of(server)!r}\n"
        "downloads.DATA_SETS['flowers'] = dataclasses.replace(downloads.DATA_SETS['flowers'], archive=archive)\n"
        "extract, count = downloads._extract, 0\n"
        "def dies(*a, **k):\n"
        "    global count\n"
        "    count += 1\n"
        "    if count == 9: os.kill(os.getpid(), 9)\n"
        "    return extract(*a, **k)\n"
        "downloads._extract = dies\n"
        f"downloads.prepare('flower_photos', {str(tmp_path)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -9
    assert left_over(tmp_path) == {f"{FILE}.part", ".flower_photos.unfinished"}
    with pytest.raises(Exception, match="flower_photos is not in"):
        flower_photos(tmp_path)
    assert prepare("flower_photos", tmp_path)[1]
    assert left_over(tmp_path) == {"flower_photos"}
    assert server.requested == [None]  # the file had arrived whole


def test_no_room_is_said_before_the_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "make room" in refused(tmp_path)
    assert server.requested == []


def test_a_disk_that_fills_up_is_one_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(downloads, "_receive", full)
    assert "No space left" in refused(tmp_path)


def test_what_is_in_the_way_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "flower_photos" / "daisy").mkdir(parents=True)
    (tmp_path / "flower_photos" / "daisy" / "mine.jpg").write_bytes(b"mine")
    assert "move it away" in refused(tmp_path)
    assert files_below(tmp_path / "flower_photos") == {"daisy/mine.jpg": b"mine"}
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file" / "data", tmp_path / "nul\0"):
        refused(root)
    assert server.requested == []


def test_two_at_once_do_not_meet(server: Server, tmp_path: Path) -> None:
    with FileLock(tmp_path / f".{FILE}.lock"):
        assert "already" in refused(tmp_path)
    assert prepare("flower_photos", tmp_path)[1]


def test_the_hub_layout_of_cifar100_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "cifar100").mkdir()
    for split in ("train", "test"):
        (tmp_path / "cifar100" / f"{split}-00000-of-00001.parquet").touch()
    assert prepare("cifar100", tmp_path) == (tmp_path / "cifar100", False)


def test_the_published_archives_are_the_known_ones() -> None:
    """MD5 and size of torchvision's reader for CIFAR-100; both archives come over an encrypted connection."""
    from torchvision.datasets import CIFAR100

    archives = {name: entry.archive for name, entry in downloadable().items()}
    assert archives["cifar100"].url == CIFAR100.url
    assert archives["cifar100"].folder == CIFAR100.base_folder
    for archive in archives.values():
        assert archive.url.startswith("https://")
        # GitHub packs a repository anew for each request: no checksum holds, and the images are counted.
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256) or archive.counts


def run_script(*arguments: str) -> int:
    """The script's own `main`, in this process, so that it asks the server of the tests."""
    return runpy.run_path(str(SCRIPT))["main"](list(arguments))


def test_the_script_says_ready_and_then_there_already(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("ready", "there already"):
        assert run_script("flower_photos", "--data-root", str(tmp_path)) == 0
        assert capsys.readouterr() == (f"flower_photos is {word}: {tmp_path / 'flower_photos'}\n", "")
    with pytest.raises(SystemExit, match="2"):
        run_script("imagenet")
    assert "choose from cifar100, flower_photos, cats_dogs, four-classes" in capsys.readouterr().err


def test_the_script_goes_on_after_a_failure(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = replace(DATA_SETS["cifar100"].archive, url=f"http://127.0.0.1:{free_port()}/cifar-100-python.tar.gz")
    serve(monkeypatch, "cifar100", missing)
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    assert run_script() == 1
    output, errors = capsys.readouterr()
    assert output.startswith("flower_photos is ready")
    assert errors.startswith("cifar100: http://127.0.0.1")
    assert len(errors.splitlines()) == 1


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert "--data-root" in done.stdout
    assert done.stderr == ""


def test_a_terminal_shows_a_progress_bar(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 100))  # of a terminal without columns nothing would be seen
    shown: list[bytes] = []

    def look() -> None:
        with contextlib.suppress(OSError):  # raised when the other side is closed
            while chunk := os.read(terminal, 4096):
                shown.append(chunk)

    looking = threading.Thread(target=look)
    looking.start()
    with open(end, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        prepare("flower_photos", tmp_path)
    looking.join(30)
    os.close(terminal)
    text = b"".join(shown)
    assert FILE.encode() in text
    assert b"100%" in text
    assert b"unpacking" in text
