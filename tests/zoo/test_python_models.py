"""`my_model.py` with `load()`: in the shell by its path, on pages only if the person who starts them offers it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn

import swin_core
from dashboard.demo.answers import Demo
from dashboard.shared import model_names
from swin_core.commands import explain as explain_command
from swin_core.errors import ModelError, SwinError
from swin_core.zoo.load import describe, load, weights_file
from swin_core.zoo.offered import VARIABLE, offered_files

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]

CODE = '''"""Dots or stripes.

More about it.
"""
from pathlib import Path

import torch
from torch import nn

import swin_core

Path(__file__).with_suffix(".ran").touch()

def load() -> swin_core.Classifier:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return swin_core.Classifier(model, ["dots", "stripes"], 0.5, 0.5, 32, name="mine")
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(CODE)
    return path


def test_a_python_file_is_a_model(file: Path) -> None:
    classifier = load(file)
    torch.manual_seed(5)
    bare = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(classifier.logits_model(x), bare(x), atol=1e-5, rtol=0)
    assert classifier.labels == ("dots", "stripes")
    assert load(str(file), labels=["a", "b"]).labels == ("a", "b")
    assert describe(file) == "Dots or stripes."
    with pytest.raises(ModelError, match="is a Python file, whose weights are in no file of their own"):
        weights_file(str(file))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n\ny = x +\n", r"^my_model.py, line 3: SyntaxError: invalid syntax$"),
        (
            "import swin_core\n\ndef load():\n    return {}['x']\n",
            r"^my_model.py, line 4: KeyError: 'x'",
        ),
        ("import no_such_package_of_mine\n", r"line 1: ModuleNotFoundError: .* PYTHONPATH"),
        ("raise SystemExit(3)\n", r"^my_model.py, line 1: SystemExit: 3$"),
        ("loaded = 1\n", r"^my_model.py has no function load\(\)"),
        ("def load():\n    return 7\n", r"^load\(\) in my_model.py returns int"),
        (
            "import swin_core\nfrom torch import nn\ndef load():\n"
            "    return swin_core.Classifier(nn.Flatten(), 'ab', 0.5, 0.5, 8)\n",
            r"^my_model.py, line 4: ModelError: Flatten has 192 classes; 2 labels were given.$",
        ),
    ],
)
def test_errors_name_file_and_line(file: Path, code: str, message: str) -> None:
    file.write_text(code)
    with pytest.raises(ModelError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="there is no file"):
        load(file.with_name("other.py"))


def test_offered_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "models"
    (folder / "deep" / "hub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("a.safetensors", "notes.txt", ".hidden.pth", "deep/b.pth", "deep/hub/config.json", ".git/c.pth"):
        (folder / name).touch()
    (folder / "mine.py").write_text(CODE)
    (folder / "layers.py").write_text("class Layer: ...\n")
    assert offered_files() == {}
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(file), "", str(folder), str(folder / "missing")]))
    torch.save({}, folder / "weights.bin")
    (folder / "firmware.bin").write_bytes(b"\x00\x01\x02")
    names = ["a.safetensors", "deep/b.pth", "deep/hub", "mine.py", "weights.bin"]
    assert offered_files() == {"my_model.py": file} | {f"models/{name}": folder / name for name in names}
    assert load("my_model.py").name == "mine"
    for place in ("old", "new"):
        (file.parent / place).mkdir()
        (file.parent / place / "best.pth").touch()
    monkeypatch.setenv(
        VARIABLE, os.pathsep.join(str(file.parent / place / "best.pth") for place in ("old", "new", "old"))
    )
    assert offered_files() == {"best.pth": file.parent / "old/best.pth", "new/best.pth": file.parent / "new/best.pth"}


def test_visitors_cannot_name_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_names, "ROOT", file.parent)
    (file.parent / "run").mkdir()
    (file.parent / "run" / "evil.PY").write_text(CODE)
    (file.parent / "timm").mkdir()
    (file.parent / "timm" / "evil.py").write_text(CODE)
    monkeypatch.chdir(file.parent)
    with pytest.raises(ModelError, match="timm has no model"):
        load("timm/evil.py")
    (file.parent / "a.pth").write_bytes(b"")
    (file.parent / "a.pth#evil.py").write_text(CODE)
    with pytest.raises(SwinError):
        load(model_names.model_source("a.pth#evil.py"))
    for name in ("my_model.py", "run/evil.PY", "timm/evil.py", "timm/resnet18@my_model.py", "my_model.py#a"):
        with pytest.raises(ModelError, match="is a Python file, which would be run: only the person who starts"):
            model_names.model_source(name)
    for name in (str(file), "../my_model.py", "./my_model.py", "my_model.py\0", "run/../my_model.py"):
        with pytest.raises(ModelError, match="name consists of"):
            model_names.model_source(name)
    with pytest.raises(ModelError, match="which would be run"):
        Demo(("my_model.py",), file.parent)
    monkeypatch.setenv(VARIABLE, str(file))
    assert model_names.model_source("my_model.py") == str(file)
    assert model_names.offered_models().index("my_model.py") == len(swin_core.available())
    with pytest.raises(ModelError, match="which would be run"):
        model_names.model_source("run/evil.PY")
    demo = Demo(("my_model.py",), file.parent)
    assert demo.descriptions == {"my_model.py": "Dots or stripes."}
    assert not list(file.parent.rglob("*.ran"))  # nothing ran until now
    upload = {"path": str(next((ROOT / "assets" / "samples").glob("*.jpg")))}
    with pytest.raises(ModelError):
        demo.answer(upload, ["run/evil.PY"])
    assert not file.with_suffix(".ran").exists()


@pytest.mark.parametrize("way", ["widget", "query"])
def test_the_page_runs_code_only_if_it_is_offered(file: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_names, "ROOT", file.parent)
    ran = file.with_suffix(".ran")

    def opened() -> AppTest:
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60)
        app.query_params["trust"] = "false"
        app.query_params["model"] = ["my_model.py"] if way == "query" else ["swin_nano_cifar100"]
        app.run()
        if way == "widget":
            app.text_input(key="more").input("my_model.py").run()
        return app

    app = opened()
    assert not app.exception
    assert not ran.exists()
    monkeypatch.setenv(VARIABLE, str(file))
    app = opened()
    assert not app.exception
    assert ran.exists()


def test_the_shell_takes_a_python_file(file: Path, samples: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    assert explain_command.main([str(samples["cat"]), "--models", str(file), "--out", str(out)]) == 0
    assert out.stat().st_size > 1000
    assert np.isfinite(swin_core.explain(load(file), samples["cat"]).maps).all()


def test_a_relative_path_names_the_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text("def load():\n    return (\n")
    Path("fails.py").write_text("def load():\n    return 1 / 0\n")
    with pytest.raises(ModelError, match=r"^bad\.py, line 2: SyntaxError"):
        swin_core.load("bad.py")
    with pytest.raises(ModelError, match=r"^fails\.py, line 2: ZeroDivisionError"):
        swin_core.load("fails.py")


def test_a_file_here_comes_before_an_offered_one_of_the_same_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "offered"):
        (tmp_path / place / "models").mkdir(parents=True)
        text = file.read_text() + f"\n\nimport sys\nsys.loaded_from = {place!r}\n"
        (tmp_path / place / "models" / "mine.py").write_text(text)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "offered" / "models"))
    monkeypatch.chdir(tmp_path / "here")
    assert "models/mine.py" in offered_files()
    load("models/mine.py")
    assert sys.loaded_from == "here"  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    load("models/mine.py")
    assert sys.loaded_from == "offered"  # type: ignore[attr-defined]


def test_models_import_the_modules_beside_them(tmp_path: Path) -> None:
    before = list(sys.meta_path)
    for name, size in (("a", 8), ("b", 16)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"SIZE = {size}\n")
        (tmp_path / name / "mine.py").write_text(
            "import net\nimport swin_core\nfrom torch import nn\n\ndef load():\n"
            "    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
            "    return swin_core.Classifier(model, list('xyz'), 0.5, 0.5, net.SIZE)\n"
        )
    assert [load(tmp_path / name / "mine.py").image_size for name in "ab"] == [8, 16]
    assert sys.meta_path == before
    assert "net" not in sys.modules
