"""The view of one run: state, actions, progress, curves, checkpoints, log, notes and settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.shared.formatting import UNKNOWN, ago, count, duration, percent, share, size
from dashboard.shared.notices import notice, set_notice, show_notice
from dashboard.shared.theme import escape_markdown
from dashboard.train.form import fill, label
from dashboard.train.images_view import show_images
from dashboard.train.run_list import REFRESH_SECONDS, show_curves, state_line
from dashboard.train.run_summary import RunSummary, summarise_run
from dashboard.train.ticks import ticked_rows
from swin_core import runs
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import ConfigError, RunError
from swin_core.runs import devices
from swin_core.runs.read_only import is_read_only
from swin_core.runs.starting import ACCEPT_CHANGED_DATA
from swin_core.training import RECIPES
from swin_core.training.changes import change_settings
from swin_core.training.recipes import changed_settings, nearest_recipe

LOG_LINES = 60


def show_run(name: str) -> None:
    """Draw the view of a run; update it while the run is alive."""
    st.button("All runs", icon=":material/arrow_back:", type="tertiary", on_click=leave)
    try:
        run = runs.find(name)
    except RunError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    st.fragment(_show, run_every=REFRESH_SECONDS if run.alive else None)(name, run.alive)


def leave() -> None:
    """Return to the list of runs."""
    for key in ("run", "new"):
        st.query_params.pop(key, None)


def _show(name: str, was_alive: bool) -> None:
    try:
        run = runs.find(name)
    except RunError:  # deleted meanwhile
        st.rerun()
    summary = summarise_run(run)
    if summary.alive != was_alive:
        # Run the whole page once, which starts or stops the periodic refresh.
        st.rerun()
    title, actions = st.columns([2, 3], vertical_alignment="bottom")
    title.title(escape_markdown(summary.title))
    if not is_read_only():
        with actions.container(horizontal=True, horizontal_alignment="right"):
            _show_actions(run, summary)
    show_notice(f"run {run.name}", "error")
    st.markdown(state_line(summary))
    if summary.marks:
        st.caption(escape_markdown("; ".join(summary.marks)[:400]))
    _show_progress(run, summary)
    show_curves([summary], live=summary.alive)
    checkpoints, images, log, notes, settings = st.tabs(["Checkpoints", "Images", "Log", "Notes", "Settings"])
    with checkpoints:
        _show_checkpoints(run, summary)
    with images:
        show_images(run)
    with log:
        if lines := run.log_tail(LOG_LINES):
            st.code("\n".join(lines), language=None, wrap_lines=True, height=320)
        else:
            st.caption("The log is empty.")
    with notes:
        st.text_area(
            "Notes",
            value=run.notes,
            placeholder="The purpose of this run and its outcome.",
            label_visibility="collapsed",
            disabled=is_read_only(),
            key=f"notes {run.name}",
            on_change=_write_notes,
            args=(run,),
        )
    with settings:
        _show_settings(summary)


def _attempt(run: runs.Run, action: Callable[..., Any], *args: Any) -> Any:
    """Return `action(run, *args)`; if it is refused, return None and keep the reason as a notice."""
    set_notice(f"run {run.name}", "")
    try:
        return action(run, *args)
    except (RunError, ConfigError) as error:
        set_notice(f"run {run.name}", str(error))
        return None


def _show_actions(run: runs.Run, summary: RunSummary) -> None:
    if summary.state == "stopping":
        if st.button(
            "Stop now",
            icon=":material/dangerous:",
            help="The run finishes its step and saves. This ends it at once and loses what it did since the last save.",
        ):
            with st.spinner("Ending ..."):
                _attempt(run, partial(runs.kill, grace=2))  # it was already asked to stop
            st.rerun()
        return
    if summary.alive:
        st.button(
            "Stop",
            icon=":material/stop:",
            type="primary",
            help="The run finishes its step and saves; it can be resumed without losing a step.",
            on_click=_attempt,
            args=(run, runs.request_stop),
        )
        return
    if summary.state != "finished" and st.button("Resume", icon=":material/play_arrow:", type="primary"):
        with st.spinner("Starting ..."):
            _attempt(run, runs.resume)
        st.rerun()
    if ACCEPT_CHANGED_DATA in run.reason and st.button("Resume with the changed data", icon=":material/fast_forward:"):
        with st.spinner("Starting ..."):
            _attempt(run, partial(runs.resume, accept_changed_data=True))
        st.rerun()
    with st.popover("Go on longer", icon=":material/more_time:"):
        st.number_input(
            "Epochs",
            min_value=summary.epochs_done + 1,
            value=max(summary.epochs_planned, summary.epochs_done + 1),
            help="The learning rate of each later step is that of a run with so many epochs from its start.",
            key=f"epochs of {run.name}",
        )
        st.button("Go on", type="primary", on_click=_go_on, args=(run,))
    with st.popover("Rename", icon=":material/edit:"), st.form("rename", border=False):
        st.text_input("Name", run.title, max_chars=64, key=f"new name {run.name}")
        st.form_submit_button("Rename", on_click=_rename, args=(run,))
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            f"Delete **{escape_markdown(run.name)}** with its {summary.epochs_done} epochs, checkpoints, log and notes?"
        )
        st.button("Delete for good", type="primary", on_click=_delete, args=(run,))


def _go_on(run: runs.Run) -> None:
    epochs = int(st.session_state[f"epochs of {run.name}"])

    def change_and_resume(run: runs.Run) -> None:
        change_settings(run.folder, {"epochs": epochs})
        runs.resume(run)

    _attempt(run, change_and_resume)


def _rename(run: runs.Run) -> None:
    renamed = _attempt(run, runs.rename, st.session_state[f"new name {run.name}"].strip())
    if renamed is not None:
        st.query_params["run"] = renamed.name
        st.rerun()


def _delete(run: runs.Run) -> None:
    _attempt(run, runs.delete)
    if not notice(f"run {run.name}"):
        leave()
        st.rerun()


def _write_notes(run: runs.Run) -> None:
    _attempt(run, runs.write_notes, st.session_state[f"notes {run.name}"])


def _show_progress(run: runs.Run, summary: RunSummary) -> None:
    status = summary.status
    step, steps = status.get("step"), status.get("steps")
    if isinstance(step, int | float) and isinstance(steps, int | float) and steps > 0:
        words = f"Epoch {count(summary.epochs_done, summary.epochs_planned)} · step {step:,.0f} / {steps:,.0f}"
        st.progress(min(max(step / steps, 0.0), 1.0), words)
    shown = {
        "Best top-1": share(summary.best),
        **({"Last balanced accuracy": share(summary.balanced)} if summary.balanced is not None else {}),
        "Images per second": UNKNOWN if summary.speed is None else f"{summary.speed:,.4g}",
        "Trained for": duration(summary.elapsed),
    }
    if summary.alive:
        shown["Time left"] = duration(summary.seconds_left)
        shown |= _use(run, summary)
    else:
        shown["Devices"] = ", ".join(summary.devices) or UNKNOWN
        shown["Memory"] = size(status.get("memory_bytes"))
    with st.grid(6, min_column_width=135, gap="small"):
        for name, value in shown.items():
            st.metric(name, escape_markdown(value))


def _use(run: runs.Run, summary: RunSummary) -> dict[str, str]:
    """Return the run's use of CPU, memory and GPUs; empty for a run on another machine."""
    use = devices.usage_of(run)
    if use is None:
        return {}
    words = {"CPU": f"{use.cores:.1f} cores", "Memory": size(use.memory)}
    if any(name != "cpu" for name in summary.devices):
        for device in devices.list_devices():
            if device.name in summary.devices:
                busy = UNKNOWN if device.use is None else f"{device.use:.0%}"
                words[device.name] = f"{busy}, {size(device.memory_total - device.memory_free)}"
    return words


