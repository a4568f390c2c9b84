"""Devices found without torch: the CPU, and GPUs through the driver's library, here and missing and failing."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from swin_core import runs
from swin_core.errors import RunError
from swin_core.runs import devices
from tests.fixtures.started import again, programs, started, stubbed_root

ROOT = Path(__file__).resolve().parents[2]
UUIDS = ["GPU-aaaa-1111", "GPU-aaab-2222", "GPU-bbbb-3333"]


class Cards:
    """The driver's library with three cards, whose answers can be made to fail by function and card."""

    def __init__(self) -> None:
        self.failing: dict[tuple[str, Any], int] = {}
        self.instances: dict[int, list[str]] = {}
        """MIG instances of a card, by UUID."""

    def mig_mode(self, card: int) -> list[int]:
        if card not in self.instances:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def instance(self, card: int, index: int) -> str:
        if index >= len(self.instances[card]):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self.instances[card][index]

    def answer(self, name: str, card: Any, value: Any) -> Any:
        if (name, card) in self.failing:
            raise pynvml.NVMLError(self.failing[name, card])
        return value


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers: dict[str, Any] = {
        "nvmlDeviceGetName": lambda card: f"Card {card}",
        "nvmlDeviceGetUUID": lambda card: UUIDS[card] if isinstance(card, int) else card,
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(
            free=10**9 * (card if isinstance(card, int) else 1), total=8 * 10**9
        ),
        "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=10 * card if isinstance(card, int) else 0),
        "nvmlDeviceGetHandleByIndex": lambda card: card,
    }
    for name, value in answers.items():
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, lambda card, n=name, v=value: made.answer(n, card, v(card)))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", made.mig_mode)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMaxMigDeviceCount", lambda card: 7)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigDeviceHandleByIndex", made.instance)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: made.answer("nvmlInit", 0, None))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    return made


def gpus() -> dict[str, str]:
    return {device.name: device.title for device in devices.list_devices() if device.name != "cpu"}


def test_the_cpu_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = devices.list_devices()[0]
    memory = psutil.virtual_memory()
    assert (cpu.name, cpu.memory_total) == ("cpu", memory.total)
    assert abs(cpu.memory_free - memory.available) < 2e9
    count = len(os.sched_getaffinity(0))
    assert cpu.title.startswith(f"CPU, {count} core")
    small = devices.Device("cpu", "CPU, 2 cores", 3_140_000_000, 8_000_000_000, None)
    assert str(small) == "CPU, 2 cores, 3.1 of 8.0 GB free"


def test_cores_follow_the_cpu_affinity() -> None:
    core = min(os.sched_getaffinity(0))
    setup = f"import os; os.sched_setaffinity(0, [{core}])\n"
    code = f"{setup}from swin_core.runs import devices; print(devices.list_devices()[0].title)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "CPU, 1 core\n"


def test_use_of_the_cpu_is_measured_across_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_INTERVAL", 0.0)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(devices, "_cpu_reading", (49.0, SimpleNamespace(idle=96.0, iowait=6.0), None))
    idle = iter([98.0, 99.0, 99.0])
    clock = iter([50.0, 51.0, 52.0])
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(idle=next(idle), iowait=7.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    used: list[float | None] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: used.append(devices._cpu_use()))
        thread.start()
        thread.join()
    # Three of the four cores were idle in the first second, one of them for a disk; then one, then none.
    assert used == [0.25, 0.75, 1.0]


def test_use_is_unknown_at_first() -> None:
    code = "from swin_core.runs import devices; print(devices.list_devices()[0].use)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_gpus_are_found_with_their_memory_and_use(cards: Cards) -> None:
    found = devices.list_devices()
    assert [device.name for device in found] == ["cpu", "cuda:0", "cuda:1", "cuda:2"]
    assert found[2] == devices.Device("cuda:1", "Card 1", 10**9, 8 * 10**9, 0.1)


