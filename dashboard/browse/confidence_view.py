"""The Confidence tab of the Browse page: how far a model's probabilities can be trusted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.browse.filters import ModelChoice
from dashboard.browse.map_colours import findings_of
from dashboard.browse.tiles import BrowsedData, class_words
from dashboard.shared import cache
from dashboard.shared.charts import CONFIG
from dashboard.shared.datasets import open_split
from dashboard.shared.feature_jobs import (
    CORRUPTED,
    FeatureRequest,
    ready_features,
    ready_robustness,
    show_job,
)
from dashboard.shared.legend import show_legend
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import unknown_values
from swin_core.errors import SwinError
from swin_core.evaluation.calibration import (
    Bin,
    Calibration,
    GroupConfidence,
    Measured,
    by_group,
    calibration,
    confidence_groups,
    expected_calibration_error,
    reliability,
)
from swin_core.evaluation.corruptions import CORRUPTIONS, IMAGES, STRENGTHS, Robustness
from swin_core.evaluation.features import cached_logits
from swin_core.evaluation.predictions import true_classes
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.palette import SERIES
from swin_core.system.cache import LRUCache

_errors: LRUCache[Measured] = LRUCache(16)
_calibrations: LRUCache[Calibration] = LRUCache(16)
_TITLES = {"blur": "Blur", "noise": "Noise", "brightness": "Brightness", "contrast": "Contrast", "jpeg": "JPEG"}
_COLOURS = dict(zip(CORRUPTIONS, (SERIES[0], SERIES[5], SERIES[1], SERIES[2], SERIES[3]), strict=True))
_DASHES = dict(zip(CORRUPTIONS, ("solid", "dot", "dash", "dashdot", "longdash"), strict=True))
_BORDERS = dict(zip(CORRUPTIONS, ("solid", "dotted", "dashed", "dashed", "dashed"), strict=True))


def show_confidence(
    data: BrowsedData, models: ModelChoice, result: CatalogPredictions, matched_by_hand: bool, ignored: list[str]
) -> None:
    """Draw the calibration of the first model, and its accuracy under corruptions.

    Args:
        data: the data set.
        models: the first one is shown.
        result: its predictions.
        matched_by_hand: whether its classes were matched by hand; what takes minutes knows only classes of one name.
        ignored: receives a warning for each value of the URL that is not offered.
    """
    predictions = result.predictions
    counted = predictions.counted
    confidence, right = predictions.confidence[counted], predictions.right[counted]
    title = escape_markdown(models.titles[0])
    (whole,) = by_group(confidence, right, np.zeros(len(right), np.int64), ["all"])
    error = _errors.get((confidence.tobytes(), right.tobytes()), lambda: expected_calibration_error(confidence, right))
    st.markdown(
        f"**{title}** is **{100 * confidence.mean():.1f} %** sure on average and right in "
        f"**{100 * right.mean():.1f} %**. {_verdict(whole.gap)} Its calibration "
        f"error is **{100 * error.value:.1f} %** (95 % interval {100 * error.low:.1f} to "
        f"{100 * error.high:.1f} %; lower is better)."
    )
    left, right_column = st.columns([2, 3], gap="large")
    with left:
        st.header("Is it as often right as it says?")
        bins = reliability(confidence, right)
        st.plotly_chart(_reliability_figure(bins), config=CONFIG, alt=_describe(bins))
        st.caption(
            "Each bar holds the images of one range of confidence; its height is the share that is right. Bars below "
            "the line are too sure, bars above it not sure enough. The fuller its colour, the more images a bar holds."
        )
        if not matched_by_hand:
            _show_temperature(data, models)
    with right_column:
        try:
            findings = findings_of(data, models.first)
        except SwinError as fault:
            st.error(escape_markdown(str(fault)), icon=":material/error:")
            findings = {}
        groups = confidence_groups(predictions, findings)
        _show_groups("By class", [group for group in groups if group.name not in findings], "class_confidence")
        if findings:
            found = [group for group in groups if group.name in findings]
            _show_groups("Images of a finding of the audit", found, "finding_confidence")
    if matched_by_hand:
        st.caption(
            "Classes were matched by hand. A temperature and accuracy on worse images need folders named as the "
            "model's classes."
        )
    else:
        _show_corruptions(data, models, findings, ignored)


def _verdict(gap: Measured) -> str:
    """Say what the mean of confidence minus accuracy means."""
    if gap.low <= 0 <= gap.high:
        return "The difference may be chance."
    return f"It is {'too sure of itself' if gap.value > 0 else 'not sure enough'}."


def _reliability_figure(bins: Sequence[Bin]) -> dict[str, Any]:
    """Draw accuracy by confidence as bars, and the line of a model that is as often right as it says."""
    full = [each for each in bins if each.count]
    largest = max(each.count for each in full)
    hover = [
        f"{each.count:,} images with {100 * each.low:.0f} to {100 * each.high:.0f} % confidence, "
        f"{100 * (each.confidence or 0):.1f} % on average: {100 * (each.accuracy or 0):.1f} % right"
        for each in full
    ]
    bars = {
        "type": "bar",
        "x": [50 * (each.low + each.high) for each in full],
        "y": [100 * (each.accuracy or 0) for each in full],
        "width": [100 * (each.high - each.low) * 0.92 for each in full],
        "marker": {"color": SERIES[0], "opacity": [0.3 + 0.7 * (each.count / largest) ** 0.5 for each in full]},
        "hovertext": hover,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 100],
        "y": [0, 100],
        "line": {"color": SERIES[5], "dash": "dash", "width": 2},
        "hoverinfo": "skip",
    }
    axis = {"range": [0, 101], "ticksuffix": " %", "fixedrange": True, "dtick": 20}
    return {
        "data": [bars, line],
        "layout": {
            "xaxis": axis | {"title": {"text": "confidence"}},
            "yaxis": axis | {"title": {"text": "right"}},
            "height": 340,
            "margin": {"l": 0, "r": 30, "t": 10, "b": 0},
            "showlegend": False,
        },
    }


def _describe(bins: Sequence[Bin]) -> str:
    parts = [f"{100 * (each.confidence or 0):.0f} %: {100 * (each.accuracy or 0):.0f} %" for each in bins if each.count]
    return f"Share of right predictions by confidence. {'; '.join(parts)}"


def _show_temperature(data: BrowsedData, models: ModelChoice) -> None:
    """State the temperature that would calibrate the model, once the logits are there."""
    st.header("What would calibrate it?")
    request = FeatureRequest(str(models.first), data.collection.name, data.splits)
    try:
        classifier = cache.classifier(request.model)
        if classifier.activation != "softmax":
            st.caption("A temperature is for models that choose one class of all; this one does not.")
            return
        if ready_features(request) is None:
            show_job(request, "Compute the logits", "The temperature needs the logits of all classes.")
            return
        parts = [open_split(data.collection.name, split) for split in data.splits]
        logits = np.concatenate([cached_logits(classifier, part) for part in parts])
        truth = np.concatenate([true_classes(classifier, part) for part in parts])
        key = request.model, classifier.weights_hash, truth.tobytes(), len(logits)
        fit = _calibrations.get(key, lambda: calibration(logits, truth)).temperature
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    if fit is None:
        st.caption("There are too few images to fit a temperature on one half and measure it on the other.")
        return
    st.markdown(
        f"Logits divided by a temperature of **{fit.temperature:.2f}**, fitted on one half of the images. On the other "
        f"half, {fit.count:,} images, the calibration error goes from **{100 * fit.before.value:.1f} %** "
        f"({100 * fit.before.low:.1f} to {100 * fit.before.high:.1f}) to **{100 * fit.after.value:.1f} %** "
        f"({100 * fit.after.low:.1f} to {100 * fit.after.high:.1f}). Predictions stay the same. It is not applied: all "
        "pages show the model as it is."
    )


def _show_groups(title: str, groups: Sequence[GroupConfidence], key: str) -> None:
    """Draw a table of groups of images, the most overconfident first."""
    words = class_words(tuple(group.name for group in groups))
    table = pd.DataFrame(
        {
            "name": words,
            "gap": [100 * group.gap.value for group in groups],
            "low": [100 * group.gap.low for group in groups],
            "high": [100 * group.gap.high for group in groups],
            "confidence": [100 * group.confidence for group in groups],
            "accuracy": [100 * group.accuracy for group in groups],
            "images": [group.count for group in groups],
        }
    )
    st.header(title)
    st.caption("Mean confidence minus accuracy in percentage points, with its 95 % interval. Above 0: too sure.")
    st.dataframe(
        table,
        hide_index=True,
        key=key,
        height="content" if len(table) < 15 else 520,
        column_config={
            "name": st.column_config.TextColumn("Group"),
            "gap": st.column_config.NumberColumn("Gap", format="%+.1f", width=75),
            "low": st.column_config.NumberColumn("from", format="%+.1f", width=75),
            "high": st.column_config.NumberColumn("to", format="%+.1f", width=75),
            "confidence": st.column_config.NumberColumn("Confidence", format="%.1f %%", width=90),
            "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f %%", width=90),
            "images": st.column_config.NumberColumn("Images", width=75),
        },
        alt=f"{title}: confidence and accuracy of {len(table)} groups",
    )


def _show_corruptions(
    data: BrowsedData, models: ModelChoice, findings: dict[str, np.ndarray], ignored: list[str]
) -> None:
    """Draw the accuracy under corruptions of one split, or what leads to it."""
    st.header("How does it do on worse images?")
    split = data.splits[0]
    if len(data.splits) > 1:
        # Each split by itself: a model does better on images that it was trained on.
        if st.session_state.get("corrupted") is None:
            ignored += unknown_values("corrupted", data.splits)
        elif st.session_state["corrupted"] not in data.splits:
            del st.session_state["corrupted"]
        split = st.segmented_control(
            "Split to measure", data.splits, default=split, required=True, key="corrupted", bind="query-params"
        )
    part = data.splits.index(split)
    request = FeatureRequest(str(models.first), data.collection.name, (split,), CORRUPTED)
    try:
        found = ready_robustness(request)
        if found is None:
            count = min(IMAGES, len(data.catalog.parts[part]))
            show_job(
                request,
                "Measure it",
                f"Predicts {count:,} images of {split} under blur, noise, brightness, contrast and JPEG at five "
                "strengths each. This takes as long as predicting 25 times as many images; it can be stopped and goes "
                "on later.",
            )
            return
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    (robust,) = found
    left, right = st.columns([2, 3], gap="large")
    with left:
        show_legend([(_TITLES[name], _COLOURS[name], _BORDERS[name]) for name in CORRUPTIONS])
        st.plotly_chart(_corruption_figure(robust), config=CONFIG, alt=_describe_corruptions(robust))
        st.caption(
            f"Accuracy on {len(robust.rows):,} images of {split}; strength 0 is the images as they are. The strengths "
            "are those of ImageNet-C."
        )
    with right:
        st.dataframe(
            _corruption_table(robust, {name: rows[data.catalog.part == part] for name, rows in findings.items()}),
            hide_index=True,
            height=380,
            key="corruption_table",
            column_config={
                "group": st.column_config.TextColumn("Accuracy, mean of five strengths"),
                **{
                    name: st.column_config.NumberColumn(title, format="%.0f %%", width=85)
                    for name, title in {"clean": "As is", **_TITLES}.items()
                },
            },
            alt="Accuracy by class under each corruption",
        )


def _corruption_figure(robust: Robustness) -> dict[str, Any]:
    clean = 100 * robust.results[0].accuracy
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _TITLES[name],
            "x": [0, *STRENGTHS],
            "y": [clean, *(100 * each.accuracy for each in robust.results if each.name == name)],
            "line": {"color": _COLOURS[name], "dash": _DASHES[name], "width": 2},
            "hovertemplate": f"{_TITLES[name]} %{{x}}: %{{y:.1f}} %<extra></extra>",
        }
        for name in CORRUPTIONS
    ]
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "strength"}, "dtick": 1, "fixedrange": True},
            "yaxis": {"range": [0, 100], "ticksuffix": " %", "fixedrange": True},
            "height": 320,
            "margin": {"l": 0, "r": 10, "t": 10, "b": 0},
            "showlegend": False,
        },
    }


def _describe_corruptions(robust: Robustness) -> str:
    worst = {name: min(each.accuracy for each in robust.results if each.name == name) for name in CORRUPTIONS}
    parts = [f"{_TITLES[name]} {100 * share:.0f} %" for name, share in worst.items()]
    return f"Accuracy {100 * robust.results[0].accuracy:.0f} %; at its worst under {', '.join(parts)}"


def _corruption_table(robust: Robustness, findings: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the accuracy of all images, of each finding and of each class, by corruption, in percent.

    `findings` holds, for each, which images of the split have it, `(n,)` bool.
    """
    words = class_words(robust.labels)
    groups = {"all images": np.ones(len(robust.rows), bool)}
    groups |= {name: rows[robust.rows] for name, rows in findings.items()}
    groups |= {words[label]: robust.truth == label for label in np.unique(robust.truth).tolist()}
    lines = []
    for name, of in groups.items():
        if not of.any():
            continue
        line: dict[str, Any] = {"group": name, "clean": 100 * float(robust.results[0].right[of].mean())}
        for corruption in CORRUPTIONS:
            shares = [float(each.right[of].mean()) for each in robust.results if each.name == corruption]
            line[corruption] = 100 * float(np.mean(shares))
        lines.append(line)
    return pd.DataFrame(lines)
