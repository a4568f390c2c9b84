"""Architectures of timm and torchvision: build one by name, fit weights to it, and find those that weights fit."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swin_core.errors import ModelError, WeightsError, first_names
from swin_core.weights.unwrap import namings

# timm and torchvision are imported where they are used: they take seconds, and bundled models do not need them.

TIMM, TORCHVISION = "timm/", "torchvision/"

# Tensors that a model computes when it is built, and counters that its output does not depend on.
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask", "num_batches_tracked")
_IMAGE_SIZES = (32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 320, 336, 384, 448, 512)


class Fit(NamedTuple):
    """Weights that fit an architecture."""

    tensors: dict[str, Tensor]
    """The tensors under the architecture's keys."""
    settings: dict[str, int]
    """How to build it: `num_classes`, and for timm `in_chans` and `img_size` if they are not the default."""


def build_architecture(architecture: str, **settings: Any) -> nn.Module:
    """Return a model with random weights.

    Args:
        architecture: such as "timm/resnet18" or "torchvision/swin_v2_t".
        settings: `num_classes`; for timm also `in_chans` and `img_size`.

    Raises:
        ModelError: there is no such architecture.
    """
    library, _, name = architecture.partition("/")
    if library + "/" == TIMM:
        import timm

        if not timm.is_model(name):
            raise _unknown("timm", name, timm.list_models())
        return timm.create_model(name, pretrained=False, **settings)
    if library + "/" == TORCHVISION:
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise _unknown("torchvision", name, known)
        # These two would otherwise initialise for minutes, or warn about it.
        quiet = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **quiet, **settings)
    raise ModelError(f"there is no architecture {architecture[:80]!r}; names start with {TIMM!r} or {TORCHVISION!r}.")


def fit(architecture: str, tensors: Mapping[str, Tensor]) -> Fit:
    """Return weights under an architecture's keys, with the number of classes, channels and pixels that shapes tell.

    A head of several modules with one linear layer, such as dropout and linear, is taken for that layer.

    Args:
        architecture: as in `build_architecture`.
        tensors: a state dict, possibly with prefixes of wrappers.

    Raises:
        ModelError: there is no such architecture.
        WeightsError: the weights are of another one.
    """
    standard = _shapes(architecture)
    head = _changing(architecture, num_classes=7)
    difference = ""
    for naming in namings(tensors):
        named = _with_head({key: value for key, value in naming.items() if not key.endswith(_DERIVED)}, standard, head)
        missing, unknown = standard.keys() - named.keys(), named.keys() - standard.keys()
        if not missing and not unknown:
            break
        difference = difference or (
            f"it lacks {min(missing)[:80]!r}" if missing else f"it holds {min(unknown)[:80]!r} besides"
        )
    else:
        raise WeightsError(f"it does not hold the weights of {architecture}: {difference}.")
    settings = _settings(architecture, named, head)
    wrong = _wrong_shapes(architecture, named, settings)
    # No convolution depends on the image size.
    if wrong and architecture.startswith(TIMM) and all(named[key].dim() < 4 for key in wrong):
        for size in _possible_sizes(named, standard, wrong):
            sized = settings | {"img_size": size}
            if not _wrong_shapes(architecture, named, sized):
                settings, wrong = sized, []
                break
    if wrong:
        key = wrong[0]
        raise WeightsError(
            f"it does not hold the weights of {architecture}: {key!r} has the shape {tuple(named[key].shape)}, not "
            f"{standard[key]}."
        )
    return Fit(named, settings)


def candidates(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the architectures of timm and torchvision that have the keys and shapes of weights, the head aside.

    Several may: an architecture can differ in what has no weights. They are looked up in a bundled table of the
    fingerprints of all architectures, then compared. timm's come first.
    """
    found: set[str] = set()
    for naming in namings(tensors):
        shapes = {key: tuple(value.shape) for key, value in naming.items() if not key.endswith(_DERIVED)}
        keys = _keys_fingerprint(shapes)
        found |= {
            name
            for name, (its_keys, its_shapes, variable) in _fingerprints().items()
            if its_keys == keys and its_shapes == _shapes_fingerprint(shapes, variable)
        }
    resized: dict[str, bool] = {}
    for architecture in found:
        try:
            resized[architecture] = "img_size" in fit(architecture, tensors).settings
        except (WeightsError, ModelError):
            continue
    # A name that says the image size of the weights comes before one of the same model for another size.
    fitting = [name for name, is_resized in resized.items() if not is_resized] or list(resized)
    # torchvision's models that timm has under the same name compute the same.
    fitting = [
        name for name in fitting if not (name.startswith(TORCHVISION) and TIMM + name.partition("/")[2] in fitting)
    ]
    return sorted(fitting, key=lambda name: (name.startswith(TORCHVISION), len(name), name))


def fingerprint(architecture: str) -> tuple[str, str, list[str]]:
    """Return hashes of an architecture's keys and shapes, and the starts of the keys whose shape may vary.

    `scripts/index_architectures.py` writes those of all architectures into the table that `candidates` reads.
    """
    model = _skeleton(architecture)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.endswith(_DERIVED)}
    config = getattr(model, "pretrained_cfg", None) or {}
    variable: list[str] = []
    for field in ("classifier", "first_conv"):
        names = config.get(field) or ()
        variable += [names] if isinstance(names, str) else list(names)
    if not config:
        variable = [key.rpartition(".")[0] for key, shape in shapes.items() if shape[:1] == (1000,)]
    variable = sorted({name for name in variable if any(key.startswith(name + ".") for key in shapes)})
    return _keys_fingerprint(shapes), _shapes_fingerprint(shapes, variable), variable


def several(names: Iterable[str]) -> str:
    """Return a message for weights that fit several architectures."""
    names = list(names)
    return f"its weights fit {len(names)} architectures: {first_names(names)}"


def _unknown(library: str, name: str, known: list[str]) -> ModelError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {library}/{close[0]}?" if close else f"{library}'s list_models() lists them."
    return ModelError(f"{library} has no model {name[:80]!r}; {hint}")


def _skeleton(architecture: str, **settings: int) -> nn.Module:
    """Return a model without memory for its weights, if it can be built so."""
    try:
        with torch.device("meta"):
            return build_architecture(architecture, **settings)
    except (RuntimeError, NotImplementedError):  # it computes with tensors while it is built
        return build_architecture(architecture, **settings)


@lru_cache(maxsize=1024)
def _shapes(architecture: str, **settings: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an architecture's tensors by key."""
    model = _skeleton(architecture, **settings)
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.endswith(_DERIVED)}


