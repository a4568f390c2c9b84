"""The curves of a finding: its effects by the strength of the change, each beside its control."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from swin_core.audit.bench import Estimate
from swin_core.audit.results import STRENGTHS, Tested
from swin_core.figures.audit_text import measures
from swin_core.figures.palette import SERIES
from swin_core.figures.text import NO_BREAK

LEGEND = (
    "Strength 0 % is the image as it is, 100 % the whole change; in between, that part of the change. "
    "Dashed: the control."
)
"""What the axis and the lines mean."""
COLOUR, CONTROL_COLOUR = SERIES[1], SERIES[7]

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 228, 8, 128
"""Edges of the plot in a drawing of 320 x 166."""
_LINE_HEIGHT = 14


class Curve(NamedTuple):
    """An effect and its control, as shares, at each strength."""

    title: str
    strengths: tuple[float, ...]
    effect: tuple[float, ...]
    control: tuple[float, ...]

    def __str__(self) -> str:
        parts = (
            f"strength {_percent(strength)}: {_percent(effect)}, control {_percent(control)}"
            for strength, effect, control in zip(self.strengths, self.effect, self.control, strict=True)
        )
        return f"{self.title}. {'; '.join(parts)}"


def effect_curves(finding: Tested) -> Iterator[Curve]:
    """Yield the curves of a finding, from no change to the whole change."""

    def along(name: str, whole: Estimate) -> tuple[float, ...]:
        return 0.0, *finding.curves[name], whole.value

    pairs = (("flip", finding.flip, finding.flip_control), ("drop", finding.drop, finding.drop_control))
    for (title, _, _), (name, whole, control) in zip(measures(finding), pairs, strict=True):
        if name in finding.curves and whole and control:
            yield Curve(title, (0.0, *STRENGTHS, 1.0), along(name, whole), along(f"{name}_control", control))


def curve_svg(curve: Curve) -> str:
    """Return a curve as SVG. Its text has the colour of the page."""
    low = min(0.0, *curve.effect, *curve.control)

    def across(strength: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * strength

    def down(share: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (share - low) / (1 - low)

    def line(shares: Sequence[float], look: str) -> str:
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in zip(curve.strengths, shares, strict=True))
        return f'<polyline points="{points}" fill="none" stroke-width="2.5" {look}/>'

    parts = [
        '<svg viewBox="0 0 320 166" role="img" font-size="12" fill="currentColor">',
        f"<title>{escape(str(curve))}</title>",
    ]
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<path d="M{_LEFT} {down(share):.1f}H{_RIGHT}" stroke="currentColor" stroke-opacity="0.2"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down(share) + 4:.1f}" text-anchor="end">{_percent(share)}</text>')
    for strength in (0.0, 0.5, 1.0):
        words = _percent(strength)
        parts.append(f'<text x="{across(strength):.0f}" y="{_BOTTOM + 16}" text-anchor="middle">{words}</text>')
    parts.append(f'<text x="{across(0.5):.0f}" y="{_BOTTOM + 33}" text-anchor="middle">strength of the change</text>')
    parts.append(line(curve.control, f'stroke="{CONTROL_COLOUR}" stroke-dasharray="5 4"'))
    parts.append(line(curve.effect, f'stroke="{COLOUR}"'))
    ends = sorted((("effect", curve.effect[-1]), ("control", curve.control[-1])), key=lambda end: -end[1])
    upper, lower = (down(share) + 4 for _, share in ends)
    lower = min(max(lower, upper + _LINE_HEIGHT), _BOTTOM + 4)  # apart from each other, and above those of the axis
    for (name, share), height in zip(ends, (min(upper, lower - _LINE_HEIGHT), lower), strict=True):
        parts.append(f'<text x="{_RIGHT + 8}" y="{height:.1f}">{name} {_percent(share)}</text>')
    return "".join([*parts, "</svg>"])


def _percent(share: float) -> str:
    """Return a share, which may be negative, as a whole percentage."""
    return f"{round(100 * share)}{NO_BREAK}%"
