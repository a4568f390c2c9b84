"""What the commands share: options, exit status, missing packages, measurements on several ranks, JSON files."""

import argparse
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swin_core.errors import ConfigError, SwinError
from swin_core.models.config import PRECISIONS
from swin_core.system.atomic import check_writable, write_file


def program(command: str) -> str:
    """Return the name of the program for its usage: that of the script that runs, else `swinlens <command>`."""
    script = Path(sys.argv[0]).name
    return script if script.endswith(".py") and script != "__main__.py" else f"swinlens {command}"


def count(text: str) -> int:
    """Parse an option that counts something."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 0 up")
    return int(text)


def add_accept_changed_data(parser: argparse.ArgumentParser) -> None:
    """Add the option of the commands that resume a run."""
    text = "resume a run although files of its data were added, removed or renamed"
    parser.add_argument("--accept-changed-data", action="store_true", help=text)


def run(name: str, work: Callable[[], int]) -> int:
    """Return the exit status of a command: its own, 1 after a `SwinError`, 130 after Ctrl-C.

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


def measure(name: str, json_file: Path | None, work: Callable[..., Any], lines: Callable[[Any], str], unit: str) -> int:
    """Measure on all ranks that torchrun started, or on one; print the result and write it as JSON on rank 0.

    Args:
        name: the command, for messages.
        json_file: where to write the result; None for nowhere.
        work: measures; called with `ranks` and `progress`, a bar on rank 0; its result has `to_dict`.
        lines: returns the result as text.
        unit: what the progress bar counts.
    """
    from swin_core.system.distributed import join_ranks
    from swin_core.system.memory import keep_freed_memory
    from swin_core.system.progress import ProgressBar
    from swin_core.training.launch import choose_devices

    def on_ranks() -> int:
        keep_freed_memory()
        if json_file:
            check_writable(json_file)
        with join_ranks(choose_devices([], None)[0]) as ranks:
            result = work(ranks=ranks, progress=ProgressBar(unit) if ranks.is_main else None)
            if ranks.is_main:
                print(lines(result))
                if json_file:
                    write_file(json_file, json.dumps(result.to_dict()).encode())
        return 0

    return run(name, on_ranks)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option of the commands that run a model on many images."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="",
        help="precision of matrix products; auto: bfloat16 on processors and GPUs that have it (else SWIN_PRECISION, "
        "else auto)",
    )


def add_roots(parser: argparse.ArgumentParser) -> None:
    """Add the options `--data-root` and `--runs-root`."""
    parser.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    add_runs_root(parser)


def add_runs_root(parser: argparse.ArgumentParser) -> None:
    """Add the option `--runs-root`."""
    parser.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed.

    Raises:
        ConfigError: it is not; the message names the extra that installs it.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{package} is not installed; install it with: pip install 'swinlens[{extra}]'")
