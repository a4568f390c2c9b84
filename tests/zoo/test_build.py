"""`build` with pretrained weights: the names of `load`, and the weights of the same architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

import swin_core
from swin_core.errors import ConfigError, ModelError, WeightsError
from swin_core.models.swin import Swin
from swin_core.weights.files import save_weights
from tests.fixtures.weights import copies, same, small

SMALL = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "image_size": 56, "num_classes": 10}


def test_without_pretrained_weights_it_is_the_random_model() -> None:
    torch.manual_seed(3)
    model = swin_core.build("swin_nano", num_classes=5)
    torch.manual_seed(3)
    assert same(copies(model), copies(Swin(model.config)))


def test_a_bundled_name_gives_the_weights_that_load_gives() -> None:
    loaded = swin_core.load("swin_micro_flowers").model
    model = swin_core.build(loaded.config, pretrained="swin_micro_flowers")
    assert same(copies(model), copies(loaded))


@pytest.mark.parametrize("as_path", [True, False])
def test_a_weights_file_is_adapted_and_other_classes_leave_the_head_random(as_path: bool, tmp_path: Path) -> None:
    source, path = small(seed=1), tmp_path / "weights.safetensors"
    save_weights(source, path)
    model = swin_core.build("swin_tiny", path if as_path else str(path), **SMALL | {"num_classes": 4})
    state, expected = copies(model), copies(source)
    assert state.pop("head.weight").shape == (4, 24)
    assert state.pop("head.bias").shape == (4,)
    assert same(state, {key: value for key, value in expected.items() if not key.startswith("head.")})


def test_a_run_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small(seed=1)
    save_weights(source, tmp_path / "runs" / "mine" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert same(copies(swin_core.build("swin_tiny", "mine", **SMALL)), copies(source))


def test_timm_weights_give_timms_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings = "swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 12, "depths": (2, 2)}
    theirs = timm.create_model(name, **settings, num_heads=(2, 3), num_classes=10).eval()
    cached = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), cached)

    def from_cache(repository: str, file: str) -> str | None:
        assert repository == get_pretrained_cfg(name).hf_hub_id
        return str(cached)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", from_cache)
    model = swin_core.build("swin_tiny", pretrained=f"timm/{name}", **SMALL).eval()
    x = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "options", "error", "words"),
    [
        ("swin_nano", {"pretrained": "swin_micro_flowers"}, WeightsError, "another variant"),
        ("swin_nano", {"pretrained": "no_such_model"}, ModelError, "no_such_model"),
        ("swin_nano", {"pretrained": "timm/no_such_model"}, ModelError, "no_such_model"),
        ("no_such_variant", {}, ConfigError, "unknown variant"),
        ("swin_nano", {"colour": 3}, ConfigError, "unknown model setting"),
    ],
)
def test_wrong_names_are_refused(variant: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        swin_core.build(variant, **options)
    assert "\n" not in str(caught.value)
