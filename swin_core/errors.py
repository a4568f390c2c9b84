"""Everything that can go wrong in a way a user should read about.

    SwinError
    |-- ImageError      bytes that are not an image that can be shown
    |-- DataError       a data set that is missing or malformed
    |-- DownloadError   a file that could not be fetched, or arrived damaged
    |-- ConfigError     a setting outside its range, or two that contradict each other
    |-- WeightsError    a weights file that does not fit the model, or is not one
    |-- ModelError      a model that the zoo does not know or cannot load
    |-- RunError        a run that is not there, or that cannot be started, stopped or changed now
    |   `-- PeerExitedError  a process of it that cannot go on without the others
    |-- ReportError     a report that is damaged, or that cannot be computed again here
    |-- TargetError     a class that the model does not have
    `-- LayerError      a layer that does not exist, or whose layout is ambiguous

Each message is one line that says what is wrong and what to do; pages, demo and shell print it as it is.
"""

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "DataError",
    "DownloadError",
    "ImageError",
    "LayerError",
    "ModelError",
    "PeerExitedError",
    "ReportError",
    "RunError",
    "SwinError",
    "TargetError",
    "WeightsError",
    "listed",
]


class SwinError(Exception):
    """Base of all errors whose message is fit to show to a user."""


class ImageError(SwinError):
    """The bytes are not an image that this project reads."""


class DataError(SwinError):
    """A data set is missing, incomplete or malformed."""


class DownloadError(SwinError):
    """A file could not be fetched, or its checksum differs."""


class ConfigError(SwinError, ValueError):
    """A setting is outside its range, or two settings contradict each other."""


class WeightsError(SwinError):
    """A weights file does not fit the model, or is not a weights file."""


class ModelError(SwinError):
    """A model is unknown to the zoo, or cannot be had now."""


class RunError(SwinError):
    """A run is not there, or cannot be started, stopped or changed now.

    Args:
        message: the line to show.
        busy: whether the only hindrance is another run, so that waiting helps.
    """

    def __init__(self, message: str, busy: bool = False):
        super().__init__(message)
        self.busy = busy


class PeerExitedError(RunError):
    """Another process of the run is gone: what it says about itself is the reason, and not this."""


class ReportError(SwinError):
    """A report is damaged, too large, or of models that are not here."""


class TargetError(SwinError, ValueError):
    """A target class is outside the model's classes."""


class LayerError(SwinError, ValueError):
    """A target layer does not exist, or its layout cannot be told."""


def listed(names: Sequence[str]) -> str:
    """The first five of some names and how many follow, for a message: "a, b, c, d, e and 95 more"."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
