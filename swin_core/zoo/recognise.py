"""Say what a weights file or folder is, without building the model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from swin_core.errors import ModelError, WeightsError
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.weights.files import read_metadata, read_state, split_entry, state_config
from swin_core.weights.key_layouts import other_layer, quoted
from swin_core.weights.shapes import states_image_size
from swin_core.weights.unwrap import find_state
from swin_core.zoo import architectures, huggingface
from swin_core.zoo.architectures import TIMM, TORCHVISION, Fit
from swin_core.zoo.model_card import ModelCard, make_card, read_card
from swin_core.zoo.stated_facts import stated_facts

SWIN = "swin"
"""Architecture of a Swin that is none of `VARIANTS`."""

_ASKED = ("labels", "mean", "std", "image_size")


@dataclass(frozen=True)
class Recognition:
    """What a weights file or folder is, as far as it and its model card tell."""

    path: Path
    """The file or folder."""
    weights: Path
    """The weights file; `path` itself, or a file in the folder."""
    entry: str
    """The state dict in the file that was named, if one was."""
    library: str
    """Whose code runs the model: "swin" (ours), "timm", "torchvision" or "transformers"; empty if it is unknown."""
    facts: ModelCard
    """What is known: facts of the card, else of the file. None where only a default is left."""
    origins: Mapping[str, str]
    """Where each of the facts stands, such as "the card" or "hyper_parameters.class_names"."""
    classes: int | None
    """Number of outputs of the head; None if it is unknown."""
    candidates: tuple[str, ...] = ()
    """Architectures that the weights fit equally well; one of them has to be named."""
    notes: tuple[str, ...] = ()
    """What a user should know, one line each."""
    config: SwinConfig | None = None
    """Shape of our Swin, if it is one."""
    fit: Fit | None = None
    """Weights under the architecture's keys, if the architecture is timm's or torchvision's."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Facts that a user should state, since otherwise defaults are taken."""
        unknown = () if self.library else ("architecture",)
        return unknown + tuple(name for name in _ASKED if getattr(self.facts, name) is None)


def recognise(path: str | os.PathLike[str], architecture: str = "", card: ModelCard | None = None) -> Recognition:
    """Return what a weights file or folder is.

    Facts come from the model card beside it, else from the file or folder: metadata, hyper-parameters, arguments of the
    training script, config.json, and the shapes of weights. The architecture is guessed from keys and shapes where
    nothing states it; that takes seconds for other architectures than Swin.

    Args:
        path: weights file; `FILE#ENTRY` for one of several state dicts in it; or a folder that `save_pretrained` wrote.
        architecture: such as "timm/resnet18" or "torchvision/swin_v2_t"; it comes before that of the card.
        card: facts in place of those of the card beside the weights.

    Raises:
        WeightsError: not a weights file, damaged, or not of the named architecture.
        ModelError: there is no such architecture, or the card is wrong.
    """
    file, entry = split_entry(path)
    card = read_card(file) if card is None else card
    stated: dict[str, tuple[Any, str]] = {}
    if file.is_dir():
        config_json = huggingface.saved_config(file)
        if not config_json:
            raise WeightsError(f"{file.name!r} is a folder without a model; give a weights file.")
        stated = huggingface.folder_facts(file, config_json)
        named = config_json.get("architecture", "")
        weights = huggingface.folder_weights(file)
        if not _is_ours_or_timms(config_json) or weights.suffix == ".json":
            return _of_transformers(file, weights, config_json, stated, card)
        if named:
            stated["architecture"] = named, "config.json"
        return _of_file((file, weights, ""), architecture, card, stated)
    return _of_file((file, file, entry), architecture, card, {})


