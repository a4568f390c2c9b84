"""The list of runs: a table, and the curves of its ticked rows."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.shared.charts import CONFIG
from dashboard.shared.formatting import UNKNOWN, count, duration, percent
from dashboard.shared.legend import show_legend
from dashboard.shared.page_heading import show_heading
from dashboard.shared.theme import escape_markdown
from dashboard.train.curves import CHARTS, RunCurves, assign_colours, chart_figure, describe
from dashboard.train.form import start_from_recipe
from dashboard.train.run_summary import BUNDLED, RunSummary, bundled_summaries, summarise_run
from dashboard.train.ticks import listed_rows, ticked_rows
from swin_core import runs
from swin_core.errors import RunError
from swin_core.figures.palette import SERIES
from swin_core.runs.read_only import is_read_only
from swin_core.training import RECIPES

REFRESH_SECONDS = 2
"""Time between two readings of a running run, which updates its status as often."""

SHOWN_AT_MOST = len(SERIES)
"""Runs in one chart, each with its own colour."""

STATE_COLOURS = {
    "running": "green",
    "starting": "blue",
    "stopping": "orange",
    "stopped": "gray",
    "finished": "blue",
    "failed": "red",
    "died": "red",
    "bundled": "violet",
}
"""Colour of each state's name."""

SPARK_POINTS = 40
FIRST_BUNDLED = 4
"""Bundled models that are ticked while there is no run; the rest are ablations."""

_TABLE = "runs_table"
_POSITIONS = {"Epoch": "epoch", "Time": "elapsed"}


def show_list() -> None:
    """Draw the list of runs and the curves of the ticked ones."""
    with show_heading("train"):
        if not is_read_only():
            st.button("New run", icon=":material/add:", type="primary", on_click=open_form)
    try:
        known = runs.list_runs()
    except RunError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    alive = {run.name for run in known if run.alive}
    if not known:
        if is_read_only():
            st.markdown("There is no run yet.")
        else:
            st.markdown("There is no run yet. Choose a recipe to start one.")
            _show_recipes()
        st.header("How the bundled models were trained")
    st.fragment(_show, run_every=REFRESH_SECONDS if alive else None)(alive)


def open_form(recipe: str = "") -> None:
    """Open the form of a new run, with the settings of a recipe if one is given."""
    if recipe:
        start_from_recipe(recipe)
    st.query_params["new"] = recipe or st.session_state.get("recipe") or next(iter(RECIPES))


def _show(was_alive: set[str]) -> None:
    summaries = [summarise_run(run) for run in runs.list_runs()]
    alive = {summary.name for summary in summaries if summary.alive}
    if alive != was_alive:
        # Run the whole page once, which starts or stops the periodic refresh.
        st.rerun()
    first = [summary.name for summary in summaries if summary.alive] or [summary.name for summary in summaries[:1]]
    summaries += bundled_summaries()
    st.caption("Tick rows to draw their curves below.")
    ticked = choose_runs(summaries, first or [summary.name for summary in summaries[:FIRST_BUNDLED]])
    show_curves([summary for summary in summaries if summary.name in ticked], live=bool(alive))


def _show_recipes() -> None:
    """Draw a card for each recipe."""
    with st.grid(3, min_column_width=300):
        for name, entry in RECIPES.items():
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{escape_markdown(name)}**")
                st.markdown(escape_markdown(entry.purpose))
                st.caption(f"Time: {escape_markdown(entry.time)}")
                st.caption(f"Result: {escape_markdown(entry.result)}")
                st.button("Use this recipe", key=f"use {name}", on_click=open_form, args=(name,))


def table(summaries: Sequence[RunSummary]) -> pd.DataFrame:
    """Return the table, with one row for each summary."""
    return pd.DataFrame(
        {
            "open": [None if summary.state == BUNDLED else "Open" for summary in summaries],
            "name": [summary.title for summary in summaries],
            "state": [[summary.state] for summary in summaries],
            "seen": [summary.last_update for summary in summaries],
            "epoch": [count(summary.epochs_done, summary.epochs_planned) for summary in summaries],
            "best": pd.Series([percent(summary.best) for summary in summaries], dtype="float64"),
            "remarks": [summary.remarks for summary in summaries],
            "curve": [_spark(summary.values("top1")) for summary in summaries],
            "speed": pd.Series([summary.speed for summary in summaries], dtype="float64"),
            "left": ["" if summary.seconds_left is None else duration(summary.seconds_left) for summary in summaries],
            "recipe": [summary.recipe for summary in summaries],
            "data": [summary.data for summary in summaries],
            "devices": [", ".join(summary.devices) or UNKNOWN for summary in summaries],
        }
    )


