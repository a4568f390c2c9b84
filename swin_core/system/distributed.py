"""The processes that share one piece of work: torch.distributed under torchrun, or one process alone.

Everything in here does nothing where there is one process, so that training, evaluation and ranking have one code path.
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

__all__ = [
    "SINGLE",
    "Ranks",
    "device_name",
    "gradient_sync",
    "join_ranks",
    "machine",
    "peer_errors",
    "under_torchrun",
    "watch_parent",
]

Shared = TypeVar("Shared")

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: one of them may be decoding a data set or compiling."""

_GRACE = 20.0
"""Seconds in which an orphaned process may finish its step and save."""


_CPU = torch.device("cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in float64 on the CPU."""
        total = values.detach().double().cpu()
        if self.size > 1:
            with peer_errors():
                dist.all_reduce(total, group=_control())
        return total

    def synchronise(self) -> None:
        """Wait until this process's GPU has finished, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all must ask at the same step."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag))))

    def all_gather(self, value: Shared) -> list[Shared]:
        """What every process passes, by rank."""
        values: list[Shared] = [value] * self.size
        if self.size > 1:
            with peer_errors():
                dist.all_gather_object(values, value, group=_control())
        return values

    def broadcast(self, value: Shared | None) -> Shared:
        """What rank 0 passes, in every process."""
        if self.size > 1:
            held = [value]
            with peer_errors():
                dist.broadcast_object_list(held, 0, group=_control())
            value = held[0]
        assert value is not None
        return value

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model wrapped so that a backward pass averages gradients over all processes, while the pass goes on."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        with peer_errors():  # it compares the parameters of all ranks
            return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


SINGLE = Ranks()
"""One process on the CPU."""


def device_name(device: torch.device) -> str:
    """The model of a GPU; empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def machine(devices: Sequence[str]) -> str:
    """One line on this machine and the devices of all ranks, each as `device_name` gives it."""
    gpus = [f"{devices.count(name)} x {name}" for name in sorted(set(devices)) if name]
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{os.cpu_count()} {platform.machine()} cores ({capability}), {', '.join(gpus) or 'no GPU'}, "
        f"PyTorch {torch.__version__.split('+')[0]}"
    )


def gradient_sync(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """A block whose backward pass exchanges the gradients, or only adds them up until one does."""
    if now or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()


_groups: list[dist.ProcessGroup] = []


def _control() -> dist.ProcessGroup:
    """A group of processes that exchanges CPU tensors, so that asking does not wait for a GPU."""
    return _groups[-1]


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return dist.is_torchelastic_launched() and "RANK" in os.environ


@contextmanager
def join_ranks(devices: Sequence[str]) -> Iterator[Ranks]:
    """Join the processes that torchrun started; leave them at the end of the block.

    Args:
        devices: names such as "cpu" or "cuda:1", one for each process of this machine in turn.

    Raises:
        ConfigError: a device that is not there.
    """
    local = int(os.environ.get("LOCAL_RANK", 0)) if under_torchrun() else 0
    device = _device(devices[local % len(devices)])
    if not under_torchrun():
        yield Ranks(device=device)
        return
    # A restarted run finds the store of its agent with the addresses of those that are gone in it.
    store, rank, size = next(dist.rendezvous("env://", timeout=_PATIENCE))
    store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(control, dist.ProcessGroup)
    _groups.append(control)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), device)
    try:
        _share_cores(ranks)
        yield ranks
    finally:
        _groups.clear()
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


def _share_cores(ranks: Ranks) -> None:
    """Give each of a machine's processes its part of the cores: torchrun asks for one thread where nothing is set.

    The processes of a machine may have come as several nodes, so that torchrun's own count of them is too small.
    """
    places = ranks.all_gather((socket.gethostname(), ranks.device.type))
    if ranks.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // places.count(places[ranks.rank])))


@contextmanager
def peer_errors() -> Iterator[None]:
    """Raise `PeerExitedError` where an exchange between ranks fails because a peer exited; log the original error.

    All other errors pass unchanged, such as one of a backward pass itself or tensors of different shapes.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        log.error("the exchange with another process failed", exc_info=error)
        raise PeerExitedError("another process of this run is gone, so this one cannot go on.") from error


def _is_connection_error(error: RuntimeError) -> bool:
    """Whether NCCL, the store or gloo lost the connection to a peer; gloo raises plain `RuntimeError`."""
    text = str(error)
    lost = ("gloo/transport/" in text and "enforce fail" not in text) or "caused pair closure" in text
    return lost or isinstance(error, dist.DistBackendError | dist.DistNetworkError)


def watch_parent(stop: Callable[[], None]) -> None:
    """Stop when the process that started this one is gone, and end for good if that takes too long.

    torchrun's workers have sessions of their own, so that nothing else tells them that torchrun was killed.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        stop()
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
