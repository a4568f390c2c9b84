"""The Images tab of a run: images and recall of each class, and the files that are not used."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core import runs


def show_images(run: runs.Run) -> None:
    """Draw the tables."""
    facts = runs.read_data(run.folder)
    if not facts.get("classes"):
        st.caption("The images are not counted yet: the run counts them at its start.")
        return
    st.dataframe(
        _classes(facts["classes"], run.validation()),
        hide_index=True,
        height="content" if len(facts["classes"]) <= 12 else 460,
        alt=f"Images and recall of {len(facts['classes'])} classes",
        column_config={
            "name": st.column_config.TextColumn("Class", width="medium"),
            "train": st.column_config.NumberColumn("Training images"),
            "validation": st.column_config.NumberColumn("Validation images"),
            "recall": st.column_config.ProgressColumn(
                "Recall",
                format="%.1f %%",
                min_value=0,
                max_value=100,
                help="Share of the class's validation images that the last epoch predicts right.",
            ),
        },
    )
    lines = runs.data_lines(facts)
    if lines:
        st.warning(escape_markdown("; ".join(line for line in lines if not line.startswith(" "))))
    if skipped := facts.get("skipped"):
        st.dataframe(
            pd.DataFrame(skipped)[["name", "class", "reason"]],
            hide_index=True,
            height="content" if len(skipped) <= 12 else 460,
            alt=f"{len(skipped)} files that are not used, with the reason",
            column_config={
                "name": st.column_config.TextColumn("File", width="medium"),
                "class": st.column_config.TextColumn("Class"),
                "reason": st.column_config.TextColumn("Why it is not used", width="large"),
            },
        )


def _classes(counts: dict[str, dict[str, int]], validation: dict[str, Any]) -> pd.DataFrame:
    """Return a row for each class; the recall is empty before the first epoch and without validation images."""
    recalls = dict(zip(validation.get("labels") or (), validation.get("per_class") or (), strict=False))
    table = pd.DataFrame(
        {
            "name": list(counts),
            "train": [count.get("train", 0) for count in counts.values()],
            "validation": [count.get("validation", 0) for count in counts.values()],
        }
    )
    values = [recalls.get(name) for name in counts]
    table["recall"] = pd.Series([None if value is None else 100 * value for value in values], dtype="float64")
    return table
