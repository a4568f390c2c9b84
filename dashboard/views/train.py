"""The Train page: what is running, how far is it, what did it learn?"""

import streamlit as st

from dashboard.train.new_run import show_form
from dashboard.train.run_list import show_list
from dashboard.train.run_view import show_run

# One of three views, each with an address of its own: ?run=NAME, ?new=RECIPE, or the list.
if name := st.query_params.get("run"):
    show_run(name)
elif "new" in st.query_params:
    show_form()
else:
    show_list()
