"""A run's own view: its state, what can be done with it, progress, curves, checkpoints, log, notes and settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.shared.formatting import UNKNOWN, ago, count, duration, share, size
from dashboard.shared.theme import escape_markdown
from dashboard.train.form import fill, label
from dashboard.train.run_list import REFRESH_SECONDS, show_curves, state_line
from dashboard.train.run_summary import Record, changed_settings, nearest_recipe, run_record
from swin_core import runs
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import RunError
from swin_core.runs import devices
from swin_core.training import RECIPES

__all__ = ["leave", "show_run"]

LOG_LINES = 60


def show_run(name: str) -> None:
    """A run's own view, read anew from its folder as long as the run is alive."""
    st.button("All runs", icon=":material/arrow_back:", type="tertiary", on_click=leave)
    try:
        run = runs.find(name)
    except RunError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    st.fragment(_show, run_every=REFRESH_SECONDS if run.alive else None)(name, run.alive)


def leave() -> None:
    """Back to the list."""
    for key in ("run", "new"):
        st.query_params.pop(key, None)


def _show(name: str, was_alive: bool) -> None:
    try:
        run = runs.find(name)
    except RunError:  # deleted meanwhile, in another tab or a shell
        st.rerun()
    record = run_record(run)
    if record.alive != was_alive:
        # The whole page runs again once, so that it begins or ends to be read every two seconds.
        st.rerun()
    title, actions = st.columns([2, 3], vertical_alignment="bottom")
    title.title(escape_markdown(record.title))
    with actions.container(horizontal=True, horizontal_alignment="right"):
        _show_actions(run, record)
    if fault := st.session_state.pop("run_fault", ""):
        st.error(escape_markdown(fault), icon=":material/error:")
    st.markdown(state_line(record))
    _show_progress(run, record)
    show_curves([record], live=record.alive)
    checkpoints, log, notes, settings = st.tabs(["Checkpoints", "Log", "Notes", "Settings"])
    with checkpoints:
        _show_checkpoints(run, record)
    with log:
        if lines := run.log_tail(LOG_LINES):
            st.code("\n".join(lines), language=None, wrap_lines=True, height=320)
        else:
            st.caption("The run has written nothing yet.")
    with notes:
        st.text_area(
            "Notes",
            value=run.notes,
            placeholder="What this run is to find out, and what came of it.",
            label_visibility="collapsed",
            key=f"notes {run.name}",
            on_change=_write_notes,
            args=(run,),
        )
    with settings:
        _show_settings(record)


def _attempt(action: Callable[[], Any]) -> Any:
    """What an action returns; if it is refused, the next drawing of the page says why."""
    try:
        return action()
    except RunError as error:
        st.session_state.run_fault = str(error)
        return None


def _show_actions(run: runs.Run, record: Record) -> None:
    if record.state == "stopping":
        if st.button(
            "Stop now",
            icon=":material/dangerous:",
            help="It is finishing its step and saving. This ends it at once: what it did since the last save is lost.",
        ):
            with st.spinner("Ending ..."):
                # It was asked to stop before, so there is no need to wait long for it.
                _attempt(partial(runs.kill, run, grace=2))
            st.rerun()
        return
    if record.alive:
        st.button(
            "Stop",
            icon=":material/stop:",
            type="primary",
            help="It finishes its step and saves everything; it can be resumed without losing a step.",
            on_click=_attempt,
            args=(partial(runs.request_stop, run),),
        )
        return
    if record.state != "finished" and st.button("Resume", icon=":material/play_arrow:", type="primary"):
        with st.spinner("Starting ..."):
            _attempt(partial(runs.resume, run))
        st.rerun()
    with st.popover("Rename", icon=":material/edit:"), st.form("rename", border=False):
        st.text_input("Name", run.title, max_chars=64, key=f"new name {run.name}")
        st.form_submit_button("Rename", on_click=_rename, args=(run,))
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            f"Delete **{escape_markdown(run.name)}** with its {record.epochs_done} epochs, checkpoints, log and notes?"
        )
        st.button("Delete for good", type="primary", on_click=_delete, args=(run,))


def _rename(run: runs.Run) -> None:
    renamed = _attempt(partial(runs.rename, run, st.session_state[f"new name {run.name}"].strip()))
    if renamed is not None:
        st.query_params["run"] = renamed.name
        st.rerun()


def _delete(run: runs.Run) -> None:
    _attempt(partial(runs.delete, run))
    if "run_fault" not in st.session_state:
        leave()
        st.rerun()


def _write_notes(run: runs.Run) -> None:
    _attempt(partial(runs.write_notes, run, st.session_state[f"notes {run.name}"]))