def _show_checkpoints(run: runs.Run, summary: RunSummary) -> None:
    """Draw the table of checkpoints, with actions on the ticked ones."""
    rows = _weights(run, summary)
    if not rows:
        st.caption("There are no checkpoints yet: the first is saved after the first epoch.")
        return
    or_start = "" if is_read_only() else ", or one to start a new run from it"
    st.caption(f"Tick up to {MODELS_AT_MOST} to compare them{or_start}.")
    draw = partial(
        st.dataframe,
        pd.DataFrame(rows).drop(columns="model"),
        hide_index=True,
        key=f"checkpoints {run.name}",
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
        height="content" if len(rows) <= 8 else 320,
        alt=f"{len(rows)} checkpoints with their validation metrics",
        column_config={
            "file": st.column_config.TextColumn("Weights", width="medium", pinned=True),
            "epoch": st.column_config.NumberColumn("Epoch"),
            "top1": st.column_config.NumberColumn("Top-1", format="%.2f %%"),
            "top5": st.column_config.NumberColumn("Top-5", format="%.2f %%"),
            "loss": st.column_config.NumberColumn("Loss", format="%.3f"),
            "size": st.column_config.TextColumn("Size"),
            "age": st.column_config.TextColumn("Saved"),
        },
    )
    chosen = ticked_rows(f"checkpoints {run.name}", [row["model"] for row in rows], draw)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Compare",
            icon=":material/compare:",
            disabled=not 1 <= len(chosen) <= MODELS_AT_MOST,
            help=f"Opens up to {MODELS_AT_MOST} ticked checkpoints on the Compare page.",
        ):
            st.switch_page("views/compare.py", query_params={"model": chosen})
        if not is_read_only():
            st.button(
                "Start from here",
                icon=":material/fork_right:",
                disabled=len(chosen) != 1,
                help="Opens the form of a new run with the settings of this one, starting from the ticked checkpoint.",
                on_click=_start_from,
                args=(summary, chosen[0] if chosen else ""),
            )


