"""Explanations against pytorch-grad-cam: one map, many classes, and a grid of images and models."""

import json
from typing import Any

import numpy as np
import timm
import torch
from benchmarks.timing import Contenders, inference, measure, swins
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import swin_core
from swin_core.attribution.gradcam import GRAD_CAM
from swin_core.attribution.overlay import overlay
from swin_core.attribution.targets import image_targets
from swin_core.comparisons.compare import ExplainSettings, compare
from swin_core.figures.viewer_payload import viewer_payload


def gradcam(rounds: int) -> list[dict[str, Any]]:
    """Grad-CAM of Swin-T at 224 pixels, at the last block, against pytorch-grad-cam on timm's model."""
    models = swins()
    ours: nn.Module = models["swinlens"]
    theirs: Any = models["timm"]
    layer = "layers.3.blocks.1"
    x = torch.randn(1, 3, 224, 224)
    cam = GradCAM(theirs, [theirs.layers[3].blocks[1]], lambda output: output.permute(0, 3, 1, 2))

    results = []
    for classes in (1, 4, 16):
        targets = list(range(classes))

        def mine(targets: list[int] = targets) -> object:
            return GRAD_CAM.function(ours, x, image_targets(targets), [layer])

        def peer(targets: list[int] = targets) -> object:
            return cam(x.expand(len(targets), -1, -1, -1), [ClassifierOutputTarget(k) for k in targets])

        title = f"Grad-CAM, Swin-T, 224 px, classes: {classes}"
        # pytorch-grad-cam leaves hooks and gradients, but only on timm's model.
        calls: Contenders = {"swinlens": mine, "pytorch-grad-cam on timm": peer}
        if classes == 1:
            calls["swinlens, inference alone"] = inference(ours, x)
        results.append(measure(title, calls, rounds, "pytorch-grad-cam on timm"))
        if classes == 1:
            medians = results[-1]["median_ms"]
            share = medians["swinlens"] / medians["swinlens, inference alone"]
            results[-1]["over_inference"] = share
            print(f"    one class takes {share:.2f} times our own inference")
    return results


def grid4x4(rounds: int) -> list[dict[str, Any]]:
    """A rendered grid of 4 images and 4 Swin-T at 224 pixels, against pytorch-grad-cam with its own overlay.

    Explains each model's top-1 class at the last block. The result is all overlays side by side as pixels; ours also
    as the page's figure with titles, captions and scale. pytorch-grad-cam takes the images one by one, and as a
    batch.
    """
    draw = np.random.default_rng(0)
    images = [
        (f"image {number}", Image.fromarray(draw.integers(0, 256, (16, 20, 3), np.uint8)).resize((400, 320)))
        for number in range(4)
    ]
    labels = [f"class {number}" for number in range(1000)]
    ours, theirs = [], []
    for number in range(4):
        model = swin_core.build("swin_tiny").eval()
        ours.append(swin_core.Classifier(model, labels, (0.5,) * 3, (0.5,) * 3, 224, name=f"model {number}"))
        peer: Any = timm.create_model("swin_tiny_patch4_window7_224").eval()
        theirs.append(GradCAM(peer, [peer.layers[3].blocks[1]], lambda output: output.permute(0, 3, 1, 2)))
    settings = ExplainSettings(layers=("layers.3.blocks.1",))

    def sheet(batch: int) -> np.ndarray:
        views = [ours[0].view(image) for _, image in images]
        columns = [np.concatenate(views)]
        for cam in theirs:
            maps = [cam(ours[0].tensor(np.stack(views[at : at + batch])), None) for at in range(0, 4, batch)]
            pairs = zip(views, np.concatenate(maps), strict=True)
            overlays = [show_cam_on_image(np.float32(view) / 255, values, use_rgb=True) for view, values in pairs]
            columns.append(np.concatenate(overlays))
        return np.concatenate(columns, 1)

    def own_sheet() -> np.ndarray:
        grid = compare(images, ours, settings=settings)
        rows = []
        for row, (_, image) in zip(grid.rows, images, strict=True):
            view = ours[0].view(image)
            maps = [(cell.map, grid.top(cell)) for cell in row.cells]
            overlays = [overlay(view, values, top, grid.look) for values, top in maps if values is not None]
            rows.append(np.concatenate([view, *overlays], 1))
        return np.concatenate(rows)

    peers = "pytorch-grad-cam on timm"
    others: Contenders = {peers: lambda: sheet(1), f"{peers}, batched": lambda: sheet(4)}
    shown: Contenders = {"swinlens": lambda: json.dumps(viewer_payload(compare(images, ours, settings=settings)))}
    title = "4 images x 4 Swin-T, 224 px"
    return [
        measure(f"{title}, side by side as pixels", {"swinlens": own_sheet, **others}, rounds, peers),
        measure(f"{title}, as the page's figure", shown | others, rounds, peers),
    ]
