"""The brush on the Compare page: from the end of a stroke to the new probabilities and maps, in Chromium."""

import statistics
from typing import Any

import numpy as np
from benchmarks.browser import chromium, dashboard

VIEWS = {
    "the main model": "sample=cat&model=swin_milli_cifar100",
    "the first view": "",
    "two models": "sample=tulip&model=swin_milli_cifar100&model=swin_milli_flowers",
}
"""What is shown, by title: the query of the page."""
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
# Milliseconds from the end of a stroke until its answer is drawn: first the stripes end and the probabilities are new,
# then no map waits for its new one; a frame has passed after each.
STROKE = """async ([x, y]) => {
    const inside = root => [...root.querySelectorAll('*')].flatMap(
        one => [one, ...(one.shadowRoot ? inside(one.shadowRoot) : [])]);
    const canvas = inside(document).find(one => one.classList.contains('brush-canvas'));
    const tools = canvas.parentElement.parentElement.querySelector('.brush-tools');
    const box = canvas.getBoundingClientRect();
    const send = (name, across, down) => canvas.dispatchEvent(new PointerEvent(name, {
        clientX: box.left + across * box.width, clientY: box.top + down * box.height, pointerId: 1, bubbles: true}));
    canvas.setPointerCapture = () => {};
    send('pointerdown', x, y);
    send('pointermove', x + 0.1, y + 0.05);
    const start = performance.now();
    send('pointerup', x + 0.1, y + 0.05);
    if (tools.getAttribute('aria-busy') !== 'true') throw Error('the stroke was not sent');
    while (tools.isConnected && tools.getAttribute('aria-busy') === 'true') await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    const answered = performance.now() - start;
    const waits = () => inside(document).some(one => one.matches('.cell[aria-busy]'));
    while (waits()) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return [answered, performance.now() - start];
}"""


def brush(rounds: int) -> list[dict[str, Any]]:
    """From a stroke's end on the Compare page to the new probabilities and maps, in Chromium: median and p95."""
    with chromium() as browser, dashboard() as (address, _):
        return [_measure(browser, title, f"{address}/?{query}&trust=false", rounds) for title, query in VIEWS.items()]


def _measure(browser: Any, title: str, address: str, rounds: int) -> dict[str, Any]:
    tab = browser.new_page(viewport={"width": 1440, "height": 1000})
    tab.set_default_timeout(120_000)
    tab.goto(address)
    tool = tab.get_by_role("button", name="Brush", exact=True).first
    tool.wait_for()
    tab.locator(READY).wait_for()
    tab.wait_for_timeout(1000)
    tab.locator(READY).wait_for()
    tool.click()
    taken = []
    for number in range(rounds + 2):
        taken.append(tab.evaluate(STROKE, [0.1 + 0.7 * number / (rounds + 2), 0.2 + 0.06 * (number % 10)]))
        tab.wait_for_timeout(1000)
        tab.locator(READY).wait_for()  # the rest of the page follows
    tab.close()
    result: dict[str, Any] = {"title": f"brush, {title}", "rounds": rounds}
    for what, times in zip(("probabilities", "maps"), zip(*taken[2:], strict=True), strict=True):
        median, p95 = statistics.median(times), float(np.quantile(times, 0.95))
        print(f"brush, {title}, {what}: median {median:.0f} ms, p95 {p95:.0f} ms, {rounds} strokes")
        result |= {f"{what}_median_ms": median, f"{what}_p95_ms": p95}
    return result