def _show_progress(run: runs.Run, record: Record) -> None:
    status = record.status
    step, steps = status.get("step"), status.get("steps")
    if isinstance(step, int | float) and isinstance(steps, int | float) and steps > 0:
        words = f"Epoch {count(record.epochs_done, record.epochs_planned)} · step {step:,.0f} / {steps:,.0f}"
        st.progress(min(max(step / steps, 0.0), 1.0), words)
    figures = {
        "Best top-1": share(record.best),
        "Images a second": UNKNOWN if record.speed is None else f"{record.speed:,.4g}",
        "Trained for": duration(record.elapsed),
    }
    if record.alive:
        figures["Time left"] = duration(record.seconds_left)
        figures |= _use(run, record)
    else:
        figures["Devices"] = ", ".join(record.devices) or UNKNOWN
        figures["Memory"] = size(status.get("memory_bytes"))
    with st.grid(6, min_column_width=135, gap="small"):
        for name, value in figures.items():
            st.metric(name, escape_markdown(value))


def _use(run: runs.Run, record: Record) -> dict[str, str]:
    """What the run takes of the CPU, of memory and of its GPUs; empty for a run on another machine."""
    use = devices.usage_of(run)
    if use is None:
        return {}
    words = {"CPU": f"{use.cores:.1f} cores", "Memory": size(use.memory)}
    if any(name != "cpu" for name in record.devices):
        for device in devices.list_devices():
            if device.name in record.devices:
                busy = UNKNOWN if device.use is None else f"{device.use:.0%}"
                words[device.name] = f"{busy}, {size(device.memory_total - device.memory_free)}"
    return words


def _show_checkpoints(run: runs.Run, record: Record) -> None:
    """The run's weights with their figures, and what can be done with chosen ones."""
    rows = _weights(run, record)
    if not rows:
        st.caption("Nothing saved yet: the first weights come with the end of the first epoch.")
        return
    st.caption(f"Tick up to {MODELS_AT_MOST} to compare them, or one to start a new run from it.")
    event = st.dataframe(
        pd.DataFrame(rows).drop(columns="model"),
        hide_index=True,
        key=f"checkpoints {run.name}",
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
        height="content" if len(rows) <= 8 else 320,
        alt=f"{len(rows)} checkpoints with their figures on the validation images",
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
    chosen = [rows[row]["model"] for row in event["selection"]["rows"] if row < len(rows)]
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Compare",
            icon=":material/compare:",
            disabled=not 1 <= len(chosen) <= MODELS_AT_MOST,
            help=f"Opens up to {MODELS_AT_MOST} chosen weights as columns of the Compare page.",
        ):
            st.switch_page("views/compare.py", query_params={"model": chosen})
        st.button(
            "Start from here",
            icon=":material/fork_right:",
            disabled=len(chosen) != 1,
            help="Opens the form of a new run with the settings of this one, which starts from the chosen weights.",
            on_click=_start_from,
            args=(record, chosen[0] if chosen else ""),
        )


def _weights(run: runs.Run, record: Record) -> list[dict[str, Any]]:
    """A row for each weights file of the run that the Compare page can load, newest first."""
    lines = {line.get("epoch"): line for line in record.epochs}
    rows = []
    for checkpoint in run.checkpoints():
        line = lines.get(checkpoint.epoch, {})
        rows.append(
            {
                "model": checkpoint.model,
                "file": checkpoint.file.name,
                "epoch": checkpoint.epoch,
                "top1": _percent(line.get("top1")),
                "top5": _percent(line.get("top5")),
                "loss": line.get("loss"),
                "size": size(checkpoint.size),
                "age": ago(checkpoint.age),
            }
        )
    return rows


def _percent(value: Any) -> float | None:
    return 100 * value if isinstance(value, int | float) else None


def _start_from(record: Record, model: str) -> None:
    recipe = nearest_recipe(record.settings)
    st.session_state.recipe = recipe
    fill({**record.settings, "init": model, "name": f"{record.title[:59]}-more"})
    st.query_params.pop("run", None)
    st.query_params["new"] = recipe
    st.rerun()


def _show_settings(record: Record) -> None:
    """All settings of the run, those first that its recipe has otherwise."""
    recipe = nearest_recipe(record.settings)
    changed, usual = changed_settings(record.settings, recipe), RECIPES[recipe].config.to_dict()
    st.caption(
        f"The nearest recipe is {escape_markdown(recipe)}; {len(changed)} of {len(usual)} settings differ, shown first."
    )
    names = sorted(record.settings, key=lambda name: name not in changed)
    st.dataframe(
        pd.DataFrame(
            {
                "Setting": [label(name) for name in names],
                "Value": [str(record.settings[name]) for name in names],
                "Recipe": [str(usual[name]) if name in changed else "" for name in names],
            }
        ),
        hide_index=True,
        height=320,
        alt="The settings of the run",
    )
