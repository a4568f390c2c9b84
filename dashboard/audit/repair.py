"""Repair on the Audit page: train without a finding, and what that changed, by group."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.audit.jobs import Subject
from dashboard.shared import cache
from dashboard.shared.datasets import data_sets
from dashboard.shared.new_run_request import request_run
from dashboard.shared.theme import escape_markdown
from swin_core import runs
from swin_core.audit.kept import finding_file, finding_key, read_repair, write_finding, write_repair
from swin_core.audit.repair import Repair, compare_repair
from swin_core.audit.results import Audit, Tested
from swin_core.errors import RunError, SwinError
from swin_core.evaluation.trained_on import trained_on
from swin_core.figures.audit_text import repair_rows, repair_summary
from swin_core.runs.files import FINDINGS
from swin_core.runs.read_only import is_read_only
from swin_core.zoo.load import available


def retrain_button(subject: Subject, audit: Audit, finding: Tested, folder: Path) -> None:
    """Draw the button that opens the Train page with the form filled."""
    if st.button(
        "Retrain without it",
        icon=":material/healing:",
        key=f"retrain {finding_key(finding)}",
        disabled=is_read_only(),
        help="Opens the form of a new run, in which the finding tells nothing about the class any more",
    ):
        try:
            file = write_finding(folder, audit, finding, _earlier(subject))
        except OSError as error:
            st.error(escape_markdown(f"{folder.parent} cannot be written ({error})."), icon=":material/error:")
            return
        request_run("custom", _settings(subject) | {"without": str(file)})


def _earlier(subject: Subject) -> list[dict[str, Any]]:
    """Return the findings that the audited model itself was trained without."""
    try:
        content = (runs.find(subject.model.partition("/")[0]).folder / FINDINGS).read_bytes()
        return list(json.loads(content)["findings"])
    except (RunError, OSError, ValueError, KeyError, TypeError):
        return []


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
    file = str(finding_file(folder, finding))
    trained = [
        run for run in runs.list_runs() if run.config.get("without") == file and not run.alive and run.checkpoints()
    ]
    run = max(trained, key=lambda run: run.name, default=None)
    return run, read_repair(folder, finding, run.name) if run else None


def show_repair(subject: Subject, finding: Tested, folder: Path) -> None:
    """Draw the comparison with the newest run that was trained without a finding."""
    run, repair = kept_repair(finding, folder)
    if run is None:
        return
    if repair is None and st.button(
        f"Compare with {run.title}, trained without it",
        icon=":material/difference:",
        key=f"compare {finding_file(folder, finding)} {run.name}",
        disabled=is_read_only(),
    ):
        with st.spinner("Measuring both models on images with and without it"):
            try:
                classifier, dataset = subject.open()
                seen = trained_on(subject.model, dataset) | trained_on(run.name, dataset)
                repair = compare_repair(classifier, cache.classifier(run.name), dataset, finding, trained_on=seen)
            except SwinError as error:
                st.error(escape_markdown(str(error)), icon=":material/error:")
                return
        write_repair(folder, finding, run.name, repair)
    if repair is not None:
        _show_table(repair)


def _show_table(repair: Repair) -> None:
    st.markdown(escape_markdown(repair_summary(repair)))
    columns = ("Images", "Number", "Right before", "Right after")
    st.dataframe(
        pd.DataFrame(repair_rows(repair), columns=columns),
        hide_index=True,
        alt=f"Accuracy before and after, of {len(repair.groups)} groups, the worst first",
    )
