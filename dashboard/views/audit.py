"""The Audit page: what a model wrongly relies on, on all images of a data set."""

import streamlit as st

from dashboard.audit.cards import download_report, show_audit, show_example
from dashboard.audit.controls import choose_subject
from dashboard.audit.jobs import job_of
from dashboard.audit.progress import show_job, show_start
from dashboard.shared.model_cards import choose_models
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import settle, show_ignored, surplus_models
from swin_core.audit.kept import read_audit
from swin_core.data.dataset import data_root
from swin_core.errors import SwinError


def main() -> None:
    """Draw the page."""
    ignored = surplus_models()
    actions = show_heading("audit")
    if st.toggle("Example", key="audit_example", bind="query-params", help="An audit of drawn images, to read at once"):
        show_example()
        with actions:
            show_link()
        return
    chosen = choose_models()
    try:
        subject = choose_subject(chosen, ignored)
        settle(ignored)
        show_ignored(ignored, st.container())
        if subject is None:
            root = escape_markdown(str(data_root()))
            st.info(f"Choose a model above, and put a folder of images into {root}, with one folder for each class.")
            return
        with st.spinner("Loading the model"):
            folder = subject.folder()
        job = job_of(subject)
        kept = read_audit(folder)
        if job is not None and not job.ended.is_set():
            show_job(job)
        else:
            show_start(subject, job, kept, folder)
        if kept is not None:
            show_audit(subject, kept, folder)
            with actions:
                download_report(subject, kept, folder)
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    with actions:
        show_link()


main()
