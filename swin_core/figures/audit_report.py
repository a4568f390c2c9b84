"""An audit as one HTML file that loads nothing from elsewhere and runs no script."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image, ImageDraw

from swin_core.attribution.overlay import Look, overlay
from swin_core.attribution.regions import Region
from swin_core.audit.interventions import Bench
from swin_core.audit.maps import GRID
from swin_core.audit.results import LEAST_EFFECT, Audit, Tested
from swin_core.data.dataset import DataSet
from swin_core.figures.audit_text import HOW, conclusion, headline, measures, place, with_interval
from swin_core.figures.report_json import machine, versions
from swin_core.images.data_uri import image_uri
from swin_core.zoo.classifier import Classifier

SIDE = 224
"""Side of an image of the report in pixels."""
THUMBNAILS = 8
"""Images that are shown of a finding."""
OUTLINE = "#E69F00"


@dataclass(frozen=True, eq=False)
class FindingImages:
    """What a finding looks like."""

    mean: Image.Image
    """The class's mean map over the mean of the images."""
    thumbnails: list[tuple[str, Image.Image]]
    """Name of each image, and the image with the region outlined."""


def finding_images(audit: Audit, finding: Tested, classifier: Classifier, dataset: DataSet) -> FindingImages:
    """Draw a finding: the mean map of its class, and up to eight images that the region decides.

    Raises:
        DataError: an image cannot be read any more.
    """
    rows = {name: row for row, name in enumerate(dataset.names)}
    names = [name for name in finding.names if name in rows][:THUMBNAILS]
    if not names:
        return FindingImages(Image.new("RGB", (SIDE, SIDE), "grey"), [])
    views = Bench(classifier, dataset).views([rows[name] for name in names])
    if views.dtype != np.uint8:
        views = (255 * (views - views.min()) / max(np.ptp(views), 1e-9)).astype(np.uint8)[..., :1].repeat(3, -1)
    average = np.asarray(Image.fromarray(views.mean(0).astype(np.uint8)).resize((SIDE, SIDE)))
    values = audit.means[finding.class_name]
    mean = Image.fromarray(overlay(average, values, float(values.max()), Look()))
    drawn = [outlined(Image.fromarray(view), finding.region, finding.frame) for view in views]
    return FindingImages(mean, list(zip(names, drawn, strict=True)))


def outlined(view: Image.Image, region: Region | None, frame: bool = False) -> Image.Image:
    """Return a view enlarged to the report's size, with the region outlined; of a frame its inner edge."""
    image = view.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if region is not None:
        inset = 1 / GRID if frame else 0.0
        left, top, right, bottom = region
        edges = (left + inset, top + inset, right - inset, bottom - inset)
        box = [round(SIDE * edge) for edge in edges]
        ImageDraw.Draw(image).rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline="black", width=6)
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=OUTLINE, width=4)
    return image


@cache
def _template() -> Template:
    source = files(__package__).joinpath("audit_report.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def audit_page(audit: Audit, classifier: Classifier, dataset: DataSet) -> str:
    """Return the HTML page of an audit.

    Args:
        audit: what was found.
        classifier, dataset: those that were audited.

    Raises:
        DataError: an image cannot be read any more.
    """
    cards: list[dict[str, Any]] = []
    for finding in audit.findings:
        images = finding_images(audit, finding, classifier, dataset)
        cards.append(
            {
                "finding": finding,
                "headline": headline(finding),
                "measures": measures(finding),
                "mean": image_uri(images.mean),
                "thumbnails": [(name, image_uri(image)) for name, image in images.thumbnails],
            }
        )
    tested = [
        [
            candidate.class_name,
            place(candidate.region, candidate.frame) if candidate.region else candidate.kind,
            f"{candidate.relevance:.1f}",
            with_interval(candidate.flip),
            with_interval(candidate.flip_control),
            str(candidate.pairs),
        ]
        for candidate in audit.tested
    ]
    return _template().render(
        title="Is the model looking at the right thing?",
        audit=audit,
        conclusion=conclusion(audit),
        how=HOW,
        threshold=f"{100 * LEAST_EFFECT:.0f}",
        cards=cards,
        tested=tested,
        made=[*(machine() | versions()).items()],
    )
