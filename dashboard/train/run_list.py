"""The list of trainings on the Train page: a table whose ticked rows are drawn as curves below it."""

from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from dashboard.shared.formatting import UNKNOWN, count, duration
from dashboard.shared.page_heading import show_heading
from dashboard.shared.theme import escape_markdown
from dashboard.train.curves import CHARTS, Curve, colours, described, figure
from dashboard.train.form import start_from_recipe
from dashboard.train.run_summary import BUNDLED, Record, bundled_records, run_record
from swin_core import runs
from swin_core.errors import RunError
from swin_core.figures.palette import SERIES
from swin_core.figures.plotly_grid import CONFIG
from swin_core.training import RECIPES

__all__ = ["REFRESH_SECONDS", "SHOWN_AT_MOST", "STATE_COLOURS", "show_curves", "show_list", "state_line", "table"]

REFRESH_SECONDS = 2
"""How often a run that is alive is read anew: its own status is no fresher."""

SHOWN_AT_MOST = len(SERIES)
"""Runs over each other in one chart: each has a colour of its own."""

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
"""The colour of each state's word."""

SPARK_POINTS = 40
BUNDLED_AT_START = 4
"""Bundled models whose curves are drawn while there is no run: the ablations, which come last, would fill the chart."""

_TABLE = "runs_table"
_POSITIONS = {"Epoch": "epoch", "Time": "elapsed"}


def show_list() -> None:
    """All trainings, and the curves of those that are ticked."""
    with show_heading("train"):
        st.button("New run", icon=":material/add:", type="primary", on_click=open_form)
    try:
        there = runs.list_runs()
    except RunError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    alive = {run.name for run in there if run.alive}
    if not there:
        st.markdown("There is no run yet: pick a recipe.")
        _show_recipes()
        st.header("The bundled models, as they were trained")
    st.fragment(_show, run_every=REFRESH_SECONDS if alive else None)(alive)


def open_form(recipe: str = "") -> None:
    """Open the form of a new run, with a recipe's settings if one is named."""
    if recipe:
        start_from_recipe(recipe)
    st.query_params["new"] = recipe or st.session_state.get("recipe") or next(iter(RECIPES))


def _show(was_alive: set[str]) -> None:
    records = [run_record(run) for run in runs.list_runs()]
    alive = {record.name for record in records if record.alive}
    if alive != was_alive:
        # The whole page runs again once, so that it begins or ends to be read every two seconds.
        st.rerun()
    first = [record.name for record in records if record.alive] or [record.name for record in records[:1]]
    records += bundled_records()
    # On the left of the table's own tools, which would cover a button there.
    st.caption("Ticked rows are drawn below, over each other.")
    ticked = choose_runs(records, first or [record.name for record in records[:BUNDLED_AT_START]])
    show_curves([record for record in records if record.name in ticked], live=bool(alive))


def _show_recipes() -> None:
    """What can be trained, with the time it takes and what comes out."""
    with st.grid(3, min_column_width=300):
        for name, entry in RECIPES.items():
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{escape_markdown(name)}**")
                st.markdown(escape_markdown(entry.purpose))
                st.caption(f"Time: {escape_markdown(entry.time)}")
                st.caption(f"Result: {escape_markdown(entry.result)}")
                st.button("Use this recipe", key=f"use {name}", on_click=open_form, args=(name,))


