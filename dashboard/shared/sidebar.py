"""The sidebar: which images, which models, how the maps look.

All but uploads is kept in the address, and all is still chosen after a visit to another page.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard.shared.cache import InputImage, read_input_image
from dashboard.shared.datasets import data_image
from dashboard.shared.model_names import (
    MAX_IMAGES,
    display_name,
    from_display_name,
    offered_models,
    sample_images,
    sample_label,
    unique,
)
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import choose_uploads
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import SwinError
from swin_core.images.read import read_image
from swin_core.zoo.load import available

__all__ = [
    "SCALE_NAMES",
    "SHOW_IMAGES_KEY",
    "choose_data_images",
    "choose_images",
    "choose_look",
    "choose_models",
    "choose_trust",
    "set_tray",
]

FIRST_SAMPLE = "tulip"
SHOW_IMAGES_KEY = "show_pictures"
"""Of the address of a link: names of images that are to be shown in place of those that were picked."""
MODELS_AT_START = 2
SCALE_NAMES = dict(zip(SCALES, ("Shared", "Per cell"), strict=True))


def choose_images() -> tuple[list[InputImage], list[str]]:
    """The chosen images, uploads first, and a line for each that cannot be shown."""
    st.header("Images")
    linked = _take_from_link()
    uploads = choose_uploads(_leave_first_sample)
    known = sample_images()
    chosen = st.pills(
        "Samples",
        list(known),
        selection_mode="multi",
        default=[name for name in [FIRST_SAMPLE] if name in known],
        format_func=escape_markdown,
        key="sample",
        bind="query-params",
    )
    picked = choose_data_images(always=bool(linked))
    if linked and not st.session_state.settled:
        picked, chosen = linked[:MAX_IMAGES], [] if chosen == [FIRST_SAMPLE] else chosen
    faults = _left_out(len(linked))
    # What each image is found again by, its file's name, what it shows, and where its bytes come from.
    sources: list[tuple[Hashable, str, str, bytes | Path]] = [
        (upload.digest, upload.name, "", upload.content) for upload in uploads
    ]
    sources += [(known[name], known[name].name, sample_label(name), known[name]) for name in chosen if name in known]
    pictures: list[InputImage] = []
    for key, name, truth, source in sources:
        title = _new_title(name, pictures)
        try:
            pictures.append(read_input_image((key, title), title, truth, partial(read_image, source)))
        except SwinError as error:
            faults.append(f"{name}: {error}")
    for name in picked:
        try:
            found = data_image(name)
        except SwinError as error:
            faults.append(str(error))
        else:
            pictures.append(replace(found, title=_new_title(found.title, pictures)))
    return pictures[:MAX_IMAGES], faults + _left_out(len(pictures))


def _left_out(count: int) -> list[str]:
    """A line if there are more images than one grid holds."""
    if count <= MAX_IMAGES:
        return []
    return [f"One grid holds {MAX_IMAGES} images; the last {count - MAX_IMAGES} are left out."]


def _take_from_link() -> list[str]:
    """The names of the images that a link asks for, which go into the tray.

    It asks under a name that no widget has: Streamlit drops from a link what belongs to a widget of the page before.
    And the tray waits for the page's second run, since the address takes up what is set here only of widgets that were
    there.
    """
    names = unique([st.query_params.get_all(SHOW_IMAGES_KEY)])
    if names and st.session_state.settled:
        set_tray(names[:MAX_IMAGES])
        del st.query_params[SHOW_IMAGES_KEY]
    return names


def set_tray(names: Sequence[str]) -> None:
    """Make these images the tray: to be called before the widgets are made."""
    st.session_state.picked = list(names)
    # The sample that is shown only so that the other pages are not empty makes room.
    if names and st.session_state.get("sample", [FIRST_SAMPLE]) == [FIRST_SAMPLE]:
        st.session_state.sample = []


def choose_data_images(always: bool = False) -> list[str]:
    """The names of the images that were taken from data sets, such as `cifar100/test/1234`; not yet checked.

    Args:
        always: whether the widget is there before anything is picked. The page that picks needs that: the address takes
            up what a program sets only from a widget that was there before.
    """
    # What is picked is also what can be chosen, so that an image that is removed leaves no trace.
    offered = unique([st.session_state.get("picked") or st.query_params.get_all("picked")])
    if not offered and not always:
        return []
    return st.multiselect(
        "From data sets",
        offered,
        placeholder="cifar100/test/1234",
        max_selections=MAX_IMAGES,
        select_all=False,
        accept_new_options=True,
        help="Images that were picked on the Browse page, by data set, split and place in it.",
        key="picked",
        bind="query-params",
    )


def _new_title(name: str, pictures: list[InputImage]) -> str:
    """The name of a file, with a number if another image is called the same."""
    count = sum(picture.title == name or picture.title.startswith(f"{name} (") for picture in pictures)
    return f"{name} ({count + 1})" if count else name


def _leave_first_sample() -> None:
    """An upload takes the place of the sample that was shown only so that the first page is not empty."""
    if st.session_state.get("sample") == [FIRST_SAMPLE]:
        st.session_state.sample = []


def choose_models() -> list[str]:
    """The names of the chosen models, in the order of the columns; not yet checked."""
    st.header("Models")
    bundled = available()
    chosen = st.multiselect(
        f"Up to {MODELS_AT_MOST}, one a column",
        offered_models(),
        default=list(bundled)[:MODELS_AT_START],
        max_selections=MODELS_AT_MOST,
        format_func=display_name,
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
        st.warning(f"Up to {MODELS_AT_MOST} models: remove one first, then add {escape_markdown(one_too_many)}.")
    # An address may hold the words of a run that is not there any more, which is then no option.
    return unique([list(map(from_display_name, chosen))])[:MODELS_AT_MOST]


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
    st.header("Look")
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
        help="Below this share of the scale the plain image shows.",
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
