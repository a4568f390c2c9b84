"""The Models page without a browser: from a weights file that says nothing to a model with names on Compare."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.models import form, trial
from dashboard.shared import cache, model_names
from swin_core.zoo.model_card import ModelCard, write_card
from tests.fixtures.pages import ROOT, bundle, empty_caches, run

__all__ = ["bundle"]

NAMES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
ARCHITECTURE = "timm/test_resnet"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page was started in, with `flowers.pth` of timm in `models`."""
    monkeypatch.setattr("swin_core.zoo.load.ASSETS", bundle)
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    for module in (model_names, form):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(trial, "is_local", lambda: True)
    empty_caches(monkeypatch, trial)
    (tmp_path / "models").mkdir()
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE.removeprefix("timm/"), num_classes=5)
    torch.save(model.state_dict(), tmp_path / "models" / "flowers.pth")
    torch.save({"state_dict": model.state_dict(), "arch": "test_resnet"}, tmp_path / "models" / "stated.pth")
    return tmp_path


def opened() -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    return run(app.switch_page("views/models.py"))


def chosen(name: str, **state: Any) -> AppTest:
    """The page with a file chosen, and further values of its widgets."""
    app = opened()
    app.session_state.add_weights = name
    for key, value in state.items():
        app.session_state[key] = value
    return run(app)


def save(app: AppTest) -> AppTest:
    next(button for button in app.button if button.label == "Save and compare").click()
    return run(app)


def can_save(app: AppTest) -> bool:
    return any(button.label == "Save and compare" and not button.disabled for button in app.button)


def test_from_an_unknown_file_to_a_card_and_a_model_on_compare(folder: Path) -> None:
    app = chosen("models/stated.pth", add_labels_text="\n".join(NAMES))
    assert not app.error, app.error
    app.number_input(key="add_size").set_value(64)
    app.selectbox(key="add_normalisation").set_value("ImageNet")
    assert can_save(run(app))
    save(app)
    card = tomllib.loads((folder / "models" / "stated.pth.card.toml").read_text())
    assert card == {"labels": NAMES, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "image_size": 64}
    assert "models/stated.pth" in app.query_params["model"]
    classifier = swin_core.load(folder / "models" / "stated.pth")
    assert (list(classifier.labels), classifier.image_size, classifier.mean) == (NAMES, 64, (0.485, 0.456, 0.406))


def test_an_architecture_is_named_where_it_is_open() -> None:
    key = "add_architecture models/flowers.pth"
    app = chosen("models/flowers.pth", **{key: "timm/resnet18"})
    (error,) = app.error
    assert "resnet18" in error.value
    assert not can_save(app)
    assert can_save(chosen("models/flowers.pth", **{key: ARCHITECTURE}))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"add_labels_text": "a, b"}, "the model has 5 classes, these are 2 names"),
        ({"add_labels_text": "[1, 2]"}, "JSON with class names is a list of names"),
    ],
)
def test_wrong_class_names_are_one_line_and_nothing_is_lost(state: dict[str, str], message: str) -> None:
    app = chosen("models/stated.pth", **state)
    app.number_input(key="add_size").set_value(64)
    (error,) = run(app).error
    assert message in error.value.replace("\\", "")
    assert not can_save(app)
    assert app.text_area(key="add_labels_text").value == state["add_labels_text"]
    app.text_area(key="add_labels_text").set_value(",".join(NAMES))
    assert can_save(run(app))
    assert app.number_input(key="add_size").value == 64


def test_wrong_numbers_are_one_line() -> None:
    app = chosen("models/stated.pth")
    app.selectbox(key="add_normalisation").set_value("Other")
    run(app)
    for text in ("0.5 0.5", "a b c", "nan 0.5 0.5", "0 0.5 0.5"):
        app.text_input(key="add_std").set_value(text)
        (error,) = run(app).error
        assert "need 3 numbers each" in error.value
        assert not can_save(app)
    app.text_input(key="add_std").set_value("0.2, 0.3, 0.4")
    assert can_save(run(app))


@pytest.mark.parametrize("name", ["../secret.pth", "/etc/passwd", "models/nowhere.pth", "models/code.py", "a\0b"])
def test_files_that_were_not_offered_are_refused(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "kept_models", lambda root: [name])  # AppTest knows the names that are listed only
    (folder / "models" / "code.py").write_text("def load(): raise SystemExit")
    app = chosen(name)
    assert len(app.error) == 1
    assert not can_save(app)


def test_entries_stay_when_another_page_is_visited() -> None:
    app = chosen("models/stated.pth", add_labels_text="a, b, c, d, e")
    app.number_input(key="add_size").set_value(64)
    run(app)
    run(app.switch_page("views/train.py"))
    run(app.switch_page("views/models.py"))
    assert app.selectbox(key="add_weights").value == "models/stated.pth"
    assert app.text_area(key="add_labels_text").value == "a, b, c, d, e"
    assert app.number_input(key="add_size").value == 64


def test_visitors_from_elsewhere_get_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "is_local", lambda: False)
    app = opened()
    assert "swinlens models add" in app.code[0].value
    assert not app.selectbox


@pytest.mark.parametrize(
    ("address", "headers", "local"),
    [
        ("127.0.0.1", {}, True),
        ("127.0.0.1", {"Host": "localhost:8501"}, True),
        ("localhost", {"Host": "127.0.0.1:8501"}, True),
        (None, {"Host": "localhost:8501"}, False),
        ("0.0.0.0", {"Host": "127.0.0.1:8501"}, False),
        ("127.0.0.1", {"Host": "example.org"}, False),  # a proxy, or a name that leads here
        ("127.0.0.1", {"Host": "localhost:8501", "X-Forwarded-For": "10.0.0.1"}, False),
    ],
)
def test_only_this_machine_may_write(
    monkeypatch: pytest.MonkeyPatch, address: str | None, headers: dict[str, str], local: bool
) -> None:
    monkeypatch.undo()  # the fixture's `is_local`

    class Streamlit:
        context = type("Context", (), {"headers": headers})

        @staticmethod
        def get_option(name: str) -> str | None:
            return {"server.address": address}[name]

    monkeypatch.setattr(trial, "st", Streamlit)
    assert trial.is_local() == local


def test_an_upload_that_is_no_weights_file_is_refused_and_not_kept(folder: Path) -> None:
    app = opened()
    app.file_uploader[0].set_value([("notes.pth", b"hello", "application/octet-stream")])
    (error,) = run(app).error
    assert "neither safetensors nor a PyTorch file" in error.value
    assert run(app).error  # until it is dismissed
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["flowers.pth", "stated.pth"]
    content = (folder / "models" / "stated.pth").read_bytes()
    app.file_uploader[0].set_value([("mine.pth", content, "application/octet-stream")])
    assert not run(app).error
    assert app.selectbox(key="add_weights").value == "models/mine.pth"


def test_a_new_card_is_used_at_once(folder: Path) -> None:
    name = "models/stated.pth"
    assert cache.classifier(name).labels[0] == "class 0"
    write_card(folder / name, ModelCard(labels=NAMES))
    assert list(cache.classifier(name).labels) == NAMES
    write_card(folder / name, ModelCard(labels=NAMES[::-1]))
    assert list(cache.classifier(name).labels) == NAMES[::-1]
