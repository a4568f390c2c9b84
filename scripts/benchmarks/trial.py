"""A child process of the survival benchmark: it reads hostile files one after another, and prints a line for each.

`python -c "from benchmarks.trial import main; main()" images 0 500` reads the images 0 to 499.
"""

import atexit
import json
import math
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swin_core.errors import SwinError

MOST_BYTES = 3 * 2**30
"""Address space that a child may take above what it has when it starts."""
UPLOAD_BYTES = 20 * 2**20


def main() -> None:
    """Read the files that the command line names."""
    kind, first, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    read = {"images": _images, "weights": _weights}[kind]()
    size = int(_status("VmSize")) * 1024 + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for number in range(first, stop):
        print(json.dumps(_trial(read, number)), flush=True)


def _trial(read: Callable[[int], tuple[str, Callable[[], None]]], number: int) -> dict[str, object]:
    """Read a file; return its kind, what came of it, the CPU time, and the peak of memory above what was there before.

    CPU time is that of a machine with nothing else to do. Both count the processes that read unusual files: their peaks
    are added as if they came together, and the largest one stands for all.
    """
    kind, work = read(number)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start, apart = _status("VmRSS"), time.process_time(), _time_of_children()
    try:
        work()
        outcome = "read"
    except SwinError as error:
        outcome = "refused" if "\n" not in str(error) else "fault: a message of several lines"
    except BaseException as error:
        outcome = f"fault: {type(error).__name__}: {error}"[:200]
    seconds, peak = time.process_time() - start, max(0, _status("VmHWM") - before)
    if (more := _time_of_children() - apart) > 0:
        seconds, peak = seconds + more, peak + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"number": number, "kind": kind, "outcome": outcome, "seconds": seconds, "peak_mib": peak / 1024}


def _time_of_children() -> float:
    """Return the CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _status(key: str) -> int:
    """Return a number of KiB of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1])


def _images() -> Callable[[int], tuple[str, Callable[[], None]]]:
    from benchmarks.fuzz import AT_ONCE, image_case

    from swin_core.images.arrays import read_array
    from swin_core.images.read import read_image

    def case(number: int) -> tuple[str, Callable[[], None]]:
        kind, content = image_case(number)
        reader = read_array if kind.removeprefix("damaged ").startswith("np") else read_image

        def work() -> None:
            with ThreadPoolExecutor(4) as pool:
                for reading in [pool.submit(read) for _ in range(4 if kind.endswith(AT_ONCE) else 1)]:
                    reading.result()

        def read() -> None:
            _discard(reader(content, *([UPLOAD_BYTES] if reader is read_image else [])))

        return kind, work

    return case


def _discard(value: object) -> None:
    del value


def _weights() -> Callable[[int], tuple[str, Callable[[], None]]]:
    import torch
    from benchmarks.fuzz import weights_case
    from PIL import Image

    import swin_core

    torch.set_num_threads(1)
    file = Path(tempfile.mkdtemp(prefix="swinlens-")) / "weights.bin"
    image = Image.new("RGB", (32, 32), (90, 120, 60))

    def case(number: int) -> tuple[str, Callable[[], None]]:
        kind, content = weights_case(number)
        file.write_bytes(content)

        def work() -> None:
            probabilities = swin_core.load(file).predict([image])
            if not all(map(math.isfinite, probabilities.flatten().tolist())):
                raise ArithmeticError("the probabilities are not finite")

        return kind, work

    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    swin_core.load("swin_nano_cifar100").predict([image])  # what is imported at the first use is not a file's time
    return case
