"""The result of an audit: a card for each finding, what was tested without one, and what to do next."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.audit.jobs import Subject
from dashboard.audit.repair import choose_finding, kept_repair, retrain_button, show_repair
from dashboard.shared.charts import CONFIG
from dashboard.shared.datasets import data_sets
from dashboard.shared.film_strip import SHOW_IMAGES_KEY
from dashboard.shared.image_selection import open_on_browse
from dashboard.shared.model_names import MAX_IMAGES, display_name
from dashboard.shared.theme import escape_markdown
from swin_core.audit.kept import dismiss, dismissed, finding_key
from swin_core.audit.results import Audit, Tested
from swin_core.figures.audit_curves import COLOUR, CONTROL_COLOUR, LEGEND, Curve, effect_curves
from swin_core.figures.audit_example import EXAMPLE, example_audit
from swin_core.figures.audit_report import FindingImages, audit_page, finding_images
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
)
from swin_core.runs.read_only import is_read_only
from swin_core.system.cache import LRUCache

_images: LRUCache[FindingImages] = LRUCache(32)
_STYLE = """<style>
.st-key-audit_cards [data-testid="stImage"] img { border-radius: 6px; }
[class*="st-key-thumbnails_"] { display: grid; gap: 8px; grid-template-columns: repeat(4, minmax(0, 1fr)); }
[class*="st-key-thumbnails_"] > * { width: auto !important; min-width: 0; }
</style>"""


def show_audit(subject: Subject, audit: Audit, folder: Path) -> None:
    """Draw the result of an audit, which is kept in `folder`."""
    st.html(_STYLE)
    if audit.findings:
        st.warning(escape_markdown(conclusion(audit)), icon=":material/warning:")
    elif audit.tested:
        st.success(escape_markdown(conclusion(audit)), icon=":material/check_circle:")
    else:
        st.info(escape_markdown(conclusion(audit)), icon=":material/info:")
    hidden = dismissed(folder)
    shown = [finding for finding in audit.findings if finding_key(finding) not in hidden]
    with st.container(key="audit_cards"):
        cards = [_show_card(number, subject, audit, finding, folder) for number, finding in enumerate(shown)]
    if shown:
        chosen = [finding for finding, is_chosen in zip(shown, cards, strict=True) if is_chosen]
        retrain_button(subject, audit, chosen, folder)
    if len(shown) < len(audit.findings):
        with st.expander(f"Dismissed findings: {len(audit.findings) - len(shown)}"):
            for finding in audit.findings:
                if finding not in shown:
                    st.markdown(escape_markdown(headline(finding)))
                    _show_button("Show again", finding, folder, hide=False)
    _show_tested(audit)
    st.caption(f"{HOW} {THRESHOLD}")


def download_report(subject: Subject, audit: Audit, folder: Path) -> None:
    """Draw the button that writes the report; it is made when it is clicked."""
    hidden = dismissed(folder)
    st.download_button(
        "Report",
        lambda: audit_page(
            audit,
            *subject.open(),
            [kept_repair(finding, folder)[1] for finding in audit.findings],
            [finding_key(finding) in hidden for finding in audit.findings],
        ),
        "audit.html",
        "text/html",
        icon=":material/download:",
        on_click="ignore",
        help="One HTML file with the findings, their images and what was tested",
    )


def show_example() -> None:
    """Draw the bundled audit, which needs no model and no data."""
    st.html(_STYLE)
    audit, images = example_audit()
    st.caption(EXAMPLE)
    st.warning(escape_markdown(conclusion(audit)), icon=":material/warning:")
    with st.container(key="audit_cards"):
        for number, (finding, drawn) in enumerate(zip(audit.findings, images, strict=True)):
            with st.container(border=True, key=f"finding_{number}"):
                _draw(number, finding, drawn)
    _show_tested(audit)
    st.caption(f"{HOW} {THRESHOLD}")


def _show_card(number: int, subject: Subject, audit: Audit, finding: Tested, folder: Path) -> bool:
    """Draw the card of a finding; return whether it is chosen for a new run."""
    classifier, dataset = subject.open()
    key: Hashable = (str(folder), finding_key(finding))
    images = _images.get(key, lambda: finding_images(audit, finding, classifier, dataset))
    with st.container(border=True, key=f"finding_{number}"):
        _draw(number, finding, images)
        with st.container(horizontal=True, vertical_alignment="center"):
            rows = {name: row for row, name in enumerate(dataset.names)}
            names = [subject.image_name(rows[name]) for name in finding.names if name in rows]
            st.page_link(
                "views/compare.py",
                label=f"Compare {min(len(names), MAX_IMAGES)} of these images",
                icon=":material/compare:",
                query_params={SHOW_IMAGES_KEY: names[:MAX_IMAGES], "model": [display_name(subject.model)]},
            )
            if st.button(f"Show these {len(names)} on Browse", icon=":material/photo_library:", key=f"list {number}"):
                title = next(entry.title for entry in data_sets() if entry.name == subject.collection)
                open_on_browse(f"the finding {describe(finding)!r}", title, subject.split, names)
            _show_button("Dismiss", finding, folder, hide=True)
            is_chosen = choose_finding(finding, folder)
        show_repair(subject, finding, folder)
    return is_chosen


def _draw(number: int, finding: Tested, images: FindingImages) -> None:
    """Draw the headline, the images and the measurements of a finding."""
    st.header(escape_markdown(finding.class_name), divider=False)
    st.markdown(escape_markdown(headline(finding)))
    left, right = st.columns([1, 3])
    left.image(
        images.first, escape_markdown(images.caption), width="stretch", alt=f"{finding.class_name}: {images.caption}"
    )
    with right.container(key=f"thumbnails_{number}"):
        for name, image in images.thumbnails:
            st.image(image, width="stretch", output_format="JPEG", alt=name)
    lines = [[escape_markdown(cell) for cell in line] for line in measures(finding)]
    table = [["", "With 95 % interval", "Control"], ["---"] * 3, *lines]
    st.markdown("\n".join(f"| {' | '.join(line)} |" for line in table))
    if curves := list(effect_curves(finding)):
        for place, (key, curve) in zip(st.columns(2), enumerate(curves), strict=False):
            place.caption(curve.title)
            place.plotly_chart(_curve_figure(curve), config=CONFIG, key=f"curve_{number}_{key}", alt=str(curve))
        st.caption(LEGEND)


def _curve_figure(curve: Curve) -> dict[str, Any]:
    """Draw an effect and its control over the strength of the change."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [100 * strength for strength in curve.strengths],
            "y": [100 * share for share in shares],
            "line": {"color": colour, "dash": dash, "width": 2},
            "hovertemplate": f"{name} at %{{x}} %: %{{y:.0f}} %<extra></extra>",
        }
        for name, shares, colour, dash in (
            ("control", curve.control, CONTROL_COLOUR, "dash"),
            ("effect", curve.effect, COLOUR, "solid"),
        )
    ]
    low = min(0.0, *curve.effect, *curve.control)
    axis = {"ticksuffix": " %", "fixedrange": True, "zeroline": False}
    return {
        "data": traces,
        "layout": {
            "xaxis": axis | {"title": {"text": "strength of the change"}, "range": [-3, 103], "dtick": 25},
            "yaxis": axis | {"range": [100 * low - 3, 103], "dtick": 50},
            "height": 200,
            "margin": {"l": 0, "r": 10, "t": 10, "b": 0},
            "showlegend": False,
        },
    }


