"""From a run's folder to a training that goes on: devices, processes, signals, and what is said when it ends.

`swinlens train --run FOLDER` comes here, whether a page, a shell or torchrun started it.
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from swin_core import runs
from swin_core.errors import ConfigError, RunError, SwinError, first_names
from swin_core.images.preprocessing import normalise
from swin_core.models.modes import evaluation_mode
from swin_core.system.distributed import Ranks, join_ranks, under_torchrun, watch_parent
from swin_core.training.config import TrainConfig
from swin_core.training.run_writer import Progress
from swin_core.training.trainer import train
from swin_core.zoo.load import load, weights_file

__all__ = ["LEFT_ALONE", "choose_devices", "launch", "launch_new", "teacher_of", "tell_agent", "train_under_torchrun"]

LEFT_ALONE = 17
"""Exit status of a process that cannot go on because another one is gone: not what went wrong, but what came of it."""

_ASKING = 1.0
"""Seconds between two looks for a request to stop."""


def choose_devices(names: Sequence[str], count: int | None) -> tuple[tuple[str, ...], int]:
    """Devices by name, and how many processes share them.

    Args:
        names: "cpu", "cuda:0" and so on; empty for all GPUs, or the CPU where there is none.
        count: processes; None for one a device.

    Raises:
        ConfigError: a device that is not there, or more processes than GPUs.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    chosen = tuple(dict.fromkeys(names)) or tuple(there[1:]) or ("cpu",)
    if unknown := [name for name in chosen if name not in there]:
        raise ConfigError(f"there is no device {unknown[0][:40]!r}; here are {', '.join(there)}.")
    if len({name[:3] for name in chosen}) > 1:
        raise ConfigError("a run is on the CPU or on GPUs, not on both; choose one kind of device.")
    count = len(chosen) if count is None else count
    if count < 1 or (chosen[0] != "cpu" and count != len(chosen)):
        raise ConfigError(f"{count} processes do not fit {', '.join(chosen)}: a GPU takes one, the CPU one or more.")
    return chosen, count


def launch(folder: Path, progress: Progress | None = None) -> str:
    """Train in a run's folder, from its last checkpoint if there is one; `launch.json` in it names the devices.

    Args:
        folder: a run's folder, as `runs.create` makes it and `runs.write_launch` completes it.
        progress: as for `train`; used where this process is the one that trains.

    Returns:
        "finished" or "stopped".

    Raises:
        RunError: a device is in use, a process died, or another reason why the run cannot go on.
        SwinError: settings, data or weights do not fit.
    """
    folder = folder.resolve()
    facts = runs.read_launch(folder)
    devices = tuple(facts.get("devices") or ("cpu",))
    count, restarts = int(facts.get("processes") or 1), int(facts.get("max_restarts") or 0)
    if under_torchrun():
        return _work(folder, devices, facts.get("data_root"), progress)
    used = [devices[rank % len(devices)] for rank in range(count)]
    with runs.device_locks(used, folder):
        runs.write_launch(folder, **facts)
        runs.write_status(folder, state="starting")
        if count == 1 and not restarts:
            return _work(folder, devices, facts.get("data_root"), progress)
        return _lead(folder, count, restarts)


