"""Before a run starts: how much memory and time it will take, measured on a few of its own steps."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from swin_core.data.registry import splits
from swin_core.system.distributed import Ranks
from swin_core.system.memory import keep_freed_memory
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData, kept_bytes
from swin_core.training.trainer import Trainer, new_model, steps_an_epoch

__all__ = ["Preflight", "preflight"]

_STEPS = 3


@dataclass(frozen=True)
class Preflight:
    """What a run will take."""

    pictures: int
    """Training images."""
    steps: int
    """Steps of the whole run."""
    seconds_a_step: float
    """0 where the memory was not enough for a step; so are the next two."""
    images_per_second: float
    seconds: float
    """The whole run with its validations; reading the data set and compiling come on top."""
    memory_bytes: int
    """Peak of this process, or of what PyTorch reserved on the GPU, over a few steps."""
    memory_free_bytes: int
    """What was free before."""
    ran_out: bool = False
    """Whether the memory was not enough for a step; `memory_bytes` is then what was held when it ran out."""

    @property
    def fits(self) -> bool:
        """Whether what is free is enough."""
        return not self.ran_out and self.memory_bytes <= self.memory_free_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.__dict__, "fits": self.fits}


def preflight(config: TrainConfig, device: str, count: int, root: str | Path | None = None) -> Preflight:
    """Train for a few steps on a few images, and conclude.

    One process measures its own share of the batch; the exchange of gradients between several is not in it.

    Args:
        config: the settings of the run.
        device: where the first process will compute.
        count: processes that share the work.
        root: data root, as for `swin_core.data.dataset.data_root`.

    Raises:
        SwinError: data or settings do not fit.
    """
    keep_freed_memory()
    ranks = Ranks(device=torch.device(device))
    train_set, held_set = splits(config.data, config.holdout, config.seed, root)
    pictures = min(len(train_set), config.limit or len(train_set))
    held = min(len(held_set), config.limit or len(held_set))
    share = -(-min(config.batch_size, pictures) // count)
    few = replace(config, limit=max(share, 2 * config.accumulate), batch_size=max(share, 2 * config.accumulate))
    free = _free(ranks.device)
    steps = steps_an_epoch(pictures, config, count)
    step = validation = kept = 0.0
    ran_out = False
    try:
        data = TrainingData.load(few, root, ranks.device)
        kept = kept_bytes(data.train, pictures) + kept_bytes(data.held, held)
        step, validation = _measure(Trainer(few, data, new_model(few, data).to(ranks.device), ranks))
    except (torch.OutOfMemoryError, MemoryError):
        ran_out = True
    except RuntimeError as error:
        # PyTorch has no class of its own for a CPU that is out of memory.
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        ran_out = True
    return Preflight(
        pictures=pictures,
        steps=steps * config.epochs,
        seconds_a_step=step,
        images_per_second=pictures / steps / step if step else 0.0,
        seconds=config.epochs * (steps * step + validation * held / count),
        memory_bytes=_used(ranks.device) * (count if ranks.device.type == "cpu" else 1) + int(kept),
        memory_free_bytes=free,
        ran_out=ran_out,
    )


def _measure(trainer: Trainer) -> tuple[float, float]:
    """Seconds of a step, and of the validation of one image."""
    ranks, data = trainer.ranks, trainer.data
    rows = trainer.rows(len(data.train))
    everything = torch.arange(len(data.train))
    seconds = []
    for _ in range(_STEPS + 1):
        batch = data.train.batches([everything[part] for part in rows])
        begin = time.perf_counter()
        trainer.train_step(len(data.train), rows, batch)
        ranks.synchronise()
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    trainer.validate()  # it brings its sums to the CPU, so it has finished
    validation = (time.perf_counter() - begin) / len(data.held)
    return min(seconds[1:]), validation  # the first step allocates


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def _used(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return int(psutil.Process().memory_info().rss)