def _show_button(label: str, finding: Tested, folder: Path, *, hide: bool) -> None:
    st.button(
        label,
        icon=":material/visibility_off:" if hide else ":material/visibility:",
        key=f"{label} {finding_key(finding)}",
        on_click=dismiss,
        args=(folder, finding, hide),
        disabled=is_read_only(),
    )


def _show_tested(audit: Audit) -> None:
    if audit.tested:
        with st.expander(f"Tested without a finding: {len(audit.tested)}"):
            rows = [
                {
                    "Class": each.class_name,
                    "What": describe(each),
                    "Relevance (1: average)": each.relevance,
                    "Becomes the class": 100 * each.flip.value,
                    "Control": None if each.flip_control is None else 100 * each.flip_control.value,
                    "Pairs": each.pairs,
                }
                for each in audit.tested
            ]
            percent = st.column_config.NumberColumn(format="%.0f %%")
            st.dataframe(
                pd.DataFrame(rows),
                hide_index=True,
                column_config={
                    "Relevance (1: average)": st.column_config.NumberColumn(format="%.1f"),
                    "Becomes the class": percent,
                    "Control": percent,
                },
                alt=f"{len(audit.tested)} candidates that were tested without a finding",
            )
    if audit.duplicates:
        with st.expander(f"Duplicates: {len(audit.duplicates):,} groups", icon=":material/content_copy:"):
            st.markdown(escape_markdown(duplicates_summary(audit)))
            st.dataframe(
                {"Copies": [duplicates_line(group) for group in audit.duplicates]},
                hide_index=True,
                alt="Groups of copies",
            )
    else:
        st.caption(escape_markdown(duplicates_summary(audit)))
    if audit.file_sizes:
        with st.expander(f"File sizes that differ by class: {len(audit.file_sizes)}"):
            for difference in audit.file_sizes:
                st.markdown(escape_markdown(file_size(difference)))
    if audit.untested:
        lines = [f"{name}: {reason}." for name, reason in audit.untested.items()]
        with st.expander(f"Classes that could not be tested: {len(lines)}"):
            for line in lines:
                st.markdown(escape_markdown(line))
    if audit.skipped:
        with st.expander(f"Skipped files: {len(audit.skipped)}", icon=":material/warning:"):
            st.dataframe({"File": list(audit.skipped)}, hide_index=True, alt="Files that are skipped")
