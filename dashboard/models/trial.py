"""The model of the form, recognised and loaded with facts that are not saved yet."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import streamlit as st

import swin_core
from dashboard.shared.model_names import model_source, weights_state
from swin_core.system.cache import LRUCache
from swin_core.zoo.load import split_architecture
from swin_core.zoo.model_card import make_card
from swin_core.zoo.recognise import Recognition, recognise

_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")

_recognitions: LRUCache[Recognition] = LRUCache(1)  # it may hold the weights
_classifiers: LRUCache[swin_core.Classifier] = LRUCache(2)


def is_local() -> bool:
    """Return whether only this machine can open the page: the server listens there and no proxy stands before it.

    Uploads and model cards are written to the server's disk, so visitors from elsewhere may not make them.
    """
    headers = {name.lower(): value for name, value in st.context.headers.items()}
    forwarded = any(name == "forwarded" or name.startswith("x-forwarded") for name in headers)
    listens_here = st.get_option("server.address") in ("localhost", "127.0.0.1", "::1")
    return listens_here and not forwarded and bool(_LOOPBACK.fullmatch(headers.get("host", "localhost")))


def weights_path(name: str) -> Path:
    """Return the weights file or folder of a model's name.

    Raises:
        ModelError: there is no such file, or the name leads elsewhere; see `model_source`.
    """
    source = model_source(name)
    return Path(split_architecture(source)[1] or source)


def recognised(name: str, facts: Mapping[str, Any]) -> Recognition:
    """Return what the weights of a name are, with the facts of a card that is not saved yet.

    Raises:
        SwinError: they are no weights, or the facts contradict them.
    """
    path = weights_path(name)
    key = name, weights_state(name), repr(facts)
    return _recognitions.get(key, lambda: recognise(path, card=make_card(facts) if facts else None))


def loaded(name: str, facts: Mapping[str, Any]) -> swin_core.Classifier:
    """Return the classifier of a name with the facts of a card that is not saved yet.

    Raises:
        SwinError: it cannot be loaded.
    """
    path = weights_path(name)

    def load() -> swin_core.Classifier:
        # In a thread that ends, since the calling thread may be reused and would keep OpenMP's pool.
        with ThreadPoolExecutor(1) as loading:
            return loading.submit(swin_core.load, path, card=make_card(facts) if facts else None).result()

    return _classifiers.get((name, weights_state(name), repr(facts)), load)
