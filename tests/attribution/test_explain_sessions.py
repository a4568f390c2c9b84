"""One forward pass for several explanations, and batches: equal to single calls, with the passes counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import swin_core
from swin_core.attribution.layers import default_layer
from swin_core.errors import ConfigError, LayerError, TargetError
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (64, 80, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture
def passes(small_classifier: Classifier) -> Iterator[list[int]]:
    """The batch size of each forward pass from here on."""
    default_layer(small_classifier)  # finding the layers takes a pass, once for each model
    sizes: list[int] = []
    hook = small_classifier.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_a_session_takes_one_forward_pass(
    small_classifier: Classifier, images: list[Image.Image], passes: list[int]
) -> None:
    requests: list[dict] = [
        {"targets": [0, 1], "layers": "norm"},
        {"targets": 3, "layers": ["layers.0", "norm"], "method": "gradcam"},
        {"layers": "layers.0", "method": "layercam"},
        {"targets": [2], "layers": ["layers.0", "norm"], "method": "gradcam", "fuse": "mean", "against": "runner-up"},
        {"layers": "norm", "method": "eigencam"},
    ]
    with swin_core.explaining(small_classifier, images[0], layers=["layers.0", "norm"]) as session:
        probabilities = session.probabilities
        shared = [session.explain(**request) for request in requests]
        assert passes == [1]
        assert torch.is_grad_enabled()
        assert hooks(small_classifier.model) == 1  # the counter's own
    for explanation, request in zip(shared, requests, strict=True):
        alone = swin_core.explain(small_classifier, images[0], **request)
        np.testing.assert_allclose(explanation.maps, alone.maps, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(explanation.probabilities, probabilities, rtol=1e-5)
        assert (explanation.targets, explanation.layers, explanation.against) == (
            alone.targets,
            alone.layers,
            alone.against,
        )
    np.testing.assert_allclose(probabilities, small_classifier.predict(images[:1])[0], rtol=1e-5)


def test_another_layer_takes_another_pass(
    small_classifier: Classifier, images: list[Image.Image], passes: list[int]
) -> None:
    with swin_core.explaining(small_classifier, images[0]) as session:
        for layer, expected in (("norm", 1), ("norm", 1), ("layers.0", 2), ("norm", 2)):
            explanation = session.explain(1, "gradcam", layer)
            assert len(passes) == expected
            alone = swin_core.explain(small_classifier, images[0], 1, "gradcam", layer)
            del passes[expected:]
            np.testing.assert_array_equal(explanation.maps, alone.maps)


@pytest.mark.parametrize("method", ["patchrelevance", "gradient", "rollout"])
def test_a_session_takes_every_method(small_classifier: Classifier, images: list[Image.Image], method: str) -> None:
    with swin_core.explaining(small_classifier, images[0]) as session:
        explanation = session.explain(1, method)
    np.testing.assert_array_equal(explanation.maps, swin_core.explain(small_classifier, images[0], 1, method).maps)


def test_a_failed_session_leaves_the_model_as_it_was(small_classifier: Classifier, images: list[Image.Image]) -> None:
    before, training = hooks(small_classifier.model), small_classifier.model.training
    with swin_core.explaining(small_classifier, images[0]) as session:
        with pytest.raises(LayerError, match="did you mean norm"):
            session.explain(layers="nom")
        with pytest.raises(TargetError, match="class 99 is outside"):
            session.explain(99)
        assert session.explain(1).maps.max() > 0  # a failure does not end the session
    with suppress(KeyError), swin_core.explaining(small_classifier, images[0]) as session:
        session.explain(1)
        raise KeyError
    assert hooks(small_classifier.model) == before
    assert torch.is_grad_enabled()
    assert small_classifier.model.training == training
    for question in (lambda: session.explain(1), lambda: session.probabilities):
        with pytest.raises(ConfigError, match="session is closed"):
            question()


def test_a_layer_may_be_a_module(small_classifier: Classifier, images: list[Image.Image]) -> None:
    model = small_classifier.model
    named = swin_core.explain(small_classifier, images[0], 1, layers=["layers.0", "norm"])
    given = swin_core.explain(small_classifier, images[0], 1, layers=[model.layers[0], "norm"])
    assert given.layers == named.layers == ("layers.0", "norm")
    np.testing.assert_array_equal(given.maps, named.maps)
    assert swin_core.explain(small_classifier, images[0], layers=model.norm).layers == ("norm",)
    for stranger in (nn.Linear(2, 2), model):
        with pytest.raises(LayerError, match="is not inside"):
            swin_core.explain(small_classifier, images[0], layers=stranger)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"targets": "tulips", "method": "gradcam", "layers": ["norm", "layers.0"], "fuse": "max"},
        {"targets": [0, 1, 2, 3, 4], "method": "gradcam", "layers": "norm", "against": "runner-up"},
        {"targets": [0, "roses", 2, 3, 4], "method": "gradient"},
        {"targets": 1, "against": [0, 2, 3, 4, 0], "method": "hirescam"},
    ],
)
def test_a_batch_equals_single_calls(
    small_classifier: Classifier, images: list[Image.Image], passes: list[int], options: dict
) -> None:
    batch = swin_core.explain_batch(small_classifier, images, **options, batch_size=3)
    if "layers" in options:
        assert passes == [3, 2]
    for index, (image, explanation) in enumerate(zip(images, batch, strict=True)):
        own = {key: value[index] if key in ("targets", "against") and isinstance(value, list) else value
               for key, value in options.items()}  # fmt: skip
        alone = swin_core.explain(small_classifier, image, **own)
        np.testing.assert_allclose(explanation.maps, alone.maps, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(explanation.probabilities, alone.probabilities, rtol=1e-4)
        np.testing.assert_array_equal(explanation.view, alone.view)
        assert (explanation.targets, explanation.against) == (alone.targets, alone.against)


def test_a_batch_of_tensors(small_classifier: Classifier, images: list[Image.Image]) -> None:
    batch = torch.cat([small_classifier.tensor(small_classifier.view(image)) for image in images])
    expected = [explanation.maps for explanation in swin_core.explain_batch(small_classifier, images, 1)]
    for model in (small_classifier, small_classifier.model):
        maps = [explanation.maps for explanation in swin_core.explain_batch(model, batch, 1)]
        np.testing.assert_array_equal(maps, expected)
    assert swin_core.explain_batch(small_classifier, []) == []
    with pytest.raises(TargetError, match="2 classes for 5 images"):
        swin_core.explain_batch(small_classifier, images, [0, 1])


def test_the_model_is_moved_first(small_classifier: Classifier, images: list[Image.Image]) -> None:
    explanation = swin_core.explain(small_classifier, images[0], 1, device="cpu")
    np.testing.assert_array_equal(explanation.maps, swin_core.explain(small_classifier, images[0], 1).maps)
