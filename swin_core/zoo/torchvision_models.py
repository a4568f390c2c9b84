"""Pretrained models of torchvision, from torch's cache or the network, and torchvision's preprocessing."""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from swin_core.errors import ModelError
from swin_core.weights.files import read_state
from swin_core.zoo.architectures import TORCHVISION, build_architecture
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.timm_models import reachable

# torchvision is imported where it is used, as timm is.

PREFIX = TORCHVISION
"""Start of the names of torchvision's models, as in "torchvision/resnet50"."""


def pretrained(name: str) -> Classifier:
    """Return a torchvision classifier with its default pretrained weights, downloading them if no cache has them.

    Raises:
        ModelError: an unknown model, or weights that cannot be downloaded.
        WeightsError: a cached file that is damaged.
    """
    weights, file = _weights(name), cached_file(name)
    model = build_architecture(PREFIX + name)
    model.load_state_dict(read_state(file))
    return Classifier(
        model,
        weights.meta["categories"],
        name=PREFIX + name,
        description=describe(name),
        **preprocessing(name),
    )


def cached_file(name: str) -> Path:
    """Return the file of a model's pretrained weights, downloading it if no cache has it; errors as in `pretrained`."""
    url = _weights(name).url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if file.is_file():
        return file
    if not reachable(url):
        raise ModelError(
            f"the weights of {PREFIX}{name} are not on this machine and there is no network to fetch them; connect "
            "once so that they are kept in the cache, or choose a bundled model or a weights file."
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=False)
    except Exception as error:  # errors of the network and the disk
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(f"the weights of {PREFIX}{name} could not be downloaded ({reason}); try again.") from error
    return file


def describe(name: str) -> str:
    """Return one line about a torchvision model; uses no network."""
    return f"{name} from torchvision, {_weights(name).name}"


def preprocessing(name: str) -> dict[str, Any]:
    """Return the preprocessing of a model's default weights, as arguments of `Classifier`."""
    transform = _weights(name).transforms()
    return {
        "mean": transform.mean,
        "std": transform.std,
        "image_size": transform.crop_size[0],
        "crop_fraction": transform.crop_size[0] / transform.resize_size[0],
        "interpolation": transform.interpolation.value,
    }


def _weights(name: str) -> Any:
    """Return torchvision's entry of a model's default weights."""
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        build_architecture(PREFIX + name)  # raises an error that suggests a close name
    return torchvision.models.get_model_weights(name).DEFAULT
