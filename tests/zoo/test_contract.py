"""The contract of a classifier: every kind of output becomes logits, and everything that uses them agrees."""

from collections import OrderedDict
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import swin_core
from swin_core.attribution.explain import explain, explain_batch
from swin_core.attribution.methods import METHODS
from swin_core.errors import ConfigError, ModelError
from swin_core.evaluation.metrics import score_batch
from swin_core.trust.assess import assess
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.contract import activate
from swin_core.zoo.model_card import ModelCard, write_card

pytestmark = pytest.mark.usefixtures("one_thread")
HALF = (0.5, 0.5, 0.5)
SIZE = 32


def network(classes: int = 3, channels: int = 3) -> nn.Sequential:
    """A small network whose last map has a grid of 8 x 8."""
    torch.manual_seed(3)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 8, 3, 2, 1),
            act=nn.GELU(),
            conv2=nn.Conv2d(8, 12, 3, 2, 1),
            act2=nn.GELU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(12, classes),
        )
    )


class Returning(nn.Module):
    """A model that returns what `shape_of` makes of the logits of `net`."""

    def __init__(self, net: nn.Module, shape_of: Any):
        super().__init__()
        self.net, self.shape_of = net, shape_of

    def forward(self, x: Tensor) -> Any:
        return self.shape_of(self.net(x))


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))


def their_map(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> np.ndarray:
    """pytorch-grad-cam's map of a bare model before it is scaled and enlarged, `(h, w)`."""
    with GradCAM(model, [layer]) as cam:
        cam.compute_input_gradient = False
        logits = cam.activations_and_grads(x)
        ClassifierOutputTarget(target)(logits[0]).backward()
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        return np.maximum(cam.get_cam_image(x, layer, None, activations, gradients, False)[0], 0)


OUTPUTS = {
    "tuple": lambda logits: (logits, logits.mean()),
    "features first": lambda logits: (torch.zeros(len(logits), 7), logits),
    "dictionary": lambda logits: {"loss": None, "logits": logits, "features": torch.zeros(len(logits), 7)},
    "object": lambda logits: SimpleNamespace(loss=None, logits=logits),
    "slots": lambda logits: make_dataclass("Slotted", ["loss", "logits"], slots=True)(None, logits),
    "trailing ones": lambda logits: logits[:, :, None, None],
    "softmax": lambda logits: logits.softmax(1),
    "log softmax": lambda logits: nn.functional.log_softmax(logits, 1).float(),
    "softmax in a tuple": lambda logits: [torch.softmax(logits, dim=1)],
    "exponential of a log softmax": lambda logits: logits.log_softmax(1).exp(),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_output_becomes_the_logits(kind: str, noise: Image.Image) -> None:
    """The logits are those of the bare network, up to the constant that a softmax ignores, and so is the map."""
    net = network()
    plain = Classifier(net, "abc", HALF, HALF, SIZE)
    wrapped = Classifier(Returning(net, OUTPUTS[kind]), "abc", HALF, HALF, SIZE)
    assert wrapped.activation == "softmax"
    expected, found = (
        explain(c, noise, 1, "gradcam", layer) for c, layer in ((plain, "conv2"), (wrapped, "net.conv2"))
    )
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(wrapped.predict([noise])[0], expected.probabilities, atol=1e-5)
    if kind == "exponential of a log softmax":  # only the probabilities are known
        np.testing.assert_allclose(found.logits, np.log(expected.probabilities), atol=1e-5)
        return
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-7)
    x = plain.tensor(plain.view(noise))
    np.testing.assert_allclose(found.maps[0, 0], their_map(net, net.conv2, x, 1), rtol=1e-4, atol=1e-7)


def test_output_names_the_entry() -> None:
    net = network()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = self.net(x)
            return {"coarse": logits[:, :2], "fine": logits}

    assert Classifier(Two(), None, HALF, HALF, SIZE).num_classes == 2
    assert Classifier(Two(), "abc", HALF, HALF, SIZE).num_classes == 3  # the labels decide
    assert Classifier(Two(), None, HALF, HALF, SIZE, output="fine").num_classes == 3
    with pytest.raises(ModelError, match=r"returns no output 'mid'; its outputs are 'coarse', 'fine'"):
        Classifier(Two(), None, HALF, HALF, SIZE, output="mid")


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel, torch.compile])
def test_wrapped_models_are_unwrapped(wrap: Any, noise: Image.Image) -> None:
    net = network().eval()
    classifier = Classifier(wrap(net), "abc", HALF, HALF, SIZE)
    assert [name for name, _ in classifier.model.named_children()] == [name for name, _ in net.named_children()]
    expected = explain(Classifier(net, "abc", HALF, HALF, SIZE), noise, 1, "gradcam", "conv2")
    np.testing.assert_allclose(explain(classifier, noise, 1, "gradcam", "conv2").maps, expected.maps, rtol=1e-5)


