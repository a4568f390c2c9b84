"""A map of images in two dimensions: t-SNE of their features (van der Maaten & Hinton 2008) by scikit-learn.

It runs in a program of its own with one thread: scikit-learn can be neither stopped nor asked for its progress, and
with several threads the sums, and after many steps the map, would differ from run to run.
"""

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from swin_core.errors import DataError
from swin_core.evaluation.predictions import cache_root
from swin_core.evaluation.tsne import COMPONENTS, PERPLEXITY, STEPS
from swin_core.system.atomic import atomic_write
from swin_core.system.kept_files import remove_oldest
from swin_core.system.progress import Progress

log = logging.getLogger(__name__)

MOST_IMAGES = 10_000
"""Images of a map at most."""
LEAST_IMAGES = 4
MAX_FILES, MAX_BYTES = 64, 64 * 2**20
"""Limits of the cache."""

_FORMAT = 1
_ERROR = re.compile(r"[\w.]+Error\b")
_STEP = re.compile(r"\[t-SNE\] Iteration (\d+)")


def drawn(count: int, seed: int = 0) -> np.ndarray:
    """Return the indices of the images of a map, sorted, `(n,)` int64: all, or `MOST_IMAGES` drawn at random."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_IMAGES])


def embedding_file(features: np.ndarray, seed: int = 0, root: Path | None = None) -> Path:
    """Return the file of a map; its name is a digest of the features and the settings."""
    hashed = hashlib.sha256(json.dumps([_FORMAT, features.shape, STEPS, PERPLEXITY, COMPONENTS, seed]).encode())
    hashed.update(np.ascontiguousarray(features, np.float32).data)
    return (root or cache_root()) / "maps" / f"{hashed.hexdigest()[:40]}.npz"


def cached_embedding(
    features: np.ndarray, seed: int = 0, root: Path | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Return a place for each image such that images with similar features are near each other.

    Features are compared by their direction, as in `nearest`. The same features and seed give the same map, which is
    read from disk if it was made before.

    Args:
        features: `(n, D)`, finite.
        seed: seed of the start.
        root: folder of the cache; `cache_root()` if None.
        progress: called with the number of steps done and their total; an error that it raises stops the computation.

    Returns:
        `(n, 2)` float32 in -1 to 1; the scale of both axes is the same.

    Raises:
        DataError: fewer than `LEAST_IMAGES` images, or the computation failed.
    """
    if len(features) < LEAST_IMAGES:
        raise DataError(f"a map needs {LEAST_IMAGES} images, and there are {len(features)}; choose more images.")
    file = embedding_file(features, seed, root)
    try:
        with np.load(file, allow_pickle=False) as content:
            places = content["places"]
        if places.shape == (len(features), 2):
            os.utime(file)  # mark it as read
            return places
    except (OSError, ValueError, KeyError, EOFError) as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s is damaged and is computed again (%s)", file, error)
    places = _computed(features, seed, progress)
    places = (places - places.mean(0)).astype(np.float32)
    places /= max(float(np.abs(places).max()), np.finfo(np.float32).tiny)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            np.savez(stream, places=places)
        remove_oldest(file.parent, MAX_FILES, MAX_BYTES)
    except OSError as error:
        log.warning("the map is not cached: %s cannot be written (%s)", file, error)
    return places


def _computed(features: np.ndarray, seed: int, progress: Progress | None) -> np.ndarray:
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    with tempfile.TemporaryDirectory() as folder:
        source, target, faults = (Path(folder) / name for name in ("features.npy", "places.npy", "faults.txt"))
        np.save(source, directions.astype(np.float32))
        command = [sys.executable, "-u", "-m", "swin_core.evaluation.tsne", str(source), str(target), str(seed)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with faults.open("wb") as errors:
            program = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **threads},
            )
        try:
            assert program.stdout is not None
            for line in program.stdout:
                if (step := _STEP.match(line)) and progress is not None:
                    progress(min(int(step[1]), STEPS), STEPS)
            if program.wait():
                lines = faults.read_text("utf-8", "replace").splitlines()
                reason = next((line for line in reversed(lines) if _ERROR.match(line)), "it was ended")
                raise DataError(f"the map could not be computed ({reason[:200]}); try again.")
            return np.load(target, allow_pickle=False)
        finally:
            program.kill()
            program.communicate()  # closes its output and waits for its end
