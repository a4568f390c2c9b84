"""Trust figures beside pytorch-grad-cam's ROAD and quantus's pixel flipping, with the results side by side too.

quantus asks for opencv-python, which cannot stand beside the headless build, so it is no test dependency. To measure
beside it: `pip install --no-deps quantus && pip install scikit-image cachetools`.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
from benchmarks.measuring import Contenders, measure, swins
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import nn

import swin_core
from swin_core.trust.faithfulness import Probe, blur, deletion, insertion, road

SIDE, TARGET, STEPS = 224, 7, 50
SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""The shares of removed pixels that pytorch-grad-cam's percentiles 10 to 90 mean."""


def trust(rounds: int) -> list[dict[str, Any]]:
    """ROAD at nine percentiles against pytorch-grad-cam's, deletion plus insertion of 50 steps against quantus's."""
    models = swins()
    draw = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 3, SIDE, SIDE, generator=draw)
    # No two pixels are equal: pytorch-grad-cam's thresholds and our ranks then choose the same ones.
    values = torch.randperm(SIDE**2, generator=draw).view(1, SIDE, SIDE) / SIDE**2
    results = [_road(models["swinlens"], models["timm"], picture, values, rounds)]
    if importlib.util.find_spec("quantus") is None:
        print("deletion plus insertion: quantus is not installed; the head of scripts/benchmarks/believing.py says how")
        return results
    return [*results, _flipping(models["swinlens"], models["timm"], picture, values, rounds)]


def _probe(model: nn.Module, picture: torch.Tensor) -> Probe:
    labels = [f"class {number}" for number in range(1000)]
    classifier = swin_core.Classifier(model, labels, (0.5,) * 3, (0.5,) * 3, SIDE)
    return Probe(classifier, picture, torch.tensor([0]), torch.tensor([TARGET]))


def _road(ours: nn.Module, timm_model: nn.Module, picture: torch.Tensor, values: torch.Tensor, rounds: int) -> dict:
    theirs = ROADCombined(percentiles=[round(100 * share) for share in SHARES])

    def mine() -> float:
        return float(road(_probe(ours, picture), values, SHARES))

    def peer(model: nn.Module = timm_model) -> float:
        return float(theirs(picture, values.numpy(), [ClassifierOutputSoftmaxTarget(TARGET)], model)[0])

    calls: Contenders = {"swinlens": mine, "pytorch-grad-cam on timm": peer}
    result = measure("ROAD at 9 percentiles, Swin-T, 224 px", calls, rounds, "pytorch-grad-cam on timm")
    result["of_one_model"] = {"swinlens": mine(), "pytorch-grad-cam": peer(ours)}
    print(f"    of one model: {result['of_one_model']}; each adds noise of its own")
    return result


def _flipping(ours: nn.Module, timm_model: nn.Module, picture: torch.Tensor, values: torch.Tensor, rounds: int) -> dict:
    import quantus

    pixels = -(-(SIDE**2) // STEPS)
    attribution = values[:, None].expand(-1, 3, -1, -1).numpy()
    whole, blurred = picture.numpy(), blur(picture).numpy()

    def put_back(arr: np.ndarray, indices: np.ndarray, **rest: object) -> np.ndarray:
        arr = arr.copy()
        np.put_along_axis(arr, indices, np.take_along_axis(whole.reshape(1, -1), indices, 1), 1)
        return arr

    class Flipping(quantus.PixelFlipping):
        """Without its check that a step divides the number of pixels: it counts pixels times channels as it goes."""

        def custom_preprocess(self, x_batch: np.ndarray, **rest: object) -> None:
            return None

    # So three times as many make a step of ours.
    settings: dict[str, Any] = {"features_in_step": 3 * pixels, "abs": False, "normalise": False}
    settings["disable_warnings"] = True
    deleting = Flipping(perturb_baseline=0.0, **settings)
    inserting = Flipping(perturb_func=put_back, **settings)

    def mine() -> np.ndarray:
        probe = _probe(ours, picture)
        return torch.cat([deletion(probe, values, STEPS), insertion(probe, values, STEPS)]).numpy()

    def peer(model: nn.Module = timm_model) -> np.ndarray:
        curves = [
            metric(model=model, x_batch=start.copy(), y_batch=np.array([TARGET]), a_batch=attribution, softmax=True)
            for metric, start in ((deleting, whole), (inserting, blurred))
        ]
        return np.concatenate(curves, 1)

    calls: Contenders = {"swinlens": mine, "quantus on timm": peer}
    result = measure("deletion plus insertion, 50 steps, Swin-T, 224 px", calls, rounds, "quantus on timm")
    own = mine()[:, 1:].reshape(1, -1)  # quantus leaves out the unchanged image
    result["largest_difference"] = float(np.abs(own - peer(ours)).max())
    print(f"    of one model the curves differ by at most {result['largest_difference']:.1e}")
    return result
