"""The check before a run: measure its memory and time on a few of its own steps."""

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
from swin_core.training.trainer import Trainer, new_model, steps_per_epoch

_STEPS = 3


@dataclass(frozen=True)
class PreflightResult:
    """Estimated time and memory of a run."""

    pictures: int
    """Training images."""
    steps: int
    """Steps of the whole run."""
    seconds_a_step: float
    """0 if the memory was not enough for a step; so are the next two."""
    images_per_second: float
    seconds: float
    """The whole run with validation, without reading the data set and compiling."""
    memory_bytes: int
    """Peak memory of this process, or reserved by PyTorch on the GPU, over a few steps; if it ran out, memory in use
    at that moment."""
    memory_free_bytes: int
    """Free memory before the check."""
    ran_out: bool = False
    """Whether the memory was not enough for a step."""

    @property
    def fits(self) -> bool:
        """Whether the free memory is enough."""
        return not self.ran_out and self.memory_bytes <= self.memory_free_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.__dict__, "fits": self.fits}


def preflight(config: TrainConfig, device: str, count: int, root: str | Path | None = None) -> PreflightResult:
    """Train a few steps on a few images and estimate the run's time and memory.

    This measures one rank's share of the batch, without the exchange of gradients between ranks.

    Args:
        config: the settings of the run.
        device: device of the first rank.
        count: number of ranks.
        root: data root, as for `swin_core.data.dataset.data_root`.

    Raises:
        SwinError: data or settings do not fit.
    """
    keep_freed_memory()
    ranks = Ranks(device=torch.device(device))
    on_gpu = ranks.device.type == "cuda"
    train_images, validation_images = (
        min(len(part), config.limit or len(part)) for part in splits(config.data, config.holdout, config.seed, root)
    )
    share = max(-(-min(config.batch_size, train_images) // count), 2 * config.accumulate)
    few = replace(config, limit=share, batch_size=share)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(ranks.device)
        free = torch.cuda.mem_get_info(ranks.device)[0]
    else:
        free = int(psutil.virtual_memory().available)
    steps = steps_per_epoch(train_images, config, count)
    step = validation = 0.0
    kept, ran_out = 0, False
    try:
        data = TrainingData.load(few, root, ranks.device)
        kept = kept_bytes(data.train, train_images) + kept_bytes(data.validation, validation_images)
        step, validation = _measure(Trainer(few, data, new_model(few, data).to(ranks.device), ranks))
    except (torch.OutOfMemoryError, MemoryError):
        ran_out = True
    except RuntimeError as error:
        # PyTorch raises a plain RuntimeError if a CPU is out of memory.
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        ran_out = True
    return PreflightResult(
        pictures=train_images,
        steps=steps * config.epochs,
        seconds_a_step=step,
        images_per_second=train_images / steps / step if step else 0.0,
        seconds=config.epochs * (steps * step + validation * validation_images / count),
        memory_bytes=_used(ranks.device) * (1 if on_gpu else count) + kept,
        memory_free_bytes=free,
        ran_out=ran_out,
    )


def _measure(trainer: Trainer) -> tuple[float, float]:
    """Return the seconds of a training step, and of validating one image."""
    count = len(trainer.data.train)
    rows = trainer.rows(count)
    seconds = []
    for _ in range(_STEPS + 1):
        batch = trainer.data.train.batches([torch.arange(count)[part] for part in rows])
        start = time.perf_counter()
        trainer.train_step(count, rows, batch)
        trainer.ranks.synchronise()
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    trainer.validate()  # copies its sums to the CPU, so it is finished on return
    validation = (time.perf_counter() - start) / len(trainer.data.validation)
    return min(seconds[1:]), validation  # the first step allocates memory


def _used(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return int(psutil.Process().memory_info().rss)
