"""Start of an audit; progress and stop of an audit or a comparison."""

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.audit.jobs import Subject, start
from dashboard.shared.background_jobs import WAITING, Job
from dashboard.shared.theme import escape_markdown
from swin_core.audit.kept import forget_audit
from swin_core.audit.results import Audit
from swin_core.errors import SwinError
from swin_core.runs.read_only import is_read_only

POLL_SECONDS = 1.0
_VERBS = {"files": "Compared", "images": "Explained", "candidates": "Tested", "predictions": "Made"}


def show_start(subject: Subject, failed: Job[Subject] | None, kept: Audit | None, folder: Path) -> None:
    """Draw the button that starts an audit, or say why there is none; and the error of one that failed."""
    error = st.session_state.pop("audit_error", "") or (failed.error if failed is not None else "")
    if error:
        st.error(escape_markdown(error), icon=":material/error:")
    if kept is not None:
        st.button(
            "Audit again",
            icon=":material/refresh:",
            type="tertiary",
            on_click=_start_again,
            args=(subject, folder),
            disabled=is_read_only(),
            help="Tests all candidates and searches all splits for copies again",
        )
        return
    count = len(subject.images())
    st.info(
        f"These {count:,} images were not audited with this model yet. An audit explains all of them, looks for what "
        "may decide a class, such as a watermark, a frame, a sticker at changing places or a colour cast, and tests "
        "each: it puts it into other images, and removes it. This takes some minutes; it can be stopped and goes on "
        "from there later.",
        icon=":material/policy:",
    )
    if is_read_only():
        st.caption("This dashboard is read-only: no audit can be started here.")
        return
    st.button("Start", type="primary", icon=":material/play_arrow:", on_click=_start, args=(subject,))


def _start(subject: Subject) -> None:
    try:
        start(subject)
    except SwinError as error:
        st.session_state.audit_error = str(error)


def _start_again(subject: Subject, folder: Path) -> None:
    forget_audit(folder)
    _start(subject)


def show_job(job: Job[Any]) -> None:
    """Draw the progress of an audit or a comparison, and rerun the page when it has ended."""
    st.fragment(_show_progress, run_every=POLL_SECONDS)(job)


def _show_progress(job: Job[Any]) -> None:
    if job.ended.is_set():
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        if job.stage == WAITING:
            st.progress(0.0, "Waiting for another one to end")
        else:
            st.progress(job.done / max(job.total, 1), f"{_VERBS[job.stage]} {job.done:,} of {job.total:,} {job.stage}")
        stopping = job.stopped.is_set()
        st.button(
            "Stopping" if stopping else "Stop",
            icon=":material/stop:",
            on_click=job.stopped.set,
            disabled=stopping,
            key=f"stop {hash(job.request)}",
        )