def architecture_name(config: SwinConfig) -> str:
    """Return the name of a Swin's variant, whatever its classes and image size, or `SWIN`."""
    shape = (
        "version",
        "embed_dim",
        "depths",
        "num_heads",
        "mixer",
        "patch_size",
        "window_size",
        "mlp_ratio",
        "absolute_embedding",
    )
    return next(
        (
            name
            for name, variant in VARIANTS.items()
            if all(getattr(variant, field) == getattr(config, field) for field in shape)
        ),
        SWIN,
    )


def _is_ours_or_timms(config_json: Mapping[str, Any]) -> bool:
    if "model_type" not in config_json:
        return True
    return (
        config_json["model_type"] == "swin"
        and config_json.get("hidden_act", "gelu") == "gelu"
        and not config_json.get("use_absolute_embeddings")
        and config_json.get("layer_norm_eps", 1e-5) == 1e-5
    )


def _of_transformers(
    folder: Path,
    weights: Path,
    config_json: Mapping[str, Any],
    stated: dict[str, tuple[Any, str]],
    card: ModelCard | None,
) -> Recognition:
    names = config_json.get("id2label")
    classes = len(names) if isinstance(names, Mapping) else None
    stated["architecture"] = f"transformers/{config_json['model_type']}", "config.json, model_type"
    return _recognition((folder, weights, ""), "transformers", stated, card, classes)


def _of_file(
    source: tuple[Path, Path, str], architecture: str, card: ModelCard | None, stated: dict[str, tuple[Any, str]]
) -> Recognition:
    _, weights, entry = source
    content = read_state(weights)
    metadata = read_metadata(weights, content)
    try:
        found = find_state(content, entry)
    except WeightsError as error:
        raise WeightsError(f"{weights.name!r} cannot be used: {error}") from error
    stated = {**stated_facts(content), **_metadata_facts(weights, metadata), **stated}
    notes = [found.choice()] if found.choice() else []
    named = architecture or (card.architecture or "" if card is not None else "")
    if named and not named.startswith((TIMM, TORCHVISION)) and named not in (*VARIANTS, SWIN):
        raise ModelError(f"{named[:80]!r} is no architecture; write {TIMM}<model>, {TORCHVISION}<model> or {SWIN}.")
    try:
        if named.startswith((TIMM, TORCHVISION)):
            fit = architectures.fit(named, found.tensors)
            stated["architecture"] = named, "the name" if architecture else "the card"
            return _fitted(source, fit, stated, card, notes)
        return _swin_or_other(source, found.tensors, metadata, stated, card, notes)
    except WeightsError as error:
        raise WeightsError(f"{weights.name!r} cannot be used: {error}") from error


