"""The form that adds a model: weights, what was recognised, class names, preprocessing with a preview, and Save."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.models.labels_choice import choose_labels
from dashboard.models.preprocessing_choice import choose_preprocessing, fill_preprocessing, preprocessing_of
from dashboard.models.trial import loaded, recognised, weights_path
from dashboard.shared.model_names import ROOT, sample_images, sample_label
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.samples import sample_image
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import kept_uploads, upload_image
from swin_core.class_names import candidates
from swin_core.errors import SwinError
from swin_core.figures.text import value_text
from swin_core.runs.read_only import refuse_if_read_only
from swin_core.weights.files import read_state
from swin_core.zoo.fact_table import NOT_STATED, TITLES, fact_rows
from swin_core.zoo.kept_models import FOLDER, SUFFIXES, keep_weights, kept_models
from swin_core.zoo.model_card import card_path, make_card, read_card, write_card
from swin_core.zoo.offered import offered_files
from swin_core.zoo.python_models import is_python
from swin_core.zoo.recognise import Recognition

_TOP = 3
"""Classes that the preview lists."""


def show_form() -> None:
    """Draw the form; each part appears when the parts before it are complete."""
    st.header("1. Weights")
    name = _choose_weights()
    if not name:
        return
    st.header("2. What was recognised")
    try:
        before = read_card(weights_path(name))
        facts = before.facts() if before else {}
    except SwinError as error:
        _show_error(error)
        return
    recognition = _choose_architecture(name, facts)
    if recognition is None:
        return
    try:
        with st.spinner("Loading the model ..."):
            classifier = loaded(name, facts)
    except SwinError as error:
        _show_error(error)
        return
    known = name, recognition.facts.architecture
    if st.session_state.get("add_filled") != known:  # else what was entered stays
        st.session_state.add_filled = known
        fill_preprocessing(classifier)
    st.header("3. Class names")
    labels, labels_fault = choose_labels(recognition.facts.labels, classifier.num_classes)
    st.header("4. Preprocessing")
    chosen, fault = choose_preprocessing(len(classifier.mean))
    if labels is not None:
        facts["labels"] = labels
    as_loaded = preprocessing_of(classifier)
    facts |= {field: value for field, value in chosen.items() if value != as_loaded[field]}
    complete = not labels_fault and not fault
    if complete:
        complete = _show_preview(name, facts)
    if st.button("Save and compare", type="primary", icon=":material/save:", disabled=not complete):
        _save(name, facts)
    show_notice("add_save", "error")


def _show_error(error: SwinError) -> None:
    st.error(escape_markdown(str(error)), icon=":material/error:")


def _choose_weights() -> str:
    """Draw the upload and the choice of a file; return the model's name, or an empty text."""
    left, right = st.columns(2, gap="large")
    with left:
        number = st.session_state.setdefault("add_upload_number", 0)
        st.file_uploader(
            "Upload a weights file",
            type=[suffix.removeprefix(".") for suffix in SUFFIXES],
            help=f"It is kept in the folder {FOLDER} on this machine, and offered from then on. Copy a larger file "
            "into that folder yourself.",
            key=f"add_upload_{number}",
            on_change=_keep_upload,
            args=(number,),
        )
        show_notice("add_upload", "error")
    with right:
        name = st.selectbox(
            "Or choose a file or folder on this machine",
            [*kept_models(ROOT), *(name for name in offered_files() if not is_python(name))],
            index=None,
            accept_new_options=True,
            placeholder="models/flowers.pth",
            help="Weights files and folders of save_pretrained, inside the folder that the page was started in or "
            "offered by SWINLENS_MODELS.",
            key="add_weights",
            persist_state="session",
        )
    return (name or "").strip()


def _keep_upload(number: int) -> None:
    """Write the uploaded file to the disk and choose it."""
    file = st.session_state[f"add_upload_{number}"]
    if file is None:
        return
    known = kept_models(ROOT)
    try:
        refuse_if_read_only()
        name = keep_weights(ROOT, file.name, file.getbuffer())
        try:
            read_state(ROOT / name)
        except SwinError:
            if name not in known:
                (ROOT / name).unlink(missing_ok=True)
            raise
        st.session_state.add_weights = name
        set_notice("add_upload", "")
    except SwinError as error:
        set_notice("add_upload", str(error))
    # A new key makes a new, empty uploader, and frees the file's memory.
    st.session_state.add_upload_number = number + 1


