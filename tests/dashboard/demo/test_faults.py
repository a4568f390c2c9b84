"""Tests of the demo with damaged uploads, without a network, with a login, and of its deletion of files."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from dashboard.demo.turns import BUSY
from tests.fixtures.demo import OURS, ROOT, Started, random_models, started
from tests.fixtures.pages import FLOWERS
from tests.images.test_read_mutations import MUTATIONS, originals

ROSE = ROOT / "assets" / "samples" / "rose.jpg"
PICTURES = 36
MARK = {"_type": "gradio.FileData"}
# An address that nobody listens at, in place of the network.
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A demo with `--share`, a login and a timm model, without a network."""
    home = tmp_path_factory.mktemp("offline")
    random_models(home, tiny=FLOWERS)
    models = ("--models", "tiny", OURS[0], "timm/resnet18")
    with started(home, "--share", "--auth", "guest:se:cret", *models, **OFFLINE) as running:
        yield running


@pytest.fixture(scope="module")
def browser(offline: Started) -> Iterator[httpx.Client]:
    """One connection, logged in."""
    with httpx.Client(base_url=offline.address, timeout=120) as opened:
        answer = opened.post("/login", data={"username": "guest", "password": "se:cret"})
        assert answer.status_code == 200
        yield opened


def ask(browser: httpx.Client, content: bytes) -> str:
    """Upload and explain an image; return the line of the resulting event."""
    path = browser.post("/gradio_api/upload", files={"files": ("photo.png", content)}).json()[0]
    picture = {"path": path, "meta": MARK, "orig_name": "photo.png"}
    body = {"data": [picture, ["tiny"], "", "gradcam"], "session_hash": "attack"}
    event = browser.post("/gradio_api/call/explain", json=body).json()["event_id"]
    *_, (kind, data) = (
        part.split("\n") for part in browser.get(f"/gradio_api/call/explain/{event}").text.split("\n\n")[:-1]
    )
    if kind == "event: error":
        line = json.loads(data.removeprefix("data: "))["error"]
        assert line
        assert len(line.splitlines()) == 1
        assert "failed unexpectedly" not in line
    return kind


def test_damaged_images_leave_the_server_alive(browser: httpx.Client, offline: Started) -> None:
    draw = random.Random(0)
    names = list(originals())
    contents = list(originals().values())
    kinds = []
    for number in range(PICTURES):
        content = bytes(draw.choice(MUTATIONS)(bytearray(contents[number % len(names)]), draw, contents))
        kinds.append(ask(browser, content))
    assert set(kinds) == {"event: error", "event: complete"}
    assert ask(browser, ROSE.read_bytes()) == "event: complete"
    assert "Traceback" not in offline.log.read_text()


def test_a_failed_share_link_is_one_line(offline: Started) -> None:
    lines = offline.log.read_text().splitlines()
    for _ in range(300):
        if len(lines) > 1:
            break
        time.sleep(0.1)
        lines = offline.log.read_text().splitlines()
    assert lines[0] == f"SwinLens demo: {offline.address}"
    assert lines[1].startswith("No public link could be made")
    assert not [line for line in lines if "gradio" in line.lower() and "No public link" not in line]
    assert httpx.get(offline.address, timeout=60).status_code == 200


def test_a_timm_model_without_a_network_is_reported(offline: Started) -> None:
    """The other models are still explained."""
    client = offline.client(auth=("guest", "se:cret"))
    assert "resnet18 from timm" in client.predict(api_name="/models")["timm/resnet18"]
    numbers, _ = client.predict(handle_file(str(ROSE)), models=["timm/resnet18", OURS[0]], api_name="/explain")
    assert "there is no network to fetch them" in numbers["figures"]["timm/resnet18"]["error"]
    assert numbers["predictions"]["timm/resnet18"] == []
    assert numbers["figures"][OURS[0]]["target"] == "roses"
    with pytest.raises(AppError, match="no network to fetch them"):
        client.predict(handle_file(str(ROSE)), models=["timm/resnet18"], api_name="/explain")


def test_requests_without_login_are_refused(offline: Started) -> None:
    with httpx.Client(base_url=offline.address, timeout=60) as stranger:
        assert stranger.post("/login", data={"username": "guest", "password": "secret"}).status_code == 400
        assert stranger.post("/gradio_api/call/models", json={"data": []}).status_code == 401
        assert stranger.post("/gradio_api/upload", files={"files": ("a.png", b"1")}).status_code == 401


SHORT_LIVED = """
import sys
sys.argv[0] = "dashboard/gradio_demo.py"
sys.path.insert(0, ".")
from dashboard import gradio_demo
import gradio
from dashboard.demo.turns import Turns
blocks = gradio.Blocks.__init__
def hasty(self, *arguments, **named):
    blocks(self, *arguments, **named | {"delete_cache": (1, named["delete_cache"][1] // 1200)})
gradio.Blocks.__init__ = hasty
Turns.__init__.__defaults__ = (2, 4)
sys.exit(gradio_demo.main())
"""


def queue_answers_or_refuses(browser: httpx.Client) -> None:
    """Send many requests at once: those beyond the limit are refused, the others are answered."""
    path = browser.post("/gradio_api/upload", files={"files": ("photo.png", ROSE.read_bytes())}).json()[0]
    body = {"data": [{"path": path, "meta": MARK}, ["tiny"], "", "gradcam"]}

    def answer(number: int) -> str:
        event = browser.post("/gradio_api/call/explain", json=body | {"session_hash": f"s{number}"}).json()["event_id"]
        return browser.get(f"/gradio_api/call/explain/{event}").text

    with ThreadPoolExecutor(16) as visitors:
        answers = list(visitors.map(answer, range(16)))
    assert any("event: complete" in text for text in answers)
    assert any(BUSY in text for text in answers)


def test_uploads_are_deleted_and_examples_stay(tmp_path: Path) -> None:
    """With a lifetime of seconds and a queue of four; the folder is deleted when the demo ends."""
    random_models(tmp_path, tiny=FLOWERS)
    with started(tmp_path, "--models", "tiny", program=("-c", SHORT_LIVED)) as running:
        before = {file for file in running.folder.rglob("*") if file.is_file()}
        with httpx.Client(base_url=running.address, timeout=60) as browser:

            def own() -> set[Path]:
                return {file for file in running.folder.rglob("*") if file.is_file()} - before

            assert ask(browser, ROSE.read_bytes() + b"mine") == "event: complete"
            queue_answers_or_refuses(browser)
            for _ in range(300):
                if not own():
                    break
                time.sleep(0.1)
            assert not own()
            assert [file for file in before if file.exists() and file.name == "rose.jpg"]
        folder = running.folder
    assert not folder.exists()
