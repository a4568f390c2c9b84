"""Launch a training in a run's folder: devices, ranks, signals, and the report of how it ended.

`swinlens train --run FOLDER` calls this, whether a page, a shell or torchrun started it.
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler
from torch.distributed.launcher import LaunchConfig, elastic_launch

from swin_core import runs
from swin_core.class_names import match_classes
from swin_core.errors import ConfigError, PeerExitedError, RunError, SwinError, first_names
from swin_core.images.preprocessing import normalise
from swin_core.models.modes import evaluation_mode
from swin_core.runs.changing import write_end
from swin_core.runs.files import resume_advice
from swin_core.runs.liveness import trainers_in
from swin_core.runs.starting import ACCEPT_CHANGED_DATA
from swin_core.system.distributed import Ranks, join_ranks, under_torchrun, watch_parent
from swin_core.system.heartbeats import NO_SIGN, PATIENCE
from swin_core.training.config import TrainConfig
from swin_core.training.objective import Teacher
from swin_core.training.preflight import PreflightResult, preflight
from swin_core.training.run_writer import STATUS_SECONDS, OnMetrics
from swin_core.training.trainer import train
from swin_core.zoo.load import load, weights_file

PEER_EXITED = 17
"""Exit status of a rank that cannot continue because another one exited; the cause is that rank's error."""

_STOP_SECONDS = 1.0
"""Seconds between two checks for a request to stop."""
_SLOW_SECONDS = 60.0
"""Seconds that a rank which shows signs of life, but keeps the others waiting, has to follow a request to stop."""


def choose_devices(names: Sequence[str], count: int | None) -> tuple[tuple[str, ...], int]:
    """Return the devices of a run and its number of ranks.

    Args:
        names: "cpu", "cuda:0" and so on; empty for all GPUs, or the CPU without a GPU.
        count: number of ranks; None for one per device.

    Raises:
        ConfigError: a device is missing, or the number of ranks does not fit.
    """
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    devices = tuple(dict.fromkeys(names)) or tuple(available[1:]) or ("cpu",)
    if missing := [name for name in devices if name not in available]:
        raise ConfigError(f"there is no device {missing[0][:40]!r}; available are {', '.join(available)}.")
    if len({name[:3] for name in devices}) > 1:
        raise ConfigError("a run uses the CPU or GPUs, not both; choose one kind of device.")
    count = len(devices) if count is None else count
    if count < 1 or (devices[0] != "cpu" and count != len(devices)):
        raise ConfigError(f"{count} processes do not fit {', '.join(devices)}: a GPU takes one, the CPU one or more.")
    return devices, count


def launch(folder: Path, on_metrics: OnMetrics | None = None, accept_changed_data: bool = False) -> str:
    """Train in a run's folder, from its last checkpoint if there is one; its `launch.json` names the devices.

    Args:
        folder: a run's folder, made by `runs.create` and completed by `runs.write_launch`.
        on_metrics: as for `train`; used if this process itself trains.
        accept_changed_data: as for `train`.

    Returns:
        "finished" or "stopped".

    Raises:
        RunError: a device is in use, a rank died, or the run cannot continue for another reason.
        SwinError: settings, data or weights do not fit.
    """
    folder = folder.resolve()
    facts = runs.read_launch(folder)
    devices = tuple(facts.get("devices") or ("cpu",))
    count, restarts = int(facts.get("processes") or 1), int(facts.get("max_restarts") or 0)

    def train_here() -> str:
        with join_ranks(devices) as ranks:
            return _train(folder, ranks, facts.get("data_root"), on_metrics, accept_changed_data)

    if under_torchrun():
        return train_here()
    used = [devices[rank % len(devices)] for rank in range(count)]
    with runs.device_locks(used, folder):
        runs.write_launch(folder, **facts)
        try:
            runs.write_status(folder, state="starting")
        except OSError as error:
            raise RunError(f"run {folder.name} cannot be started: {error.strerror}.") from error
        if count == 1 and not restarts:
            return train_here()
        return _train_in_ranks(folder, count, restarts, [ACCEPT_CHANGED_DATA] if accept_changed_data else [])