def test_a_model_compiled_in_place_takes_hooks(noise: Image.Image) -> None:
    expected = explain(Classifier(network(), "abc", HALF, HALF, SIZE), noise, 1, "gradcam", "conv2")
    compiled = network().eval()
    compiled.compile(backend="eager")
    compiled(torch.zeros(1, 3, SIZE, SIZE))
    found = explain(Classifier(compiled, "abc", HALF, HALF, SIZE), noise, 1, "gradcam", "conv2")
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_other_precisions(dtype: torch.dtype, tolerance: float, noise: Image.Image) -> None:
    expected = explain(Classifier(network(), "abc", HALF, HALF, SIZE), noise, 1, "gradcam", "conv2")
    found = explain(Classifier(network().to(dtype), "abc", HALF, HALF, SIZE), noise, 1, "gradcam", "conv2")
    assert found.maps.dtype == found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.logits, expected.logits, atol=tolerance)
    np.testing.assert_allclose(found.maps, expected.maps, atol=tolerance * expected.maps.max())


def test_the_trial_leaves_no_trace(no_hooks_left: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net.train()
    net[1].eval()
    no_hooks_left(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.get_rng_state()
    Classifier(Returning(net, lambda logits: logits.softmax(1)), "ab", HALF, HALF, 16)
    assert torch.equal(state, torch.get_rng_state())
    assert [module.training for module in net] == [True, False, True, True, True]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_model_on_the_meta_device_is_not_tried() -> None:
    with torch.device("meta"):
        net = network()
    assert Classifier(net, "abc", HALF, HALF, SIZE).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "ab"}, "Sequential has 3 classes; 2 labels were given"),
        ({"mean": (0.5,), "std": (0.5,)}, "its first layer takes 3 channels, so mean and std need as many numbers"),
        ({"model": Returning(network(), lambda logits: logits.argmax(1))}, r"returns \(1,\), not logits"),
        ({"model": nn.Conv2d(3, 5, 3)}, r"Conv2d returns \(1, 5, 30, 30\), not logits \(B, classes\)"),
        ({"model": Returning(network(), lambda logits: {"y": "text"})}, r"returns y: str, not logits"),
        ({"model": nn.Linear(7, 3)}, r"Linear does not take an image of 3 channels and 32 x 32 pixels"),
        (
            {"model": timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=48, depth=1)},
            "it is made for image_size=48",
        ),
    ],
)
def test_models_that_break_the_contract_are_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"model": network(), "labels": None, "mean": HALF, "std": HALF, "image_size": SIZE} | arguments
    with pytest.raises(ModelError, match=message):
        Classifier(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": (0.5, 0.5, 1e-9)}, "each std must be above 0"),
        ({"mean": (0.5, float("nan"), 0.5)}, "one finite number per channel"),
        ({"mean": (0.5, 0.5)}, "one number per channel"),
        ({"mean": "grey"}, "one number per channel"),
        ({"image_size": "large"}, "side of a square in pixels, such as 224, not 'large'"),
        ({"image_size": (32, 64)}, "side of a square"),
        ({"labels": {0: "a", 2: "b", 3: "c"}}, "need the indices 0, 1, 2"),
        ({"labels": 3}, "labels are a list of class names, not int"),
        ({"labels": {"a", "b", "c"}}, "labels are a list of class names, not set"),
        ({"crop_fraction": "x"}, "crop_fraction is a number"),
        ({"activation": "relu"}, "activation must be one of softmax, sigmoid, none, not 'relu'"),
        ({"model": network(1), "activation": "softmax"}, "has a single output, whose softmax is always 1"),
        ({"model": nn.Sequential(network(), nn.Softmax(1)), "activation": "sigmoid"}, "ends in a softmax"),
        ({"model": print}, "a classifier needs a torch module, not builtin_function_or_method"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"model": network(), "labels": None, "mean": HALF, "std": HALF, "image_size": SIZE} | arguments
    with pytest.raises(ConfigError, match=message):
        Classifier(**given)


@pytest.mark.parametrize(
    "labels", [["a", "b", "c"], np.array(["a", "b", "c"]), {2: "c", 0: "a", 1: "b"}, {"c": 2, "a": 0, "b": 1},
               {"0": "a", "1": "b", "2": "c"}],
)  # fmt: skip
def test_labels_in_every_form(labels: Any) -> None:
    assert Classifier(network(), labels, HALF, HALF, SIZE).labels == ("a", "b", "c")


def test_numbers_in_every_form() -> None:
    expected = Classifier(network(), None, HALF, HALF, SIZE)
    assert expected.labels == ("class 0", "class 1", "class 2")
    for mean, size in ((0.5, "32"), (np.full(3, 0.5), (32, 32)), (torch.tensor(HALF), np.int64(32))):
        other = Classifier(network(), None, mean, 0.5, size)
        assert (other.mean, other.std, other.image_size) == (expected.mean, expected.std, expected.image_size)


def test_a_single_logit_is_a_choice_of_two_classes(noise: Image.Image) -> None:
    net = network(1)
    classifier = Classifier(net, ["cat", "dog"], HALF, HALF, SIZE)
    x = classifier.tensor(classifier.view(noise))
    logit = float(net(x).detach())
    dog = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(classifier.predict([noise]), [[1 - dog, dog]], rtol=1e-5)
    found = explain(classifier, noise, ["dog", "cat"], "gradcam", "conv2")
    np.testing.assert_allclose(found.probabilities, [1 - dog, dog], rtol=1e-5)
    np.testing.assert_allclose(found.maps[0, 0], their_map(net, net.conv2, x, 0), rtol=1e-4, atol=1e-8)
    opposite = nn.Sequential(OrderedDict(net=net, minus=Negative()))
    np.testing.assert_allclose(found.maps[1, 0], their_map(opposite, net.conv2, x, 0), rtol=1e-4, atol=1e-8)
    assert Classifier(net, ["dog"], HALF, HALF, SIZE).labels == ("not dog", "dog")
    assert Classifier(net, None, HALF, HALF, SIZE).labels == ("class 0", "class 1")


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Identity()])
def test_classes_of_their_own(end: nn.Module, noise: Image.Image) -> None:
    """A sigmoid at the end is found and not applied twice; without one it is asked for."""
    net = network()
    activation = None if isinstance(end, nn.Sigmoid) else "sigmoid"
    classifier = Classifier(
        nn.Sequential(OrderedDict(net=net, end=end)), "abc", HALF, HALF, SIZE, activation=activation
    )
    assert classifier.activation == "sigmoid"
    logits = net(classifier.tensor(classifier.view(noise))).detach()
    np.testing.assert_allclose(classifier.predict([noise]), logits.sigmoid(), atol=1e-6)
    found = explain(classifier, noise, [0, 2], "gradcam", "net.conv2")
    np.testing.assert_allclose(found.logits, logits[0], atol=1e-5)
    plain = explain(Classifier(net, "abc", HALF, HALF, SIZE), noise, [0, 2], "gradcam", "conv2")
    np.testing.assert_allclose(found.maps, plain.maps, rtol=1e-4, atol=1e-8)


