"""The sidebar: which pictures, which models, how the maps look; all but uploads is kept in the address."""

import hashlib
from collections.abc import Hashable
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard.cache import Picture, read_picture
from dashboard.choices import PICTURES_AT_MOST, from_words, in_words, offered_models, once, samples, truth_of
from dashboard.theme import plain
from swin_core.errors import SwinError
from swin_core.explain.compare import MODELS_AT_MOST
from swin_core.explain.render import COLORMAPS, SCALES, Look
from swin_core.images import PICTURE_SUFFIXES, read_image
from swin_core.zoo import available

__all__ = ["SCALE_NAMES", "choose_look", "choose_models", "choose_pictures", "choose_trust"]

FIRST_SAMPLE = "rose"
MODELS_AT_START = 2
SCALE_NAMES = dict(zip(SCALES, ("Shared", "Per cell"), strict=True))


def choose_pictures() -> tuple[list[Picture], list[str]]:
    """The chosen pictures, uploads first, and a line for each that cannot be shown."""
    st.subheader("Pictures")
    uploads = st.file_uploader(
        "Your own",
        type=[suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES],
        accept_multiple_files=True,
        key="uploads",
        on_change=_leave_first_sample,
    )
    known = samples()
    chosen = st.pills(
        "Samples",
        list(known),
        selection_mode="multi",
        default=[name for name in [FIRST_SAMPLE] if name in known],
        format_func=plain,
        key="sample",
        bind="query-params",
    )
    # What each picture is found again by, its file's name, what it shows, and where its bytes come from.
    contents = [upload.getvalue() for upload in uploads]
    sources: list[tuple[Hashable, str, str, bytes | Path]] = [
        (hashlib.sha256(content).hexdigest(), upload.name, "", content)
        for upload, content in zip(uploads, contents, strict=True)
    ]
    sources += [(known[name], known[name].name, truth_of(name), known[name]) for name in chosen if name in known]
    pictures: list[Picture] = []
    faults = []
    for key, name, truth, source in sources:
        title = _new_title(name, pictures)
        try:
            pictures.append(read_picture((key, title), title, truth, partial(read_image, source)))
        except SwinError as error:
            faults.append(f"{name}: {error}")
    if len(pictures) > PICTURES_AT_MOST:
        left_out = len(pictures) - PICTURES_AT_MOST
        faults.append(f"One grid holds {PICTURES_AT_MOST} pictures; the last {left_out} are left out.")
    return pictures[:PICTURES_AT_MOST], faults


def _new_title(name: str, pictures: list[Picture]) -> str:
    """The name of a file, with a number if another picture is called the same."""
    count = sum(picture.title == name or picture.title.startswith(f"{name} (") for picture in pictures)
    return f"{name} ({count + 1})" if count else name


def _leave_first_sample() -> None:
    """An upload takes the place of the sample that was shown only so that the first page is not empty."""
    if st.session_state.uploads and st.session_state.get("sample") == [FIRST_SAMPLE]:
        st.session_state.sample = []


def choose_models() -> list[str]:
    """The names of the chosen models, in the order of the columns; not yet checked."""
    st.subheader("Models")
    bundled = available()
    chosen = st.multiselect(
        f"Up to {MODELS_AT_MOST}, one a column",
        offered_models(),
        default=list(bundled)[:MODELS_AT_START],
        max_selections=MODELS_AT_MOST,
        format_func=in_words,
        accept_new_options=True,
        select_all=False,
        key="model",
        bind="query-params",
    )
    st.text_input(
        "Add a model",
        placeholder="timm/resnet50, or a weights file",
        help="Any classifier of timm as `timm/<model>`; or a weights file in the project's folder, or a run.",
        key="more",
        on_change=_add_model,
    )
    if one_too_many := st.session_state.pop("one_too_many", ""):
        st.warning(f"Up to {MODELS_AT_MOST} models: remove one first, then add {plain(one_too_many)}.")
    # An address may hold the words of a run that is not there any more, which is then no option.
    return once([list(map(from_words, chosen))])[:MODELS_AT_MOST]


def _add_model() -> None:
    name = st.session_state.more.strip()
    models = list(st.session_state.get("model", []))
    if name and name not in models:
        if len(models) < MODELS_AT_MOST:
            st.session_state.model = [*models, name]
        else:
            st.session_state.one_too_many = name
    st.session_state.more = ""


def choose_look() -> Look:
    """Colours, opacity, threshold and scale of the maps.

    Raises:
        ConfigError: a value that no widget offers.
    """
    st.subheader("Look")
    colormap = st.selectbox("Colours", COLORMAPS, key="colors", bind="query-params")
    start = round(100 * Look.opacity)
    opacity = st.slider("Opacity", 0, 100, start, 5, format="%d %%", key="opacity", bind="query-params")
    threshold = st.slider(
        "Threshold",
        0,
        95,
        0,
        5,
        format="%d %%",
        help="Below this share of the scale the plain picture shows.",
        key="threshold",
        bind="query-params",
    )
    scale = st.segmented_control(
        "Scale",
        list(SCALES),
        format_func=lambda name: SCALE_NAMES.get(name, name),
        default=Look.scale,
        required=True,
        help="Shared: equal colour is equal magnitude in every cell. Per cell: each map uses all colours.",
        key="scale",
        bind="query-params",
    )
    return Look(str(colormap), opacity / 100, threshold / 100, scale or Look.scale)


def choose_trust() -> bool:
    """Whether each map is measured for how far it can be believed."""
    return st.toggle(
        "Measure trust",
        True,
        help="Changes the pixels that each map marks and watches the class's probability: some 300 runs of the model "
        "a map, after everything else is shown.",
        key="trust",
        bind="query-params",
    )
