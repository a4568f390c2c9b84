"""Measures of trust, compared with pytorch-grad-cam's ROAD and quantus's pixel flipping in speed and result.

quantus requires opencv-python, which conflicts with the headless build, so it is no test dependency. To compare with
it: `pip install --no-deps quantus && pip install scikit-image cachetools`.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
from benchmarks.timing import Contenders, measure, swins
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import nn

import swin_core
from swin_core.images.inpainting import blur
from swin_core.trust.faithfulness import Probe, deletion, insertion, road

SIDE, TARGET, STEPS = 224, 7, 50
SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Fractions of removed pixels: pytorch-grad-cam's percentiles 10 to 90."""


def trust(rounds: int) -> list[dict[str, Any]]:
    """ROAD at nine percentiles against pytorch-grad-cam, and deletion plus insertion in 50 steps against quantus."""
    models = swins()
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, SIDE, SIDE, generator=draw)
    # No two values are equal, so pytorch-grad-cam's thresholds and our ranks choose the same pixels.
    values = torch.randperm(SIDE**2, generator=draw).view(1, SIDE, SIDE) / SIDE**2
    results = [_road(models["swinlens"], models["timm"], image, values, rounds)]
    if importlib.util.find_spec("quantus") is None:
        print("deletion plus insertion: quantus is not installed; see the docstring of scripts/benchmarks/trust.py")
        return results
    return [*results, _flipping(models["swinlens"], models["timm"], image, values, rounds)]


def _probe(model: nn.Module, image: torch.Tensor) -> Probe:
    labels = [f"class {number}" for number in range(1000)]
    classifier = swin_core.Classifier(model, labels, (0.5,) * 3, (0.5,) * 3, SIDE)
    return Probe(classifier, image, torch.tensor([0]), torch.tensor([TARGET]))


def _road(ours: nn.Module, timm_model: nn.Module, image: torch.Tensor, values: torch.Tensor, rounds: int) -> dict:
    theirs = ROADCombined(percentiles=[round(100 * share) for share in SHARES])

    def mine() -> float:
        return float(road(_probe(ours, image), values, SHARES))

    def peer(model: nn.Module = timm_model) -> float:
        return float(theirs(image, values.numpy(), [ClassifierOutputSoftmaxTarget(TARGET)], model)[0])

    calls: Contenders = {"swinlens": mine, "pytorch-grad-cam on timm": peer}
    result = measure("ROAD at 9 percentiles, Swin-T, 224 px", calls, rounds, "pytorch-grad-cam on timm")
    result["of_one_model"] = {"swinlens": mine(), "pytorch-grad-cam": peer(ours)}
    print(f"    of one model: {result['of_one_model']}; both add their own noise")
    return result


def _flipping(ours: nn.Module, timm_model: nn.Module, image: torch.Tensor, values: torch.Tensor, rounds: int) -> dict:
    import quantus

    pixels = -(-(SIDE**2) // STEPS)
    attribution = values[:, None].expand(-1, 3, -1, -1).numpy()
    whole, blurred = image.numpy(), blur(image).numpy()

    def put_back(arr: np.ndarray, indices: np.ndarray, **rest: object) -> np.ndarray:
        arr = arr.copy()
        np.put_along_axis(arr, indices, np.take_along_axis(whole.reshape(1, -1), indices, 1), 1)
        return arr

    class Flipping(quantus.PixelFlipping):
        """Pixel flipping that counts each channel, and so takes three times the features for one of our steps.

        Skips quantus's check that the step divides the number of pixels.
        """

        def custom_preprocess(self, x_batch: np.ndarray, **rest: object) -> None:
            return None

    settings: dict[str, Any] = {"features_in_step": 3 * pixels, "abs": False, "normalise": False}
    settings["disable_warnings"] = True
    deleting = Flipping(perturb_baseline=0.0, **settings)
    inserting = Flipping(perturb_func=put_back, **settings)

    def mine() -> np.ndarray:
        probe = _probe(ours, image)
        return torch.cat([deletion(probe, values, STEPS), insertion(probe, values, STEPS)]).numpy()

    def peer(model: nn.Module = timm_model) -> np.ndarray:
        curves = [
            metric(model=model, x_batch=start.copy(), y_batch=np.array([TARGET]), a_batch=attribution, softmax=True)
            for metric, start in ((deleting, whole), (inserting, blurred))
        ]
        return np.concatenate(curves, 1)

    calls: Contenders = {"swinlens": mine, "quantus on timm": peer}
    result = measure("deletion plus insertion, 50 steps, Swin-T, 224 px", calls, rounds, "quantus on timm")
    own = mine()[:, 1:].reshape(1, -1)  # quantus omits the unchanged image
    result["largest_difference"] = float(np.abs(own - peer(ours)).max())
    print(f"    of one model the curves differ by at most {result['largest_difference']:.1e}")
    return result
