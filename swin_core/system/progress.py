"""How far a long piece of work is: counted where it is done, and shown as a bar in a shell."""

from collections.abc import Callable

from tqdm import tqdm

__all__ = ["Bar", "Progress", "counter"]

Progress = Callable[[int, int], None]
"""Called with what is done and with all there is to do."""


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """What to call with each part that is done, so that `progress` hears of the sum of them."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick


class Bar:
    """A progress bar in a shell, which appears with the first part done; a `Progress`.

    Args:
        unit: what is counted, in the plural.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.bar: tqdm | None = None

    def __call__(self, done: int, count: int) -> None:
        """Show so much of so much."""
        if self.bar is None:
            self.bar = tqdm(total=count, unit=f" {self.unit}")
        self.bar.update(done - self.bar.n)
        if done == count:
            self.bar.close()
