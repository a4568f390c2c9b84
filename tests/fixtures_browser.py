"""What the tests in a real browser share: the dashboard by the documented command, windows, and what to wait for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import free_port
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
WIDE, NARROW = (1440, 1000), (390, 844)
PATIENCE = 120_000  # milliseconds; a busy machine with two cores is slow to draw

SERIOUS = {"serious", "critical"}

Open = Callable[..., Page]
"""Opens a window."""

SUBPAGE = "404"
"""Below a page's own address Streamlit first looks for its server there, and then above."""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Server:
    """The dashboard, started by the documented command from the root, as on a fresh account.

    Args:
        home: the account's folder; it gets the server's log.
        places: environment variables that name folders, such as SWIN_RUNS_ROOT.
    """

    def __init__(self, home: Path, **places: Path) -> None:
        self._log = home / "log.txt"
        self._places = {name: str(place) for name, place in {"HOME": home, **places}.items()}
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        # PYTHONPATH would hide that Streamlit puts another folder on the import path than a test run does.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "STREAMLIT_"))}
        options = ["--server.port", str(self._port), "--server.headless", "true"]
        with self._log.open("a") as output:
            self.program = subprocess.Popen(
                [str(Path(sys.executable).with_name("streamlit")), "run", "dashboard/app.py", *options],
                cwd=ROOT,
                env={**kept, **self._places},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + PATIENCE / 1000
        while not answers(f"{self.address}/_stcore/health"):
            assert self.program.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.1)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.program.send_signal(number)
        self.program.wait(30)


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that neither stop it nor need runs or data of their own."""
    started = Server(tmp_path_factory.mktemp("home"))
    yield started
    started.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not one for all tests: while it is open, Playwright keeps its thread's event loop running."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        line = f"no browser was found: install one of {', '.join(BROWSERS)}"
        pytest.fail(line, pytrace=False) if os.environ.get("CI") else pytest.skip(line)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def windows(browser: Browser, *known: str) -> Iterator[Open]:
    """Open windows of their own; at the end the consoles must hold no error but those with the known words."""
    faults: list[str] = []
    opened = []

    def open_window(size: tuple[int, int] = WIDE, scheme: Any = "light") -> Page:
        small = size[0] < 640
        window = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=small, is_mobile=small
        )
        opened.append(window)
        page = window.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        return page

    yield open_window
    for window in opened:
        window.close()
    unknown = [fault for fault in faults if not any(words in fault for words in known)]
    assert not unknown, unknown


def visible(part: Locator) -> None:
    expect(part).to_be_visible(timeout=PATIENCE)


def at_rest(page: Page) -> None:
    """Wait until the page's script has run and everything is drawn.

    Right after a click the script may not have begun: wait for what it changes first.
    """
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=PATIENCE)


def drawn(page: Page, place: str, before: str = "") -> str:
    """The only picture of a chart, once another one than before is drawn and the page's script has run.

    All of it is asked at once. A changed chart is a new one to Streamlit, and both are there until the script
    ends, the old one hidden; and Plotly puts the place of a picture before the picture.
    """
    script = """([place, before]) => {
        const state = document.querySelector('[data-testid=stApp]').dataset.testScriptState;
        const images = [...document.querySelectorAll(`${place} .imagelayer image`)];
        const href = images.length === 1 && state === 'notRunning' && images[0].getAttribute('href');
        return href && href !== before && href;
    }"""
    return str(page.wait_for_function(script, arg=[place, before]).json_value())


def boxes(page: Page, selector: str, count: int | None = None) -> list[dict[str, float]]:
    """The places of all that can be seen; with a count, once there are so many and a moment later still there."""
    script = """([selector, count]) => {
        const found = [...document.querySelectorAll(selector)].map(element => {
            const {x, y, width, height} = element.getBoundingClientRect(); return {x, y, width, height};
        }).filter(({width, height}) => width && height);
        const before = window.placesBefore;
        window.placesBefore = JSON.stringify([selector, found]);
        return (count === null || (found.length === count && before === window.placesBefore)) && found;
    }"""
    found: list[dict[str, float]] = page.wait_for_function(script, arg=[selector, count], polling=100).json_value()
    return found


def findings(page: Page, part: str | None = None, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds serious or critical, and headings that skip a level; a line for each element.

    Args:
        page: to look at.
        part: the selector of the only part to look at.
        rules: the only ones to apply; all if empty.
    """
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, part, options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found
        if rule["impact"] in SERIOUS or rule["id"] == "heading-order"
        for node in rule["nodes"]
    ]
