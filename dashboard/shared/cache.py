"""Models, images and explanations, cached for all sessions of the server.

Streamlit's resource cache cannot tell whether a value is cached without computing it. The page needs to know, so that
it can show what it waits for.
"""

import math
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

import swin_core
from dashboard.shared.model_names import model_source, weights_state
from swin_core.attribution.defaults import default_method
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.methods import METHODS
from swin_core.attribution.stages import explain_stages, has_stages, strip_layers
from swin_core.attribution.what_if import Edit
from swin_core.comparisons.compare import center_square
from swin_core.errors import ModelError, SwinError
from swin_core.images.budget import decoding
from swin_core.system.cache import LRUCache

STAGES = "*stages"
"""Value of `Request.layer` for one map per stage; names of layers contain no star."""
FUSED = {"*mean": "mean", "*max": "max"}
"""Values of `Request.layer` for one map fused from those of all stages, by their mean or maximum."""
DEPTHS = {"*early": "early", "*middle": "middle", "*late": "late"}
"""Values of `Request.layer` for the first stage of a model, one in the middle, and the last."""
RETRY_SECONDS = 60
"""A model that failed to load is not loaded again before: without a network, each attempt takes long."""
SHORTER_SIDE = 512
"""Large photos are reduced to a shorter side of 2 to 4 times this, more than any model or cell shows."""
_MOST_PIXELS = 8_000_000
"""Of an image that is kept, so that all images of a visitor fit in the cache."""

# A single thread computes all explanations: OpenMP keeps a pool for each thread that computes, and explanations by
# many threads in turn took a quarter longer.
_explaining = ThreadPoolExecutor(1, thread_name_prefix="explanations")


@dataclass(frozen=True)
class InputImage:
    """An image that the page explains."""

    key: Hashable
    """Identifies the content in the caches."""
    title: str
    pil: Image.Image
    square: np.ndarray
    """Central square, `(s, s, 3)` uint8."""
    truth: str = ""
    """True class, if known."""
    original: "InputImage | None" = None
    """The image before a region was replaced, if one was."""
    edit: Edit | None = None
    """What was replaced."""

    @property
    def source(self) -> "InputImage":
        """The image without its edit."""
        return self.original or self


@dataclass(frozen=True)
class Request:
    """Arguments of an explanation."""

    model: str
    image: InputImage
    targets: tuple[int, ...] | None
    """Class indices, or None for the model's top-1 class."""
    method: str | None
    """None for the method that was measured to be best for the model."""
    layer: str | None
    """A layer's name, `STAGES`, a key of `FUSED` or `DEPTHS`, or None for the model's default."""
    against: int | str | tuple[int, ...] | None = None
    """Contrast class: a class index, "runner-up", one index for each target, or None. An index is left out where it is
    the only target, since a page has one contrast class for rows of several classes."""

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Cache key; starts with the model's name and the state of its weights."""
        state = weights_state(self.model)
        return self.model, state, self.image.key, self.targets, self.method, self.layer, self.against


@dataclass(frozen=True)
class _Failure:
    message: str
    time: float


# Models: four columns and two that were shown a moment ago.
_classifiers: LRUCache[swin_core.Classifier] = LRUCache(6)
_failures: LRUCache[_Failure] = LRUCache(64)
_images: LRUCache[InputImage] = LRUCache(16, 256 * 2**20)
_explanations: LRUCache[Explanation | _Failure] = LRUCache(128, 128 * 2**20)
_stages: LRUCache[tuple[str, ...]] = LRUCache(64)
# What models see of an image: most of an explanation, and the same in many.
_crops: LRUCache[np.ndarray] = LRUCache(64)


def read_input_image(key: Hashable, title: str, truth: str, read: Callable[[], Image.Image]) -> InputImage:
    """Return the image of a key, reduced if it is large; call `read` unless it is cached.

    Raises:
        ImageError: from `read`.
    """

    def make() -> InputImage:
        with decoding.keep():  # until the large image is gone
            image = _reduced(read())
        return InputImage(key, title, image, center_square(image), truth)

    return _images.get(key, make)


def _reduced(image: Image.Image) -> Image.Image:
    """Return an image of at most `_MOST_PIXELS`, whose shorter side is below four times `SHORTER_SIDE`."""
    by_side = min(image.size) // (2 * SHORTER_SIDE)
    by_area = math.ceil(math.sqrt(image.width * image.height / _MOST_PIXELS))
    factor = max(by_side, by_area)
    return image.reduce(factor) if factor > 1 else image


