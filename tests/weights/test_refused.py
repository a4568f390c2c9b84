"""Files that `load_weights` refuses with a message of one line; the model is unchanged."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_core.models.swin import Swin
from swin_core.weights.files import load_weights, read_config, read_state, save_weights
from swin_core.weights.shapes import config_of
from tests.fixtures.weights import KERNEL, TABLE, copies, refused, same, small

pytestmark = pytest.mark.filterwarnings("error")


def refused_unchanged(path: Path, message: str, model: Swin | None = None) -> None:
    """Assert that loading a file is refused and leaves the model unchanged, bit by bit."""
    model = small() if model is None else model
    before = copies(model)
    refused(lambda: load_weights(model, path), message)
    assert same(copies(model), before)


class Payload:
    """A pickle that creates a folder when it is loaded."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_nothing_ran(new_format: bool, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "evil.pth"
    state = copies(small()) | {"extra": Payload(made)}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    for call in (lambda: load_weights(small(), path), lambda: read_state(path), lambda: read_config(path)):
        refused(call, r"'evil.pth' holds Python objects or code \((posix|nt).mkdir\) and was refused")
    refused_unchanged(path, "nothing in it ran")
    assert not made.exists()


def test_a_bare_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    for protocol in (2, 4, 5):
        (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "made"), protocol))
        refused_unchanged(tmp_path / "evil.safetensors", "'evil.safetensors' (holds Python|is cut short)")
    assert not (tmp_path / "made").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "model.pth")
    refused_unchanged(tmp_path / "model.pth", "save the tensors only: torch")


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"embed_dim": 24}, "embed_dim 24 where the model has 12"),
    ({"depths": (2, 4)}, r"depths \(2, 4\) where the model has \(2, 2\)"),
    ({"depths": (2, 2, 2), "num_heads": (2, 3, 3)}, r"depths \(2, 2, 2\)"),
    ({"num_heads": (3, 3)}, r"num_heads \(3, 3\) where the model has \(2, 3\)"),
    ({"mixer": "mlp"}, "mixer 'mlp' where the model has attention"),
    ({"mlp_ratio": 2.0}, "an MLP 24 wide where the model has 48"),
    ({"qkv_bias": False}, "qkv_bias False where the model has True"),
    ({"relative_position_bias": False}, "relative_position_bias False where the model has True"),
    ({"absolute_embedding": True}, "absolute_embedding True where the model has False"),
]


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_another_variant_is_refused_both_ways(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_weights(small(seed=1, **changes), tmp_path / "other.safetensors")
    refused_unchanged(tmp_path / "other.safetensors", f"does not fit: it is another variant, with .*{message}")
    save_weights(small(seed=1), tmp_path / "plain.safetensors")
    refused_unchanged(tmp_path / "plain.safetensors", "it is another variant", small(**changes))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_cut_short_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(copies(small(seed=1)), path)
    else:
        save_weights(small(seed=1), path)
    whole = path.read_bytes()
    for length in (1, 4, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused_unchanged(path, f"'weights.{suffix}' is (cut short or damaged|neither safetensors nor)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just some text, longer than nine bytes", "neither safetensors nor a PyTorch file"),
        (b"{", "neither safetensors nor a PyTorch file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither safetensors nor a PyTorch file"),
        (b"\x80\x02}q\x00.", "cut short or damaged"),
        (b"PK\x03\x04" + bytes(100), "cut short or damaged"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "holds no tensors"),
        (b"\xff\xff\xff\x7f\x00\x00\x00\x00{}", "cut short or damaged"),
    ],
)
def test_what_is_no_weights_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    refused_unchanged(path, message)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    refused_unchanged(tmp_path / "none.pth", "'none.pth' is missing")
    refused_unchanged(tmp_path, "is a folder")
    refused_unchanged(Path("a\0b"), "(missing|not a valid path)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors"),
        ({"epoch": 3}, "no state dict: 'epoch' is int"),
        ({"model": {"a": {"b": 1}}}, "no state dict: 'a' is dict"),
        (
            {"student": {"a": torch.zeros(1)}, "b": 1},
            r"weights lie in 'student'; name one after a '#', as in FILE#student",
        ),
        ({"model": {"x": {"a": torch.zeros(1)}}}, "as in FILE#model.x"),
        ({7: torch.zeros(1)}, "no state dict: 7 is Tensor"),
        ([torch.zeros(3)], "no state dict: it holds list"),
        (torch.zeros(3), "no state dict: it holds Tensor"),
        ({"conv1.weight": torch.zeros(3)}, "not those of a Swin .the first is 'conv1.weight'"),
        ({"a" * 500 + "\n": torch.zeros(3)}, "not those of a Swin"),
        ({"features.0.0.weight": torch.zeros(3)}, "not those of a Swin"),
        ({"layers.0.blocks.0.attn.logit_scale": torch.zeros(3)}, "not those of a Swin"),
    ],
)
def test_arbitrary_contents_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    refused_unchanged(tmp_path / "weights.pth", message)


