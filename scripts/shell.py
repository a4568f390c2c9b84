"""What the scripts share: how a command ends, and a result as a file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from swin_core.atomic import replacing
from swin_core.errors import ConfigError, SwinError

__all__ = ["run", "write_json"]


def run(name: str, work: Callable[[], int]) -> int:
    """The exit status of a command: that of its work, 1 after an error that a user can mend, 130 if it was stopped.

    The last two are told in one line.
    """
    try:
        return work()
    except SwinError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped.", file=sys.stderr)
        return 130


def write_json(path: Path, content: object) -> None:
    """Write a result as a whole or not at all.

    Raises:
        ConfigError: the path cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(json.dumps(content).encode())
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
