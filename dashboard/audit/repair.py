"""Repair on the Audit page: train without findings, and what that changed, by group."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.audit.jobs import RepairRequest, Subject, compare, repairs
from dashboard.audit.progress import show_job
from dashboard.shared.datasets import data_sets
from dashboard.shared.model_names import weights_state
from dashboard.shared.new_run_request import request_run
from dashboard.shared.theme import escape_markdown
from swin_core import runs
from swin_core.audit.kept import finding_key, is_findings_file, read_repair, write_findings
from swin_core.audit.repair import Repair
from swin_core.audit.results import Audit, Tested
from swin_core.errors import RunError
from swin_core.figures.audit_text import repair_rows, repair_summary
from swin_core.runs.files import FINDINGS
from swin_core.runs.read_only import is_read_only, refuse_if_read_only
from swin_core.zoo.load import available


def choose_finding(finding: Tested, folder: Path) -> bool:
    """Draw the checkbox of a finding's card; return whether a new run is to be trained without it."""
    return st.checkbox(
        "Retrain without it",
        value=True,
        key=f"chosen {folder.name} {finding_key(finding)}",
        disabled=is_read_only(),
        help="The button below the findings starts one run without all that are chosen",
    )


def retrain_button(subject: Subject, audit: Audit, chosen: Sequence[Tested], folder: Path) -> None:
    """Draw the button that opens the Train page with the form filled, for a run without the chosen findings."""
    earlier = _earlier(subject)
    also = f"; so do the {len(earlier)} that the audited model was trained without" if earlier else ""
    if st.button(
        f"Retrain without {len(chosen)} finding{'' if len(chosen) == 1 else 's'}",
        icon=":material/healing:",
        type="primary",
        disabled=is_read_only() or not chosen,
        help=f"Opens the form of a new run in which the chosen findings tell nothing about the class any more{also}",
    ):
        try:
            refuse_if_read_only()
            file = write_findings(folder, audit, chosen, earlier)
        except (OSError, RunError) as error:
            reason = f"{folder.parent} cannot be written ({error})." if isinstance(error, OSError) else str(error)
            st.error(escape_markdown(reason), icon=":material/error:")
            return
        request_run("custom", _settings(subject) | {"without": str(file)})


def _earlier(subject: Subject) -> list[dict[str, Any]]:
    """Return the findings that the audited model itself was trained without."""
    try:
        return _findings(runs.find(subject.model.partition("/")[0]))
    except RunError:
        return []


def _findings(run: runs.Run) -> list[dict[str, Any]]:
    """Return the findings that a run was trained without."""
    try:
        return list(json.loads((run.folder / FINDINGS).read_bytes())["findings"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _key(values: dict[str, Any]) -> str:
    """Return the key of a finding in a findings file; empty if another version wrote it."""
    try:
        return finding_key(Tested.from_dict(values))
    except (KeyError, TypeError):
        return ""


def _settings(subject: Subject) -> dict[str, Any]:
    """Return the settings of the audited model's own run, if it is one; else its data and itself to start from."""
    source = next(entry.source for entry in data_sets() if entry.name == subject.collection)
    settings: dict[str, Any] = {"data": source.public or str(source.folder)}
    try:
        settings |= runs.find(subject.model.partition("/")[0]).config
    except RunError:
        if subject.model in available():
            settings["init"] = subject.model
    return settings | {"name": f"{subject.collection}-without"[:40]}


def kept_repair(finding: Tested, folder: Path) -> tuple[runs.Run | None, Repair | None]:
    """Return the newest run that was trained without a finding, and its comparison if that was made."""
    trained = [
        run
        for run in runs.list_runs()
        if is_findings_file(str(run.config.get("without", "")), folder)
        and not run.alive
        and run.checkpoints()
        and finding_key(finding) in map(_key, _findings(run))
    ]
    run = max(trained, key=lambda run: run.name, default=None)
    return run, read_repair(folder, finding, _version(run)) if run else None


def _version(run: runs.Run) -> str:
    """Return what names the weights of a run; a run that went on has others."""
    state = weights_state(run.name)
    return f"{run.name}-{state[1] if state else 0}"


def show_repair(subject: Subject, finding: Tested, folder: Path) -> None:
    """Draw the comparison with the newest run that was trained without a finding, or what leads to it."""
    run, repair = kept_repair(finding, folder)
    if run is None:
        return
    if repair is not None:
        _show_table(repair)
        return
    request = RepairRequest(subject, finding, run.name, _version(run), folder)
    job = repairs.jobs.get(request)
    if job is not None and not job.ended.is_set():
        show_job(job)
        return
    if job is not None and job.error:
        st.error(escape_markdown(job.error), icon=":material/error:")
    st.button(
        f"Compare with {run.title}, trained without it",
        icon=":material/difference:",
        key=f"compare {finding_key(finding)} {run.name}",
        on_click=compare,
        args=(request,),
        disabled=is_read_only(),
        help="Measures both models on images with and without it",
    )


def _show_table(repair: Repair) -> None:
    st.markdown(escape_markdown(repair_summary(repair)))
    columns = ("Images", "Number", "Right before", "Right after")
    st.dataframe(
        pd.DataFrame(repair_rows(repair), columns=columns),
        hide_index=True,
        alt=f"Accuracy before and after, of {len(repair.groups)} groups, the worst first",
    )
