"""timm's models without a network: cached weights load; for others the error says what to do."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.models import get_pretrained_cfg
from torch import nn

import swin_core
from swin_core.errors import ModelError
from swin_core.zoo import timm_models

ROOT = Path(__file__).resolve().parents[2]
WHAT_TO_DO = "connect once so that they are kept in the cache, or choose a bundled model or a weights file"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, whatever the test machine has downloaded before."""
    for constants in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No network: every connection fails at once; return the attempts."""
    asked: list[Any] = []

    def refuse(_socket: object, address: Any, *_rest: object) -> None:
        asked.append(address)
        raise OSError(101, "Network is unreachable")

    def unknown(host: Any, *_rest: object, **_options: object) -> None:
        asked.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return asked


def refused(name: str, words: str) -> str:
    """Check that loading fails within ten seconds with one line that matches `words`; return the line."""
    started = time.perf_counter()
    with pytest.raises(ModelError, match=words) as caught:
        swin_core.load(name)
    assert time.perf_counter() - started < 10
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_no_network(closed: list[Any]) -> None:
    line = refused("timm/resnet50", "the weights of timm/resnet50 are not on this machine and there is no network")
    assert WHAT_TO_DO in line
    assert closed  # it tried


def test_no_network_for_weights_outside_the_hub(closed: list[Any]) -> None:
    assert not get_pretrained_cfg("legacy_seresnet18").hf_hub_id
    assert WHAT_TO_DO in refused("timm/legacy_seresnet18", "there is no network")
    assert closed


def test_the_hubs_offline_mode_is_heeded(closed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    refused("timm/resnet50", "there is no network")
    assert not closed


@pytest.fixture
def silent_host() -> Iterator[str]:
    """A host that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_host_that_never_answers(silent_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", silent_host)
    monkeypatch.setattr(timm_models, "_TIMEOUT", 1.0)
    assert WHAT_TO_DO in refused("timm/resnet50", "there is no network")


def test_a_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_rest, **_options: released.wait(60) and [])
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(timm_models, "_TIMEOUT", 1.0)
    try:
        assert WHAT_TO_DO in refused("timm/resnet50", "there is no network")
    finally:
        released.set()


def test_a_closed_host_answers_fast_in_a_fresh_interpreter(tmp_path: Path) -> None:
    """Nothing is patched; the address is a closed port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed_port = server.getsockname()[1]
    code = (
        "import time, swin_core\n"
        "started = time.perf_counter()\n"
        "try:\n    swin_core.load('timm/resnet50')\n"
        "except swin_core.SwinError as error:\n    print(round(time.perf_counter() - started), error)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{closed_port}", "HF_HOME": str(tmp_path)}
    environment = {key: value for key, value in environment.items() if "proxy" not in key.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    seconds, _, line = done.stdout.partition(" ")
    assert int(seconds) < 20, done.stderr  # the hub's own retries take most of a minute
    assert "are not on this machine and there is no network" in line
    assert line.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "failure",
    [OSError("reset by peer"), RuntimeError("invalid hash value\nsecond line"), KeyError("head.weight"), ValueError()],
)
def test_a_download_that_fails_is_told_in_one_line(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: urllib.request.Request, timeout: float) -> None:
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD here", {}, None)  # type: ignore[arg-type]

    def fail(*_rest: object, **_options: object) -> None:
        raise failure

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    monkeypatch.setattr(timm, "create_model", fail)
    line = refused("timm/resnet50", "the weights of timm/resnet50 could not be loaded")
    assert "try again, or choose a bundled model" in line
    assert "second line" not in line


# Weights that are kept


def keep(cache: Path, hub_id: str, content: bytes, name: str = "model.safetensors") -> Path:
    """Put a file where the hub's client caches downloads."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    (folder / "snapshots" / "abc123" / name).write_bytes(content)
    return folder / "snapshots" / "abc123" / name


def weights_of(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    model = timm.create_model(name).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return model, {key: value.contiguous() for key, value in model.state_dict().items()}


def assert_predicts_as(name: str, model: nn.Module) -> None:
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (300, 250, 3), dtype=np.uint8))
    classifier = swin_core.load(name)
    x = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))(image)[None]
    with torch.inference_mode():
        expected = model(x).softmax(-1).numpy()
    np.testing.assert_allclose(classifier.predict([image]), expected, rtol=1e-4, atol=1e-7)
    assert classifier.name == name
    assert classifier.labels[0] == "tench, Tinca tinca"
    assert not classifier.model.training


# The second has a loader of timm's own, for files in another format than the hub's.
@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_kept_weights_need_no_network(name: str, cache: Path, closed: list[Any]) -> None:
    settings = get_pretrained_cfg(name)
    assert bool(settings.custom_load) == (name == "vit_tiny_patch16_224")
    model, state = weights_of(name)
    keep(cache, settings.hf_hub_id, safetensors.torch.save(state))
    assert_predicts_as(f"timm/{name}", model)
    assert_predicts_as(f"timm/{name}.{settings.tag}", model)
    assert not closed


def test_kept_weights_in_the_older_format(cache: Path, closed: list[Any], tmp_path: Path) -> None:
    model, state = weights_of("test_vit")
    torch.save(state, tmp_path / "w.bin")
    keep(cache, get_pretrained_cfg("test_vit").hf_hub_id, (tmp_path / "w.bin").read_bytes(), "pytorch_model.bin")
    assert_predicts_as("timm/test_vit", model)
    assert not closed


def test_kept_weights_from_outside_the_hub(closed: list[Any], tmp_path: Path) -> None:
    model, state = weights_of("legacy_seresnet18")
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    url = get_pretrained_cfg("legacy_seresnet18").url
    torch.save(state, tmp_path / "torch" / "checkpoints" / url.rpartition("/")[2])
    assert_predicts_as("timm/legacy_seresnet18", model)
    assert not closed


def test_kept_weights_that_are_damaged(cache: Path, closed: list[Any]) -> None:
    file = keep(cache, get_pretrained_cfg("test_vit").hf_hub_id, b"damaged" * 100)
    assert f"delete {file} and try again" in refused("timm/test_vit", "could not be loaded")


def test_a_kept_pickle_that_runs_code_is_refused(cache: Path, closed: list[Any], tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'mark'}",)

    keep(cache, get_pretrained_cfg("test_vit").hf_hub_id, pickle.dumps(Payload(), 2), "pytorch_model.bin")
    refused("timm/test_vit", "could not be loaded")
    assert not (tmp_path / "mark").exists()


# Names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/resnet5O", "timm has no model 'resnet5O'; did you mean timm/resnet50"),
        ("timm/", "timm has no model ''; timm.list_models"),
        ("timm/../../etc/passwd", "timm has no model"),
        ("timm/a\0b", r"timm has no model 'a\\x00b'"),
        ("timm/hf_hub:someone/model", "timm has no model"),
        ("timm/local-dir:/tmp", "timm has no model"),
        ("timm/resnet50.nonsense", "timm has no pretrained weights for 'resnet50.nonsense'"),
        ("timm/coatnet_0_224", "timm has no pretrained weights for 'coatnet_0_224'"),
        ("timm/aimv2_1b_patch14_224", "timm/aimv2_1b_patch14_224 has no classification head"),
    ],
)
def test_names_that_timm_cannot_serve(name: str, words: str, closed: list[Any]) -> None:
    refused(name, words)
    assert not closed