def _swin_or_other(
    source: tuple[Path, Path, str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    stated: dict[str, tuple[Any, str]],
    card: ModelCard | None,
    notes: list[str],
) -> Recognition:
    try:
        config = state_config(tensors, metadata)
    except WeightsError as error:
        hint = stated.pop("architecture", ("", ""))
        for architecture in (TIMM + hint[0].split(".")[0], TORCHVISION + hint[0]):
            try:
                fit = architectures.fit(architecture, tensors)
            except (WeightsError, ModelError):
                continue
            return _fitted(source, fit, stated | {"architecture": (architecture, hint[1])}, card, notes)
        candidates = architectures.candidates(tensors)
        if not candidates and "not those of a Swin" not in str(error):
            raise error
        if not candidates:
            raise WeightsError(
                f"{str(error).rstrip('.')}, and fit no architecture of timm or torchvision; name one, as in "
                f"timm/<model>@FILE, or load the model by a Python file."
            ) from error
        if len(candidates) == 1:
            fit = architectures.fit(candidates[0], tensors)
            return _fitted(source, fit, stated | {"architecture": (candidates[0], "keys and shapes")}, card, notes)
        classes = architectures.fit(candidates[0], tensors).settings["num_classes"]
        notes.append(architectures.several(candidates))
        return _recognition(source, "", stated, card, classes, notes, candidates=tuple(candidates))
    if not config.num_classes and (key := other_layer(tensors)):
        raise WeightsError(f"it holds {quoted(key)} and no head of one linear layer; load the model by a Python file.")
    name = architecture_name(config)
    if card is not None and card.architecture not in (None, SWIN, name):
        raise ModelError(
            f"the card of {source[0].name!r} says {card.architecture}, the file holds {name}; correct the card."
        )
    labels = metadata.get("labels") or ()
    if labels and len(labels) != config.num_classes:
        raise WeightsError(f"it has {len(labels)} labels for {config.num_classes} classes.")
    if "config" in metadata:
        stated.setdefault("image_size", (config.image_size, "the file's metadata"))
    elif states_image_size(tensors):
        stated["image_size"] = config.image_size, "the shapes of masks or position embedding"
    elif "image_size" not in stated:
        notes.append(f"image size {config.image_size} is guessed from the window")
    stated["architecture"] = name, "keys and shapes"
    stated["channels"] = config.in_chans, "shapes"
    return _recognition(source, SWIN, stated, card, config.num_classes, notes, config=config)


def _fitted(
    source: tuple[Path, Path, str],
    fit: Fit,
    stated: dict[str, tuple[Any, str]],
    card: ModelCard | None,
    notes: list[str],
) -> Recognition:
    architecture = stated["architecture"][0]
    if "in_chans" in fit.settings:
        stated["channels"] = fit.settings["in_chans"], "shapes"
    if "img_size" in fit.settings:
        stated["image_size"] = fit.settings["img_size"], "shapes"
    library = architecture.partition("/")[0]
    return _recognition(source, library, stated, card, fit.settings["num_classes"], notes, fit=fit)


def _recognition(
    source: tuple[Path, Path, str],
    library: str,
    stated: Mapping[str, tuple[Any, str]],
    card: ModelCard | None,
    classes: int | None,
    notes: list[str] | None = None,
    **found: Any,
) -> Recognition:
    """Merge the facts of the card and of the file; the file's class names must be as many as the head has outputs."""
    facts = {name: value for name, (value, _) in stated.items()}
    origins = {name: origin for name, (_, origin) in stated.items()}
    notes = list(notes or [])
    if (
        classes is not None
        and "labels" in facts
        and len(facts["labels"]) not in (classes, 2 if classes == 1 else classes)
    ):
        notes.append(f"{origins['labels']} names {len(facts['labels'])} classes, the head has {classes}")
        del facts["labels"], origins["labels"]
    channels = facts.get("channels")
    if channels is not None and any(len(facts.get(name, [0] * channels)) != channels for name in ("mean", "std")):
        notes.append(f"mean and std of the file are not those of {channels} channels")
        for name in ("mean", "std"):
            facts.pop(name, None), origins.pop(name, None)
    if card is not None:
        own = card.facts()
        if own.get("architecture") and not library:
            own.pop("architecture")
        facts |= own
        origins |= dict.fromkeys(own, "the card")
    return Recognition(
        *source, library, make_card(facts, source[0].name), origins, classes, notes=tuple(notes), **found
    )


def _metadata_facts(file: Path, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return the facts in the metadata of our own files.

    Raises:
        WeightsError: a value cannot be such a fact.
    """
    facts: dict[str, Any] = {}
    try:
        if labels := metadata.get("labels"):
            if not isinstance(labels, list | tuple):
                raise WeightsError(f"{file.name!r} has no list of labels.")
            facts["labels"] = [str(label) for label in labels]
        for name in ("mean", "std"):
            if name in metadata:
                facts[name] = [float(value) for value in metadata[name]]
        if "image_size" in metadata:
            facts["image_size"] = int(metadata["image_size"])
        make_card(facts, file.name)
    except (ModelError, ValueError, TypeError, OverflowError) as error:
        raise WeightsError(f"{file.name!r} describes its preprocessing wrongly: {error}") from error
    return {name: (value, "the file's metadata") for name, value in facts.items()}