def test_a_regression_shows_its_output(noise: Image.Image) -> None:
    net = network(1)
    classifier = Classifier(net, None, HALF, HALF, SIZE, activation="none")
    output = float(net(classifier.tensor(classifier.view(noise))).detach())
    found = explain(classifier, noise, method="gradcam", layers="conv2")
    assert (found.labels, found.targets) == (("output",), (0,))
    assert found.probabilities[0] == pytest.approx(output, rel=1e-5)
    assert "%" not in repr(found)
    assert f"output {output:.4g}" in repr(found)
    probability = Classifier(nn.Sequential(network(), nn.Softmax(1)), None, HALF, HALF, SIZE, activation="none")
    assert probability.predict([noise]).sum() == pytest.approx(1, rel=1e-5)  # the output itself, not its logarithm


@pytest.mark.parametrize("method", [name for name, facts in METHODS.items() if facts.cost == "one pass"])
def test_every_fast_method_takes_a_swin_of_one_logit(method: str, noise: Image.Image) -> None:
    """The maps of a class of our own Swin equal those of the same Swin with the two rows -w and w in its head."""
    torch.manual_seed(0)
    single = swin_core.build("swin_nano", num_classes=1, image_size=SIZE)
    double = swin_core.build("swin_nano", num_classes=2, image_size=SIZE)
    state = single.state_dict()
    for key in ("head.weight", "head.bias"):
        state[key] = torch.cat([-state[key], state[key]])
    double.load_state_dict(state)
    expected, found = (explain(Classifier(m, "ab", HALF, HALF, SIZE), noise, [0, 1], method) for m in (double, single))
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-5 * max(1e-6, float(np.abs(expected.maps).max())))