@pytest.mark.parametrize(
    ("named", "titles"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2", ["Card 2"]),
        ("2, 0", ["Card 2", "Card 0"]),
        ("1,7,0", ["Card 1"]),  # CUDA stops at the first that is not there
        ("GPU-bbbb", ["Card 2"]),
        ("GPU-aaab-2222,0", ["Card 1", "Card 0"]),
        ("GPU-aaa", []),  # two begin so
        ("MIG-1", []),  # no card is split
    ],
)
def test_only_visible_gpus_count(named: str, titles: list[str], cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus() == {f"cuda:{index}": title for index, title in enumerate(titles)}


@pytest.mark.parametrize(
    ("named", "title"),
    [
        (None, "Card MIG-cccc-1"),  # CUDA shows one instance, and then no other GPU
        ("1", "Card MIG-cccc-1"),
        ("0", "Card 0"),
        ("MIG-dddd", "Card MIG-dddd-2"),
        ("MIG-dddd-2,MIG-cccc-1", "Card MIG-dddd-2"),
        ("MIG-eeee", None),
    ],
)
def test_mig_instances_are_listed(
    named: str | None, title: str | None, cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards.instances[1] = ["MIG-cccc-1", "MIG-dddd-2"]
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus() == ({} if title is None else {"cuda:0": title})


def test_gpus_are_locked_by_uuid(cards: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs with different visible cards both call theirs `cuda:0`; two jobs may call one card differently."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = (runs.create({"name": name}, tmp_path / "runs") for name in ("first", "second"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with runs.device_locks(["cuda:0"], first):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
        assert runs.busy(["cuda:0", "cuda:1"]) == {"cuda:1": first}
        with runs.device_locks(["cuda:0"], second):
            assert runs.busy(["cuda:0", "cuda:1"]) == {"cuda:0": second, "cuda:1": first}
        with pytest.raises(RunError, match="cuda:1 is in use by run"), runs.device_locks(["cuda:1"], second):
            pass
        with pytest.raises(RunError, match="in use"), runs.device_locks([UUIDS[0]], second):
            pass


def test_a_card_without_a_known_uuid_is_locked_by_name(cards: Cards) -> None:
    assert runs.lock_key("cuda:2") == UUIDS[2]
    assert [runs.lock_key(name) for name in ("cpu", "cuda:3")] == ["cpu", "cuda:3"]
    cards.failing["nvmlDeviceGetUUID", 0] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert runs.lock_key("cuda:0") == "cuda:0"


def test_gpus_are_numbered_in_bus_order() -> None:
    environment = os.environ | {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}  # locks would name other cards
    code = "import os, swin_core; print(os.environ['CUDA_DEVICE_ORDER'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "PCI_BUS_ID\n"


def test_a_failing_card_does_not_hide_the_others(cards: Cards) -> None:
    cards.failing["nvmlDeviceGetName", 0] = pynvml.NVML_ERROR_GPU_IS_LOST
    cards.failing["nvmlDeviceGetUtilizationRates", 1] = pynvml.NVML_ERROR_NOT_SUPPORTED
    cards.failing["nvmlDeviceGetMemoryInfo", 2] = pynvml.NVML_ERROR_NOT_SUPPORTED
    _, second, third = devices.list_devices()
    assert (second.name, second.use) == ("cuda:1", None)
    assert (third.name, third.use, third.memory_total) == ("cuda:2", 0.2, psutil.virtual_memory().total)


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_without_a_driver_there_is_the_cpu(code: int, cards: Cards) -> None:
    cards.failing["nvmlInit", 0] = code
    assert [device.name for device in devices.list_devices()] == ["cpu"]


def test_without_the_library_there_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refusing(name: str, *rest: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refusing)
    assert [device.name for device in devices.list_devices()] == ["cpu"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with stubbed_root(tmp_path, monkeypatch) as root:
        yield root


def test_usage_of_a_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(root, ranks=2)
    monkeypatch.setattr(devices, "_INTERVAL", 0.0)
    first = devices.usage_of(run)
    assert first is not None
    family = programs(run)
    # Each of the three is a Python interpreter with psutil in it.
    assert 3 * 3e6 < first.memory < sum(program.memory_info().rss for program in family)
    before = sum(sum(program.cpu_times()[:2]) for program in family)
    begun = time.monotonic()
    devices.usage_of(run)
    time.sleep(1.0)
    use = devices.usage_of(run)
    assert use is not None
    spent = sum(sum(program.cpu_times()[:2]) for program in family) - before
    assert use.cores == pytest.approx(spent / (time.monotonic() - begun), abs=0.1)
    runs.kill(run, grace=1)
    assert devices.usage_of(again(run)) is None
