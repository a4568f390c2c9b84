"""Settings inside a checkpoint are read as inert values; anything that could run is refused."""

from __future__ import annotations

import argparse
import os
import threading
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from swin_core.errors import WeightsError
from swin_core.weights.unpickle import NumpyArray, _DType, unpickle


def reread(value: Any, path: Path) -> Any:
    torch.save(value, path)
    return unpickle(path)


def test_settings_of_training_programs_are_read(tmp_path: Path) -> None:
    settings = {
        "args": argparse.Namespace(model="resnet18", lr=0.1, sizes=(3, 224)),
        "more": SimpleNamespace(a=1),
        "folder": tmp_path,
        "counts": Counter("aab"),
        "best": np.float64(0.25),
        "epoch": np.int32(7),
        "done": np.bool_(True),
        "name": np.str_("rose"),
        "by_class": defaultdict(list, {"rose": [1, 2]}),
        "last": deque([1, 2], maxlen=2),
        "order": OrderedDict(a=1),
        "version": torch.__version__,
    }
    read = reread(settings, tmp_path / "w.pth")
    assert vars(read["args"]) == {"model": "resnet18", "lr": 0.1, "sizes": (3, 224)}
    assert vars(read["more"]) == {"a": 1}
    assert (read["best"], read["epoch"], read["done"], read["name"]) == (0.25, 7, True, "rose")
    assert read["by_class"] == {"rose": [1, 2]}
    assert read["last"] == [1, 2]
    assert read["counts"] == Counter("aab")
    assert read["version"] == str(torch.__version__)
    # A path of the file cannot reach the disk.
    assert str(read["folder"]) == str(tmp_path)
    assert isinstance(read["folder"], PurePath)
    assert not isinstance(read["folder"], Path)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1", "|b1", "<U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_keep_their_numbers(dtype: str, order: Any, tmp_path: Path) -> None:
    array = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype, order=order)
    read = reread({"mean": array}, tmp_path / "w.pth")["mean"]
    np.testing.assert_array_equal(read.array, array)


def test_arrays_and_scalars_of_objects_are_empty(tmp_path: Path) -> None:
    structured = np.zeros(2, dtype=[("a", "f4"), ("b", "O")])
    read = reread({"a": np.array([{}, None], dtype=object), "b": structured}, tmp_path / "w.pth")
    assert isinstance(read["a"], NumpyArray)
    assert read["a"].array is None
    assert read["b"].array is None


def test_an_array_that_claims_more_numbers_than_the_file_holds_is_empty() -> None:
    array = NumpyArray()
    read = NumpyArray()
    dtype = _DType("f8")
    array.__setstate__((1, (10**12,), dtype, False, b"12345678"))
    read.__setstate__((1, (1,), dtype, False, np.float64(2).tobytes()))
    assert array.array is None
    assert read.array is not None
    assert read.array.tolist() == [2.0]


class Payload:
    """Call a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Loaded:
    """Set attributes of an allowed class, and call it through its state."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return getattr, (Payload(__import__, "os"), "mkdir")


def test_what_could_run_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for payload in (
        Payload(os.mkdir, str(made)),
        Payload(eval, f"__import__('os').mkdir({str(made)!r})"),
        Payload(Path.mkdir, made),
        Payload(np.fromfile, str(made)),
        Loaded(made),
    ):
        torch.save({"args": argparse.Namespace(a=payload)}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"and was refused, nothing in it ran; .*torch\.save\(model\.state_dict"):
            unpickle(tmp_path / "w.pth")
    # A method of an allowed class is looked up by `getattr`, which is a placeholder here.
    torch.save({"methods": [Payload(getattr, "text", "upper")]}, tmp_path / "w.pth")
    assert unpickle(tmp_path / "w.pth") == {"methods": [None]}
    assert not made.exists()


def test_torchscript_and_whole_models_are_refused_with_the_remedy(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 2)), tmp_path / "script.pt")
    torch.save(model, tmp_path / "whole.pth")
    for name, kind in (("script.pt", "is a TorchScript archive"), ("whole.pth", "holds Python objects")):
        with pytest.raises(
            WeightsError, match=rf"'{name}' {kind}.*torch\.save\(model\.state_dict\(\), 'weights\.pth'\)"
        ):
            unpickle(tmp_path / name)


def test_threads_do_not_take_the_allowed_names_from_each_other(tmp_path: Path) -> None:
    torch.save({"args": [argparse.Namespace(a=index) for index in range(200)]}, tmp_path / "w.pth")
    allowed = torch.serialization.get_safe_globals()
    results: list[Any] = []

    def read() -> None:
        for _ in range(10):
            results.append(len(unpickle(tmp_path / "w.pth")["args"]))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 40
    assert set(torch.serialization.get_safe_globals()) == set(allowed)  # nothing stays allowed


def test_an_archive_that_inflates_is_refused_before_it_is_read(tmp_path: Path) -> None:
    stored, compressed = tmp_path / "stored.pth", tmp_path / "compressed.pth"
    torch.save({"head.weight": torch.zeros(4, 2**20)}, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert compressed.stat().st_size < 2**17
    assert unpickle(stored)["head.weight"].shape == (4, 2**20)
    with pytest.raises(WeightsError, match="is a compressed archive, which"):
        unpickle(compressed)
