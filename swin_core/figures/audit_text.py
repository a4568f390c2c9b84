"""An audit in words: the headline of a finding, what each number means, and what was tested without a finding."""

from swin_core.attribution.regions import Region
from swin_core.audit.interventions import Estimate
from swin_core.audit.results import Audit, Tested
from swin_core.figures.text import percent

HOW = (
    "Candidates are places where the relevance maps of a class, or of a group of its images, are strongest. Each was "
    "pasted into images of other classes. The control is content of equal area from elsewhere in the same image."
)
"""What an audit does, in one paragraph."""


def place(region: Region, frame: bool = False) -> str:
    """Return where a region is: "at the lower right corner", "at the upper edge", "across the image at 32 % of ..."."""
    if frame:
        return "at the border"
    left, top, right, bottom = region
    across, down = (left + right) / 2, (top + bottom) / 2
    vertical = "upper" if down < 1 / 3 else "lower" if down > 2 / 3 else ""
    horizontal = "left" if across < 1 / 3 else "right" if across > 2 / 3 else ""
    if right - left > 0.9 and 0 < top < bottom < 1:
        return f"across the image at {percent(down)} of its height"
    if bottom - top > 0.9 and 0 < left < right < 1:
        return f"down the image at {percent(across)} of its width"
    if vertical and horizontal:
        return f"at the {vertical} {horizontal} corner"
    return f"at the {vertical or horizontal} edge" if vertical or horizontal else "in the middle"


def headline(finding: Tested) -> str:
    """Return a finding in two sentences."""
    where = place(finding.region, finding.frame) if finding.region else "at no single place"
    control = "" if finding.flip_control is None else f" (control: {percent(finding.flip_control.value)})"
    return (
        f"A region {where} decides {finding.class_name!r} in {finding.images} of {finding.of_images} images. "
        f"Pasted into other images it turns {percent(finding.flip.value)} of them into {finding.class_name!r}{control}."
    )


def with_interval(estimate: Estimate | None) -> str:
    """Return a share with its interval: "83 % (79 to 87 %)"; "not measured" for None."""
    if estimate is None:
        return "not measured"
    value, low, high = (round(100 * share) for share in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low} to {high} %)"


def measures(finding: Tested) -> list[tuple[str, str, str]]:
    """Return name, value and control of what was measured, for a table."""
    pasted, removed = "Pasted into images of other classes: share that becomes the class", "fall of p(class)"
    return [
        (pasted, with_interval(finding.flip), with_interval(finding.flip_control)),
        (
            f"Removed from the class's images: {removed}",
            with_interval(finding.drop),
            with_interval(finding.drop_control),
        ),
    ]


def conclusion(audit: Audit) -> str:
    """Return what the audit as a whole says."""
    count = len(audit.findings)
    tested = count + len(audit.tested)
    if not tested:
        return f"Nothing could be tested on {audit.images:,} images."
    points = f"{100 * (audit.smallest_effect or 0):.0f}"
    smallest = f"An effect of {points} percentage points or more would have been found in each class."
    others = f"{len(audit.tested)} other candidates decide nothing"
    if count:
        findings = "1 finding" if count == 1 else f"{count} findings"
        return f"{findings} in {audit.images:,} images; {others}. {smallest}"
    return f"No finding in {audit.images:,} images: {len(audit.tested)} candidates were tested. {smallest}"


def lines(audit: Audit) -> list[str]:
    """Return the audit as lines of text."""
    text = [f"skipped: {file}" for file in audit.skipped]
    text += [f"not tested: {name}: {reason}" for name, reason in audit.untested.items()]
    text.append(f"{audit.model} on {audit.data}, split {audit.split}: {conclusion(audit)}")
    for number, finding in enumerate(audit.findings, start=1):
        text += ["", f"{number}. {headline(finding)}"]
        text += [f"   {name}: {value}; control {control}" for name, value, control in measures(finding)]
    return text
