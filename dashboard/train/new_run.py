"""The view that starts a run: settings, devices, the check of memory and time, and the start."""

from typing import Any

import streamlit as st

from dashboard.shared.formatting import duration
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.theme import escape_markdown
from dashboard.train.folder_view import show_folder
from dashboard.train.form import choose_recipe, choose_settings, label, validated
from dashboard.train.preflight import PreflightCheck
from dashboard.train.run_view import leave
from swin_core import runs
from swin_core.errors import ConfigError, SwinError
from swin_core.runs import devices
from swin_core.runs.locks import in_use
from swin_core.training import TrainConfig
from swin_core.training.recipes import changed_settings


def show_form() -> None:
    """Draw the view."""
    st.button("All runs", icon=":material/arrow_back:", type="tertiary", on_click=leave)
    st.title("New run")
    recipe = choose_recipe()
    st.query_params["new"] = recipe
    values = choose_settings()
    chosen, processes = _choose_devices()
    config, fault = None, ""
    try:
        config = validated(values)
        if "cpu" in chosen and len(chosen) > 1:
            raise ConfigError("a run trains on the CPU or on GPUs, not on both: choose one kind of device.")
    except SwinError as error:
        fault = str(error)
    if not values.get("data"):
        st.info("Choose a data set, or enter a folder that contains one folder per class.", icon=":material/folder:")
    elif fault:
        st.error(escape_markdown(fault), icon=":material/error:")
    elif config is not None:
        _show_changes(recipe, config)
        if fault := show_folder(config):
            st.error(escape_markdown(fault), icon=":material/error:")
    with st.container(horizontal=True, vertical_alignment="center"):
        start = st.button("Start", type="primary", icon=":material/play_arrow:", disabled=bool(fault) or not chosen)
        check = st.button(
            "Check memory and time",
            icon=":material/timer:",
            disabled=bool(fault) or not chosen,
            help="Trains a few steps with these settings and measures them; nothing is saved.",
        )
        if config is not None and chosen:
            if check:
                _end_check()
                st.session_state.preflight = PreflightCheck(recipe, config, chosen, processes)
            with st.container(key="preflight_result"):
                _show_check((config, chosen, processes))
    show_notice("start", "error")
    if config is None or not chosen:
        return
    if start:
        _start(config, chosen, processes)


def _choose_devices() -> tuple[tuple[str, ...], int]:
    """Draw the choice of devices; return their names and the number of processes."""
    offered = {device.name: device for device in devices.list_devices()}
    st.header("Devices")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # The free memory changes between runs of the page, so it cannot be part of an option.
        chosen = st.pills(
            "Train on",
            list(offered),
            selection_mode="multi",
            default=list(offered)[-1:],
            format_func=lambda name: name if name == "cpu" or name not in offered else f"{name} {offered[name].title}",
            key="devices",
            persist_state="session",
            width="content",
        )
        chosen = [name for name in chosen if name in offered]
        on_cpu = chosen == ["cpu"]
        processes = st.number_input(
            "Processes",
            1,
            64,
            1 if on_cpu else max(1, len(chosen)),
            disabled=not on_cpu,
            help="On a CPU, they share the images of each step. On GPUs, there is one per device.",
            key="processes" if on_cpu else f"processes {len(chosen)}",
            width=150,
        )
    st.caption(escape_markdown("; ".join(f"{name}: {device}" for name, device in offered.items())))
    for name, run in runs.busy(list(offered)).items():
        st.caption(escape_markdown(str(in_use(name, run))))
    return tuple(chosen), int(processes)


def _show_changes(recipe: str, config: TrainConfig) -> None:
    changed = changed_settings(config.to_dict(), recipe)
    text = "; ".join(f"{label(name)} {value}" for name, value in changed.items())
    st.caption(escape_markdown(f"Changed from the recipe: {text}." if text else "All settings are the recipe's."))


def _end_check() -> None:
    """Stop the check of other settings."""
    if before := st.session_state.pop("preflight", None):
        before.stop()


def _show_check(asked: tuple[Any, ...]) -> None:
    check: PreflightCheck | None = st.session_state.get("preflight")
    if check is None:
        return
    if check.asked != asked:
        _end_check()
        st.caption("The settings changed since the last check.")
        return
    st.fragment(_show_result, run_every=1 if check.under_way else None)(check, check.under_way)


def _show_result(check: PreflightCheck, was_under_way: bool) -> None:
    if was_under_way and not check.under_way:
        # Run the whole page once, which stops the periodic refresh.
        st.rerun()
    try:
        estimate = check.result()
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    if estimate is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(f"Measuring a few steps: {duration(check.seconds)} so far.", icon=":material/hourglass_top:")
            if st.button("Cancel", icon=":material/close:", key="cancel_check"):
                _end_check()
                st.rerun()
    elif estimate.fits:
        st.success(escape_markdown(str(estimate)), icon=":material/check_circle:")
    else:
        st.warning(
            escape_markdown(
                f"{estimate} It does not fit: try a smaller batch, gradient accumulation, or activation checkpointing."
            ),
            icon=":material/warning:",
        )


def _start(config: TrainConfig, chosen: tuple[str, ...], processes: int) -> None:
    _end_check()
    try:
        with st.spinner("Starting ..."):
            run = runs.start(config.to_dict(), devices=chosen, processes=processes)
    except SwinError as error:
        set_notice("start", str(error))
        st.rerun()
    set_notice("start", "")
    leave()
    st.query_params["run"] = run.name
    st.rerun()
