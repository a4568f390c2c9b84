"""The read-only mode, in which a dashboard is shown to others: `SWINLENS_READ_ONLY=1`."""

import os

from swin_core.errors import RunError

VARIABLE = "SWINLENS_READ_ONLY"
NOTE = "Read-only: training, changes to runs and models, and files by path are switched off."


def is_read_only() -> bool:
    """Return whether the environment asks for the read-only mode."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def refuse_if_read_only() -> None:
    """Refuse what starts, changes or deletes something.

    Raises:
        RunError: the read-only mode is on.
    """
    if is_read_only():
        raise RunError(f"nothing can be started, changed or deleted here: unset {VARIABLE} to allow it.")
