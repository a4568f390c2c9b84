"""The bundled example of an audit: drawn shapes with two planted shortcuts, with its images."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from PIL import Image

from swin_core.audit.results import Audit
from swin_core.figures.audit_report import FindingImages
from swin_core.images.data_uri import image_uri

EXAMPLE = (
    "An example: drawn circles, squares and triangles, of which the circles carry a logo and the triangles are bluish. "
    "A small Swin was trained on them, and its audit found both."
)
"""What the example shows, in one paragraph."""


@cache
def example_audit() -> tuple[Audit, tuple[FindingImages, ...]]:
    """Return the bundled audit, and the images of each of its findings."""
    values = json.loads(files("swin_core").joinpath("assets", "audit_example.json").read_bytes())
    images = tuple(
        FindingImages(
            _decode(drawn["first"]), drawn["caption"], [(name, _decode(uri)) for name, uri in drawn["thumbnails"]]
        )
        for drawn in values["images"]
    )
    return Audit.from_dict(values["audit"] | {"means": {}}), images


def encode_example(audit: Audit, images: Sequence[FindingImages]) -> bytes:
    """Return the file that `example_audit` reads; small, since all bundled files have a limit together."""
    drawn = [
        {
            "first": image_uri(_reduced(each.first, 144)),
            "caption": each.caption,
            "thumbnails": [(name, image_uri(_reduced(image, 88))) for name, image in each.thumbnails[:4]],
        }
        for each in images
    ]
    shown = replace(audit, findings=tuple(replace(finding, names=(), corners=()) for finding in audit.findings))
    return json.dumps({"audit": shown.to_dict(), "images": drawn}, separators=(",", ":")).encode()


def _reduced(image: Image.Image, side: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((side, side))
    return image


def _decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
