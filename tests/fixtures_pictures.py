"""What the tests of pictures and of data sets share: encoders, a picture, and a small CIFAR-100."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}
EVERY_FORMAT: dict[str, dict[str, Any]] = {**LOSSLESS, "GIF": {}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}


FINE = ("apple", "baby", "bear")
COARSE = ("fruit", "people", "large_carnivores")


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    message = str(error.value)
    assert message
    assert len(message.splitlines()) == 1
    return message


def smooth_pixels() -> np.ndarray:
    """A colour picture of 40 x 56 pixels that no turn or flip maps onto itself, smooth enough for JPEG."""
    rows, columns = np.mgrid[0:40, 0:56]
    channels = (rows * 6, columns * 4, (rows + columns) % 40 * 5)
    return np.stack(channels, axis=2).astype(np.uint8)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opencv_encoded(pixels: np.ndarray, suffix: str) -> bytes:
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    done, content = cv2.imencode(suffix, pixels[:, :, order] if order else pixels)
    assert done
    return content.tobytes()


def tiff_encoded(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def hand_made_png(width: int, height: int, depth: int, colour: int, raw: bytes, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(raw, 9))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def small_cifar() -> dict[str, np.ndarray]:
    """Thirty pictures of 32 x 32 pixels with fine and coarse labels."""
    draw = np.random.default_rng(1)
    fine = draw.permutation(np.repeat(np.arange(3), 10))
    return {"pixels": draw.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), "fine": fine, "coarse": 2 - fine}


def write_hub(folder: Path, small: dict[str, np.ndarray], shards: int = 2) -> None:
    """The hub's layout, half of the pictures as PNG and half as lossless WebP."""
    folder.mkdir(parents=True)
    metadata = {"info": {"features": {"fine_label": {"names": FINE}, "coarse_label": {"names": COARSE}}}}
    cells = [
        {"bytes": encoded(p, "WEBP", lossless=True) if i % 2 else encoded(p, "PNG"), "path": f"{i:02}.png"}
        for i, p in enumerate(small["pixels"])
    ]
    table = pa.table({"img": cells, "fine_label": small["fine"], "coarse_label": small["coarse"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    per_shard = -(-len(cells) // shards)
    for split in ("train", "test"):
        for shard in range(shards):
            path = folder / f"{split}-{shard:05}-of-{shards:05}.parquet"
            pq.write_table(table.slice(shard * per_shard, per_shard), path)
