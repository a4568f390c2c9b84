"""The list of models that are offered."""

import pandas as pd
import streamlit as st

from dashboard.shared.model_names import model_source, model_title, offered_models
from swin_core.errors import SwinError
from swin_core.zoo.load import describe


def show_list() -> None:
    """Draw a table of the models that are offered, with one line about each."""
    st.header("Models that are offered")
    names = offered_models()
    st.dataframe(
        pd.DataFrame(
            {"Title": list(map(model_title, names)), "Name": names, "Description": list(map(_description, names))}
        ),
        hide_index=True,
        height="content" if len(names) <= 12 else 460,
        alt=f"{len(names)} models with a description of each",
        column_config={"Name": st.column_config.TextColumn(width="medium", pinned=True)},
    )


def _description(name: str) -> str:
    try:
        return describe(model_source(name))
    except SwinError as error:
        return str(error)
