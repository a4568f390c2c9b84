"""An audit as one HTML file that loads nothing from elsewhere and runs no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image, ImageDraw

from swin_core.attribution.overlay import Look, overlay
from swin_core.attribution.regions import Region
from swin_core.audit.bench import Bench
from swin_core.audit.interventions import shift_views
from swin_core.audit.maps import GRID, WINDOW, patch_slices
from swin_core.audit.repair import Repair
from swin_core.audit.results import Audit, Tested
from swin_core.data.dataset import DataSet
from swin_core.figures.audit_curves import LEGEND, curve_svg, effect_curves
from swin_core.figures.audit_text import (
    HOW,
    THRESHOLD,
    conclusion,
    describe,
    duplicates_line,
    duplicates_summary,
    file_size,
    headline,
    measures,
    repair_rows,
    repair_summary,
    with_interval,
)
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

    first: Image.Image
    """The class's mean map over the mean of the images; for content, the mean patch."""
    caption: str
    """What `first` shows."""
    thumbnails: list[tuple[str, Image.Image]]
    """What each is, and the image with the region outlined; for a statistic, images as they are and with it undone."""


def finding_images(audit: Audit, finding: Tested, classifier: Classifier, dataset: DataSet) -> FindingImages:
    """Draw a finding: the mean map of its class or the mean patch, and up to eight images that it decides.

    Raises:
        DataError: an image cannot be read any more.
    """
    rows = {name: row for row, name in enumerate(dataset.names)}
    names = [name for name in finding.names if name in rows][:THUMBNAILS]
    if not names:
        return FindingImages(Image.new("RGB", (SIDE, SIDE), "grey"), "The images are not there any more.", [])
    views = Bench(classifier, dataset).views([rows[name] for name in names])
    if views.dtype != np.uint8:
        views = (255 * (views - views.min()) / max(np.ptp(views), 1e-9)).astype(np.uint8)[..., :1].repeat(3, -1)
    if finding.corners:
        slices = [patch_slices(corner, views.shape[1]) for corner in finding.corners]
        patches = [view[rows_and_columns] for view, rows_and_columns in zip(views, slices, strict=False)]
        first = Image.fromarray(np.mean(patches, 0).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        caption = "Mean of these patches."
    else:
        average = np.asarray(Image.fromarray(views.mean(0).astype(np.uint8)).resize((SIDE, SIDE)))
        values = audit.means[finding.class_name]
        first = Image.fromarray(overlay(average, values, float(values.max()), Look()))
        caption = "Mean map of the class over the mean of these images."
    if not finding.statistic:
        caption += f" The region has {finding.relevance:.1f} times the average relevance."
        windows: list[Region | None] = [_window(corner) for corner in finding.corners]
        regions = windows or [finding.region] * len(views)
        drawn = [
            outlined(Image.fromarray(view), region, finding.frame) for view, region in zip(views, regions, strict=False)
        ]
        return FindingImages(first, caption, list(zip(names, drawn, strict=True)))
    caption += " Beside it images as they are, then the same with the shift undone."
    kept = views[: THUMBNAILS // 2]
    undone = shift_views(kept, finding.statistic, finding.by, -1)
    pairs = [(name, view) for name, view in zip(names, kept, strict=False)]
    pairs += [(f"{name}, undone", view) for name, view in zip(names, undone, strict=False)]
    return FindingImages(first, caption, [(name, outlined(Image.fromarray(view), None)) for name, view in pairs])


def _window(corner: Sequence[int]) -> Region:
    top, left = corner
    return left / GRID, top / GRID, (left + WINDOW) / GRID, (top + WINDOW) / GRID


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


def audit_page(
    audit: Audit,
    classifier: Classifier,
    dataset: DataSet,
    repairs: Sequence[Repair | None] = (),
    dismissed: Sequence[bool] = (),
) -> str:
    """Return the HTML page of an audit.

    Args:
        audit: what was found.
        classifier, dataset: those that were audited.
        repairs: what a repaired model changed, for each finding, or None; empty if there is none.
        dismissed: which findings a user dismissed; empty for none.

    Raises:
        DataError: an image cannot be read any more.
    """
    cards: list[dict[str, Any]] = []
    for number, finding in enumerate(audit.findings):
        repair = repairs[number] if repairs else None
        images = finding_images(audit, finding, classifier, dataset)
        cards.append(
            {
                "finding": finding,
                "headline": f"{'Dismissed. ' if dismissed and dismissed[number] else ''}{headline(finding)}",
                "measures": measures(finding),
                "curves": [(curve.title, Markup(curve_svg(curve))) for curve in effect_curves(finding)],
                "repair": repair and (repair_summary(repair), repair_rows(repair)),
                "first": image_uri(images.first),
                "caption": images.caption,
                "thumbnails": [(name, image_uri(image)) for name, image in images.thumbnails],
            }
        )
    tested = [
        [
            candidate.class_name,
            describe(candidate),
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
        threshold=THRESHOLD,
        legend=LEGEND,
        cards=cards,
        tested=tested,
        duplicates_summary=duplicates_summary(audit),
        duplicates=[duplicates_line(group) for group in audit.duplicates],
        file_sizes=list(map(file_size, audit.file_sizes)),
        made=[*(machine() | versions()).items()],
    )
