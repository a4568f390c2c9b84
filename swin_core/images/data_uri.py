"""Images as data URIs, for HTML pages and the figures in them."""

import base64
import io
from typing import Literal

import numpy as np
from PIL import Image


def image_uri(image: np.ndarray | Image.Image, kind: Literal["JPEG", "PNG"] = "JPEG") -> str:
    """Encode an image, RGB or `(H, W, 3)` uint8, as a data URI; PNG keeps every pixel."""
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, kind, quality=85)  # PNG has no quality
    return data_uri(f"image/{kind.lower()}", stream.getvalue())


def data_uri(media_type: str, content: bytes) -> str:
    """Return a data URI of an encoded file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
