"""An audit in words: the headline of a finding, what each number means, and what was tested without a finding."""

from collections.abc import Sequence

from swin_core.attribution.regions import Region
from swin_core.audit.bench import Estimate
from swin_core.audit.duplicates import Duplicates
from swin_core.audit.repair import Repair
from swin_core.audit.results import LEAST_EFFECT, LEAST_WITHOUT_PLACE, Audit, FileSize, Tested
from swin_core.figures.text import percent
from swin_core.images.statistics import STATISTICS

HOW = (
    "Candidates are places where the relevance maps of a class, or of a group of its images, are strongest; patches "
    "that look alike wherever they lie; and statistics of the whole image, such as its colour, that differ from those "
    "of the other classes. Each was put into images of other classes. The control of a region is content of equal area "
    "from elsewhere in the same image, that of a statistic a change of equal size in the other direction."
)
"""What an audit does, in one paragraph."""
THRESHOLD = (
    f"A region is a finding if it turns at least {100 * LEAST_EFFECT:.0f} percentage points more images than its "
    f"control; content at changing places and statistics need {100 * LEAST_WITHOUT_PLACE:.0f}. This must hold at the "
    "lower end of an interval that is corrected for the number of candidates."
)
"""What makes a candidate a finding."""
LISTED_DUPLICATES = 20
"""Groups of copies that the text lists; the JSON has all."""


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


_WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("lower in contrast", "higher in contrast"),
    "sharpness": ("blurred", "sharper"),
    "border": ("darker at the border", "brighter at the border"),
    "aspect": ("from taller files", "from wider files"),
}
"""A shift down and a shift up of each statistic."""


def shift_words(statistic: str, by: Sequence[float]) -> str:
    """Return how images of the class differ from others: "darker", "less red and more blue"."""
    if statistic == "colour":
        clear = [
            (name, part) for name, part in zip(("red", "blue"), by, strict=True) if 2 * abs(part) >= max(map(abs, by))
        ]
        return " and ".join(f"{'more' if part > 0 else 'less'} {name}" for name, part in clear)
    return _WORDS[statistic][sum(by) > 0]


def describe(finding: Tested) -> str:
    """Return what a candidate is: "region at the lower edge", "content at changing places", "brightness: darker"."""
    if finding.region:
        return f"region {place(finding.region, finding.frame)}"
    if finding.statistic:
        return f"{STATISTICS[finding.statistic].title}: {shift_words(finding.statistic, finding.by)}"
    return "content at changing places"


def headline(finding: Tested) -> str:
    """Return a finding in two or three sentences."""
    name = repr(finding.class_name)
    count = f"{finding.images} of {finding.of_images} images"
    control = "" if finding.flip_control is None else f" (control: {percent(finding.flip_control.value)})"
    turned = f"turns {percent(finding.flip.value)} of them into {name}{control}."
    if finding.statistic:
        return (
            f"The {STATISTICS[finding.statistic].title} of the whole image decides {name}: {count} are "
            f"{shift_words(finding.statistic, finding.by)}. Twice that change of other images {turned} "
            "Classes may differ in this by nature: look at the images."
        )
    if finding.region:
        where = place(finding.region, finding.frame)
        return f"A region {where} decides {name} in {count}. Pasted into other images it {turned}"
    return (
        f"Content that looks alike, at changing places, decides {name} in {count}. "
        f"Pasted at random places of other images it {turned}"
    )


def with_interval(estimate: Estimate | None) -> str:
    """Return a share with its interval: "83 % (79 to 87 %)"; "not measured" for None."""
    if estimate is None:
        return "not measured"
    value, low, high = (round(100 * share) for share in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low} to {high} %)"


