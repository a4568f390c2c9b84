"""The film strip: the chosen images and the samples as thumbnails, and the ways to add an image.

The chosen images are query parameters, except uploads, and survive a visit to another page.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.shared.cache import InputImage
from dashboard.shared.datasets import data_image
from dashboard.shared.model_names import MAX_IMAGES, sample_images, sample_label, unique
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.samples import first_samples, sample_groups, sample_image
from dashboard.shared.shared_uploads import is_shared, take_shared
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import Upload, accept_drops, choose_uploads, kept_uploads, remove_upload, upload_image
from dashboard.shared.url_state import set_url_list, unknown_values, url_list
from swin_core.comparisons.compare import center_square
from swin_core.errors import SwinError
from swin_core.figures.text import shorten
from swin_core.images.data_uri import image_uri
from swin_core.images.read import read_image
from swin_core.system.cache import LRUCache

SHOW_IMAGES_KEY = "show_pictures"
"""Query parameter of links to this page: names of images that replace those in the tray."""
THUMBNAIL_PIXELS = 96
"""Side of a thumbnail's file; it is drawn at `SIDE` CSS pixels."""
SIDE = 60
NAME_COLUMNS = 12
_OLDER_KEY = re.compile("sample[2-9]")

_thumbnails: LRUCache[str] = LRUCache(256)

STYLE = f"""<style>
.st-key-film {{ flex-wrap: nowrap; overflow-x: auto; scrollbar-width: thin; padding-bottom: 2px; }}
.st-key-film > * {{ flex: none; width: auto; }}
.st-key-film [class*="st-key-thumb_"] button {{
  width: {SIDE}px; height: {SIDE}px; min-height: 0; padding: 0; overflow: hidden; align-items: flex-end;
  background-size: cover; background-position: center; border: 2px solid transparent; border-radius: 6px;
}}
.st-key-film [class*="st-key-thumb_on_"] button {{ border-color: var(--st-primary-color, #0069a6); }}
.st-key-film [class*="st-key-thumb_off_"] button {{ opacity: 0.72; }}
.st-key-film [class*="st-key-thumb_off_"] button:is(:hover, :focus-visible) {{ opacity: 1; }}
.st-key-film [class*="st-key-thumb_"] button > * {{
  width: 100%; justify-content: center; background: rgba(0, 0, 0, 0.62); color: #fff; padding: 1px 2px;
}}
.st-key-film [class*="st-key-thumb_"] button * {{ color: #fff; font-size: 11px; line-height: 13px; }}
.st-key-film [class*="st-key-thumb_"] button p {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.st-key-film [class*="st-key-group_"] {{ flex-wrap: nowrap; }}
</style>"""


def choose_images(labels: Sequence[str] = ()) -> tuple[list[InputImage], list[str]]:
    """Draw the film strip; return the chosen images, uploads first, and a line for each that cannot be shown.

    Args:
        labels: classes to choose from where the true class of an upload is set.
    """
    st.html(STYLE + _sample_style(tuple(sample_images().items())))
    _take_from_link()
    take_shared(_remove_first_samples)
    accept_drops(_remove_first_samples)
    chosen = chosen_samples()
    images: list[InputImage] = []
    faults: list[str] = []
    with st.container(horizontal=True, gap="xsmall", key="film", vertical_alignment="bottom"):
        with st.popover("Add images", icon=":material/add_photo_alternate:", key="add_images"):
            choose_uploads(_remove_first_samples)
            _add_by_name()
        for upload in list(kept_uploads()):
            title = _new_title(upload.name, images)
            try:
                image = upload_image(upload)
            except SwinError as error:
                faults.append(f"{upload.name}: {error}")
                continue
            finally:
                _show_upload(upload, labels)
            images.append(replace(image, title=title, truth=truth_of(upload)))
        for name in chosen:
            image = sample_image(name)
            images.append(replace(image, title=_new_title(image.title, images)))
        for number, name in enumerate(tray()):
            try:
                image = data_image(name)
            except SwinError as error:
                faults.append(str(error))
                _show_button(f"on_tray_{number}", name, f"Remove {name}", _drop_from_tray, name)
                continue
            images.append(replace(image, title=_new_title(image.title, images)))
            st.html(f"<style>{_style(_thumbnail(image.square), f'on_tray_{number}')}</style>")
            _show_button(f"on_tray_{number}", image.title, f"Remove {name}", _drop_from_tray, name)
        for number, (title, names) in enumerate(sample_groups().items()):
            with st.container(gap=None, key=f"samples_{number}"):
                st.caption(escape_markdown(title))
                with st.container(horizontal=True, gap="xsmall", key=f"group_{number}"):
                    for name in names:
                        state, verb = ("on", "Remove") if name in chosen else ("off", "Show")
                        words = sample_label(name)
                        _show_button(f"{state}_{name}", words, f"{verb} {words}", _toggle_sample, name)
    show_notice("images")
    return images[:MAX_IMAGES], faults + _left_out(len(images))


def can_show(images: Sequence[InputImage], models: Sequence[str], faults: Sequence[str]) -> bool:
    """Draw the faults of the images; return whether there is an image and a model, or say which is missing."""
    for fault in faults:
        st.error(escape_markdown(fault), icon=":material/error:")
    if images and models:
        return True
    missing = "a model" if images else "an image"
    st.info(f"Choose {missing} above.", icon=":material/arrow_upward:")
    return False