def edited(image: InputImage, edit: Edit) -> InputImage:
    """Return an image with a region replaced, made once.

    Raises:
        ConfigError: from `Edit.apply`.
    """

    def make() -> InputImage:
        pil = edit.apply(image.pil)
        return replace(image, key=(image.key, edit), pil=pil, square=center_square(pil), edit=edit)

    changed = _images.get((image.key, edit), lambda: _explaining.submit(make).result())
    return replace(changed, title=image.title, truth=image.truth, original=image)


def loaded_classifier(name: str) -> swin_core.Classifier | None:
    """Return a model if it is loaded with its current weights; never wait."""
    return _classifiers.peek((name, weights_state(name)))


def load_failure(name: str) -> str:
    """Return why the model failed to load within the last `RETRY_SECONDS`, or an empty string."""
    failure = _failures.peek((name, weights_state(name)))
    return failure.message if failure and time.monotonic() - failure.time < RETRY_SECONDS else ""


def classifier(name: str) -> swin_core.Classifier:
    """Return a model, loaded once for each state of its weights.

    Raises:
        SwinError: it cannot be loaded.
    """
    # Weights that are replaced while they load are cached under the older state, and loaded again at the next call.
    state = weights_state(name)
    return _classifiers.get((name, state), lambda: _load(name, state))


def _load(name: str, state: Hashable) -> swin_core.Classifier:
    if failure := load_failure(name):
        raise ModelError(failure)
    try:
        # In a thread that ends, since the calling thread may be reused and would keep OpenMP's pool.
        with ThreadPoolExecutor(1) as loading:
            loaded = loading.submit(swin_core.load, model_source(name)).result()
    except SwinError as error:
        _failures.put((name, state), _Failure(str(error), time.monotonic()))
        raise
    for cache in (_classifiers, _explanations, _stages):
        cache.drop(lambda key: isinstance(key, tuple) and key[0] == name and key[1] != state)
    return loaded


def stages(name: str, method: str | None) -> tuple[str, ...]:
    """Return the layers at which a method explains a model's stages; empty if it is not loaded or has none."""
    model = loaded_classifier(name)
    if model is None:
        return ()
    method = method or default_method(model, at_layer=True)
    if not has_stages(method):
        return ()

    def find() -> tuple[str, ...]:
        try:
            return strip_layers(model, method)  # a forward pass
        except SwinError:
            return ()

    return _stages.get((name, weights_state(name), method), find)


def is_explained(request: Request) -> bool:
    """Return whether the explanation, or the reason why there is none, is cached."""
    return _explanations.peek(request.key) is not None


def probabilities(model: str, image: InputImage) -> np.ndarray:
    """Return the probabilities of a model's classes, `(classes,)`, from a forward pass alone.

    Raises:
        SwinError: the model cannot be loaded, or takes no such image.
    """
    loaded = classifier(model)
    return _explaining.submit(loaded.predict, [image.pil]).result()[0]


def explanation(request: Request) -> Explanation:
    """Return an explanation, computed once for each state of the model's weights.

    Raises:
        SwinError: the model cannot be loaded, or the request cannot be explained.
    """
    key = request.key  # before the model: weights that are replaced meanwhile are then explained again
    model = classifier(request.model)

    def make() -> Explanation | _Failure:
        made = _explaining.submit(_explain, model, request).result()
        if isinstance(made, _Failure):
            return made
        return replace(made, image=_crops.get((request.image.key, made.region), lambda: made.image))

    result = _explanations.get(key, make)
    if isinstance(result, _Failure):
        raise SwinError(result.message)
    return result


def _explain(model: swin_core.Classifier, request: Request) -> Explanation | _Failure:
    image, targets, method, against = request.image.pil, request.targets, request.method, request.against
    layer = request.layer
    if method is not None and METHODS[method].kind != "layer" and layer != STAGES:
        # The layer may have been chosen for another method, before this one was.
        layer = layer if METHODS[method].staged and layer not in (*FUSED, *DEPTHS) else None
    try:
        if isinstance(against, int) and against in (targets or [model.predict([image])[0].argmax()]):
            against = None
        if layer == STAGES:
            return explain_stages(model, image, targets, method, against=against)
        layers = None if layer is None else [layer]
        if layer in FUSED:
            layers = list(stage_layers(model))
        elif layer in DEPTHS:
            layers = [layer_at_depth(model, layer)]
        fuse = None if layer is None else FUSED.get(layer)
        return swin_core.explain(model, image, targets, method=method, layers=layers, against=against, fuse=fuse)
    except SwinError as error:
        return _Failure(str(error), time.monotonic())


def layer_at_depth(model: swin_core.Classifier, depth: str) -> str:
    """Return the layer of a model that a key of `DEPTHS` stands for.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    layers = stage_layers(model)
    return layers[(0, len(layers) // 2, -1)[list(DEPTHS).index(depth)]]