def test_trust_and_evaluation_use_the_classifiers_probabilities(noise: Image.Image) -> None:
    net = network(1)
    classifier = Classifier(net, ["cat", "dog"], HALF, HALF, SIZE)
    found = explain(classifier, noise, "dog", "gradcam", "conv2")
    (trust,) = assess(classifier, found.view, found.maps[0, 0], 1, steps=3)
    assert trust.deletion.probabilities[0] == pytest.approx(float(found.probabilities[1]), rel=1e-5)
    batch = classifier.tensor(np.stack([found.view] * 3))
    scores = score_batch(classifier.logits_model, batch, torch.tensor([0, 1, -1]), classifier.activation)
    np.testing.assert_allclose(
        scores.loss, [-np.log(found.probabilities[0]), -np.log(found.probabilities[1]), 0], rtol=1e-5
    )
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, rtol=1e-5)


def test_a_batch_equals_single_images(noise: Image.Image) -> None:
    classifier = Classifier(nn.Sequential(network(1), nn.Sigmoid()), ["cat", "dog"], HALF, HALF, SIZE)
    images = [noise, noise.rotate(90)]
    batch = explain_batch(classifier, images, "dog", "gradcam", "0.conv2")
    for image, found in zip(images, batch, strict=True):
        single = explain(classifier, image, "dog", "gradcam", "0.conv2")
        np.testing.assert_allclose(found.maps, single.maps, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(found.probabilities, single.probabilities, rtol=1e-5)


def test_activate() -> None:
    logits = torch.randn(4, 3).half()
    assert torch.equal(activate(logits, "none"), logits.float())
    torch.testing.assert_close(activate(logits, "sigmoid"), 1 / (1 + torch.exp(-logits.float())))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_arrays_of_the_models_own_channels(channels: int, tmp_path: Path) -> None:
    net = network(channels=channels)
    mean, std = [0.3 + 0.1 * channel for channel in range(channels)], [0.5] * channels
    classifier = Classifier(net, "abc", mean, std, SIZE)
    array = np.random.default_rng(1).random((SIZE, SIZE, channels)).astype(np.float32)
    np.save(tmp_path / "image.npy", array)
    x = (torch.tensor(array).permute(2, 0, 1)[None] - torch.tensor(mean).view(1, -1, 1, 1)) / 0.5
    for image in (array, tmp_path / "image.npy", x):
        found = explain(classifier, image, 1, "gradcam", "conv2")
        np.testing.assert_allclose(found.maps[0, 0], their_map(net, net.conv2, x, 1), rtol=1e-3, atol=1e-7)
        assert found.view.shape == (SIZE, SIZE, 3)


def test_a_grey_model_sees_grey(noise: Image.Image) -> None:
    classifier = Classifier(network(channels=1), "abc", 0.5, 0.5, SIZE)
    grey = np.asarray(Image.fromarray(Classifier(network(), "abc", HALF, HALF, SIZE).view(noise)).convert("L"))
    view = classifier.view(noise)
    assert view.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(view, np.repeat(grey[..., None], 3, 2))
    x = (torch.tensor(grey)[None, None] / 255 - 0.5) / 0.5
    torch.testing.assert_close(classifier.tensor(view), x)
    found = explain(classifier, noise)
    (trust,) = assess(classifier, found.view, found.maps[0, 0], found.targets[0], steps=3)
    assert trust.deletion.probabilities[0] == pytest.approx(float(found.probabilities.max()), rel=1e-5)


def test_means_of_0_to_255_are_understood(noise: Image.Image) -> None:
    small, large = (Classifier(network(), "abc", mean, mean, SIZE) for mean in (0.5, 127.5))
    view = small.view(noise)
    torch.testing.assert_close(small.tensor(view), large.tensor(view), atol=1e-5, rtol=0)
    np.testing.assert_allclose(explain(large, small.tensor(view)[0]).view, view, atol=1)


def test_rise_weighs_by_the_classifiers_probability(noise: Image.Image) -> None:
    """The masks of a single logit z are weighted by the softmax of (0, z), which is the sigmoid of z."""
    net = network(1)
    double = Returning(net, lambda logits: torch.cat([torch.zeros_like(logits), logits], 1))
    single = explain(Classifier(net, "ab", HALF, HALF, SIZE), noise, [0, 1], "rise")
    expected = explain(Classifier(double, "ab", HALF, HALF, SIZE), noise, [0, 1], "rise")
    np.testing.assert_allclose(single.maps, expected.maps, rtol=1e-4)


@pytest.mark.parametrize(
    ("facts", "labels", "activation"),
    [
        ({}, ("class 0", "class 1"), "sigmoid"),
        ({"labels": ["cat", "dog"]}, ("cat", "dog"), "sigmoid"),
        ({"labels": ["age"], "activation": "none"}, ("age",), "none"),
    ],
)
def test_a_weights_file_of_one_logit(
    facts: dict[str, Any], labels: tuple[str, ...], activation: str, noise: Image.Image, tmp_path: Path
) -> None:
    model = swin_core.build("swin_nano", num_classes=1, image_size=SIZE)
    swin_core.save_weights(model, tmp_path / "one.safetensors")
    write_card(tmp_path / "one.safetensors", ModelCard(mean=list(HALF), std=list(HALF), **facts))
    classifier = swin_core.load(tmp_path / "one.safetensors")
    assert (classifier.labels, classifier.activation) == (labels, activation)
    logit = float(model.eval()(classifier.tensor(classifier.view(noise))).detach())
    expected = [logit] if activation == "none" else [1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))]
    np.testing.assert_allclose(classifier.predict([noise])[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.sigmoid(),
        lambda z: z.sigmoid()[:, 0],
        lambda z: z.sigmoid()[:, 0].unsqueeze(1),
        lambda z: torch.special.expit(z),
        lambda z: z.clone().sigmoid_(),
        lambda z: nn.functional.hardsigmoid(z),
        lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6),
        lambda z: torch.cat([-z, z], 1).softmax(1)[:, 1],
        lambda z: torch.cat([-z, z], 1).softmax(1).select(1, 1),
    ],
)
def test_the_probability_of_a_single_output_is_shown_as_it_is(end: Any, noise: Image.Image) -> None:
    model = Returning(network(1), end)
    classifier = Classifier(model, ["no", "yes"], HALF, HALF, SIZE)
    with torch.no_grad():
        expected = float(model(classifier.tensor(classifier.view(noise))))
    assert classifier.predict([noise])[0] == pytest.approx([1 - expected, expected], abs=1e-6)


