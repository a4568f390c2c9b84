"""The dashboard in long use: many sessions, explanations without end, and five hundred interactions of one visitor."""

import hashlib
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmarks.demo import BUNDLED, ROOT, ask, images, served
from benchmarks.servers import page_served, peak_of, resident_mib
from benchmarks.visitor import Visitor

from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import COLORMAPS
from swin_core.data.dataset import data_root
from swin_core.data.registry import DATA_SETS
from swin_core.zoo.load import available

SOAK_SECONDS = 1800.0
"""Longest time of the soak, which says how many explanations it made."""
STEPS = 25
"""Changes in one session of the soak."""
MEMORY_MIB, SLOPE_MIB = 1536.0, 10.0
"""Most memory of the dashboard, and its growth in a hundred interactions of the second half that counts as none."""
MAP_CONTROLS = ("against", "layer", "method", "rows", "trust")
"""Controls of the Compare page that change its heat maps, beside the samples."""
VALUES: dict[str, tuple[Any, ...]] = {
    "trust": (True, False),
    "maps": (True, False),
    "diagonal": (True, False),
    "search": ("", "a", "00", "rose"),
    "page": (1, 2),
    "row": (1.0, 2.0, 5.0),
    "column": (1.0, 2.0, 5.0),
}
"""Values of the controls that offer no list of them."""
BROWSED = ("data", "split", "class", "predicted", "show", "sort", "judge", "versus", "view", "size", "level")
PAGE_CONTROLS = {*MAP_CONTROLS, *VALUES, *BROWSED, "panel", "block", "head", "relevant", "detail", "by"}
"""Controls of all pages that change what is shown."""
ATTENTIVE = [name for name in available() if name.startswith(("swin_micro", "swin_milli"))]
"""Models for which every method has a map; a Swin-MLP has no attention."""
SAMPLES = sorted(file.stem for file in (ROOT / "assets" / "samples").glob("*.jpg"))
SLOW = {method.title for method in METHODS.values() if method.cost != "one pass"}


def sessions(result: Any, number: int) -> Any:
    """Open links to the Compare page, eight at a time, and wait until each has drawn its heat maps."""
    with page_served() as (address, server, _), peak_of(server, result), ThreadPoolExecutor(8) as pool:

        def visit(seed: int) -> tuple[str, float]:
            query = _link(random.Random(seed))
            with Visitor(address) as tab:
                tab.open("", query)
                return tab.fault or _missing(tab, query), tab.seconds

        for fault, seconds in pool.map(visit, range(number)):
            result.add(not fault, seconds, fault=fault)
    return result


def soak(result: Any, number: int) -> Any:
    """Make different explanations for half an hour at most: half by requests to the demo, half by sessions on the page.

    A session opens a link with new photos, and then changes the method, the layer, the samples and so on.
    """
    _soak_demo(result, number // 2, time.monotonic() + SOAK_SECONDS / 2)
    _soak_page(result, number - number // 2, time.monotonic() + SOAK_SECONDS / 2)
    return result


def _soak_demo(result: Any, number: int, until: float) -> None:
    names, photos = list(BUNDLED), images()
    methods = [name for name, method in METHODS.items() if method.cost == "one pass"]
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), names) as (address, server),
        peak_of(server, result),
        httpx.Client(base_url=address, timeout=600) as visitor,
    ):
        for done in range(number):
            start = time.perf_counter()
            ask(visitor, [names[done % len(names)]], next(photos), methods[done % len(methods)])
            result.add(True, time.perf_counter() - start)
            if time.monotonic() > until:
                break


def _soak_page(result: Any, number: int, until: float) -> None:
    seen: set[str] = set()
    photos = images()
    with page_served() as (address, server, cache), peak_of(server, result):
        for session in count():
            draw = random.Random(session)
            with Visitor(address) as tab:
                shared = [share(cache, next(photos)) for _ in range(2)]
                query = _link(draw) | {"shared": shared}
                tab.open("", query)
                for step in range(STEPS):
                    fault = tab.fault or (_missing(tab, query) if not step else "")
                    new = tab.maps - seen
                    seen |= new
                    for _ in new:
                        result.add(True, tab.seconds / len(new))
                    if fault:
                        result.add(False, fault=f"session {session}, step {step}: {fault}")
                        break
                    if len(seen) >= number or time.monotonic() > until:
                        return
                    _change(tab, draw, MAP_CONTROLS, slow=False)