def test_a_pickle_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "loop.pth")
    refused_unchanged(tmp_path / "loop.pth", "no state dict")


def changed(key: str, value: Any) -> dict[str, Any]:
    state: dict[str, Any] = copies(small(seed=1))
    if value is None:
        del state[key]
    else:
        state[key] = value
    return state


LAST = "layers.1.blocks.1."


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: changed(LAST + "mlp.fc2.bias", None), "incomplete: .*mlp.fc2.bias' is missing"),
        (lambda: changed("norm.weight", None), "incomplete: 'norm.weight' is missing"),
        (lambda: changed("head.bias", None), "'head.bias' is missing"),
        (lambda: changed("head.weight", None), "'head.weight' is missing"),
        (lambda: changed("layers.0.blocks.0.mlp.fc1.weight", None), "incomplete"),
        (lambda: changed("neck.weight", torch.zeros(3)), "holds 'neck.weight', which the model does not have"),
        (lambda: changed(LAST + "norm2.bias", torch.zeros(1)), r"norm2.bias' has the shape \(1,\)"),
        (lambda: changed("norm.weight", torch.zeros(23)), r"\(23,\) where the model has \(24,\)"),
        (lambda: changed("head.weight", torch.zeros(10, 23)), "head.weight' has the shape"),
        (lambda: changed(LAST + "attn.relative_position_bias_table", torch.zeros(169, 5)), "has the shape"),
        (lambda: changed(LAST + "attn.relative_position_bias_table", torch.zeros(65, 3)), "no square window"),
        (lambda: changed(TABLE, torch.tensor(1.0)), "no square window"),
        (lambda: changed(KERNEL, torch.zeros(12, 3, 4, 2)), "not square"),
        (lambda: changed(KERNEL, torch.zeros(12, 0, 4, 4)), "has the shape"),
        (lambda: changed(KERNEL, torch.zeros(12)), "has the shape"),
        (lambda: changed(LAST + "norm1.bias", torch.full((24,), float("nan"))), "NaN or infinite"),
        (lambda: changed("head.bias", torch.full((10,), float("inf"))), "'head.bias' holds NaN or infinite"),
        (lambda: changed("norm.bias", torch.zeros(24, dtype=torch.int64)), "no dense array of real"),
        (lambda: changed("norm.bias", torch.zeros(24, dtype=torch.complex64)), "no dense array of real"),
        (lambda: changed("norm.bias", torch.zeros(24).to_sparse()), "no dense array of real|damaged"),
        (lambda: changed("head.weight", torch.zeros(1).expand(10, 24)), "claims more numbers"),
        (lambda: changed("norm.bias", torch.empty(24, device="meta")), "no dense array|damaged"),
    ],
)
def test_a_state_that_fits_in_part_is_refused(
    state: Callable[[], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    torch.save(state(), tmp_path / "weights.pth")
    refused_unchanged(tmp_path / "weights.pth", f"does not fit: .*{message}|'weights.pth' is .*{message}")


def test_a_small_file_cannot_ask_for_a_giant_model() -> None:
    state = changed("layers.1.blocks.0.mlp.fc1.weight", torch.zeros(1, 1))
    refused(lambda: config_of(state), "stage 2 is 1 wide")
    state = copies(small()) | {"layers.40.blocks.0.norm1.weight": torch.zeros(1)}
    refused(lambda: config_of(state), "incomplete")