def launch_new(folder: Path, on_metrics: OnMetrics | None = None) -> str:
    """`launch` a new run; delete its folder if it fails before its first step."""
    try:
        return launch(folder, on_metrics)
    except (SwinError, OSError):
        if "step" not in runs.read_status(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def train_under_torchrun(
    make: Callable[[], Path], root: Path, devices: Sequence[str], data_root: str | None, on_metrics: OnMetrics | None
) -> str:
    """Train as one rank that torchrun started from a shell, on one machine or several.

    Args:
        make: makes the run's folder; called on rank 0 only.
        root: the folder of the runs.
        devices: as for `join_ranks`.
        data_root, on_metrics: as for `train`.
    """
    with join_ranks(devices) as ranks:
        folder = Path(ranks.broadcast(str(_folder_of_agent(make, root)) if ranks.is_main else None))
        # The ranks of one machine may belong to several torchrun nodes; the first of them locks the devices of all.
        host = socket.gethostname()
        used = ranks.all_gather((host, runs.lock_key(str(ranks.device))))
        is_first = [name for name, _ in used].index(host) == ranks.rank
        keys = {key for name, key in used if name == host}
        with runs.device_locks(sorted(keys), folder) if is_first else nullcontext():
            return _train(folder, ranks, data_root, on_metrics, accept_changed_data=False)


def _folder_of_agent(make: Callable[[], Path], root: Path) -> Path:
    """Return the folder that this torchrun agent made before it restarted its ranks, else a new one."""
    agent = runs.identity(os.getppid())
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        for run in runs.list_runs(root):
            if {key: run.launch.get(key) for key in agent} == agent:
                return run.folder
    folder = make()
    runs.write_launch(folder, **{**runs.read_launch(folder), **agent})
    return folder


def _train(
    folder: Path, ranks: Ranks, data_root: str | None, on_metrics: OnMetrics | None, accept_changed_data: bool
) -> str:
    config = TrainConfig.of_run(folder)
    init, teacher = _init_and_teacher(config, ranks, runs.runs_root(folder.parent))
    with _StopSignal(folder, ranks) as stop:
        return train(
            config,
            folder,
            init=init,
            teacher=teacher,
            root=data_root,
            ranks=ranks,
            stopping=stop.is_set,
            on_metrics=on_metrics,
            accept_changed_data=accept_changed_data,
        )


def check(config: TrainConfig, device: str, count: int, root: Path, data_root: str | None) -> PreflightResult:
    """Estimate the time and memory of a run, with the weights and the teacher that its config names.

    Args:
        config, device, count: as for `preflight`.
        root: the folder of the runs.
        data_root: as for `train`.

    Raises:
        SwinError: settings, data or weights do not fit.
    """
    init, teacher = _init_and_teacher(config, Ranks(device=torch.device(device)), root)
    return preflight(config, device, count, data_root, init, teacher)


def _init_and_teacher(
    config: TrainConfig, ranks: Ranks, root: Path
) -> tuple[Path | None, Callable[[tuple[str, ...]], Teacher] | None]:
    """Return what `train` takes as `init` and `teacher`, for the names in a config."""
    init = weights_file(config.init, root) if config.init else None
    return init, (lambda classes: teacher_of(config, classes, ranks, root)) if config.teacher else None


class _StopSignal:
    """Set by a request in the run's folder, by SIGTERM or SIGINT, or when torchrun is gone."""

    def __init__(self, folder: Path, ranks: Ranks):
        self._folder, self._reads_requests = folder, ranks.is_main
        self._flag = threading.Event()
        self._last_check = 0.0
        self._old_handlers: dict[int, Any] = {}
        if under_torchrun():
            watch_parent(self._flag.set)

    def is_set(self) -> bool:
        now = time.monotonic()
        if self._reads_requests and now - self._last_check > _STOP_SECONDS:
            self._last_check = now
            if runs.stop_requested(self._folder):
                self._flag.set()
        return self._flag.is_set()

    def __enter__(self) -> "_StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._old_handlers = {
                number: signal.signal(number, self._set) for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if self._flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for the step
        self._flag.set()


def _train_in_ranks(folder: Path, count: int, restarts: int, options: Sequence[str]) -> str:
    """Start ranks with torchrun's agent, and write to the run's status how they ended."""
    # The agent runs in this process. `python -m torch.distributed.run` as a child would need more code: its exit status
    # does not name the rank that failed nor the signal that killed it, signals must be passed on, and the ranks must
    # notice the end of the launcher, not only of the agent.
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
    watch = _StallWatch(folder)
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "swin_core.training", "--run", str(folder), *options)
    except ChildFailedError as error:
        if watch.reason:
            write_end(folder, "stopped", f"{watch.reason}, so it ended without saving; {resume_advice(folder)}")
            return "stopped"
        reason = _failure(error, folder)
        _write_failed(folder, reason)
        raise RunError(reason) from error
    except SignalException as error:
        # The agent has passed the signal on; the ranks have saved if there was time.
        if runs.read_status(folder).get("state") not in ("stopped", "finished", "failed"):
            reason = f"ended by {signal.Signals(error.sigval).name} before it could save"
            _write_failed(folder, reason)
            raise RunError(f"the run was {reason}; {resume_advice(folder)}.") from error
    finally:
        watch.end()
    return str(runs.read_status(folder).get("state", "finished"))


