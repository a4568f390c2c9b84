"""Calls of explain, sessions and batches: what they take, hold and leave behind, with the forward passes counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import swin_core
from swin_core.attribution.explain import explain
from swin_core.attribution.layers import default_layer
from swin_core.attribution.regions import common_parts
from swin_core.errors import ConfigError, ImageError, LayerError, ModelError, TargetError
from swin_core.trust.similarity import agreement
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")

Watch = Callable[[nn.Module], Callable[[], int]]


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
        # Values near 0 are differences of larger ones.
        np.testing.assert_allclose(explanation.maps, alone.maps, rtol=1e-4, atol=1e-5 * alone.maps.max())
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


def test_concurrent_calls_equal_calls_in_turn(
    small_classifier: swin_core.Classifier, cat: Image.Image, no_hooks_left: Watch
) -> None:
    """Four sessions explain different classes on one model while a fifth predicts."""
    no_hooks_left(small_classifier.model)
    alone = [explain(small_classifier, cat, [k]).maps for k in range(4)]
    probabilities = small_classifier.predict([cat])
    gate = threading.Barrier(5)

    def session(k: int) -> list[np.ndarray]:
        gate.wait()
        if k == 4:
            return [small_classifier.predict([cat]) for _ in range(10)]
        return [explain(small_classifier, cat, [k]).maps for _ in range(10)]

    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(session, range(5)))
    for k in range(4):
        for maps in results[k]:
            np.testing.assert_array_equal(maps, alone[k])
    for predicted in results[4]:
        np.testing.assert_array_equal(predicted, probabilities)


@pytest.mark.parametrize("mode", ["inference", "no_grad", "autocast"])
def test_callers_mode_changes_nothing(small_classifier: swin_core.Classifier, cat: Image.Image, mode: str) -> None:
    plain = explain(small_classifier, cat, [1])
    context = {
        "inference": torch.inference_mode(),
        "no_grad": torch.no_grad(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }[mode]
    with context:
        inside = explain(small_classifier, cat, [1])
    np.testing.assert_array_equal(inside.maps, plain.maps)


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        ({"layers": ["nom"]}, LayerError, "did you mean norm"),
        ({"layers": []}, LayerError, "at least one"),
        ({"layers": ["head"]}, LayerError, "before the pooling"),
        ({"layers": ["layers.0.blocks.0.attn.qkv"]}, LayerError, "one entry per window"),
        ({"layers": ["layers.0.blocks"]}, LayerError, "does not run"),
        ({"targets": [5]}, TargetError, "class 5 is outside"),
        ({"targets": [-1]}, TargetError, "class -1 is outside"),
        ({"targets": []}, TargetError, "at least one"),
        ({"targets": ["orchid"]}, TargetError, "no class 'orchid'"),
        ({"method": "guess"}, ConfigError, "unknown method"),
    ],
)
def test_bad_requests_get_one_line(
    small_classifier: swin_core.Classifier, cat: Image.Image, call: dict, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line) as caught:
        explain(small_classifier, cat, **call)
    assert "\n" not in str(caught.value)


def test_one_class_or_layer_needs_no_list(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    listed = explain(small_classifier, cat, ["tulips"], layers=["norm"])
    for target in ("tulips", "Tulip", 4):
        np.testing.assert_array_equal(explain(small_classifier, cat, target, layers="norm").maps, listed.maps)
    grey = cat.convert("L")
    np.testing.assert_array_equal(
        explain(small_classifier, grey).maps, explain(small_classifier, grey.convert("RGB")).maps
    )


def test_wrong_kinds_get_one_line(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    with pytest.raises(ImageError, match="not list"):
        explain(small_classifier, [cat])
    with pytest.raises(TargetError, match=r"not by 1\.7"):
        explain(small_classifier, cat, [1.7])
    with pytest.raises(ModelError, match="has 5 classes; 1 labels were given"):
        swin_core.Classifier(small_classifier.model, ["one"], (0.5,) * 3, (0.5,) * 3, 64)


def test_an_image_of_one_patch_is_explained(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    assert explain(swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 2), cat).maps.shape == (1, 1, 1, 1)


def test_explanation_holds_what_the_model_saw(small_classifier: swin_core.Classifier, cat: Image.Image) -> None:
    found = explain(small_classifier, cat, ["ROSES", 0], layers=["norm", "layers.1"])
    assert found.targets == (2, 0)
    assert found.maps.shape == (2, 2, 16, 16)  # the coarser map is brought to the finer one's grid
    assert found.maps.dtype == np.float32
    assert found.maps.min() >= 0
    np.testing.assert_array_equal(found.view, small_classifier.view(cat))
    np.testing.assert_allclose(found.probabilities, small_classifier.predict([cat])[0], rtol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(), 1, rtol=1e-5)
    assert max(found.image.shape) <= 512
    assert found.weights_hash == small_classifier.weights_hash
    assert explain(small_classifier, cat).targets == (int(found.logits.argmax()),)


def test_the_callers_image_is_left_alone(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    squashing = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, squash=True)
    large = cat.resize((900, 600))
    before = large.tobytes()
    assert explain(squashing, large).image.shape[1] == 512
    assert (large.size, large.tobytes()) == ((900, 600), before)


def test_agreement_is_taken_where_both_models_see_the_image() -> None:
    """Maps that are one function of the place in the image agree, however the models crop it."""
    wide, close = (0, 0, 160, 160), (40, 40, 120, 120)
    parts = common_parts(wide, close)
    assert parts == ((0.25, 0.25, 0.75, 0.75), (0, 0, 1, 1))
    rows, columns = np.mgrid[0:16, 0:16] * 10 + 5.0
    whole = (rows - 60) ** 2 + 3 * columns
    rows, columns = np.mgrid[0:16, 0:16] * 5 + 42.5
    inner = (rows - 60) ** 2 + 3 * columns
    assert agreement(whole, inner, parts) > 0.99 > agreement(whole, inner)
    assert common_parts((0, 0, 10, 10), (10, 0, 20, 10)) is None


def test_region_says_what_was_cropped(cat: Image.Image) -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    half = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, crop_fraction=0.5)
    found = explain(half, cat)
    left, top, right, bottom = found.region
    assert right - left == pytest.approx(min(cat.size) / 2, abs=4)
    assert (left + right) / 2 == pytest.approx(cat.width / 2, abs=8)
    np.testing.assert_array_equal(found.image, np.asarray(cat.crop((left, top, right, bottom))))