def memory(result: Any, number: int) -> Any:
    """Interact with all pages in one session; the memory may not grow in the second half, nor pass 1.5 GiB."""
    draw, photos = random.Random(0), images()
    held = []
    with page_served() as (address, server, cache), peak_of(server, result), Visitor(address) as tab:
        tab.open()
        for done in range(number):
            try:
                _interact(tab, draw, cache, done, photos)
                tab.refresh()
            except KeyError as error:  # the page has no such control any more
                tab.fault = f"there is no control {error}"
            result.add(not tab.fault, tab.seconds, fault=f"interaction {done}: {tab.fault}" if tab.fault else "")
            held.append(resident_mib(server))
    second_half = held[number // 2 :]
    slope = 100 * float(np.polyfit(range(len(second_half)), second_half, 1)[0])
    tenths = ", ".join(f"{value:.0f}" for value in held[:: max(1, number // 10)])
    print(f"    memory at each tenth: {tenths} MiB; {slope:+.1f} MiB in 100 interactions of the second half")
    if result.peak_mib > MEMORY_MIB:
        result.faults.append(f"the peak of {result.peak_mib:.0f} MiB is above {MEMORY_MIB:.0f}")
    if number >= 100 and slope > SLOPE_MIB:
        result.faults.append(f"the memory grows by {slope:.1f} MiB in 100 interactions")
    return result


def _link(draw: random.Random) -> dict[str, list[str]]:
    """Return the query parameters of a link to the Compare page, which a person shares with others."""
    method = draw.choice([method.title for method in METHODS.values() if method.title not in SLOW])
    return {
        "sample": draw.sample(SAMPLES, draw.randint(1, 2)),
        "model": draw.sample(ATTENTIVE, draw.randint(1, 2)),
        "method": [method],
        "colors": [draw.choice(COLORMAPS)],
    }


def _missing(tab: Visitor, query: dict[str, list[str]]) -> str:
    """Return what the Compare page lacks of a link; an empty text if it shows each image by each model."""
    rows, columns = len(query["sample"]) + len(query.get("shared", [])), len(query["model"])
    shown = [[bool(cell["map"]) for cell in row["cells"]] for row in tab.grid.get("rows", [])]
    if shown != [[True] * columns] * rows:
        return f"the page shows {shown} in place of {rows} x {columns} maps of {query}"
    return ""


def share(cache: Path, content: bytes) -> str:
    """Keep an image where the page keeps the uploads that links name; return its name there."""
    digest = hashlib.sha256(content).hexdigest()
    folder = cache / "swinlens" / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{digest}.name").write_text(f"{digest[:8]}.jpg")
    (folder / digest).write_bytes(content)
    return digest


def _change(tab: Visitor, draw: random.Random, keys: Iterable[str], slow: bool) -> None:
    """Use one of some controls of the page, or press a sample's thumbnail.

    Args:
        tab: where.
        draw: decides what changes.
        keys: of the controls; those that the page does not offer now are left out.
        slow: whether to choose methods of many passes too.
    """
    samples = sorted(key for key in tab.controls if key.startswith(("thumb_on_", "thumb_off_")))
    key = draw.choice([*sorted(tab.controls.intersection(keys)), *(["sample"] if samples else [])])
    if key == "sample":
        tab.press(draw.choice(samples))
    elif key in VALUES:
        tab.choose(key, draw.choice(VALUES[key]))
    else:
        tab.choose(key, draw.choice([option for option in tab.offered(key) if slow or option not in SLOW]))


def _interact(tab: Visitor, draw: random.Random, cache: Path, number: int, photos: Iterator[bytes]) -> None:
    """Open a link with new photos, go to another page, or use a control of the page that is open."""
    if number % 20 == 10:
        tab.open("", _link(draw) | {"shared": [share(cache, next(photos))]})
    elif number % 20 == 15 and (image := _data_image(draw)):
        tab.open("", {"show_pictures": [image]})
    elif number % 10 == 0 or not tab.controls & PAGE_CONTROLS:
        tab.open(draw.choice(("", "", "browse", "browse", "inside", "train")))
    else:
        _change(tab, draw, PAGE_CONTROLS, slow=True)


def _data_image(draw: random.Random) -> str:
    """Return the name of an image of a data set on this machine, or an empty text without one."""
    found = [name for name in DATA_SETS if "train" in DATA_SETS[name].splits and DATA_SETS[name].folder(data_root())]
    return f"{draw.choice(found)}/train/{draw.randrange(2000)}" if found else ""
