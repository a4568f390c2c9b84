"""The Train page in a browser: a run is started, watched, stopped and resumed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from swin_core import runs
from tests.fixtures.browser import (
    NARROW,
    PATIENCE,
    ROOT,
    SUBPAGE,
    WIDE,
    Open,
    Server,
    at_rest,
    browser,
    seen_as,
    until,
    visible,
    windows,
)
from tests.fixtures.runs import epoch_line, make_run, write_lines

__all__ = ["browser"]

EARLIER = "20260102-030405-earlier"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    make_run(root, EARLIER, "stopped", epochs=12)
    started = Server(tmp_path_factory.mktemp("home"), SWIN_RUNS_ROOT=root)
    yield started
    started.end()
    for run in runs.list_runs(root):
        if run.alive:
            runs.kill(run, grace=1)


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Open]:
    """Open the page in a window of its own; one test kills its server."""
    known = ("WebSocket", "net::ERR_", "disconnected from server", "reaching server endpoint", "not responding")
    # A page whose server was killed asks in vain for what it had not loaded yet.
    known = (*known, "Failed to fetch dynamically imported module")
    with windows(browser, SUBPAGE, *known) as open_window:

        def visit(query: str = "", rests: bool = True) -> Page:
            page = open_window()
            page.goto(f"{server.address}/train{query}")
            visible(page.get_by_role("heading", level=1))
            if rests:
                at_rest(page)
            return page

        yield visit


def points(page: Page) -> int:
    """How many points the training loss has."""
    script = """() => Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')].slice(0, 1)
        .flatMap(plot => plot.data.map(trace => trace.x.length)))"""
    return int(page.evaluate(script))


def write(page: Page, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")
    at_rest(page)


def open_tab(page: Page, name: str, inside: Locator) -> None:
    """Open a tab of the form; a click that meets the form while it is drawn anew can be lost."""

    def opened() -> bool:
        page.get_by_role("tab", name=name).click()
        at_rest(page)
        return inside.is_visible()

    until(opened)


@pytest.mark.timeout(900)  # each of its six steps may take its time on a busy machine
def test_a_run_is_started_watched_stopped_and_resumed(visit: Open, server: Server, root: Path, data_root: Path) -> None:
    page = visit()
    page.get_by_role("button", name="New run").click()
    visible(page.get_by_role("heading", name="New run"))
    write(page, "Name", "slice")
    for label, value in (
        ("Number of images (0 for all)", "256"),
        ("Epochs", "400"),
        ("Batch size", "32"),
    ):
        write(page, label, value)
    variant = page.locator(".st-key-setting_variant input")
    open_tab(page, "Model", variant)
    variant.fill("swin_nano")
    variant.press("Enter")
    visible(page.get_by_text("Variant swin_nano"))
    at_rest(page)
    page.get_by_role("button", name="Start").click()

    # Its own view: the curve grows by itself.
    visible(page.get_by_role("heading", name="slice"))
    assert "?run=" in page.url
    until(lambda: points(page) > 2, 120)
    (run,) = (run for run in runs.list_runs(root) if run.title == "slice")
    before = points(page)
    until(lambda: points(page) > before)
    trainer = psutil.Process(runs.find(run.name, root).launch["pid"])

    # The server is killed: the run goes on, and a new server shows it, in this tab and in another one.
    server.end(signal.SIGKILL)
    server.start()
    assert trainer.is_running()
    other = visit(f"?run={run.name}", rests=False)
    visible(other.get_by_text("running", exact=True))
    before = points(other)
    until(lambda: points(other) > before)

    # Stop: everything is saved and no program is left; the first tab, which came back by itself, shows it too.
    other.get_by_role("button", name="Stop").click()
    visible(other.get_by_role("button", name="Resume"))
    visible(page.get_by_role("button", name="Resume"))
    until(lambda: not trainer.is_running(), 20)
    stopped = runs.find(run.name, root)
    assert stopped.state == "stopped"
    steps = stopped.status["step"]
    assert (stopped.folder / "checkpoints" / "last.pt").is_file()

    # Resume: it goes on from that step.
    before = points(other)
    other.get_by_role("button", name="Resume").click()
    visible(other.get_by_role("button", name="Stop", exact=True))
    until(lambda: points(other) > before, 120)
    until(lambda: runs.find(run.name, root).status["step"] > steps)
    written = [line["step"] for line in runs.find(run.name, root).steps()]
    assert written == sorted(set(written))
    runs.request_stop(runs.find(run.name, root))
    visible(other.get_by_role("button", name="Resume"))


def test_a_row_opens_its_run_and_the_address_leads_back(visit: Open) -> None:
    page = visit()
    visible(page.get_by_test_id("stDataFrame"))
    row = page.locator("[data-testid=stDataFrame] table tr", has_text="earlier")
    number = int(row.get_attribute("aria-rowindex") or 0) - 1
    box = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 345, box["y"] + 35 * number + 17)
    page.wait_for_url(f"**run={EARLIER}")
    visible(page.get_by_role("heading", name="earlier"))
    page.go_back()
    visible(page.get_by_role("button", name="New run"))
    page.go_forward()
    visible(page.get_by_role("heading", name="earlier"))
    page.get_by_role("button", name="All runs").click()
    visible(page.get_by_role("button", name="New run"))


def test_weights_of_a_run_become_columns_also_after_a_visit_to_compare(visit: Open, root: Path) -> None:
    for name in ("best", "epoch-0003"):
        weights = root / EARLIER / "checkpoints" / f"{name}.safetensors"
        shutil.copy(ROOT / "assets" / "swin_micro_flowers.safetensors", weights)
    page = visit(f"?run={EARLIER}")
    table = page.get_by_test_id("stDataFrame").first
    start = page.get_by_role("button", name="Start from here")
    # The second time the page has held models, the address its choices, and the table its first tick.
    for row, words in ((1, "earlier, epoch 3"), (2, "earlier, best")):
        table.scroll_into_view_if_needed()
        box = table.locator("canvas").first.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 17, box["y"] + 35 * row + 17)
        (expect(start).to_be_enabled if row == 1 else expect(start).to_be_disabled)()  # the tick has arrived
        page.get_by_role("button", name="Compare").click()
        visible(page.get_by_role("heading", name="Compare models"))
        captions = page.locator(".st-key-grid .head")
        expect(captions.filter(has_text=words)).to_be_attached(timeout=PATIENCE)
        expect(captions.filter(has_text="swin_micro")).to_have_count(0)
        at_rest(page)
        page.get_by_role("link", name="Train").click()
        visible(page.get_by_role("heading", name="Training runs"))
        row_of_run = page.locator("[data-testid=stDataFrame] table tr", has_text="earlier")
        number = int(row_of_run.get_attribute("aria-rowindex") or 0) - 1
        box = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 345, box["y"] + 35 * number + 17)
        visible(page.get_by_role("heading", name="earlier"))
        at_rest(page)


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


COVERED = """() => [...document.querySelectorAll('[data-testid=stMain] [data-testid^=stBaseButton-primary]')]
    .filter(button => { button.scrollIntoView({block: 'center'}); const box = button.getBoundingClientRect();
        const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return !button.contains(top); }).map(button => button.innerText)"""


@pytest.mark.parametrize("query", ["", "?new=flowers", f"?run={EARLIER}"])
def test_the_page_does_not_scroll_sideways_and_no_button_is_covered(visit: Open, query: str) -> None:
    page = visit(query)
    for size in (WIDE, NARROW):
        seen_as(page, "light", size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert not page.evaluate(COVERED)


def test_text_of_the_charts_follows_the_theme(visit: Open) -> None:
    # By red, green and blue, each to 255.
    lightness = """() => {
        const tick = document.querySelector('.js-plotly-plot .xtick text');
        const parts = tick ? getComputedStyle(tick).fill.match(/\\d+/g).slice(0, 3).map(Number) : [128];
        return parts.reduce((sum, part) => sum + part, 0) / parts.length;
    }"""
    page = visit(f"?run={EARLIER}")
    for scheme, wanted in (("light", "< 150"), ("dark", "> 150")):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"({lightness})() {wanted}", timeout=PATIENCE)


def test_a_flat_curve_has_a_text_of_its_own_at_each_tick(visit: Open, root: Path) -> None:
    folder = make_run(root, "20260101-030405-flat")
    write_lines(folder / "metrics.jsonl", [epoch_line(epoch, top1=0.018 + epoch / 500) for epoch in range(1, 9)])
    page = visit("?run=20260101-030405-flat")
    ticks = page.locator(".js-plotly-plot").nth(1).locator(".ytick text")
    visible(ticks.nth(2))
    texts = ticks.all_text_contents()
    assert len(set(texts)) == len(texts) > 2
    shutil.rmtree(folder)