def _spark(values: list[float]) -> list[float]:
    """Return at most `SPARK_POINTS` of the values, including the last."""
    step = -(-len(values) // SPARK_POINTS) or 1
    return [round(value, 4) for value in values[::-1][::step][::-1]]


def choose_runs(summaries: Sequence[RunSummary], ticked: Sequence[str]) -> list[str]:
    """Draw the table; return the names of the ticked rows.

    Args:
        summaries: the rows.
        ticked: names of the rows that are ticked at first.
    """
    names = [summary.name for summary in summaries]
    return ticked_rows(_TABLE, names, partial(_draw_table, summaries), ticked)


def _draw_table(summaries: Sequence[RunSummary]) -> Any:
    return st.dataframe(
        table(summaries),
        hide_index=True,
        key=_TABLE,
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
        height="content" if len(summaries) <= 12 else 460,
        alt=f"{len(summaries)} runs: state, epoch, best top-1, speed and time left of each",
        column_config={
            "open": st.column_config.ButtonColumn(
                "", width=66, type="tertiary", on_click=_open, key="open_run", help="Open the run."
            ),
            "name": st.column_config.TextColumn("Name", width=275, pinned=True),
            "state": st.column_config.MultiselectColumn(
                "State", options=list(STATE_COLOURS), color=list(STATE_COLOURS.values()), width=90
            ),
            "seen": st.column_config.TextColumn("Updated", width=80, help="When the run last wrote its status."),
            "epoch": st.column_config.TextColumn("Epoch", width=75),
            "best": st.column_config.NumberColumn("Best top-1", format="%.2f %%", width=85),
            "remarks": st.column_config.TextColumn(
                "Remarks", width=150, help="Why its metrics are not those of its recipe and data set."
            ),
            "curve": st.column_config.LineChartColumn("Top-1", width=110, help="Validation top-1 by epoch."),
            "speed": st.column_config.NumberColumn("Speed", format="%.0f images/s", width=105),
            "left": st.column_config.TextColumn("Time left", width=95),
            "recipe": st.column_config.TextColumn(
                "Recipe", width=130, help="The nearest recipe + the number of settings that differ."
            ),
            "data": st.column_config.TextColumn("Data", width=80),
            "devices": st.column_config.TextColumn("Devices", width=110),
        },
    )


def _open() -> None:
    """Open the run whose button was clicked."""
    click = st.session_state.open_run
    names = listed_rows(_TABLE)
    if click is not None and click.row < len(names):
        st.query_params["run"] = names[click.row]
    st.rerun()


def show_curves(summaries: Sequence[RunSummary], live: bool = False) -> None:
    """Draw the curves of runs in the same charts, with their controls; `live` offers to hold them."""
    shown = [summary for summary in summaries if summary.epochs or summary.steps][:SHOWN_AT_MOST]
    if not shown:
        st.caption("There are no metrics yet." if summaries else "No row is ticked.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        position = st.segmented_control(
            "By", list(_POSITIONS), default="Epoch", required=True, key="by", bind="query-params"
        )
        smoothing = st.slider(
            "Smoothing",
            0,
            30,
            0,
            format="%d %%",
            help="Mean over a window of this share of each curve; the measured values stay visible behind it.",
            key="smoothing",
            bind="query-params",
            width=260,
        )
        held = live and st.toggle("Hold", key="hold", help="Do not update the charts, which would reset their zoom.")
    palette = assign_colours([summary.name for summary in shown], st.session_state.get("run_colours", {}))
    st.session_state.run_colours = palette
    curves = [RunCurves(summary.title, summary.epochs, summary.steps, palette[summary.name]) for summary in shown]
    show_legend(
        [(curve.name, curve.colour, "solid") for curve in curves], "Loss: thick is validation, thin is training."
    )
    if len(summaries) > len(shown) == SHOWN_AT_MOST:
        st.caption(f"Only the first {SHOWN_AT_MOST} of the ticked runs are drawn.")
    asked = tuple(palette), position, smoothing
    before, drawn = st.session_state.get("held_curves", (None, []))
    if not held or before != asked:
        by = _POSITIONS.get(str(position), "epoch")
        drawn = [(chart_figure(chart, curves, by, smoothing / 100), describe(chart, curves)) for chart in CHARTS]
        st.session_state.held_curves = asked, drawn
    with st.grid(2, min_column_width=330, gap="medium"):
        for chart, (content, words) in zip(CHARTS, drawn, strict=True):
            if content["data"]:  # there is no top-5 with fewer than six classes
                with st.container(gap="xsmall"):
                    st.markdown(f"**{chart.title}**")
                    st.plotly_chart(content, config=CONFIG, alt=words)


def state_line(summary: RunSummary) -> str:
    """Return a run's state, the age of its status and the reason, as Markdown."""
    parts = [f":{STATE_COLOURS.get(summary.state, 'gray')}-badge[{escape_markdown(summary.state)}]"]
    if summary.last_update:
        parts.append(f"{'updated' if summary.alive else 'ended'} {summary.last_update}")
    if summary.reason:
        parts.append(escape_markdown(summary.reason))
    return " · ".join(parts)
