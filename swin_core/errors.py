"""Errors with a message for the user: one line that says what is wrong and what to do.

All are kinds of `SwinError`; the pages, the demo and the commands print their messages as they are.
"""

from collections.abc import Sequence


class SwinError(Exception):
    """Base of all errors whose message is fit to show to a user."""


class ImageError(SwinError):
    """A file is not an image, or in a format that is not supported."""


class DataError(SwinError):
    """A data set is missing, incomplete or malformed."""


class DownloadError(SwinError):
    """A file could not be downloaded, or its checksum differs."""


class ConfigError(SwinError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class WeightsError(SwinError):
    """A file is not a weights file, or does not fit the model."""


class ModelError(SwinError):
    """A model is unknown or cannot be loaded."""


class RunError(SwinError):
    """A run does not exist, or cannot be started, stopped or changed now.

    Args:
        message: the line to show.
        busy: whether another run is the only obstacle, so that waiting helps.
    """

    def __init__(self, message: str, busy: bool = False):
        super().__init__(message)
        self.busy = busy


class PeerExitedError(RunError):
    """A peer rank exited; see that rank's own error."""


class ReportError(SwinError):
    """A report is damaged, too large, or of models that are not on this machine."""


class TargetError(SwinError, ValueError):
    """A target class does not exist, or its name is ambiguous."""


class LayerError(SwinError, ValueError):
    """A target layer does not exist, or the layout of its output is ambiguous."""


def first_names(names: Sequence[str]) -> str:
    """Return up to five names and the number of further ones, for a message: "a, b, c, d, e and 95 more"."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
