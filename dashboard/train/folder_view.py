"""What the form of a new run says about a folder of images: its classes, and the files that will not be used."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.shared.theme import escape_markdown
from swin_core import runs
from swin_core.data.registry import DATA_SETS, splits
from swin_core.errors import SwinError, first_names
from swin_core.training import TrainConfig

_SECONDS = 30
"""Time after which a folder is looked at again."""


def show_folder(config: TrainConfig) -> str:
    """Draw the numbers of images of each class and the files that are skipped; return why it cannot be trained on.

    Nothing is drawn for a registered data set.
    """
    if not config.data or config.data in DATA_SETS:
        return ""
    try:
        facts = _facts(str(Path(config.data).absolute()), config.holdout, config.seed)
    except SwinError as error:
        return str(error)
    classes, skipped = facts["classes"], facts["skipped"]
    if config.strict and skipped:
        return f"{len(skipped)} files cannot be used: {first_names([file['name'] for file in skipped])}."
    totals = {key: sum(count[key] for count in classes.values()) for key in ("train", "validation")}
    st.caption(
        escape_markdown(
            f"{len(classes)} classes: {first_names(list(classes))}. {totals['train']:,} images to train on and "
            f"{totals['validation']:,} to validate on."
        )
    )
    if lines := runs.data_lines(facts):
        notes = "; ".join(line for line in lines if not line.startswith(" "))
        with st.expander(escape_markdown(f"{notes[0].upper()}{notes[1:]}"), icon=":material/warning:"):
            st.dataframe(
                pd.DataFrame(
                    {
                        "Class": list(classes),
                        "Training images": [count["train"] for count in classes.values()],
                        "Validation images": [count["validation"] for count in classes.values()],
                    }
                ),
                hide_index=True,
                alt=f"Images of {len(classes)} classes",
            )
            if skipped:
                st.dataframe(
                    pd.DataFrame(skipped).rename(columns={"name": "File", "class": "Class", "reason": "Why"}),
                    hide_index=True,
                    alt=f"{len(skipped)} files that will not be used",
                )
    return ""


@st.cache_data(ttl=_SECONDS, show_spinner="Looking at the folder ...")
def _facts(folder: str, holdout: float, seed: int) -> dict[str, Any]:
    """Return what a run on the folder would record in `data.json`, as far as the first bytes of the files tell."""
    parts = dict(zip(("train", "validation"), splits(folder, holdout, seed), strict=True))
    classes = {
        name: {key: int((part.labels == label).sum()) for key, part in parts.items()}
        for label, name in enumerate(parts["train"].classes)
    }
    skipped = [{"name": file.name, "class": file.class_name, "reason": file.reason} for file in parts["train"].skipped]
    return {"classes": classes, "skipped": skipped}
