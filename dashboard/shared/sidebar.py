"""The sidebar: images, models and the look of the heat maps.

All choices but uploads are query parameters, and survive a visit to another page.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard.shared.cache import InputImage, read_input_image
from dashboard.shared.datasets import data_image
from dashboard.shared.look import SCALE_NAMES, held_look
from dashboard.shared.model_names import (
    MAX_IMAGES,
    display_name,
    from_display_name,
    offered_models,
    sample_images,
    sample_label,
    unique,
)
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.samples import first_models, first_samples, sample_groups
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import choose_uploads
from dashboard.shared.url_state import unknown_values
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import ConfigError, SwinError
from swin_core.images.read import read_image

SHOW_IMAGES_KEY = "show_pictures"
"""Query parameter of links to this page: names of images that replace those in the tray."""


def choose_images() -> tuple[list[InputImage], list[str]]:
    """Draw the choice of images; return them, uploads first, and a line for each that cannot be shown."""
    st.header("Images")
    linked = _take_from_link()
    show_notice("images")
    uploads = choose_uploads(_remove_first_samples)
    known, samples = sample_images(), choose_samples()
    tray = choose_data_images(always=bool(linked))
    if linked and not st.session_state.settled:
        tray, samples = linked[:MAX_IMAGES], [] if samples == first_samples() else samples
    faults: list[str] = []
    # Cache key, file name, true class and content.
    sources: list[tuple[Hashable, str, str, bytes | Path]] = [
        (upload.digest, upload.name, "", upload.content) for upload in uploads
    ]
    sources += [(known[name], known[name].name, sample_label(name), known[name]) for name in samples if name in known]
    images: list[InputImage] = []
    for key, name, truth, source in sources:
        title = _new_title(name, images)
        try:
            images.append(read_input_image((key, title), title, truth, partial(read_image, source)))
        except SwinError as error:
            faults.append(f"{name}: {error}")
    for name in tray:
        try:
            image = data_image(name)
            images.append(replace(image, title=_new_title(image.title, images)))
        except SwinError as error:
            faults.append(str(error))
    return images[:MAX_IMAGES], faults + _left_out(len(images))


def can_show(images: Sequence[InputImage], models: Sequence[str], faults: Sequence[str]) -> bool:
    """Draw the faults of the images; return whether there is an image and a model, or say which is missing."""
    for fault in faults:
        st.error(escape_markdown(fault), icon=":material/error:")
    if images and models:
        return True
    missing = "a model" if images else "an image"
    st.info(f"Choose {missing} in the sidebar.", icon=":material/arrow_back:")
    return False


def choose_samples() -> list[str]:
    """Draw the choice of sample images, a row of buttons for each group; return the names of the chosen ones."""
    chosen: list[str] = []
    known = sample_images()
    for number, (key, (title, names)) in enumerate(zip(_sample_keys(), sample_groups().items(), strict=True)):
        # A link may name any sample by any of the keys.
        linked = [name for name in st.session_state.get(key) or st.query_params.get_all(key) if name in known]
        chosen += st.pills(
            title,
            unique([names, linked]),
            selection_mode="multi",
            default=first_samples() if number == 0 else [],
            format_func=escape_markdown,
            key=key,
            bind="query-params",
        )
    return unique([chosen])


def unknown_samples() -> list[str]:
    """Return a warning for each query parameter that names a sample that there is not; see `unknown_values`."""
    return [line for key in _sample_keys() for line in unknown_values(key, list(sample_images()))]


def _sample_keys() -> list[str]:
    """Return the query parameter of each group of samples: "sample", "sample2" and so on."""
    return ["sample", *(f"sample{number + 2}" for number in range(len(sample_groups()) - 1))]


def _remove_first_samples() -> None:
    if st.session_state.get("sample", first_samples()) == first_samples():
        st.session_state.sample = []


def _left_out(count: int) -> list[str]:
    """Return a warning if there are more images than one grid holds."""
    if count <= MAX_IMAGES:
        return []
    return [f"One grid holds {MAX_IMAGES} images; the last {count - MAX_IMAGES} are left out."]


def _take_from_link() -> list[str]:
    """Return the names of images that a link asks for; put them into the tray in the page's second run.

    The query parameter has a name of its own, since Streamlit removes parameters of the previous page's widgets from a
    link. The tray waits for the second run, since the URL reflects values set here only for widgets that existed
    before.
    """
    names = unique([st.query_params.get_all(SHOW_IMAGES_KEY)])
    if names:
        set_notice("images", " ".join(_left_out(len(names))))
    if names and st.session_state.settled:
        set_tray(names[:MAX_IMAGES])
        del st.query_params[SHOW_IMAGES_KEY]
    return names


def set_tray(names: Sequence[str]) -> None:
    """Replace the chosen images of data sets; call it before the widgets are made."""
    st.session_state.picked = list(names)
    if names:
        _remove_first_samples()


def choose_data_images(always: bool = False) -> list[str]:
    """Draw the tray; return the names of the images of data sets, such as `cifar100/test/1234`, not yet checked.

    Args:
        always: draw it even if it is empty. Pages that fill the tray need that, since the URL reflects values set by
            the program only for widgets that existed before.
    """
    # The options are the chosen images, so that a removed one disappears.
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
        help="Images chosen on the Browse page, by data set, split and index.",
        key="picked",
        bind="query-params",
    )


def _new_title(name: str, images: list[InputImage]) -> str:
    """Return a file's name, with a number if another image has the same."""
    count = sum(image.title == name or image.title.startswith(f"{name} (") for image in images)
    return f"{name} ({count + 1})" if count else name


