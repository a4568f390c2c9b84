"""The ranks of one job: torch.distributed under torchrun, or a single process.

In a single process every call is a no-op, so training, evaluation and ranking have one code path.
"""

import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from swin_core.errors import ConfigError, PeerExitedError
from swin_core.system.heartbeats import Heartbeats

Shared = TypeVar("Shared")

_TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: one of them may be decoding a data set or compiling."""

_GRACE = 20.0
"""Seconds in which an orphaned process may finish its step and save."""

_CPU = torch.device("cpu")

_heartbeats: Heartbeats | None = None
"""Those of the job that this process takes part in."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This process and the others that run the same job."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    device: torch.device = _CPU
    """Device of this process."""
    group: dist.ProcessGroup | None = None
    """Group that exchanges CPU tensors, so that a flag does not wait for a GPU."""
    heartbeats: Heartbeats | None = None
    """Signs of life of all ranks; None for a single one."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all ranks, in float64 on the CPU."""
        total = values.detach().double().cpu()
        if self.size > 1:
            with peer_errors():
                dist.all_reduce(total, group=self.group)
        return total

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; all ranks must call this at the same step."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))))

    def all_gather(self, value: Shared) -> list[Shared]:
        """Return the values of all ranks, by rank."""
        values: list[Shared] = [value] * self.size
        if self.size > 1:
            with peer_errors():
                dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: Shared | None) -> Shared:
        """Return the value of rank 0 on every rank."""
        values = [value]
        if self.size > 1:
            with peer_errors():
                dist.broadcast_object_list(values, 0, group=self.group)
        assert values[0] is not None
        return values[0]

    def stalled(self) -> str:
        """Return which rank stands still and keeps this one waiting, in one line; empty if all is well."""
        return self.heartbeats.stalled() if self.heartbeats else ""

    def synchronise(self) -> None:
        """Wait until this rank's GPU has finished, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """Return the model in a wrapper that averages gradients over all ranks during the backward pass."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        with peer_errors():  # the wrapper compares the parameters of all ranks
            return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


SINGLE = Ranks()
"""A single process on the CPU."""


def device_name(device: torch.device) -> str:
    """Return the model name of a GPU; empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def machine(devices: Sequence[str]) -> str:
    """Describe this machine and the devices of all ranks, each as `device_name` returns it, in one line."""
    gpus = [f"{devices.count(name)} x {name}" for name in sorted(set(devices)) if name]
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{os.cpu_count()} {platform.machine()} cores ({capability}), {', '.join(gpus) or 'no GPU'}, "
        f"PyTorch {torch.__version__.split('+')[0]}"
    )


def gradient_sync(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Return a context whose backward passes average gradients over ranks (`now`), or only accumulate them."""
    if now or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return dist.is_torchelastic_launched() and "RANK" in os.environ


@contextmanager
def join_ranks(devices: Sequence[str]) -> Iterator[Ranks]:
    """Join the ranks that torchrun started; leave them at the end of the block.

    Args:
        devices: names such as "cpu" or "cuda:1", one for each rank of this machine in turn.

    Raises:
        ConfigError: a device does not exist.
    """
    local = int(os.environ.get("LOCAL_RANK", 0)) if under_torchrun() else 0
    device = _device(devices[local % len(devices)])
    if not under_torchrun():
        yield Ranks(device=device)
        return
    # The prefix hides the addresses of exited ranks, which a restarted run finds in the store of its agent.
    store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    global _heartbeats
    try:
        group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)
        _heartbeats = Heartbeats(store, rank, size)
        ranks = Ranks(rank, size, device, group, _heartbeats)
        _share_cores(ranks)
        yield ranks
    finally:
        if _heartbeats:
            _heartbeats.end()
            _heartbeats = None
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        elif device.type != "cpu":
            raise RuntimeError
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"there is no device {name[:40]!r} here; choose cpu or one of the GPUs.") from error
    return device


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_rank(count: int) -> int:
    """Return the threads of each of `count` ranks on this machine's CPU: its share of the cores, at least 1.

    If OMP_NUM_THREADS asks for more than one thread, each rank keeps its own number.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") != "1":
        return torch.get_num_threads()
    return max(1, available_cores() // count)


def _share_cores(ranks: Ranks) -> None:
    """Divide a machine's cores among its ranks on the CPU: torchrun sets one thread each where nothing else is set.

    Ranks are counted by host name, since torchrun's own count is too small where several nodes share a machine.
    """
    hosts = ranks.all_gather((socket.gethostname(), ranks.device.type))
    if ranks.device.type == "cpu":
        torch.set_num_threads(threads_per_rank(hosts.count(hosts[ranks.rank])))


@contextmanager
def peer_errors() -> Iterator[None]:
    """Mark an exchange between ranks; if it fails because a peer exited, log the error and raise `PeerExitedError`.

    All other errors pass unchanged, such as one of a backward pass itself or tensors of different shapes.
    """
    heartbeats = _heartbeats
    if heartbeats:
        heartbeats.enter()
    try:
        yield
    except RuntimeError as error:
        # NCCL and the store have error classes of their own; gloo raises plain RuntimeErrors.
        text = str(error)
        lost = ("gloo/transport/" in text and "enforce fail" not in text) or "caused pair closure" in text
        if not lost and not isinstance(error, dist.DistBackendError | dist.DistNetworkError):
            raise
        log.error("the exchange with another process failed", exc_info=error)
        raise PeerExitedError("another process of this run is gone, so this one cannot go on.") from error
    finally:
        if heartbeats:
            heartbeats.leave()


def watch_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when the parent process exits, and kill this process if it has not ended 20 seconds later.

    torchrun's workers run in sessions of their own, so no signal tells them that torchrun was killed.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        stop()
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
