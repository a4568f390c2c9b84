"""Runs and checkpoints as models of the Compare page: safe names, reloaded weights while a run trains."""

from __future__ import annotations

import gc
import json
import os
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.shared import cache
from dashboard.shared import model_names as choices
from dashboard.shared.cache import InputImage, Request
from swin_core.errors import ModelError, SwinError
from swin_core.zoo import load as zoo
from tests.fixtures.pages import cells, empty_caches, texts

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("rose", "tulip", "rocket")
FIRST, SECOND = "20260102-030405-mine", "20260103-030405-mine"

pytestmark = pytest.mark.usefixtures("one_thread")


def save(file: Path, seed: int) -> None:
    """Save the weights of a small model as the trainer does, with a modification time of `seed` seconds."""
    torch.manual_seed(seed)
    model = swin_core.build("swin_nano", num_classes=len(LABELS), image_size=32)
    described = {"labels": LABELS, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    file.parent.mkdir(parents=True, exist_ok=True)
    swin_core.save_weights(model, file, described | {"description": f"seed {seed}"})
    os.utime(file, ns=(seed * 10**9, seed * 10**9))


def make_run(root: Path, name: str, seed: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"name": name[16:]}))
    save(folder / "model.safetensors", seed)
    save(folder / "checkpoints" / "best.safetensors", seed + 1)
    save(folder / "checkpoints" / "epoch-0003.safetensors", seed + 2)
    return folder


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs outside the project, one bundled model, and empty caches."""
    save(tmp_path / "assets" / "bundled.safetensors", 100)
    monkeypatch.setattr(zoo, "ASSETS", tmp_path / "assets")
    empty_caches(monkeypatch)
    folder = tmp_path / "elsewhere" / "runs"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(folder))
    return folder


def picture() -> InputImage:
    image = swin_core.read_image(choices.sample_images()["rose"])
    return InputImage("an image", "rose", image, np.asarray(image), "rose")


def opened(**query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def fault(app: AppTest) -> str:
    """The line above the grid about the one model that has no column."""
    (error,) = app.error
    return str(error.value).replace("\\", "")


# -- names


def test_runs_and_their_checkpoints_are_offered_beside_the_bundled_models(root: Path) -> None:
    make_run(root, FIRST, 1)
    make_run(root, SECOND, 11)
    (root / "20260104-030405-empty").mkdir()
    (root / "20260104-030405-empty" / "config.json").write_text("{}")
    names = choices.offered_models()
    files = ("", "/checkpoints/best.safetensors", "/checkpoints/epoch-0003.safetensors")
    assert names == ["bundled", *(f"{run}{file}" for run in (SECOND, FIRST) for file in files)]
    assert opened(model="bundled").selectbox(key="offer").options == list(map(choices.model_title, names[1:]))
    for name in names[1:]:
        assert Path(choices.model_source(name)).is_relative_to(root)
        assert swin_core.load(choices.model_source(name)).labels == LABELS


@pytest.mark.parametrize(
    "name",
    [
        f"{FIRST}/../../secret.safetensors",
        f"{FIRST}/checkpoints/../../../secret.safetensors",
        f"{FIRST}/.hidden.safetensors",
        "../secret.safetensors",
        f"{FIRST}\0",
        f"/{FIRST}",
        f"{FIRST}/nothing.safetensors",
        "20260102-030405-other",
    ],
)
def test_a_name_that_leads_out_of_the_runs_is_refused(name: str, root: Path) -> None:
    make_run(root, FIRST, 1)
    save(root.parent / "secret.safetensors", 5)
    save(root / FIRST / ".hidden.safetensors", 5)
    with pytest.raises(ModelError) as error:
        choices.model_source(name)
    assert "\n" not in str(error.value)


def test_links_out_of_a_run_are_refused_and_not_offered(root: Path) -> None:
    folder = make_run(root, FIRST, 1)
    outside = root.parent / "outside"
    save(outside / "secret.safetensors", 5)
    make_run(outside, SECOND, 5)
    (folder / "checkpoints" / "epoch-0009.safetensors").symlink_to(outside / "secret.safetensors")
    (folder / "more").symlink_to(outside)
    (root / SECOND).symlink_to(outside / SECOND)
    for name in (f"{FIRST}/checkpoints/epoch-0009.safetensors", f"{FIRST}/more/secret.safetensors", SECOND):
        with pytest.raises(ModelError):
            choices.model_source(name)
        assert name not in choices.offered_models()


def test_columns_are_titled_in_words_and_told_apart() -> None:
    best, third = "checkpoints/best.safetensors", "checkpoints/epoch-0003.safetensors"
    names = ["bundled", f"{FIRST}/{best}", f"{FIRST}/{third}", "timm/resnet50"]
    assert choices.column_titles(names) == ("bundled", "mine, best", "mine, epoch 3", "resnet50 (timm)")
    # Two runs of one name need their times.
    assert choices.column_titles([f"{FIRST}/{third}", f"{SECOND}/{third}", SECOND]) == (
        f"{FIRST}, epoch 3",
        f"{SECOND}, epoch 3",
        "mine",
    )
    assert choices.column_titles(["a/checkpoints/b.safetensors"]) == ("a/checkpoints/b.safetensors",)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (FIRST, "mine (20260102-030405)"),
        (f"{FIRST}/checkpoints/best.safetensors", "mine, best (20260102-030405)"),
        (f"{FIRST}/checkpoints/epoch-0003.safetensors", "mine, epoch 3 (20260102-030405)"),
        (f"{FIRST}/checkpoints/epoch-12345.safetensors", "mine, epoch 12345 (20260102-030405)"),
        ("bundled", "bundled"),
        ("timm/resnet50", "timm/resnet50"),
        # What would not lead back stays as it is.
        (f"{FIRST}/checkpoints/epoch-3.safetensors",) * 2,
        (f"{FIRST}/checkpoints/a (b).safetensors",) * 2,
        ("20260102-030405-a, best",) * 2,
    ],
)
def test_a_name_in_words_leads_back_to_the_name(name: str, words: str) -> None:
    assert choices.display_name(name) == words
    assert choices.from_display_name(words) == name


def test_an_address_holds_a_run_by_its_words_or_by_its_name(root: Path) -> None:
    make_run(root, FIRST, 1)
    name = f"{FIRST}/checkpoints/epoch-0003.safetensors"
    for query in (name, choices.display_name(name), [name, choices.display_name(name)]):
        app = opened(model=query, sample="tulip")
        assert len(re.findall(r"magnitude \d", texts(app))) == 1
        assert "mine, epoch 3" in texts(app)
    # A run that was deleted is named by its name.
    gone = choices.display_name("20250101-000000-gone")
    assert "there is no model 20250101-000000-gone" in fault(opened(model=gone))


# -- the page


def test_checkpoints_are_columns_of_the_grid(root: Path) -> None:
    make_run(root, FIRST, 1)
    app = opened(model=[FIRST, f"{FIRST}/checkpoints/epoch-0003.safetensors"], sample="tulip")
    assert "mine, epoch 3" in texts(app)
    assert len(re.findall(r"magnitude \d", texts(app))) == 2
    # So are the lists of first choices below it.
    assert any("mine, epoch 3" in mark.value for mark in app.markdown)


def test_a_run_that_trains_on_shows_its_new_weights_at_the_next_rerun(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(root, FIRST, 1)
    app = opened(model=[FIRST])
    before = [cell["map"] for cell in cells(app)]
    app.run()
    assert [cell["map"] for cell in cells(app)] == before
    save(root / FIRST / "model.safetensors", 7)
    app.run()
    after = [cell["map"] for cell in cells(app)]
    assert after != before
    empty_caches(monkeypatch)
    assert [cell["map"] for cell in cells(opened(model=[FIRST]))] == after


def test_a_run_without_weights_says_so_and_appears_with_its_first_epoch(root: Path) -> None:
    folder = root / FIRST
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    app = opened(model=[FIRST])
    assert "saved no weights yet" in fault(app)
    save(folder / "model.safetensors", 1)
    app.run()
    assert not app.error
    assert "magnitude" in texts(app)


# -- what is held


def test_weights_are_loaded_once_a_state_and_the_old_ones_are_dropped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(root, FIRST, 1)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    load = swin_core.load

    def counted(name: str) -> swin_core.Classifier:
        made = load(name)
        alive.add(made)
        return made

    monkeypatch.setattr(swin_core, "load", counted)
    shown = picture()
    request = Request(FIRST, shown, (0,), "gradcam", None)
    for state in range(20, 25):
        save(folder / "model.safetensors", state)
        assert cache.loaded_classifier(FIRST) is None
        assert not cache.is_explained(request)
        found = cache.explanation(request)
        assert cache.loaded_classifier(FIRST) is cache.classifier(FIRST)
        assert cache.is_explained(request)
        fresh = swin_core.explain(load(str(folder)), shown.pil, [0], method="gradcam")
        np.testing.assert_allclose(found.maps, fresh.maps, rtol=1e-5, atol=1e-7)
        assert found.weights_hash == fresh.weights_hash
    gc.collect()
    assert len(alive) == 1
    assert len(cache._explanations._values) == 1


def test_a_refusal_holds_for_one_state_of_the_file_only(root: Path) -> None:
    folder = make_run(root, FIRST, 1)
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(SwinError):
        cache.classifier(FIRST)
    assert cache.load_failure(FIRST)
    save(folder / "model.safetensors", 2)
    assert not cache.load_failure(FIRST)
    assert cache.classifier(FIRST).labels == LABELS


def test_what_is_no_file_has_no_state() -> None:
    assert choices.weights_state("timm/resnet18") is None
    assert choices.weights_state("../nowhere") is None