def measures(finding: Tested) -> list[tuple[str, str, str]]:
    """Return name, value and control of what was measured, for a table."""
    put, removed = ("Applied to", "Undone in") if finding.statistic else ("Pasted into", "Removed from")
    return [
        (
            f"{put} images of other classes: share that becomes the class",
            with_interval(finding.flip),
            with_interval(finding.flip_control),
        ),
        (
            f"{removed} the class's images: fall of p(class)",
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
    smallest = (
        f"A region with an effect of {points} percentage points or more would have been found in each class"
        f"{' that could be tested' if audit.untested else ''}; content at changing places and statistics need at least "
        f"{100 * (LEAST_WITHOUT_PLACE - LEAST_EFFECT):.0f} more."
    )
    if count:
        findings = "1 finding" if count == 1 else f"{count} findings"
        below = f"{len(audit.tested)} of {tested + len(audit.merged)} candidates are below the threshold"
        text = f"{findings} in {audit.images:,} images; {below}"
    else:
        text = f"No finding in {audit.images:,} images: {len(audit.tested)} candidates were tested"
    if audit.tested:
        strongest = audit.tested[0]
        control = "" if strongest.flip_control is None else f" (control: {percent(strongest.flip_control.value)})"
        turned = f"turns {percent(strongest.flip.value)} of other images into {strongest.class_name!r}{control}"
        text += f", the strongest of which, {describe(strongest)}, {turned}"
    return f"{text}. {smallest}"


def file_size(difference: FileSize) -> str:
    """Return a difference of file sizes as a sentence."""
    own, others = (f"{size / 1000:,.1f} kB" for size in (difference.median, difference.others))
    return (
        f"Files of {difference.class_name!r} have {own} in the median, those of other classes {others}. The size "
        "itself does not reach the model, but the files may come from another source."
    )


def duplicates_summary(audit: Audit) -> str:
    """Return how many copies there are, in one or two sentences."""
    groups = audit.duplicates
    where = f"the split {audit.split}"
    if audit.compared:
        *others, last = audit.split, *audit.compared
        where = f"the splits {', '.join(others)} and {last}"
    if not groups:
        return f"No duplicates in {where}."
    exact = sum(group.exact for group in groups)
    text = (
        f"{sum(len(group.images) for group in groups):,} images in {where} are copies of other images. "
        f"Groups of copies: {exact:,} of the same pixels, {len(groups) - exact:,} nearly the same."
    )
    across = sum(group.across_splits for group in groups)
    labels = sum(group.across_classes for group in groups)
    text += f" In several splits, so that the accuracy is too high: {across:,}." if across else ""
    return text + (f" With several labels: {labels:,}." if labels else "")


def duplicates_line(group: Duplicates) -> str:
    """Return a group of copies as one line."""
    names = ", ".join(f"{image.split}: {image.name}" for image in group.images)
    return f"{'same pixels' if group.exact else 'nearly the same'}{', several labels' * group.across_classes}: {names}"


def lines(audit: Audit) -> list[str]:
    """Return the audit as lines of text."""
    text = [f"skipped: {file}" for file in audit.skipped]
    text += [f"not tested: {name}: {reason}" for name, reason in audit.untested.items()]
    text.append(f"{audit.model} on {audit.data}, split {audit.split}: {conclusion(audit)}")
    text.append(f"maps: {audit.method}; seed: {audit.seed}")
    for number, finding in enumerate(audit.findings, start=1):
        text += ["", f"{number}. {headline(finding)}"]
        text += [f"   {name}: {value}; control {control}" for name, value, control in measures(finding)]
    text += ["", *map(file_size, audit.file_sizes), duplicates_summary(audit)]
    shown = audit.duplicates[:LISTED_DUPLICATES]
    return text + [f"  {duplicates_line(group)}" for group in shown]


def repair_summary(repair: Repair) -> str:
    """Return what a repair changed, and whether it was measured on training images."""
    worst, mean = ([percent(share) for share in pair] for pair in (repair.worst, repair.mean))
    optimistic = (
        f" One of the models, or both, was trained on {repair.trained_on:,} of these {repair.images:,} images, so the "
        "shares are optimistic; audit held-out images for a fair comparison."
    )
    return (
        f"Retrained as {repair.model}: the worst group had {worst[0]} right and has {worst[1]}; the mean of the groups "
        f"was {mean[0]} and is {mean[1]}.{optimistic if repair.trained_on else ''}"
    )


def repair_rows(repair: Repair) -> list[tuple[str, str, str, str]]:
    """Return group, number of images, accuracy before and after, the worst group first, for a table."""
    return [
        (
            f"{group.class_name}, {'with' if group.present else 'without'} it",
            str(group.images),
            percent(group.before),
            percent(group.after),
        )
        for group in repair.groups
    ]


def repair_lines(repair: Repair) -> list[str]:
    """Return the table of a repair as lines of text."""
    rows = repair_rows(repair)
    return [f"   {name}: {before} before, {after} after ({count} images)" for name, count, before, after in rows]
