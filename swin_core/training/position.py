"""How far a run has come."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Position:
    """How far a run has come. The names are those in checkpoints."""

    epoch: int = 0
    """Finished epochs."""
    index: int = 0
    """Finished steps of the current epoch."""
    loss: float = 0.0
    """Sum over the images of the current epoch, over all ranks; so are the next two."""
    pictures: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    """Training seconds since the first step, without the time between stop and resume."""
    best: list[float] = field(default_factory=lambda: [-1.0, 0.0])
    """Top-1 and negative loss of the best epoch."""
    stale: int = 0
    """Epochs since the best one."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Position":
        """Return the position that a checkpoint holds."""
        return cls(**{key: type(getattr(cls(), key))(value) for key, value in values.items()})