@pytest.mark.parametrize(
    ("end", "activation"),
    [
        (lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6), "sigmoid"),
        (lambda z: nn.functional.hardsigmoid(z), "sigmoid"),
        (lambda z: z.clone().sigmoid_(), "sigmoid"),
        (lambda z: z.sigmoid()[:, :2], "sigmoid"),
        (lambda z: z.softmax(1)[:, :2], "sigmoid"),
        (lambda z: z.softmax(1).clamp(1e-6, 1), "softmax"),
        (lambda z: z.log_softmax(1).exp(), "softmax"),
    ],
)
def test_probabilities_of_several_outputs_are_shown_as_they_are(end: Any, activation: str, noise: Image.Image) -> None:
    model = Returning(network(3), end)
    classifier = Classifier(model, None, HALF, HALF, SIZE)
    with torch.no_grad():
        expected = model(classifier.tensor(classifier.view(noise)))
    assert classifier.activation == activation
    np.testing.assert_allclose(classifier.predict([noise]), expected, atol=1e-6)


def test_logarithms_of_sigmoids_give_each_class_its_own_probability(noise: Image.Image) -> None:
    model = Returning(network(3), nn.functional.logsigmoid)
    classifier = Classifier(model, None, HALF, HALF, SIZE)
    with torch.no_grad():
        expected = model(classifier.tensor(classifier.view(noise))).exp()
    np.testing.assert_allclose(classifier.predict([noise]), expected, atol=1e-6)
