"""How a program that computes much should treat the memory that it frees."""

import ctypes
import sys

__all__ = ["keep_freed_memory", "return_freed_memory", "share_one_heap"]


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of returning them to the system.

    Every step of a training and every batch of answers allocates the same large tensors. By default each comes as fresh
    pages that the kernel must clear: up to half of a training step on a CPU, and a fifth of the time of Swin-T for 16
    images of 224 pixels. The setting holds for the whole program, so only programs call this, not the functions that
    explain. Long-running servers also call `return_freed_memory` from time to time, because cached results come to lie
    between freed blocks.

    Returns:
        Whether glibc accepted both settings; False on other systems.
    """
    if not (sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "mallopt")):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    # mallopt returns 0 for a refusal: older releases take an M_MMAP_THRESHOLD of 32 MiB at most.
    accepted = [libc.mallopt(trim_threshold, 2**31 - 1), libc.mallopt(mmap_threshold, 2**31 - 1)]
    return all(accepted)


def share_one_heap() -> None:
    """Let all threads allocate from one heap of glibc's; for servers, before they start their threads.

    By default a thread has one of its own, and the demo's drawing of a grid, in a thread, took a fifth longer so.
    """
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        arena_max = -8  # M_ARENA_MAX of malloc.h
        libc.mallopt(arena_max, 1)


def return_freed_memory() -> None:
    """Give the system back what is free, also between blocks that are in use; for servers that run for long.

    Results that are kept lie among tensors that are not, so that glibc alone returns little of what was freed.
    """
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
