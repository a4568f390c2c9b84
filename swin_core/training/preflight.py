"""The check before a run: measure its memory and time on a few of its own steps."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from swin_core.data.registry import splits
from swin_core.evaluation.metrics import batch_size
from swin_core.system.distributed import Ranks, available_cores, threads_per_rank
from swin_core.system.memory import keep_freed_memory
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData, kept_bytes, normalisation_of
from swin_core.training.objective import Teacher
from swin_core.training.trainer import Trainer, new_model, steps_per_epoch

_STEPS = 3

_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|allocate memory|_ALLOC_FAILED")
"""In messages of CUDA, cuBLAS, cuDNN, PyTorch's CPU allocator and the system, which come as plain errors."""


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


def preflight(
    config: TrainConfig,
    device: str,
    count: int,
    root: str | Path | None = None,
    init: Path | None = None,
    teacher: Callable[[tuple[str, ...]], Teacher] | None = None,
) -> PreflightResult:
    """Train a few steps on a few images and estimate the run's time and memory.

    This measures one rank's share of the batch and a validation batch, without the exchange between ranks. Ranks on a
    CPU share its cores and its memory.

    Args:
        config: the settings of the run.
        device: device of the first rank.
        count: number of ranks.
        root, init, teacher: as for `train`.

    Raises:
        SwinError: data, weights or settings do not fit.
    """
    keep_freed_memory()
    ranks = Ranks(device=torch.device(device))
    on_gpu = ranks.device.type == "cuda"
    train_images, validation_images = (
        min(len(part), config.limit or len(part)) for part in splits(config.data, config.holdout, config.seed, root)
    )
    steps = steps_per_epoch(train_images, config, count)
    share = max(-(-min(config.batch_size, train_images) // count), 2 * config.accumulate)
    validation_batch = batch_size(ranks.device, config.image_size)
    limit = max(share, min(validation_batch, validation_images))
    few = replace(config, limit=limit, batch_size=limit)
    step = validation = 0.0
    kept, ran_out = 0, False
    free = int(psutil.virtual_memory().available)
    try:
        if on_gpu:
            free = 0  # if even the question needs more memory than there is
            free = torch.cuda.mem_get_info(ranks.device)[0]
            torch.cuda.reset_peak_memory_stats(ranks.device)
        data = TrainingData.load(few, root, ranks.device, None if init is None else normalisation_of(init))
        kept = kept_bytes(data.train, train_images) + kept_bytes(data.validation, validation_images)
        model = new_model(few, data, init).to(ranks.device)
        teacher_model = None if teacher is None else teacher(data.classes)
        trainer = Trainer(few, data, model, ranks, teacher=teacher_model)
        with nullcontext(1.0) if on_gpu or count == 1 else _shared_cores(count) as slowdown:
            step, validation = (slowdown * seconds for seconds in _measure(trainer, share))
    except (MemoryError, OSError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        ran_out = True
    # The ranks take whole batches of the validation images in turn; the first rank has most.
    starts = range(0, validation_images, validation_batch * count)
    validated = sum(min(validation_batch, validation_images - start) for start in starts)
    return PreflightResult(
        pictures=train_images,
        steps=steps * config.epochs,
        seconds_a_step=step,
        images_per_second=train_images / steps / step if step else 0.0,
        seconds=config.epochs * (steps * step + validation * validated),
        memory_bytes=(_used(ranks.device) + kept) * (1 if on_gpu else count),
        memory_free_bytes=free,
        ran_out=ran_out,
    )


@contextmanager
def _shared_cores(count: int) -> Iterator[float]:
    """Use the threads of one of `count` ranks on a CPU; yield how many times longer each takes beside the others."""
    before = torch.get_num_threads()
    threads = threads_per_rank(count)
    torch.set_num_threads(threads)
    try:
        yield max(1.0, count * threads / available_cores())
    finally:
        torch.set_num_threads(before)


def _measure(trainer: Trainer, count: int) -> tuple[float, float]:
    """Return the seconds of a training step of `count` images, and of validating one image."""
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
