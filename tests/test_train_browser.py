"""The Train page as a person meets it: a real run of two processes is started, watched, stopped, resumed and kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixtures_runs import make_run
from playwright.sync_api import Browser, Locator, Page, expect
from test_browser import NARROW, PATIENCE, ROOT, WIDE, answers, browser

from swin_core import runs

__all__ = ["browser"]

Open = Callable[..., Page]
EARLIER = "20260102-030405-earlier"


class Server:
    """The dashboard by the documented command, on a runs' folder of its own."""

    def __init__(self, home: Path, root: Path):
        self.home, self.root = home, root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        left_out = ("PYTHONPATH", "STREAMLIT_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        options = ["--server.port", str(self.port), "--server.headless", "true"]
        with (self.home / "log.txt").open("a") as output:
            self.program = subprocess.Popen(
                [str(Path(sys.executable).with_name("streamlit")), "run", "dashboard/app.py", *options],
                cwd=ROOT,
                env={**kept, "HOME": str(self.home), "SWIN_RUNS_ROOT": str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        for _ in range(240):
            assert self.program.poll() is None, (self.home / "log.txt").read_text()
            if answers(f"http://127.0.0.1:{self.port}/_stcore/health"):
                return
            time.sleep(0.5)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.program.send_signal(number)
        self.program.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("runs"))
    make_run(started.root, EARLIER, "stopped", epochs=12)
    yield started
    started.end()
    for run in runs.list_runs(started.root):
        if run.alive:
            runs.kill(run, grace=1)


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own; when the test ends, its console must hold no error."""
    faults: list[str] = []
    windows = []

    def visit(query: str = "", size: tuple[int, int] = WIDE, scheme: Any = "light") -> Page:
        small = size[0] < 640
        window = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=small, is_mobile=small
        )
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/train{query}")
        visible(page.get_by_role("heading", level=1))
        at_rest(page)
        return page

    yield visit
    for window in windows:
        window.close()
    # Below a page's own address Streamlit first looks for its server there, and then above; and one test kills it.
    known = ("404", "WebSocket", "net::ERR_", "disconnected from server", "reaching server endpoint")
    # A page whose server was killed asks in vain for what it had not loaded yet.
    known = (*known, "Failed to fetch dynamically imported module")
    assert not [fault for fault in faults if not any(words in fault for words in known)]


def visible(part: Locator) -> None:
    expect(part).to_be_visible(timeout=PATIENCE)


def at_rest(page: Page) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)


def points(page: Page) -> int:
    """How many points the training loss has."""
    script = """() => Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')].slice(0, 1)
        .flatMap(plot => plot.data.map(trace => trace.x.length)))"""
    return int(page.evaluate(script))


def until(truth: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.2)


def write(page: Page, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")
    at_rest(page)


def programs(run: runs.Run) -> list[psutil.Process]:
    """The launcher of a run and all that it started."""
    launcher = psutil.Process(runs.find(run.name, run.folder.parent).launch["pid"])
    return [launcher, *launcher.children(recursive=True)]


def test_a_run_on_two_ranks_is_started_watched_stopped_and_resumed(
    visit: Open, server: Server, data_root: Path
) -> None:
    page = visit()
    page.get_by_role("button", name="New run").click()
    visible(page.get_by_role("heading", name="New run"))
    write(page, "Name", "slice")
    for label, value in (("Limit of pictures", "256"), ("Epochs", "400"), ("Batch size", "32"), ("Processes", "2")):
        write(page, label, value)
    page.get_by_role("tab", name="Model").click()
    variant = page.locator(".st-key-setting_variant input")
    variant.fill("swin_nano")
    variant.press("Enter")
    visible(page.get_by_text("Variant swin_nano"))
    at_rest(page)
    page.get_by_role("button", name="Start").click()

    # Its own view: the curve grows by itself.
    visible(page.get_by_role("heading", name="slice"))
    assert "?run=" in page.url
    until(lambda: points(page) > 2, 120)
    (run,) = (run for run in runs.list_runs(server.root) if run.title == "slice")
    before = points(page)
    until(lambda: points(page) > before)
    family = programs(run)
    assert len(family) >= 3

    # The server is killed: the run goes on, and a new server shows it, in this tab and in another one.
    server.end(signal.SIGKILL)
    server.start()
    assert all(program.is_running() for program in family)
    other = visit(f"?run={run.name}")
    visible(other.get_by_text("running", exact=True))
    before = points(other)
    until(lambda: points(other) > before)

    # Stop: everything is saved and no program is left; the first tab, which came back by itself, shows it too.
    other.get_by_role("button", name="Stop").click()
    visible(other.get_by_role("button", name="Resume"))
    visible(page.get_by_role("button", name="Resume"))
    until(lambda: not any(program.is_running() for program in family), 20)
    stopped = runs.find(run.name, server.root)
    assert stopped.state == "stopped"
    steps = stopped.status["step"]
    assert (stopped.folder / "checkpoints" / "last.pt").is_file()

    # Resume: it goes on from that step.
    before = points(other)
    other.get_by_role("button", name="Resume").click()
    visible(other.get_by_role("button", name="Stop", exact=True))
    until(lambda: points(other) > before, 120)
    until(lambda: runs.find(run.name, server.root).status["step"] > steps)
    written = [line["step"] for line in runs.find(run.name, server.root).steps()]
    assert written == sorted(set(written))
    runs.request_stop(runs.find(run.name, server.root))
    visible(other.get_by_role("button", name="Resume"))


def test_a_row_opens_its_run_and_the_address_leads_back(visit: Open) -> None:
    page = visit()
    visible(page.get_by_test_id("stDataFrame"))
    row = page.locator("[data-testid=stDataFrame] table tr", has_text="earlier")
    number = int(row.get_attribute("aria-rowindex") or 0) - 1
    box = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 225, box["y"] + 35 * number + 17)
    page.wait_for_url(f"**run={EARLIER}")
    visible(page.get_by_role("heading", name="earlier"))
    page.go_back()
    visible(page.get_by_role("button", name="New run"))
    page.go_forward()
    visible(page.get_by_role("heading", name="earlier"))
    page.get_by_role("button", name="All runs").click()
    visible(page.get_by_role("button", name="New run"))


def test_smoothing_leaves_the_measured_curve_and_the_link_holds_it(visit: Open) -> None:
    page = visit(f"?run={EARLIER}")
    lines = "() => document.querySelectorAll('.js-plotly-plot')[1].data.length"
    visible(page.locator(".js-plotly-plot").nth(1))
    assert page.evaluate(lines) == 1
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_url("**smoothing=1**")
    page.wait_for_function(f"({lines})() === 2")
    page.get_by_text("Time", exact=True).click()
    page.wait_for_url("**by=Time**")
    expect(page.locator(".js-plotly-plot .xtitle").first).to_have_text("minutes", timeout=PATIENCE)


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("query", ["", "?new=flowers", f"?run={EARLIER}"])
def test_the_page_does_not_scroll_sideways_and_no_button_is_covered(
    visit: Open, size: tuple[int, int], query: str
) -> None:
    page = visit(query, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    covered = page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=stMain] [data-testid^=stBaseButton-primary]')]
        .filter(button => { button.scrollIntoView({block: 'center'}); const box = button.getBoundingClientRect();
            const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return !button.contains(top); }).map(button => button.innerText)"""
    )
    assert not covered


def test_text_of_the_charts_follows_the_theme(visit: Open) -> None:
    # By red, green and blue, each to 255.
    lightness = """() => {
        const tick = document.querySelector('.js-plotly-plot .xtick text');
        const parts = tick ? getComputedStyle(tick).fill.match(/\\d+/g).slice(0, 3).map(Number) : [128];
        return parts.reduce((sum, part) => sum + part, 0) / parts.length;
    }"""
    for scheme, wanted in (("light", "< 150"), ("dark", "> 150")):
        page = visit(f"?run={EARLIER}", scheme=scheme)
        page.wait_for_function(f"({lightness})() {wanted}", timeout=PATIENCE)