def chosen_samples() -> list[str]:
    """Return the names of the chosen samples. Old links spread them over the parameters of their groups."""
    known = sample_images()
    further = [name for key in _sample_keys()[1:] for name in st.query_params.get_all(key) if name in known]
    chosen = url_list("sample", first_samples(), known)
    for key in _sample_keys()[1:]:
        st.query_params.pop(key, None)
    if further:
        set_url_list("sample", unique([chosen, further]))
        chosen = url_list("sample", first_samples(), known)
    return chosen


def unknown_samples() -> list[str]:
    """Return a warning for each query parameter that names a sample that there is not; see `unknown_values`."""
    return [line for key in _sample_keys() for line in unknown_values(key, list(sample_images()))]


def _sample_keys() -> list[str]:
    """Return "sample", and what the URL has of older links: "sample2" and so on, one for each group of samples."""
    return ["sample", *filter(_OLDER_KEY.fullmatch, st.query_params)]


def tray() -> list[str]:
    """Return the names of the chosen images of data sets, such as `cifar100/test/1234`, not yet checked."""
    return url_list("picked", [])


def set_tray(names: Sequence[str]) -> None:
    """Replace the chosen images of data sets."""
    set_url_list("picked", list(names))
    if names:
        _remove_first_samples()


def _toggle_sample(name: str) -> None:
    chosen = chosen_samples()
    set_url_list("sample", [kept for kept in chosen if kept != name] if name in chosen else [*chosen, name])


def _drop_from_tray(name: str) -> None:
    set_tray([kept for kept in tray() if kept != name])


def _remove_first_samples() -> None:
    if chosen_samples() == first_samples():
        set_url_list("sample", [])


def _take_from_link() -> None:
    """Put the images that a link asks for into the tray.

    The query parameter has a name of its own, so that such a link replaces the tray and others keep it.
    """
    names = unique([st.query_params.get_all(SHOW_IMAGES_KEY)])
    if names:
        set_notice("images", " ".join(_left_out(len(names))))
        set_tray(names[:MAX_IMAGES])
        del st.query_params[SHOW_IMAGES_KEY]


def _left_out(count: int) -> list[str]:
    """Return a warning if there are more images than one grid holds."""
    if count <= MAX_IMAGES:
        return []
    return [f"One grid holds {MAX_IMAGES} images; the last {count - MAX_IMAGES} are left out."]


def _new_title(name: str, images: list[InputImage]) -> str:
    """Return a file's name, with a number if another image has the same."""
    count = sum(image.title == name or image.title.startswith(f"{name} (") for image in images)
    return f"{name} ({count + 1})" if count else name


def _show_button(key: str, label: str, help_text: str, act: Callable[[str], None], name: str) -> None:
    """Draw the button of an image, which calls `act(name)`; `_style` gives it the image."""
    st.button(
        escape_markdown(shorten(label, NAME_COLUMNS)),
        help=escape_markdown(help_text),
        key=f"thumb_{key}",
        on_click=act,
        args=(name,),
    )


def _style(uri: str, *keys: str) -> str:
    """Return the rule that gives an image to buttons."""
    buttons = ", ".join(f".st-key-thumb_{key} button" for key in keys)
    return f"{buttons} {{ background-image: url({uri}); }}"


@lru_cache(maxsize=4)
def _sample_style(samples: tuple[tuple[str, Path], ...]) -> str:
    """Return the images of all samples, given by name, as one element: each element of a page costs time."""
    rules = [_style(_thumbnail(center_square(read_image(file))), f"on_{name}", f"off_{name}") for name, file in samples]
    return f"<style>{''.join(rules)}</style>"


def _thumbnail(square: np.ndarray) -> str:
    """Return an image's central square as a small data URI."""
    small = Image.fromarray(square)
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return image_uri(small)


def _show_upload(upload: Upload, labels: Sequence[str]) -> None:
    """Draw an upload as a thumbnail that opens what can be done with it."""
    key = upload.digest[:12]
    with st.container(key=f"thumb_on_{key}", width="content"):
        if uri := _upload_thumbnail(upload):
            st.html(f"<style>{_style(uri, f'on_{key}')}</style>")
        with st.popover(escape_markdown(shorten(upload.name, NAME_COLUMNS)), key=f"upload_{key}"):
            st.markdown(f"**{escape_markdown(upload.name)}**")
            st.selectbox(
                "What does it show?",
                unique([labels]),
                index=None,
                placeholder="Not known",
                accept_new_options=True,
                help="Captions then say whether a model is right.",
                key=f"truth_{key}",
                on_change=_set_truth,
                args=(upload,),
            )
            where = ", and on this machine for a day" if is_shared(upload) else ""
            st.caption(f"The image is kept in memory until this tab is closed{where}.")
            st.button(
                "Remove", icon=":material/close:", key=f"remove_{upload.digest}", on_click=remove_upload, args=(upload,)
            )


def _upload_thumbnail(upload: Upload) -> str:
    def make() -> str:
        try:
            return _thumbnail(upload_image(upload).square)
        except SwinError:  # the page says why
            return ""

    return _thumbnails.get(upload.digest, make)


def truth_of(upload: Upload) -> str:
    """Return the class that the user set for an upload, or an empty text."""
    return str(st.session_state.get("truths", {}).get(upload.digest, ""))


def _set_truth(upload: Upload) -> None:
    st.session_state.setdefault("truths", {})[upload.digest] = st.session_state[f"truth_{upload.digest[:12]}"] or ""


def _add_by_name() -> None:
    st.text_input(
        "From a data set",
        placeholder="cifar100/test/1234",
        help="Data set, split and index of an image; the Browse page shows them.",
        key="picked_name",
        on_change=_add_named,
    )


def _add_named() -> None:
    name = st.session_state.picked_name.strip()
    if name and name not in tray():
        set_tray([*tray(), name])
    st.session_state.picked_name = ""
