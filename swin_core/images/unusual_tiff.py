"""Decode a TIFF that Pillow cannot, such as floating-point RGB.

A large or compressed one is decoded in a process with limits of memory and time: strips may inflate to any size, and
Python code decodes some of them, so nothing that a file says bounds either.

`python -m swin_core.images.unusual_tiff MAX_PIXELS` reads a TIFF from its input. It writes a line of JSON, with the
size or with what is wrong, and then the pixels as RGB.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from swin_core.errors import ImageError
from swin_core.images.arrays import read_tiff, tiff_bytes
from swin_core.images.budget import decoding
from swin_core.images.rgb import to_bytes, to_rgb

_MEMORY_BYTES = 300 * 2**20
"""Memory of the process above that of Python and its packages."""
_SMALL_BYTES = 64 * 2**20
"""Uncompressed values up to this size are decoded without another process, whose start takes a fifth of a second."""
_CPU_SECONDS = 4
_WALL_SECONDS = 60
"""A busy machine gives a process little of its time."""
_BAND_PIXELS = 500_000
"""Pixels that are converted and passed on at a time."""


def decode_unusual_tiff(content: bytes, max_pixels: int) -> Image.Image:
    """Decode a TIFF of unusual values.

    Returns:
        Mode RGB, transparency over white.

    Raises:
        ImageError: damaged, no image, or too much memory or time is needed.
    """
    size = tiff_bytes(content, _MEMORY_BYTES, max_pixels)
    if size is None or size > _SMALL_BYTES:
        return _decode_apart(content, max_pixels)
    with decoding.keep():
        array, white_is_zero = read_tiff(content, _SMALL_BYTES, max_pixels)
        image, top = Image.new("RGB", (array.shape[1], array.shape[0])), 0
        for band in _rgb_bands(array, white_is_zero):
            image.paste(band, (0, top))
            top += band.height
    return image


def _rgb_bands(array: np.ndarray, white_is_zero: bool) -> Iterator[Image.Image]:
    """Yield `(H, W)` or `(H, W, 3 or 4)` values as RGB, some rows at a time."""
    rows = max(1, _BAND_PIXELS // array.shape[1])
    bands = [array[top : top + rows] for top in range(0, len(array), rows)]
    lows, highs = zip(*((values.min(), values.max()) for values in map(_computable, bands)), strict=True)
    bounds = float(np.min(lows)), float(np.max(highs))  # unlike min and max, these keep NaN
    for values in map(_computable, bands):
        levels = to_bytes(values, bounds=bounds)
        yield to_rgb(Image.fromarray(np.ascontiguousarray(255 - levels if white_is_zero else levels)))


def _computable(values: np.ndarray) -> np.ndarray:
    """Return floating-point values of 16 bits, with which NumPy computes slowly, with 32 bits; others as they are."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _decode_apart(content: bytes, max_pixels: int) -> Image.Image:
    """Decode a TIFF in a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TIFFFILE_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "swin_core.images.unusual_tiff", str(max_pixels)]
    with decoding.reserve(_MEMORY_BYTES + 4 * max_pixels):
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **threads},
            )
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror}); try again") from error
        watch = threading.Timer(_WALL_SECONDS, child.kill)
        watch.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError), child.stdin:
                child.stdin.write(content)
            return _receive(child.stdout)
        finally:
            watch.cancel()
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()


def _receive(stream: IO[bytes]) -> Image.Image:
    """Read what the process writes; bands, since a second copy of a large image would take much memory."""
    ended = ImageError("takes too much memory or time to decode; make it smaller, or save it as PNG")
    header = stream.readline()
    if not header.endswith(b"\n"):
        raise ended
    facts = json.loads(header)
    if "fault" in facts:
        raise ImageError(facts["fault"])
    width, height = facts["size"]
    image, rows = Image.new("RGB", (width, height)), max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        size = width, min(rows, height - top)
        band = stream.read(3 * size[0] * size[1])
        if len(band) < 3 * size[0] * size[1]:
            raise ended
        image.paste(Image.frombytes("RGB", size, band), (0, top))
    return image


def main() -> None:
    """Decode the TIFF of the standard input."""
    with suppress(ModuleNotFoundError):  # Windows has no such limits
        _set_limits()
    output = sys.stdout.buffer
    try:
        array, white_is_zero = read_tiff(sys.stdin.buffer.read(), _MEMORY_BYTES, int(sys.argv[1]))
        for number, band in enumerate(_rgb_bands(array, white_is_zero)):
            if number == 0:  # values whose white is unknown are refused before
                output.write(json.dumps({"size": (array.shape[1], array.shape[0])}).encode() + b"\n")
            output.write(band.tobytes())
    except ImageError as error:
        output.write(json.dumps({"fault": str(error)}).encode() + b"\n")


def _set_limits() -> None:
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        size = int(statm.read_text().split()[0]) * resource.getpagesize() + _MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + _CPU_SECONDS, used + _CPU_SECONDS + 1))


if __name__ == "__main__":
    main()