def _changing(architecture: str, **settings: int) -> list[str]:
    """Return the keys of the tensors whose shape depends on a setting."""
    standard, other = _shapes(architecture), _shapes(architecture, **settings)
    return [key for key, shape in standard.items() if other.get(key) != shape]


def _settings(architecture: str, named: Mapping[str, Tensor], head: list[str]) -> dict[str, int]:
    if not head:
        raise WeightsError(f"{architecture} has no classification head.")
    settings = {"num_classes": named[head[0]].shape[0] if named[head[0]].dim() else 0}
    if architecture.startswith(TIMM):
        wide = _shapes(architecture)
        first = [key for key in _changing_channels(architecture) if named[key].dim() == len(wide[key]) > 1]
        if first and named[first[0]].shape[1] != wide[first[0]][1]:
            settings["in_chans"] = named[first[0]].shape[1]
    return settings


def _changing_channels(architecture: str) -> list[str]:
    try:
        return _changing(architecture, in_chans=5)
    except Exception:  # an architecture that takes three channels only
        return []


def _wrong_shapes(architecture: str, named: Mapping[str, Tensor], settings: dict[str, int]) -> list[str]:
    try:
        expected = _shapes(architecture, **settings)
    except Exception:  # a setting that the architecture does not take
        return list(named)[:1]
    return [key for key, value in named.items() if expected.get(key) != tuple(value.shape)]


def _possible_sizes(
    named: Mapping[str, Tensor], standard: Mapping[str, tuple[int, ...]], wrong: list[str]
) -> list[int]:
    """Return image sizes that may explain shapes: from a position embedding if there is one, else common ones."""
    key = next((key for key in wrong if key.endswith("pos_embed") and named[key].dim() == 3), "")
    if not key:
        return list(_IMAGE_SIZES)
    sides = []
    for prefix in (0, 1, 2, 5):  # class, distillation and register tokens
        old, new = isqrt(standard[key][1] - prefix), isqrt(max(0, named[key].shape[1] - prefix))
        if old**2 == standard[key][1] - prefix and new**2 == named[key].shape[1] - prefix:
            sides.append(new)
    return [side * patch for side in sides for patch in (16, 14, 32, 8, 4, 2)]


def _with_head(named: dict[str, Tensor], standard: Mapping[str, tuple[int, ...]], head: list[str]) -> dict[str, Tensor]:
    """Rename a single linear layer inside a module that stands in place of the head."""
    missing = [key for key in head if key not in named]
    weights = [key for key in missing if key.endswith("weight")]
    if len(weights) != 1 or set(missing) - {weights[0], weights[0].removesuffix("weight") + "bias"}:
        return named
    layer = weights[0].removesuffix("weight")
    start = layer.partition(".")[0] + "."
    other = {key: value for key, value in named.items() if key not in standard and key.startswith(start)}
    inner = [key for key in other if key.endswith("weight")]
    if len(inner) != 1 or set(other) - {inner[0], inner[0].removesuffix("weight") + "bias"}:
        return named
    rest = {key: value for key, value in named.items() if key not in other}
    return rest | {layer + key.rpartition(".")[2]: value for key, value in other.items()}


@lru_cache(maxsize=1)
def _fingerprints() -> dict[str, tuple[str, str, list[str]]]:
    table = json.loads((files("swin_core") / "zoo" / "architectures.json").read_text())
    return {name: (keys, shapes, variable) for name, (keys, shapes, variable) in table.items()}


def _keys_fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return hashlib.sha256("\n".join(sorted(shapes)).encode()).hexdigest()[:12]


def _shapes_fingerprint(shapes: Mapping[str, tuple[int, ...]], variable: Iterable[str]) -> str:
    """Return a hash of the shapes that depend on neither classes, channels nor image size."""
    starts = tuple(f"{name}." for name in variable)
    fixed = sorted((key, shape) for key, shape in shapes.items() if not key.startswith(starts) and "pos" not in key)
    return hashlib.sha256(repr(fixed).encode()).hexdigest()[:12]
