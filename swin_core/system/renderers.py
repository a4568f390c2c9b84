"""How notebooks draw objects: figures know what they draw, and what is drawn does not know its figures."""

from collections.abc import Callable
from typing import Any

RENDERERS: dict[str, Callable[[Any], str]] = {}
"""The function that returns an object's HTML, by the name of its class; `swin_core/__init__.py` enters them."""
