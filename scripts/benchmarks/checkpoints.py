"""Checkpoints of a run that are torn or have a flipped bit: each must be noticed, and its predecessor used."""

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from swin_core.training.checkpoint import newest_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from benchmarks.survival import Survival


def checkpoints(result: "Survival", count: int) -> "Survival":
    """Damage the newest checkpoint `count` times, every other time by a flipped bit, and read the newest intact one."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "20260101-120000-mine" / "checkpoints"
        folder.mkdir(parents=True)
        for number in (1, 2):
            write_checkpoint(folder, {"number": number, "model": {"weight": torch.full((50, 40), float(number))}})
        last = folder / "last.pt"
        whole = last.read_bytes()
        for number in range(count):
            damaged = bytearray(whole)
            if number % 2:
                del damaged[draw.randrange(len(whole)) :]
            else:
                damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            last.write_bytes(damaged)
            newest = newest_checkpoint(folder)
            good = newest is not None and newest.state["number"] == 1 and bool(newest.remark)
            result.add(good, fault="" if good else f"damage {number} was not noticed")
    return result
