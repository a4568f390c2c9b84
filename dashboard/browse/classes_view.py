"""The Classes tab of the Browse page: accuracy by class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.browse.filters import ModelChoice, show_images
from dashboard.browse.tiles import BrowsedData, class_words
from swin_core.evaluation.selection import OTHER, CatalogPredictions, class_choice


def show_classes(data: BrowsedData, models: ModelChoice, results: Sequence[CatalogPredictions]) -> None:
    """Draw a table of the accuracy by class of one model or two; a click on a row opens its images."""
    catalog = data.catalog
    words = class_words(catalog.classes)
    matrices = [result.confusion for result in results]
    table = pd.DataFrame({"name": words})
    config = {"name": st.column_config.TextColumn("Class", width=120)}
    for key, matrix, title in zip(("a", "b"), matrices, models.titles, strict=False):
        with np.errstate(invalid="ignore"):
            table[key] = 100 * np.diag(matrix) / matrix.sum(1)
        config[key] = st.column_config.ProgressColumn(
            title if len(matrices) > 1 else "Accuracy", format="%.1f %%", min_value=0, max_value=100, width=170
        )
    if len(matrices) > 1:
        table["difference"] = table["b"] - table["a"]
        config["difference"] = st.column_config.NumberColumn("Second minus first", format="%+.1f", width=130)
    mistakes = matrices[0].copy()
    np.fill_diagonal(mistakes, 0)
    predicted = [*words, OTHER]
    table["most"] = [predicted[row.argmax()] if row.any() else "" for row in mistakes]
    config["most"] = st.column_config.TextColumn("Most often taken for")
    table["images"] = np.bincount(catalog.labels, minlength=len(words))
    config["images"] = st.column_config.NumberColumn("Images", width=80)
    if catalog.coarse_classes:
        coarse = class_words(catalog.coarse_classes)
        table["super"] = [coarse[index] for index in catalog.coarse_of_class()]
        config["super"] = st.column_config.TextColumn("Super-class")
    order = np.argsort(table["a"].to_numpy(), kind="stable")

    def open_row() -> None:
        if rows := st.session_state.classes_table["selection"]["rows"]:
            show_images(truth=class_choice(catalog.classes[order[rows[0]]]))

    st.caption("Lowest accuracy first. Click a column's head to sort by it; choose a row to see its images.")
    st.dataframe(
        table.iloc[order],
        hide_index=True,
        key="classes_table",
        on_select=open_row,
        selection_mode="single-row",
        height=620,
        column_config=config,
        alt=f"Accuracy of each of {len(words)} classes",
    )