def launch_new(folder: Path, progress: Progress | None = None) -> str:
    """`launch` of a run that was made just now: one that cannot make its first step leaves no folder behind."""
    try:
        return launch(folder, progress)
    except SwinError:
        if "step" not in runs.read_status(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def train_under_torchrun(
    make: Callable[[], Path], root: Path, devices: Sequence[str], data_root: str | None, progress: Progress | None
) -> str:
    """The part of one process that torchrun started from a shell, on one machine or several.

    Args:
        make: makes the run's folder; called in one process only.
        root: the folder in which it lies.
        devices: as for `join_ranks`.
        data_root: as for `train`.
        progress: as for `train`.
    """
    with join_ranks(devices) as ranks:
        folder = ranks.broadcast(str(_folder_of_agent(make, root)) if ranks.is_main else None)
        # Of the processes of one machine, which may have come as several nodes, the first holds the devices of all.
        host = socket.gethostname()
        places = ranks.all_gather((host, runs.lock_key(str(ranks.device))))
        first = [name for name, _ in places].index(host) == ranks.rank
        used = {device for name, device in places if name == host}
        with runs.device_locks(sorted(used), Path(folder)) if first else nullcontext():
            return _train_in(Path(folder), ranks, data_root, progress)


def _folder_of_agent(make: Callable[[], Path], root: Path) -> Path:
    """The folder that a process of the same torchrun made before it was restarted, else a new one."""
    agent = runs.identity(os.getppid())
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        for run in runs.list_runs(root):
            if {key: run.launch.get(key) for key in agent} == agent:
                return run.folder
    folder = make()
    runs.write_launch(folder, **{**runs.read_launch(folder), **agent})
    return folder


def _work(folder: Path, devices: Sequence[str], data_root: str | None, progress: Progress | None) -> str:
    with join_ranks(devices) as ranks:
        return _train_in(folder, ranks, data_root, progress)


def _train_in(folder: Path, ranks: Ranks, data_root: str | None, progress: Progress | None) -> str:
    config = TrainConfig.of_run(folder)
    root = runs.runs_root(folder.parent)
    stop = _Stop(folder, ranks)
    with stop:
        return train(
            config,
            folder,
            init=weights_file(config.init, root) if config.init else None,
            teacher=(lambda classes: teacher_of(config, classes, ranks, root)) if config.teacher else None,
            root=data_root,
            ranks=ranks,
            stopping=stop.wanted,
            progress=progress,
        )


class _Stop:
    """Whether a run shall stop: by a request in its folder, by a signal, or because torchrun is gone."""

    def __init__(self, folder: Path, ranks: Ranks):
        self._folder, self._looks = folder, ranks.is_main
        self._flag = threading.Event()
        self._asked = 0.0
        self._before: dict[int, Any] = {}
        if under_torchrun():
            watch_parent(self._flag.set)

    def wanted(self) -> bool:
        now = time.monotonic()
        if self._looks and now - self._asked > _ASKING:
            self._asked = now
            if runs.stop_requested(self._folder):
                self._flag.set()
        return self._flag.is_set()

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for the step
        self._flag.set()


def _lead(folder: Path, count: int, restarts: int) -> str:
    """Start torchrun's agent for some processes, and say in the run's status what became of them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun would set it with a warning; `join_ranks` shares the cores
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "swin_core.training", "--run", str(folder))
    except ChildFailedError as error:
        reason = _story(error)
        runs.write_status(folder, **{**_figures(folder), "state": "failed", "reason": reason})
        raise RunError(reason) from error
    except SignalException as error:
        # The agent has passed the signal on, and the processes have saved if they were in time.
        state = runs.read_status(folder).get("state")
        if state not in ("stopped", "finished", "failed"):
            reason = f"ended by {signal.Signals(error.sigval).name} before it could save"
            runs.write_status(folder, **{**_figures(folder), "state": "failed", "reason": reason})
            raise RunError(f"the run was {reason}; resume it from its last checkpoint.") from error
    return str(runs.read_status(folder).get("state", "finished"))


def _figures(folder: Path) -> dict[str, Any]:
    return {key: value for key, value in runs.read_status(folder).items() if key not in ("updated", "pid", "created")}


def _story(error: ChildFailedError) -> str:
    """Which process failed first, and why; those that were only left alone do not count."""

    def weight(item: tuple[int, ProcessFailure]) -> tuple[bool, bool, float]:
        failure = item[1]
        ended = failure.exitcode == -signal.SIGTERM  # by the agent, after another one had failed
        return failure.exitcode == LEFT_ALONE, ended, failure.timestamp

    rank, failure = min(error.failures.items(), key=weight)
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return (
            f"process {rank} of {max(len(error.failures), rank + 1)} was killed by {name}, perhaps for want of memory; "
            "resume the run from its last checkpoint."
        )
    told: Any = failure.message  # a text of torchrun's own, or what `tell_agent` passed on
    text = str(told.get("message", "") if isinstance(told, dict) else told)
    line = text.splitlines()[0] if text.strip() else f"exit status {failure.exitcode}"
    return f"process {rank} failed: {line}"


def tell_agent(error: BaseException) -> None:
    """Pass an error on to torchrun's agent, if there is one, so that it can say which process failed, and why."""
    get_error_handler().record_exception(error)


def teacher_of(config: TrainConfig, classes: tuple[str, ...], ranks: Ranks, root: Path) -> Callable[[Tensor], Tensor]:
    """The model that a config learns from, as a function of images in 0 to 1.

    Raises:
        ConfigError: it does not know the classes.
        SwinError: it cannot be loaded.
    """
    classifier = load(config.teacher, runs_root=root)
    missing = [name for name in classes if name not in classifier.labels]
    if missing:
        raise ConfigError(f"the teacher {classifier.name} does not know {first_names(missing)}; choose another one.")
    places = torch.tensor([classifier.labels.index(name) for name in classes], device=ranks.device)
    classifier.model.to(ranks.device)

    def teach(pictures: Tensor) -> Tensor:
        size = classifier.image_size
        if pictures.shape[-1] != size:
            pictures = F.interpolate(pictures, (size, size), mode="bicubic", align_corners=False, antialias=True)
        with evaluation_mode(classifier.model), torch.no_grad():
            logits: Tensor = classifier.model(normalise(pictures.clamp(0, 1), classifier.mean, classifier.std))
        return logits.float()[:, places]

    return teach
