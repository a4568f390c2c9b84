"""What the commands share: how a command ends, missing packages, results as JSON files."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from swin_core.errors import ConfigError, SwinError
from swin_core.system.atomic import atomic_write

__all__ = ["require", "run", "write_json"]


def run(name: str, work: Callable[[], int]) -> int:
    """Return the exit status of a command: its own, 1 after a `SwinError`, 130 if the user stopped it.

    The last two print one line that starts with `name`.
    """
    try:
        return work()
    except SwinError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped.", file=sys.stderr)
        return 130


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed.

    Raises:
        ConfigError: it is not; the message names the extra that installs it.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{package} is not installed; install it with: pip install 'swinlens[{extra}]'")


def write_json(path: Path, content: object) -> None:
    """Write a result as a whole or not at all.

    Raises:
        ConfigError: the path cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(json.dumps(content).encode())
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