def table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a training, in the order of the records."""
    return pd.DataFrame(
        {
            "open": [None if record.state == BUNDLED else "Open" for record in records],
            "name": [record.title for record in records],
            "state": [[record.state] for record in records],
            "seen": [record.sign_of_life for record in records],
            "epoch": [count(record.epochs_done, record.epochs_planned) for record in records],
            "best": pd.Series([_percent(record.best) for record in records], dtype="float64"),
            "curve": [_spark(record.values("top1")) for record in records],
            "speed": pd.Series([record.speed for record in records], dtype="float64"),
            "left": ["" if record.seconds_left is None else duration(record.seconds_left) for record in records],
            "recipe": [record.recipe for record in records],
            "data": [record.data for record in records],
            "devices": [", ".join(record.devices) or UNKNOWN for record in records],
        }
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _spark(values: list[float]) -> list[float]:
    """A few of the values, the last among them."""
    step = -(-len(values) // SPARK_POINTS) or 1
    return [round(value, 4) for value in values[::-1][::step][::-1]]


def choose_runs(records: Sequence[Record], ticked: Sequence[str]) -> list[str]:
    """The table; returns the names of the ticked rows.

    Args:
        records: one row each.
        ticked: the names that are ticked when the table is drawn for the first time.
    """
    names = [record.name for record in records]
    chosen: list[str] = st.session_state.setdefault("ticked_runs", list(ticked))
    # The table knows rows by number; a run that is new or gone moves them.
    if st.session_state.get("listed_runs") != names:
        st.session_state.listed_runs = names
        rows = [names.index(name) for name in chosen if name in names]
        st.session_state[_TABLE] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    event = st.dataframe(
        table(records),
        hide_index=True,
        key=_TABLE,
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
        height="content" if len(records) <= 12 else 460,
        alt=f"{len(records)} trainings: state, epoch, best top-1, speed and time left of each",
        column_config={
            "open": st.column_config.ButtonColumn(
                "", width=66, type="tertiary", on_click=_open, key="open_run", help="Open the run's own view."
            ),
            "name": st.column_config.TextColumn("Name", width=160, pinned=True),
            "state": st.column_config.MultiselectColumn(
                "State", options=list(STATE_COLOURS), color=list(STATE_COLOURS.values()), width=90
            ),
            "seen": st.column_config.TextColumn("Last sign", width=80, help="Age of the last sign of life."),
            "epoch": st.column_config.TextColumn("Epoch", width=75),
            "best": st.column_config.NumberColumn("Best top-1", format="%.2f %%", width=85),
            "curve": st.column_config.LineChartColumn("Top-1", width=110, help="Top-1 of the validation by epoch."),
            "speed": st.column_config.NumberColumn("Speed", format="%.0f images/s", width=105),
            "left": st.column_config.TextColumn("Time left", width=95),
            "recipe": st.column_config.TextColumn(
                "Recipe", width=130, help="The nearest recipe, and the number of settings that differ from it."
            ),
            "data": st.column_config.TextColumn("Data", width=80),
            "devices": st.column_config.TextColumn("Devices", width=110),
        },
    )
    rows = event["selection"]["rows"]
    st.session_state.ticked_runs = [names[row] for row in rows if row < len(names)]
    return list(st.session_state.ticked_runs)


def _open() -> None:
    """Show the run whose button was clicked."""
    click = st.session_state.open_run
    names = st.session_state.listed_runs
    if click is not None and click.row < len(names):
        st.query_params["run"] = names[click.row]
    st.rerun()


def show_curves(records: Sequence[Record], live: bool = False) -> None:
    """The curves of some trainings over each other, with what they are drawn by."""
    shown = [record for record in records if record.epochs or record.steps][:SHOWN_AT_MOST]
    if not shown:
        st.caption("No curve yet: the first point comes with the first steps." if records else "No row is ticked.")
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
            help="The mean over a window of this share of each curve; the measured values stay visible behind it.",
            key="smoothing",
            bind="query-params",
            width=260,
        )
        # A chart that changes is drawn anew and loses its zoom.
        held = live and st.toggle("Hold", key="hold", help="Draw nothing new, so that a zoomed curve stays.")
    palette = colours([record.name for record in shown], st.session_state.get("run_colours", {}))
    st.session_state.run_colours = palette
    curves = [Curve(record.title, record.epochs, record.steps, palette[record.name]) for record in shown]
    _legend(curves)
    if len(records) > len(shown) == SHOWN_AT_MOST:
        st.caption(f"The first {SHOWN_AT_MOST} of the ticked trainings are drawn.")
    asked = tuple(palette), position, smoothing
    before, drawn = st.session_state.get("held_curves", (None, []))
    if not held or before != asked:
        by = _POSITIONS.get(str(position), "epoch")
        drawn = [(figure(chart, curves, by, smoothing / 100), described(chart, curves)) for chart in CHARTS]
        st.session_state.held_curves = asked, drawn
    with st.grid(2, min_column_width=330, gap="medium"):
        for chart, (content, words) in zip(CHARTS, drawn, strict=True):
            # A chart without a line would be an empty frame; top-5 has none below six classes.
            if content["data"]:
                with st.container(gap="xsmall"):
                    st.markdown(f"**{chart.title}**")
                    st.plotly_chart(content, config=CONFIG, alt=words)


def _legend(curves: Sequence[Curve]) -> None:
    """The runs' colours, and what the two kinds of line are."""
    marks = "".join(
        f'<span><span style="display:inline-block;width:18px;height:3px;margin:0 6px 4px 0;background:{curve.colour}">'
        f"</span>{escape(curve.name)}</span>"
        for curve in curves
    )
    st.html(
        f'<div style="display:flex;flex-wrap:wrap;gap:2px 20px;font-size:0.9rem">{marks}'
        '<span style="opacity:0.7">loss: bold is validation, thin is training</span></div>'
    )


def state_line(record: Record) -> str:
    """A run's state as Markdown: the word in its colour, the age of the last sign of life, and the reason."""
    words = [f":{STATE_COLOURS.get(record.state, 'gray')}-badge[{escape_markdown(record.state)}]"]
    if record.sign_of_life:
        words.append(f"{'last sign of life' if record.alive else 'ended'} {record.sign_of_life}")
    if record.reason:
        words.append(escape_markdown(record.reason))
    return " · ".join(words)
