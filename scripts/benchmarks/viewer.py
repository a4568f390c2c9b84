"""The viewer of heat maps: frames while a control is dragged, first paint, size of the payload, and cached reruns."""

import json
import statistics
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmarks.browser import ROOT, chromium, dashboard
from benchmarks.timing import median_ms
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest, app_test, local_script_runner

import swin_core
from swin_core.comparisons.compare import compare
from swin_core.figures.viewer_payload import viewer_payload, viewer_script, viewer_style

MODELS = ("swin_milli_cifar100", "swin_milli_flowers", "swin_micro_cifar100", "swin_micro_flowers")
SAMPLES = ("cat", "dog", "rose", "tulip", "rocket", "mountain", "cup", "dandelion")
STEPS = 120
"""Frames of a drag."""

OPEN = """async ({script, style, payload}) => {
    document.body.innerHTML = `<style>${style}</style><div id="here"></div>`;
    const url = URL.createObjectURL(new Blob([script], {type: 'text/javascript'}));
    window.module = await import(url);
    const frame = () => new Promise(requestAnimationFrame);
    const start = performance.now();
    window.mounted = module.mount(document.querySelector('#here'), payload);
    await Promise.all([...document.querySelectorAll('#here img')].map(one => one.src && one.decode()));
    await frame();
    await frame();
    return performance.now() - start;
}"""
# The work of each frame, and the time from one frame to the next, in milliseconds.
DRAG = """async ([name, steps]) => {
    const input = document.querySelector(`[aria-label="${name}"]`);
    const work = [], interval = [];
    const draw = mounted.viewer.draw.bind(mounted.viewer);
    mounted.viewer.draw = () => { const start = performance.now(); draw(); work.push(performance.now() - start); };
    let last = await new Promise(requestAnimationFrame);
    for (let step = 0; step < steps; step++) {
        if (input.tagName === 'SELECT') input.selectedIndex = step % input.options.length;
        else input.value = 20 + step % 60;
        input.dispatchEvent(new Event(input.tagName === 'SELECT' ? 'change' : 'input'));
        const now = await new Promise(requestAnimationFrame);
        interval.push(now - last);
        last = now;
    }
    mounted.viewer.draw = draw;
    return [work, interval];
}"""
POINT = """async steps => {
    const taken = [];
    const cell = mounted.viewer.rows[0][1].frame, box = cell.getBoundingClientRect();
    for (let step = 0; step < steps; step++) {
        await new Promise(requestAnimationFrame);
        const start = performance.now();
        cell.dispatchEvent(new PointerEvent('pointermove', {
            clientX: box.left + box.width * step / steps, clientY: box.top + box.height / 2, pointerType: 'mouse'}));
        mounted.viewer.draw();
        if (document.querySelectorAll('.crossed').length < 16) throw Error('not in every cell');
        cell.getBoundingClientRect();  // the layout belongs to it
        taken.push(performance.now() - start);
    }
    return taken;
}"""


def viewer(rounds: int) -> list[dict[str, Any]]:
    """Frames of a drag over 4 x 4 maps, pointer to crosshair, first paint, payload, cached reruns, WebSocket frames."""
    classifiers = [swin_core.load(name) for name in MODELS]
    images = [(name, swin_core.read_image(ROOT / "assets" / "samples" / f"{name}.jpg")) for name in SAMPLES[:4]]
    payload = viewer_payload(compare(images, classifiers))
    size = len(json.dumps(payload)) / 1e3
    print(f"payload of 4 x 4 maps: {size:.0f} KB")
    results = [{"title": "payload of 4 x 4 maps", "kilobytes": size}]
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        tab.set_content("<!DOCTYPE html><html></html>")
        content = {"script": viewer_script(), "style": viewer_style(), "payload": payload}
        paints = [tab.evaluate(OPEN, content) for _ in range(max(3, rounds // 3))]
        results.append(_report("first paint of 4 x 4 maps", paints))
        tab.set_viewport_size({"width": 1440, "height": 2400})  # all 16 maps are seen
        for name in ("Opacity", "Threshold", "Colour map", "Scale"):
            work, interval = tab.evaluate(DRAG, [name, STEPS])
            results.append(_report(f"drag of {name}, work of a frame", work))
            results.append(_report(f"drag of {name}, frame to frame", interval))
        results.append(_report("pointer to crosshair in 16 maps", tab.evaluate(POINT, STEPS)))
        results.append(_messages(browser))
    return [*results, *_reruns(rounds)]


def _report(title: str, values: list[float]) -> dict[str, Any]:
    median, p95 = statistics.median(values), float(np.quantile(values, 0.95))
    print(f"{title}: median {median:.1f} ms, p95 {p95:.1f} ms")
    return {"title": title, "median_ms": median, "p95_ms": p95, "count": len(values)}


def _messages(browser: Any) -> dict[str, Any]:
    """Count the messages between page and server while a control of the page is dragged, and after it."""
    with dashboard() as (address, _):
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        sent: list[object] = []
        tab.on(
            "websocket",
            lambda socket: [
                socket.on(name, lambda message: sent.append(message)) for name in ("framesent", "framereceived")
            ],
        )
        query = "&".join([*(f"sample={name}" for name in SAMPLES[:4]), *(f"model={name}" for name in MODELS)])
        tab.goto(f"{address}/?{query}&trust=false")
        tab.locator(".viewer .class").nth(4 * 4 * 3 - 1).wait_for(state="attached", timeout=120_000)
        tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=120_000)
        tab.wait_for_timeout(1000)
        box = tab.get_by_role("slider", name="Opacity", exact=True).bounding_box()
        y = box["y"] + box["height"] / 2
        tab.mouse.move(box["x"] + 0.8 * box["width"], y)
        tab.mouse.down()
        sent.clear()
        tab.mouse.move(box["x"] + 0.2 * box["width"], y, steps=60)
        tab.wait_for_timeout(300)
        during = len(sent)
        tab.mouse.up()
        tab.wait_for_url("**opacity=**")
        tab.wait_for_timeout(500)
    print(f"WebSocket frames: {during} while dragging, {len(sent) - during} when the drag has ended")
    return {"title": "WebSocket frames of a drag", "during": during, "after": len(sent) - during}


def _reruns(rounds: int) -> list[dict[str, Any]]:
    empty = AppTest.from_string("import streamlit", default_timeout=300)
    results = [_rerun("rerun of an empty script", empty, rounds)]
    for count, models in ((2, MODELS[:1]), (8, MODELS)):
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=300)
        app.query_params["sample"], app.query_params["model"] = list(SAMPLES[:count]), list(models)
        app.query_params["trust"] = "false"
        results.append(_rerun(f"cached rerun of {count} x {len(models)} maps", app, rounds))
    return results


def _rerun(title: str, app: AppTest, rounds: int) -> dict[str, Any]:
    """Measure reruns with the scripts compiled, as in a server after the first run; AppTest would compile each anew."""
    compiled = ScriptCache()
    with ExitStack() as patches:
        for module in (app_test, local_script_runner):
            patches.enter_context(patch.object(module, "ScriptCache", lambda: compiled))
        app.run()
        median = median_ms(app.run, rounds)
    print(f"{title}: {median:.0f} ms")
    return {"title": title, "median_ms": median}