def choose_models() -> list[str]:
    """Draw the choice of models; return their names in the order of the columns, not yet checked."""
    st.header("Models")
    chosen = st.multiselect(
        f"Up to {MODELS_AT_MOST}, one per column",
        offered_models(),
        default=first_models(),
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
        help="A weights file or a folder of `save_pretrained` in the project's folder, a run, or pretrained weights: "
        "`timm/<model>`, `torchvision/<model>`, `hf/<repo>`. `timm/<model>@FILE` names the architecture of a file.",
        key="more",
        on_change=_add_model,
    )
    # A link, since `st.switch_page` would remove all choices from the URL.
    st.page_link("views/models.py", label="From a weights file", icon=":material/upload_file:")
    show_notice("models")
    # The display name of a run that was deleted is not an option, so Streamlit returns it as it is.
    return unique([list(map(from_display_name, chosen))])[:MODELS_AT_MOST]


def _add_model() -> None:
    name = st.session_state.more.strip()
    models = list(st.session_state.get("model", []))
    refused = ""
    if name and name not in models:
        if len(models) < MODELS_AT_MOST:
            st.session_state.model = [*models, name]
        else:
            refused = f"Up to {MODELS_AT_MOST} models: remove one first, then add {name}."
    set_notice("models", refused)
    st.session_state.more = ""


def choose_look() -> Look:
    """Draw the choice of colour map, opacity, threshold and scale of the heat maps; return them."""
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
        help="Below this share of the scale, only the image is shown.",
        key="threshold",
        bind="query-params",
    )
    scale = st.segmented_control(
        "Scale",
        list(SCALES),
        format_func=lambda name: SCALE_NAMES.get(name, name),
        default=Look.scale,
        required=True,
        help="Shared: equal colours are equal values in all cells. Per cell: each map uses the whole colour map.",
        key="scale",
        bind="query-params",
    )
    try:
        held_look().look = Look(str(colormap), opacity / 100, threshold / 100, scale or Look.scale)
    except ConfigError as error:  # a value of the URL that no widget offers
        st.error(escape_markdown(str(error)), icon=":material/error:")
        held_look().look = Look()
    return held_look().look


def choose_trust() -> bool:
    """Draw the switch of the trust measurements; return its value."""
    return st.toggle(
        "Measure trust",
        True,
        help="Changes the pixels that each map marks and measures the probability of the class. It takes some 300 "
        "forward passes per map, after everything else is shown.",
        key="trust",
        bind="query-params",
    )
