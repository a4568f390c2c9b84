"""Pretrained models of timm, from the local caches or the network."""

import difflib
import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import torch
from torch import nn

from swin_core.errors import ModelError
from swin_core.zoo.classifier import no_head

# timm is imported where it is used: it doubles the time to import this package, and bundled models do not need it.

PREFIX = "timm/"
"""Start of the names of timm's models, as in "timm/resnet50"."""

_TIMEOUT = 5.0  # seconds


def create(name: str) -> nn.Module:
    """Return a timm model with its pretrained weights, downloading them if no cache has them.

    Args:
        name: timm's name without the prefix, with or without a tag.

    Raises:
        ModelError: an unknown model, or weights that cannot be downloaded or read.
    """
    import timm

    config = pretrained_config(name)
    cached = _cached_weights(config)
    if cached is None and not _can_fetch(config):
        raise ModelError(
            f"the weights of {PREFIX}{name} are not on this machine and there is no network to fetch them; connect "
            "once so that they are kept in the cache, or choose a bundled model or a weights file."
        )
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=cached)
    except Exception as error:  # errors of the network, the hub and the parsers
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        advice = f"delete {cached['file']} and try again" if cached else "try again, or choose a bundled model"
        raise ModelError(f"the weights of {PREFIX}{name} could not be loaded ({reason}); {advice}.") from error


def cached_file(name: str) -> Path:
    """Return the file of a model's pretrained weights, downloading it if no cache has it; errors as in `create`."""
    cached = _cached_weights(pretrained_config(name))
    if cached is None:
        create(name)
        cached = _cached_weights(pretrained_config(name))
    if cached is None:
        raise ModelError(f"the weights of {PREFIX}{name} come in no file of their own; save them and name the file.")
    return Path(cached["file"])


def describe(name: str) -> str:
    """Return one line about a timm model; uses no network."""
    config = pretrained_config(name)
    return f"{config.architecture} from timm, {config.tag or 'no pretrained tag'}"


def pretrained_config(name: str) -> Any:
    """Return timm's configuration of the pretrained weights for a name with or without a tag.

    Raises:
        ModelError: an unknown model, one without pretrained weights, or one without a head.
    """
    import timm

    base = name.split(".")[0]
    if not timm.is_model(base):
        close = difflib.get_close_matches(base, timm.list_models(), 1)
        hint = f"did you mean {PREFIX}{close[0]}?" if close else "timm.list_models() lists them."
        raise ModelError(f"timm has no model {name[:80]!r}; {hint}")
    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        config = None
    if config is None or not config.has_weights:
        raise ModelError(f"timm has no pretrained weights for {name[:80]!r}; choose another model or tag of timm.")
    if not config.num_classes:
        raise no_head(f"{PREFIX}{name}")
    return config


def _cached_weights(config: Any) -> dict[str, Any] | None:
    """Return an overlay for timm that names weights in a local cache, or None; with a file timm needs no network."""
    if not config.hf_hub_id:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(config.url).path).name
        return {"file": str(file)} if file.is_file() else None
    for name in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        cached = name and huggingface_hub.try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(cached, str):
            # Custom loaders read the files at `url`; files of the hub are state dicts.
            return {"file": cached, "custom_load": False}
    return None


def _can_fetch(config: Any) -> bool:
    if config.hf_hub_id and huggingface_hub.is_offline_mode():
        return False
    return reachable(huggingface_hub.constants.ENDPOINT if config.hf_hub_id else config.url)


def reachable(host: str) -> bool:
    """Return whether a host answers within `_TIMEOUT`; the hub's own retries take most of a minute."""
    results: list[bool] = []
    # In a thread, because looking up a host's name has no time-out.
    thread = threading.Thread(target=lambda: results.append(_answers(host)), daemon=True)
    thread.start()
    thread.join(_TIMEOUT)
    return results == [True]


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=_TIMEOUT):
            return True
    except (urllib.error.HTTPError, http.client.HTTPException):
        return True  # it answered with an error
    except (OSError, ValueError):
        return False
