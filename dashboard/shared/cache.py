"""Models, images, explanations and drawings, held once for all sessions, each kind up to a count.

Streamlit's own resource cache cannot tell whether something is held without computing it; the page has to
know, so that it can say what it waits for.
"""

import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from PIL import Image

import swin_core
from dashboard.shared.model_names import model_source, weights_state
from swin_core.attribution.defaults import default_method
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.attribution.stages import explain_stages, has_stages, strip_layers
from swin_core.comparisons.compare import center_square
from swin_core.errors import ModelError, SwinError
from swin_core.figures.grid import Grid
from swin_core.figures.plotly_grid import page_layout, plotly_figure
from swin_core.system.cache import LRUCache

__all__ = [
    "FUSED",
    "STAGES",
    "InputImage",
    "Request",
    "cached_figure",
    "classifier",
    "explanation",
    "is_settled",
    "loaded_classifier",
    "page_figure",
    "read_input_image",
    "refusal",
    "stages",
]

STAGES = "*stages"
"""In place of a layer's name, which holds no star: one map for each stage."""
FUSED = {"*mean": "mean", "*max": "max"}
"""In place of a layer's name: the maps of the stages as one, by their mean or their greatest value."""
REFUSED_SECONDS = 60
"""How long a model that could not be loaded is not tried again: without a network a download takes long."""
_asking = ThreadPoolExecutor(1, thread_name_prefix="explanations")
"""The one thread that explains. OpenMP keeps threads for each thread that computes; where they outnumber the cores they
sleep between two steps instead of waiting awake, and explanations by many threads in turn took a quarter longer."""


@dataclass(frozen=True)
class InputImage:
    """An image of the page."""

    key: Hashable
    """Equal for equal images, so that explanations can be found again."""
    title: str
    image: Image.Image
    shown: np.ndarray
    """The square in its middle, `(s, s, 3)` uint8."""
    truth: str = ""
    """What it shows, if that is known."""


@dataclass(frozen=True)
class Request:
    """Which explanation is asked for."""

    model: str
    picture: InputImage
    targets: tuple[int, ...] | None
    """Class indices, or None for the model's own first choice."""
    method: str | None
    """None for the best one measured for the model."""
    layer: str | None
    """A layer's name, `STAGES`, a key of `FUSED`, or None for the model's default."""
    against: int | str | None = None
    """A class by its index, or "runner-up", to explain the targets rather than that; or None."""

    @property
    def key(self) -> Hashable:
        """What the result depends on, for one state of the model's weights."""
        return self.model, self.picture.key, self.targets, self.method, self.layer, self.against


@dataclass(frozen=True)
class _Refusal:
    message: str
    since: float


# Four columns, and two models that were there a moment ago.
_classifiers: LRUCache[swin_core.Classifier] = LRUCache(6)
_refusals: LRUCache[_Refusal] = LRUCache(64)
_images: LRUCache[InputImage] = LRUCache(16)
_explanations: LRUCache[Explanation | _Refusal] = LRUCache(128)
_drawings: LRUCache[go.Figure] = LRUCache(16)
_stages: "weakref.WeakKeyDictionary[swin_core.Classifier, dict[str, tuple[str, ...]]]" = weakref.WeakKeyDictionary()
"""The stages' layers by model and method: to find them costs a forward pass."""


def read_input_image(key: Hashable, title: str, truth: str, read: Callable[[], Image.Image]) -> InputImage:
    """The image of the key, decoded once.

    Raises:
        ImageError: `read` says so.
    """

    def make() -> InputImage:
        image = read()
        return InputImage(key, title, image, center_square(image), truth)

    return _images.get(key, make)


def loaded_classifier(name: str) -> swin_core.Classifier | None:
    """The model of that name if it is loaded with the weights that it has now; never waits."""
    return _classifiers.peek((name, weights_state(name)))