def _weights(run: runs.Run, summary: RunSummary) -> list[dict[str, Any]]:
    """Return a row for each weights file of the run, newest first."""
    lines = {line.get("epoch"): line for line in summary.epochs}
    rows = []
    for checkpoint in run.checkpoints():
        line = lines.get(checkpoint.epoch, {})
        rows.append(
            {
                "model": checkpoint.model,
                "file": checkpoint.file.name,
                "epoch": checkpoint.epoch,
                "top1": percent(line.get("top1")),
                "top5": percent(line.get("top5")),
                "loss": line.get("loss"),
                "size": size(checkpoint.size),
                "age": ago(checkpoint.age),
            }
        )
    return rows


def _start_from(summary: RunSummary, model: str) -> None:
    recipe = nearest_recipe(summary.settings)
    st.session_state.recipe = recipe
    fill({**summary.settings, "init": model, "name": f"{summary.title[:59]}-more"})
    st.query_params.pop("run", None)
    st.query_params["new"] = recipe
    st.rerun()


def _show_settings(summary: RunSummary) -> None:
    """Draw all settings of the run, first those that differ from its recipe."""
    recipe = nearest_recipe(summary.settings)
    changed, usual = changed_settings(summary.settings, recipe), RECIPES[recipe].config.to_dict()
    st.caption(
        f"The nearest recipe is {escape_markdown(recipe)}; {len(changed)} of {len(usual)} settings differ, shown first."
    )
    names = sorted(summary.settings, key=lambda name: name not in changed)
    st.dataframe(
        pd.DataFrame(
            {
                "Setting": [label(name) for name in names],
                "Value": [str(summary.settings[name]) for name in names],
                "Recipe": [str(usual[name]) if name in changed else "" for name in names],
            }
        ),
        hide_index=True,
        height=320,
        alt="The settings of the run",
    )
