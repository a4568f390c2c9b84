"""The Train page: training runs, each at its own URL."""

import streamlit as st

from dashboard.train.new_run import show_form
from dashboard.train.run_list import show_list
from dashboard.train.run_view import show_run
from swin_core.runs.read_only import is_read_only


def main() -> None:
    """Draw one of three views: the run of `?run=NAME`, the form of `?new=RECIPE`, or the list.

    In the read-only mode there is no form.
    """
    if name := st.query_params.get("run"):
        show_run(name)
    elif "new" in st.query_params and not is_read_only():
        show_form()
    else:
        show_list()


main()