def refusal(name: str) -> str:
    """Why the model could not be loaded a moment ago, or an empty string."""
    refused = _refusals.peek((name, weights_state(name)))
    return refused.message if refused and time.monotonic() - refused.since < REFUSED_SECONDS else ""


def classifier(name: str) -> swin_core.Classifier:
    """The model of that name, loaded once for each state of its weights.

    Raises:
        SwinError: it cannot be loaded.
    """
    return _classifier(name, weights_state(name))


def _classifier(name: str, weights: Hashable) -> swin_core.Classifier:
    # Weights that are replaced in this moment are loaded under the older state, and loaded again when that is seen.
    return _classifiers.get((name, weights), lambda: _load(name, weights))


def _load(name: str, weights: Hashable) -> swin_core.Classifier:
    if refusal(name):
        raise ModelError(refusal(name))
    try:
        # In a thread that ends: the thread that asks may be kept for other requests, with OpenMP's beside it.
        with ThreadPoolExecutor(1) as loading:
            loaded = loading.submit(swin_core.load, model_source(name)).result()
    except SwinError as error:
        _refusals.put((name, weights), _Refusal(str(error), time.monotonic()))
        raise

    def outdated(key: Hashable) -> bool:
        # Keys of both caches start with the model's name and the state of its weights.
        return isinstance(key, tuple) and key[0] == name and key[1] != weights

    _classifiers.drop(outdated)
    _explanations.drop(outdated)
    return loaded


def stages(name: str, method: str | None) -> tuple[str, ...]:
    """The layers at which the stages of a model are explained; none of a model that is not loaded or has none."""
    model = loaded_classifier(name)
    if model is None:
        return ()
    method = method or default_method(model, at_layer=True)
    if not has_stages(method):
        return ()
    known = _stages.setdefault(model, {})
    if method not in known:
        try:
            known[method] = strip_layers(model, method)
        except SwinError:
            known[method] = ()
    return known[method]


def is_settled(request: Request) -> bool:
    """Whether the explanation, or the reason why there is none, can be had without waiting."""
    return _explanations.peek((request.model, weights_state(request.model), request.key)) is not None


def explanation(request: Request) -> Explanation:
    """The explanation that is asked for, computed once for each state of the model's weights.

    Raises:
        SwinError: the model cannot be loaded, or cannot explain this.
    """
    weights = weights_state(request.model)
    model = _classifier(request.model, weights)
    outcome = _explanations.get(
        (request.model, weights, request.key), lambda: _asking.submit(_explain, model, request).result()
    )
    if isinstance(outcome, _Refusal):
        raise SwinError(outcome.message)
    return outcome


def _explain(model: swin_core.Classifier, request: Request) -> Explanation | _Refusal:
    image, targets, method, against = request.picture.image, request.targets, request.method, request.against
    layer = request.layer if method is None or _takes(method, request.layer) else None
    try:
        if layer == STAGES:
            return explain_stages(model, image, targets, method, against=against)
        layers = list(stage_layers(model)) if layer in FUSED else None if layer is None else [layer]
        fuse = None if layer is None else FUSED.get(layer)
        return swin_core.explain(model, image, targets, method=method, layers=layers, against=against, fuse=fuse)
    except SwinError as error:
        return _Refusal(str(error), time.monotonic())


def _takes(method: str, layer: str | None) -> bool:
    """Whether a method knows what is chosen as its layer, which may have been chosen for the method before it."""
    facts = METHOD_FACTS[method]
    return facts.kind == "layer" or layer == STAGES or (facts.staged and layer not in FUSED)


def cached_figure(key: Hashable, grid: Grid) -> go.Figure:
    """The Plotly figure of a grid, drawn once; the key says what is in the grid and how it looks."""
    return _drawings.get(key, lambda: page_figure(grid))


def page_figure(grid: Grid) -> go.Figure:
    """The Plotly figure of a grid for a place that gives it its height; its own is the least that a page needs."""
    room = page_layout(grid)
    return plotly_figure(grid).update_layout(height=round(room.height(room.least_width)))
