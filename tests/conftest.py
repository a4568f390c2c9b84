"""What many tests share: the data root, the sample images, a small classifier, and a count of hooks."""

from __future__ import annotations

import math
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import swin_core
from swin_core.attribution import occlusion

ROOT = Path(__file__).resolve().parent.parent
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


# Figures are compared with those of float32, also on processors where predictions are made in bfloat16.
os.environ["SWIN_PRECISION"] = "float32"
# Without compiled modules on the disk, each of the many programs that tests start would compile all of them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER:
    # Locks of devices lie in the temporary folder: without one of its own, one worker's runs would wait for another's.
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix=f"{WORKER}-")
    # After the folders in it that multiprocessing removes, whose priority is -100.
    Finalize(None, shutil.rmtree, (tempfile.tempdir, True), exitpriority=-200)
    # Two workers, whose servers and ranks each take all processors, mostly wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


_MAIN = sys.modules["__main__"]


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """A test machine may have many cores or few; the tests must take about as long on both."""
    torch.set_num_threads(1 if WORKER else 2)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models: on a busy machine two threads spend most of their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def few_masks(monkeypatch: pytest.MonkeyPatch) -> int:
    """RISE draws so many masks in place of 1,000: enough for tests that go over all methods."""
    monkeypatch.setattr(occlusion, "_RISE_MASKS", 60)
    return 60


@pytest.fixture(autouse=True)
def _own_main() -> None:
    """A page under test takes the place of `__main__`, and processes that are started later would run it again."""
    sys.modules["__main__"] = _MAIN


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test draws the same random numbers, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries under test draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_map_checks_left_behind() -> Iterator[None]:
    """End the map checks that a page began: hooks, models and counts of the next test would be theirs, too."""
    yield
    if (module := sys.modules.get("dashboard.compare.map_checks")) is not None:
        for job in [*module.checks.jobs.values()]:
            job.asked_at = -math.inf
        until = time.monotonic() + 30
        while module.checks.jobs and time.monotonic() < until:
            time.sleep(0.01)


def find_data_root(environment: dict[str, str]) -> Path:
    """The folder of real data sets that `SWIN_DATA_ROOT` names.

    Without the variable the test is skipped, or fails where `CI` is set; with a wrong one it always fails.
    """
    named = environment.get("SWIN_DATA_ROOT")
    if not named:
        line = "SWIN_DATA_ROOT is not set: point it at the folder that holds cifar100 and flower_photos"
        if environment.get("CI"):
            pytest.fail(line, pytrace=False)
        pytest.skip(line)
    missing = [name for name in ("cifar100", "flower_photos") if not (Path(named) / name).is_dir()]
    if missing:
        pytest.fail(f"SWIN_DATA_ROOT={named} holds no {' and no '.join(missing)}: correct it", pytrace=False)
    return Path(named)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, for tests that cannot do with made-up data."""
    return find_data_root(dict(os.environ))


@pytest.fixture(scope="session")
def samples() -> dict[str, Path]:
    """The sample images by name without suffix, such as `samples["cat"]`."""
    paths = sorted((ROOT / "assets" / "samples").glob("*.jpg"))
    assert paths, "assets/samples holds no image"
    return {path.stem: path for path in paths}


@pytest.fixture
def small_classifier() -> swin_core.Classifier:
    """A Swin of random weights, 64 x 64 pixels and five classes: fast, and the same in every test."""
    torch.manual_seed(0)
    model = swin_core.build("swin_micro", num_classes=len(FLOWERS), image_size=64)
    return swin_core.Classifier(model, FLOWERS, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 64, name="small")


def free_port() -> int:
    """A port of this machine that no program listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def count_hooks(model: nn.Module) -> int:
    """The number of hooks on all modules and parameters of `model`, of every kind that PyTorch has."""
    on_modules = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_state_dict_hooks",
        "_load_state_dict_pre_hooks",
    )
    count = sum(len(getattr(module, name)) for module in model.modules() for name in on_modules)
    for parameter in model.parameters():
        count += len(parameter._backward_hooks or ())
        count += len(getattr(parameter, "_post_accumulate_grad_hooks", None) or ())
    return count


@pytest.fixture
def no_hooks_left() -> Iterator[Callable[[nn.Module], Callable[[], int]]]:
    """Call it with a model: when the test ends, the model must have as many hooks as it had at that call.

    It returns a function that says how many hooks there are now beyond those, for checks within the test.
    """
    watched: list[Callable[[], int]] = []

    def watch(model: nn.Module) -> Callable[[], int]:
        before = count_hooks(model)
        watched.append(lambda: count_hooks(model) - before)
        return watched[-1]

    yield watch
    for added in watched:
        assert added() == 0, f"{added()} hooks were left on the model"