def _choose_architecture(name: str, facts: dict[str, Any]) -> Recognition | None:
    """Draw what was recognised, and the choice of the architecture where it is open; add it to `facts`."""
    if architecture := st.session_state.get(f"add_architecture {name}"):
        facts["architecture"] = architecture
    recognition, fault = None, None
    try:
        with st.spinner("Reading the file ..."):
            recognition = recognised(name, facts)
    except SwinError as error:
        fault = error
    if recognition is not None:
        rows = fact_rows(recognition)
        if not card_path(weights_path(name)).is_file():
            rows = [row._replace(origin="this form") if row.origin == "the card" else row for row in rows]
        st.dataframe(
            pd.DataFrame(rows, columns=["Fact", "Value", "Stated by"]),
            hide_index=True,
            height="content",
            alt=f"{len(rows)} facts about the model, and where each of them stands",
            column_config={"Fact": st.column_config.TextColumn(width="small")},
        )
        for note in recognition.notes:
            st.caption(escape_markdown(note))
        missing = [row.title.lower() for row in rows if row.value == NOT_STATED and row.title != TITLES["architecture"]]
        if not recognition.library:
            st.caption("Choose the architecture to go on.")
        elif missing:
            st.caption(f"Missing: {', '.join(missing)}. Without them, usual values are taken.")
    if architecture or fault or (recognition is not None and recognition.candidates):
        st.selectbox(
            "Architecture",
            list(recognition.candidates) if recognition is not None else [],
            index=None,
            accept_new_options=True,
            placeholder="timm/resnet18 or torchvision/swin_v2_t",
            key=f"add_architecture {name}",
            persist_state="session",
        )
    if fault:
        _show_error(fault)
    return None if recognition is None or not recognition.library else recognition


def _show_preview(name: str, facts: dict[str, Any]) -> bool:
    """Draw an image, what the model sees of it, and its likeliest classes; return whether the model can be used."""
    uploads = {upload.name: upload for upload in kept_uploads()}
    names = list(dict.fromkeys([*uploads, *sample_images()]))
    try:
        classifier = loaded(name, facts)
        known = [index for index, key in enumerate(names) if candidates(classifier.labels, sample_label(key))]
        start = known[0] if known else 0
        chosen = st.selectbox("Preview", names, start, key="add_sample", width=230, persist_state="session")
        image = (upload_image(uploads[chosen]) if chosen in uploads else sample_image(chosen)).pil
        probabilities = classifier.predict([image])[0]
    except SwinError as error:
        _show_error(error)
        return False
    left, middle, right = st.columns(3)
    left.image(image, "The image", width="stretch", alt=f"The image {chosen}")
    size = f"What the model sees, {classifier.image_size} x {classifier.image_size}"
    middle.image(classifier.view(image), size, width="stretch", alt=f"{chosen} as the model sees it")
    with right:
        st.markdown("**Likeliest classes**" if classifier.activation != "none" else "**Outputs**")
        for index in (-probabilities).argsort()[:_TOP]:
            value = float(probabilities[index])
            shown = value_text(value, classifier.activation)
            st.markdown(escape_markdown(f"{classifier.labels[index]} · {shown}"))
        st.caption("If they are wrong for an easy image, the class names or the preprocessing do not fit.")
    return True


def _save(name: str, facts: dict[str, Any]) -> None:
    """Write the card if it states anything, and open the model on the Compare page."""
    try:
        refuse_if_read_only()
        if facts:
            write_card(weights_path(name), make_card(facts))
    except SwinError as error:
        set_notice("add_save", str(error))
        st.rerun()
    set_notice("add_save", "")
    query: dict[str, Any] = {"model": [name]}
    if (sample := st.session_state.get("add_sample")) in sample_images():
        query["sample"] = [sample]
    st.switch_page("views/compare.py", query_params=query)
