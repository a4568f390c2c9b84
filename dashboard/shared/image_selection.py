"""A selection of images, made on the map of Browse or by another page; Browse shows it alone, for the session."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

_KEY = "image_selection"


@dataclass(frozen=True)
class ImageSelection:
    """Some images of a data set."""

    title: str
    """What they are, as the rest of "Only the images of": "finding 1"."""
    names: frozenset[str]
    """Names such as `cifar100/test/1234`."""


def open_on_browse(title: str, data_set_title: str, split: str, names: Sequence[str]) -> None:
    """Open Browse with some images of a split; ends this run of the page.

    Args:
        title: what they are.
        data_set_title: title of the data set, as Browse lists it.
        split: the split that they are of.
        names: names of the images.
    """
    st.session_state[_KEY] = ImageSelection(title, frozenset(names))
    st.switch_page("views/browse.py", query_params={"data": data_set_title, "split": split})


def select_images(title: str, names: Sequence[str]) -> None:
    """Select some images in place of those before; without a name all images are shown.

    Args:
        title: what they are.
        names: names of the images.
    """
    st.session_state[_KEY] = ImageSelection(title, frozenset(names))
    if not names:
        forget_selection()


def image_selection() -> ImageSelection | None:
    """Return the selection that is shown; None for all images."""
    return st.session_state.get(_KEY)


def forget_selection() -> None:
    """Show all images again."""
    st.session_state.pop(_KEY, None)
