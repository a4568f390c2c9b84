"""Progress of long work: counted where it is done, shown as a bar in a terminal."""

from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int, int], None]
"""Called with the number of finished parts and the total."""


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return a function that adds a number of finished parts and reports their sum to `progress`."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick


class ProgressBar:
    """A `Progress` that draws a bar in a terminal, from the first finished part on.

    Args:
        unit: what is counted, in the plural.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.bar: tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self.bar is None:
            self.bar = tqdm(total=total, unit=f" {self.unit}")
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()
