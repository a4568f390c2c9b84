"""Find the state dict in the content of a checkpoint, and undo the names that wrappers gave its keys."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from swin_core.errors import WeightsError, first_names

# Under these keys training programs save a state dict; moving averages come first, as they are what is evaluated.
_ENTRIES = (
    "state_dict_ema",
    "model_ema",
    "model_ema_state_dict",
    "ema_state_dict",
    "ema_model",
    "ema",
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "weights",
    "module",
)
_MAX_DEPTH = 8

_PREFIXES = ("module.", "model.", "net.", "backbone.", "encoder.", "_orig_mod.")
"""Names of the attribute in which a wrapper keeps the model; DistributedDataParallel, Lightning, torch.compile ..."""

# Modules beside the model that take no part in its logits: losses, metrics, teachers, moving averages.
_ASIDE = re.compile(r"(?i)loss|criterion|metric|accuracy|(^|_)acc(_|\d|$)|auroc|confmat|f1|teacher|(^|_)ema(_|$)")


class StateDict(NamedTuple):
    """A state dict inside a checkpoint."""

    tensors: dict[str, Tensor]
    """The tensors under the keys of the file."""
    entry: str
    """Where it lies in the file, such as "state_dict_ema"; empty if the file is the state dict."""
    others: tuple[str, ...]
    """Other state dicts beside it, such as "state_dict"."""

    def choice(self) -> str:
        """Return which weights were taken if there was a choice, in one line; else an empty text."""
        if not self.others:
            return ""
        others = " and ".join(repr(other) for other in self.others)
        return f"weights of {self.entry!r}; {others} can be named after a '#'"


def find_state(content: Mapping[str, Any], entry: str = "") -> StateDict:
    """Return the state dict in the content of a checkpoint.

    Args:
        content: what the file contains.
        entry: which one to take, such as "state_dict" or "model.teacher": keys of nested dictionaries, then the start
            of the keys of tensors. By default a moving average if there is one.

    Raises:
        WeightsError: there is no such entry, or what is there is no state dict.
    """
    if entry:
        return _named(content, entry)
    path: list[str] = []
    others: tuple[str, ...] = ()
    if average := _run_average(content):
        return StateDict(average, "average", ("model",))
    state: Mapping[str, Any] = content
    for _ in range(_MAX_DEPTH):  # bounded: a pickle can contain itself
        entries = [name for name in _ENTRIES if isinstance(state.get(name), Mapping) and state[name]]
        if not entries:
            break
        if len(entries) > 1 and not path:
            others = tuple(entries[1:])
        path.append(entries[0])
        state = state[entries[0]]
    if not state:
        raise WeightsError("it holds no tensors.")
    inside = [".".join([*path, key]) for key, value in state.items() if isinstance(key, str) and _is_state(value)]
    if inside:
        names = first_names([repr(name[:80]) for name in inside])
        raise WeightsError(f"its weights lie in {names}; name one after a '#', as in FILE#{inside[0][:80]}.")
    return StateDict(_tensors(state), ".".join(path), others)


def namings(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors under the keys that they may have had before they were wrapped.

    First as they are, then without the prefixes that all keys share, then without each key's own prefixes (a backbone
    beside its head), and last the same without losses, metrics and teachers.
    """
    yield from _unprefixed(dict(tensors))
    kept = {key: value for key, value in tensors.items() if not _ASIDE.search(key.split(".")[0])}
    if 0 < len(kept) < len(tensors):
        yield from _unprefixed(kept)


def _unprefixed(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    yield tensors
    # AveragedModel counts its updates beside the model.
    while len(firsts := {key.partition(".")[0] for key in tensors if key != "n_averaged"}) == 1:
        prefix = firsts.pop() + "."
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if not tensors:
            return
        yield tensors
    bare: dict[str, Tensor] = {}
    for key, value in tensors.items():
        while prefix := next((prefix for prefix in _PREFIXES if key.startswith(prefix)), ""):
            key = key.removeprefix(prefix)
        bare[key] = value
    if len(bare) == len(tensors) and bare.keys() != tensors.keys():
        yield bare


def _named(content: Mapping[str, Any], entry: str) -> StateDict:
    if entry == "average" and (average := _run_average(content)):
        return StateDict(average, entry, ())
    state: Mapping[str, Any] = content
    rest = entry
    while rest:
        keys = [key for key in state if isinstance(key, str) and (rest + ".").startswith(key + ".")]
        key = max(keys, key=len, default="")
        if not key or not isinstance(state[key], Mapping):
            break
        state, rest = state[key], rest[len(key) + 1 :]
    if rest:
        start = rest + "."
        inside = find_state(state).tensors
        tensors = {key.removeprefix(start): value for key, value in inside.items() if key.startswith(start)}
        if not tensors:
            raise WeightsError(f"it has no entry {entry[:80]!r}.")
        return StateDict(tensors, entry, ())
    return StateDict(find_state(state).tensors, entry, ())


def _run_average(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the moving average in a checkpoint of our trainer: parameters in the model's order; empty without one."""
    model, average = content.get("model"), content.get("average")
    if not ("optimizers" in content and isinstance(model, Mapping) and isinstance(average, list)):
        return {}
    return _tensors(dict(zip(model, average, strict=True))) if len(model) == len(average) else {}


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(inner, Tensor) for inner in value.values())


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            text = repr(key)
            text = text if len(text) <= 80 else text[:77] + "..."
            raise WeightsError(f"it is no state dict: {text} is {type(value).__name__}, not a tensor.")
    return dict(state)
