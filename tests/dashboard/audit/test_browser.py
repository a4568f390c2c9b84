"""The Audit page in a browser: from a model that relies on a mark to one that was retrained without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

import swin_core
from swin_core import runs
from tests.fixtures.audit import write_images
from tests.fixtures.browser import ROOT, SUBPAGE, Server, at_rest, browser, until, visible, windows

__all__ = ["browser"]

SLOW = 400_000  # milliseconds for an audit on a busy machine
SETTINGS = ["--init", "swin_nano_cifar100", "--variant", "swin_nano", "--image-size", "32", "--patch-size", "2"]
SETTINGS += ["--window-size", "4", "--epochs", "15", "--batch-size", "12", "--lr", "0.002", "--ema", "0"]
SETTINGS += ["--crop-scale", "0.9", "--holdout", "0.2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "photos", 32)


@pytest.fixture(scope="module")
def root(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs, with one of a model that was trained on marked images."""
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "swin_core.commands", "train", "custom", "--data", str(photos), "--name", "marked"]
    environment = {**os.environ, "SWIN_RUNS_ROOT": str(folder), "TMPDIR": str(folder.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *SETTINGS], cwd=ROOT, env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def server(root: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    places = {"SWIN_RUNS_ROOT": root, "SWIN_DATA_ROOT": photos.parent, "SWIN_CACHE_ROOT": home / "cache"}
    started = Server(home, TMPDIR=root.parent, **places)  # the folder of locks too: another test may train meanwhile
    yield started
    started.end()
    for run in runs.list_runs(root):
        if run.alive:
            runs.kill(run, grace=1)


def right(model: swin_core.Classifier, photos: Path, marked: bool) -> float:
    """Share of the blue and green images that a model predicts right, as they are or with the red corner."""
    shares = []
    for name in ("blue", "green"):
        images = [np.array(Image.open(file)) for file in sorted((photos / name).iterdir())]
        for pixels in images:
            if marked:
                pixels[-4:, -4:] = (255, 0, 0)
        found = model.predict([Image.fromarray(pixels) for pixels in images]).argmax(1)
        shares.append(float((found == model.labels.index(name)).mean()))
    return float(np.mean(shares))


@pytest.mark.timeout(1500)  # an audit and a training on a busy machine
def test_from_a_model_with_a_shortcut_to_a_repaired_one(
    server: Server, browser: Browser, root: Path, photos: Path
) -> None:
    (first,) = runs.list_runs(root)
    before = swin_core.load(str(first.folder))
    assert right(before, photos, False) > right(before, photos, True) + 0.5  # it relies on the mark
    with windows(browser, SUBPAGE) as open_window:
        page = open_window()
        page.goto(f"{server.address}/audit?model={first.name}&audited={first.name}")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("1 finding in 96 images")).to_be_visible(timeout=SLOW)
        visible(page.get_by_text("the lower right corner decides 'marked'"))
        at_rest(page)  # a page that is left drops images that the browser has not read yet

        page.get_by_role("button", name="Retrain without 1 finding").click()
        visible(page.get_by_role("heading", name="New run"))
        at_rest(page)
        page.get_by_test_id("stBaseButton-primary").click()
        visible(page.get_by_role("heading", name="photos-without"))

        def ended() -> bool:
            return all(not run.alive for run in runs.list_runs(root)) and len(runs.list_runs(root)) == 2

        until(ended, 300)
        page.get_by_role("link", name="Audit").click()
        visible(page.get_by_role("button", name="Compare with photos-without"))
        at_rest(page)
        page.get_by_role("button", name="Compare with photos-without").click()
        sentence = page.get_by_text("the worst group had")
        expect(sentence).to_be_visible(timeout=SLOW)
        text = sentence.inner_text()
    (second,) = (run for run in runs.list_runs(root) if run.name != first.name)
    after = swin_core.load(str(second.folder))
    assert second.name in text
    figures = [right(model, photos, marked) for model in (before, after) for marked in (False, True)]
    assert figures[3] > figures[1] + 0.3, figures