class _StallWatch:
    """Ends the ranks of a run that is asked to stop and cannot, because one of them stands still.

    A rank without a sign of life is stopped or gone. One that only keeps the others waiting may be slow: it has
    `_SLOW_SECONDS` from the request on.

    Attributes:
        reason: why it ended them; empty if it did not.
    """

    def __init__(self, folder: Path):
        self.reason = ""
        self._folder = folder
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        status, since = runs.read_status(self._folder), time.monotonic()
        asked: float | None = None  # since when the run stands still and is asked to stop
        while not self._ended.wait(STATUS_SECONDS):
            if (now := runs.read_status(self._folder)) != status:
                status, since = now, time.monotonic()
            silent = time.monotonic() - since
            stalled = str(status.get("stalled") or "")
            reason = f"there was no status for {silent:.0f} s" if silent > PATIENCE else stalled
            if not reason or not runs.stop_requested(self._folder):
                asked = None
                continue
            asked = asked or time.monotonic()
            is_slow = reason == stalled and NO_SIGN not in stalled and time.monotonic() - asked < _SLOW_SECONDS
            if not is_slow and not self._ended.is_set():
                self.reason = reason
                for program in trainers_in(self._folder):
                    with suppress(psutil.Error):
                        program.kill()
                # They may be started again.
                status, since, asked = runs.read_status(self._folder), time.monotonic(), None


def _write_failed(folder: Path, reason: str) -> None:
    """Write a failure to the status; the step and the metrics in it stay."""
    with suppress(OSError):  # the disk is full; without a status the run is listed as dead
        runs.write_status(folder, **{**runs.read_status(folder), "state": "failed", "reason": reason})


def _failure(error: ChildFailedError, folder: Path) -> str:
    """Return which rank failed first, and why. Ranks that only lost their peer come last."""

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, bool, float]:
        failure = item[1]
        ended_by_agent = failure.exitcode == -signal.SIGTERM  # after another rank had failed
        lost_peer = failure.exitcode == PEER_EXITED or PeerExitedError.__name__ in str(failure.message)
        return lost_peer, ended_by_agent, failure.timestamp

    rank, failure = min(error.failures.items(), key=order)
    # What a rank recorded is the reason, even if threads of its libraries then aborted its exit.
    if failure.exitcode < 0 and not isinstance(failure.message, dict):
        return (
            f"process {rank} of {max(len(error.failures), rank + 1)} was killed by "
            f"{signal.Signals(-failure.exitcode).name}, possibly out of memory; {resume_advice(folder)}."
        )
    message: Any = failure.message  # torchrun's own text, or what `report_error` recorded
    text = str(message.get("message", "") if isinstance(message, dict) else message)
    line = text.splitlines()[0] if text.strip() else f"exit status {failure.exitcode}"
    return f"process {rank} failed: {line}"


def report_error(error: BaseException) -> None:
    """Record an error for torchrun's agent, if there is one, so that it can name the rank and the reason."""
    get_error_handler().record_exception(error)


def teacher_of(config: TrainConfig, classes: tuple[str, ...], ranks: Ranks, root: Path) -> Teacher:
    """Return the teacher that a config names.

    Raises:
        ConfigError: the teacher does not know all classes.
        TargetError: a class fits several of the teacher's labels.
        SwinError: it cannot be loaded.
    """
    classifier = load(config.teacher, runs_root=root)
    matches = match_classes(classes, classifier.labels)
    missing = [name for name, match in zip(classes, matches, strict=True) if match is None]
    if missing:
        raise ConfigError(f"the teacher {classifier.name} does not know {first_names(missing)}; choose another one.")
    indices = torch.tensor(matches, device=ranks.device)
    classifier.model.to(ranks.device)

    def teacher(images: Tensor) -> Tensor:
        size = classifier.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True)
        with evaluation_mode(classifier.model), torch.no_grad():
            logits: Tensor = classifier.model(normalise(images.clamp(0, 1), classifier.mean, classifier.std))
        return logits.float()[:, indices]

    return teacher
