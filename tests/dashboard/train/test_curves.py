"""Charts of runs: compared with simple loops, and drawn from damaged rows."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest

from dashboard.train.curves import (
    CHARTS,
    POINTS_AT_MOST,
    RunCurves,
    assign_colours,
    chart_figure,
    decimate,
    describe,
    points,
    smooth,
)
from swin_core.figures.palette import SERIES

LOSS, TOP1, TOP5, _, LR = CHARTS


def noisy(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return np.sort(random.uniform(0, 10, count)), random.normal(size=count)


def test_what_is_no_number_is_a_gap() -> None:
    values: list[Any] = [1, 2.5, None, math.nan, math.inf, -math.inf, "3", True, [1], 4]
    lines = [{"epoch": index, "loss": value} for index, value in enumerate(values)] + [{"epoch": 10}, {"loss": 1.0}]
    x, y = points(lines, "epoch", "loss")
    np.testing.assert_array_equal(x, range(11))
    np.testing.assert_array_equal(y, [1, 2.5, *[math.nan] * 7, 4, math.nan])


def test_smoothing_is_the_mean_of_the_window() -> None:
    x, y = noisy(200)
    y[[3, 50, 51]] = np.nan
    found = smooth(x, y, 1.5)
    for index, place in enumerate(x):
        near = [value for other, value in zip(x, y, strict=True) if abs(other - place) <= 0.75 and value == value]
        if np.isnan(y[index]):
            assert np.isnan(found[index])
        else:
            assert found[index] == pytest.approx(math.fsum(near) / len(near), abs=1e-12)
    assert smooth(x, y, 0.0) is y


def test_decimated_lines_lose_no_spike_no_gap_and_no_end() -> None:
    x, y = noisy(6000)
    y[1234], y[4321], y[2500] = 50.0, -50.0, np.nan
    few_x, few_y = decimate(x, y)
    assert len(few_x) <= POINTS_AT_MOST
    assert (np.diff(few_x) > 0).all()
    place = dict(zip(x, y, strict=True))
    np.testing.assert_array_equal(few_y, [place[position] for position in few_x])
    assert {50.0, -50.0} <= set(few_y)
    assert np.isnan(few_y).sum() == 1
    assert (few_x[0], few_x[-1]) == pytest.approx((x[0], x[-1]), abs=0.1)
    # A line that fits is left alone, and one of gaps only has no least value.
    assert decimate(x[:300], y[:300])[0] is not None
    assert len(decimate(x[:300], y[:300])[0]) == 300
    assert np.isnan(decimate(x, np.full(6000, np.nan))[1]).all()


@pytest.mark.parametrize("length", range(POINTS_AT_MOST - 1, 4 * POINTS_AT_MOST, 77))
def test_no_length_is_too_long_for_the_browser(length: int) -> None:
    x, y = noisy(length)
    few = decimate(x, y)
    assert len(few[0]) <= POINTS_AT_MOST
    assert np.nanmax(few[1]) == y.max()
    assert np.nanmin(few[1]) == y.min()


def run(epochs: int = 8, steps: int = 20, **odd: Any) -> RunCurves:
    lines = [
        {"epoch": e, "train_loss": 4 / e, "loss": 3 / e, "top1": e / 10, "top5": None, "lr": 0.1, "elapsed": 60.0 * e}
        | (odd if e == 3 else {})
        for e in range(1, epochs + 1)
    ]
    within = [
        {"step": s, "epoch": s / steps, "loss": 5 - s / 100, "lr": s * 1e-5, "elapsed": 60 * s / steps}
        for s in range(1, epochs * steps + 1)
    ]
    return RunCurves("mine", lines, within)


def test_losses_are_two_lines_and_a_missing_metric_is_no_chart() -> None:
    training, validation = sorted(chart_figure(LOSS, [run()], "epoch", 0.0)["data"], key=lambda trace: -len(trace["x"]))
    assert (len(training["x"]), len(validation["x"])) == (160, 8)
    assert validation["y"] == [float(f"{3 / e:.5g}") for e in range(1, 9)]
    assert training["line"]["width"] < validation["line"]["width"]
    assert chart_figure(TOP5, [run()], "epoch", 0.0)["data"] == []
    # Without lines within the epochs, those of the epochs stand in.
    coarse = RunCurves("mine", run().epochs, [])
    assert {tuple(trace["x"]) for trace in chart_figure(LOSS, [coarse], "epoch", 0.0)["data"]} == {tuple(range(1, 9))}


def test_time_is_told_in_a_unit_that_fits() -> None:
    drawn = chart_figure(TOP1, [run()], "elapsed", 0.0)
    assert drawn["layout"]["xaxis"]["title"]["text"] == "minutes"
    assert drawn["data"][0]["x"] == list(range(1, 9))
    assert chart_figure(TOP1, [run(300)], "elapsed", 0.0)["layout"]["xaxis"]["title"]["text"] == "hours"


def test_smoothed_lines_keep_the_measured_ones_behind_them() -> None:
    measured, smoothed = chart_figure(TOP1, [run()], "epoch", 0.5)["data"]
    assert measured["opacity"] < 1
    assert measured["y"] == [e / 10 for e in range(1, 9)]
    assert smoothed["y"] != measured["y"]
    # A learning rate is no measurement.
    assert len(chart_figure(LR, [run()], "epoch", 0.5)["data"]) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "x"])
def test_odd_metrics_are_drawn_as_gaps_in_valid_json(value: Any) -> None:
    for chart in CHARTS:
        drawn = chart_figure(chart, [run(loss=value, top1=value, elapsed=value)], "epoch", 0.1)
        text = plotly.io.to_json(go.Figure(drawn))
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    (loss,) = (trace for trace in chart_figure(LOSS, [run(loss=value)], "epoch", 0.0)["data"] if len(trace["x"]) == 8)
    assert loss["y"][2] is None
    assert loss["connectgaps"] is False


def test_one_point_is_a_mark_and_none_is_nothing() -> None:
    (trace,) = chart_figure(TOP1, [run(1)], "epoch", 0.2)["data"]
    assert trace["mode"] == "markers"
    assert chart_figure(TOP1, [run(1)], "epoch", 0.2)["layout"]["yaxis"]["range"] == [0, 0.2]
    assert "range" not in chart_figure(TOP1, [run(2)], "epoch", 0.2)["layout"]["yaxis"]
    assert chart_figure(TOP1, [RunCurves("mine", [], [])], "epoch", 0.2)["data"] == []
    assert "nothing yet" in describe(TOP1, [RunCurves("mine", [], [])])
    assert "mine 0.8 at epoch 8" in describe(TOP1, [run()])


def test_a_name_is_inert_in_a_figure() -> None:
    curve = RunCurves("<img src=x onerror=alert(1)>", run().epochs, [])
    (trace,) = chart_figure(TOP1, [curve], "epoch", 0.0)["data"]
    assert "<img" not in trace["name"]


def test_runs_keep_their_colours_when_others_come_and_go() -> None:
    three = assign_colours(["a", "b", "c"], {})
    assert list(three.values()) == list(SERIES[:3])
    after = assign_colours(["d", "b", "c"], three)
    assert (after["b"], after["c"], after["d"]) == (three["b"], three["c"], three["a"])
    assert len(set(assign_colours(list("abcdefgh"), after).values())) == 8
