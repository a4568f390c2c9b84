"""Settings of glibc's allocator, of garbage collection and of oneDNN for programs that run models again and again."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

# Options of mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of returning them to the system.

    Each training step and each batch allocates the same large tensors. By default each arrives as fresh pages that the
    kernel must clear: up to half of a training step on a CPU, and a fifth of the time of Swin-T for 16 images of
    224 pixels. The setting holds for the whole program, so only programs call this, not library functions. Long-running
    servers also call `return_freed_memory` from time to time, because cached results lie between freed blocks.

    Returns:
        Whether glibc accepted both settings; False on other systems.
    """
    mallopt = _glibc("mallopt")
    # mallopt returns 0 for a refusal: older releases take an M_MMAP_THRESHOLD of 32 MiB at most.
    return mallopt is not None and all([mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)])


def share_one_heap() -> None:
    """Let all threads, and PyArrow, allocate from one glibc heap; servers call this before they start threads.

    With a heap for each thread, glibc's default, the demo took a fifth longer to draw a grid in a thread. PyArrow's own
    allocator keeps what it has read a file with; it is replaced unless PyArrow has been loaded before.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if mallopt := _glibc("mallopt"):
        mallopt(_M_ARENA_MAX, 1)


def limit_kept_kernels() -> None:
    """Let oneDNN keep 256 compiled kernels, and 32 for each thread; servers call this before a model runs.

    By default it keeps 1,024, and as many again for each thread. There is one for each shape of a product, so for each
    number of images too: four small models on 1 to 25 images left 310 MiB of them, with these limits 40 MiB, and took
    no longer.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")


def return_freed_memory() -> None:
    """Return free memory to the system, also between blocks in use; for long-running servers."""
    if malloc_trim := _glibc("malloc_trim"):
        malloc_trim(0)


def exempt_live_objects() -> None:
    """Collect all garbage, and exempt the objects that are left from collections until the next call."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _glibc(function: str) -> Callable[..., Any] | None:
    return getattr(ctypes.CDLL(None), function, None) if sys.platform.startswith("linux") else None
