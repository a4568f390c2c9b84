"""The processes that share one survey: torch.distributed under torchrun, or one process alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "World", "joined"]


@dataclass(frozen=True)
class World:
    """This process among those that share the work."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in float64 on the CPU."""
        total = values.detach().double().cpu()
        if self.size > 1:
            dist.all_reduce(total)
        return total


ALONE = World()
"""One process that does all of it."""


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, if it did; each takes a GPU of its own where there are GPUs."""
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("gloo")  # a few numbers at the end; they are on the CPU
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(dist.get_node_local_rank() % torch.cuda.device_count())
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
