"""Layer-wise relevance propagation (Bach et al. 2015) for our Swin: the contribution of each pixel to a class logit.

Relevance is passed from the logit back to the input so that each layer receives as much as it passes on. Written as
gradient x input this is an ordinary backward pass through a modified model (Ali et al. 2022, arXiv 2202.07304; Achtibat
et al. 2024, arXiv 2402.05602):

- the standard deviation of a LayerNorm, the gate of a GELU and the attention matrices are constants;
- linear layers and the patch embedding follow the gamma rule (see `_Gamma`), since in plain gradients of a deep network
  large contributions of both signs cancel and leave noise.

Residual connections, shifts, window partitions, patch merging and pooling need no rule. Only biases and the position
embedding absorb relevance: the sum of a map is the logit minus that part.

The rules are functions of this file that read the model's weights. They change no class, module or hook, so several
threads may explain and run one model at a time, without its lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.attribution.method import INPUT, Method
from swin_core.attribution.targets import Attribution, Target, TargetSelector, batch_targets
from swin_core.errors import LayerError
from swin_core.models.linear import linear
from swin_core.models.swin import Mlp, PatchEmbed, PatchMerging, Stage, Swin, SwinBlock
from swin_core.models.window_attention import WindowAttention
from swin_core.models.windows import fit_window, from_windows, to_windows
from swin_core.zoo.contract import LogitsModel, inner_model

__all__ = ["Relevance", "patch_relevance", "relevance", "relevance_layers", "relevance_maps"]

_GAMMA = 0.05
"""Extra weight of contributions with the sign of the sum. Of 0, 0.05, 0.25 and 1 it ranks pixels best (SRG) on the
bundled flower model. Larger values make maps smoother and less exact; 0 leaves noise."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Signed relevance of one class per image: positive values support the class."""

    pixels: Tensor
    """`(B, H, W)`: relevance of each pixel, summed over channels."""
    stages: list[Tensor]
    """Relevance of each cell of each stage's output, `(B, h, w)`, from the first stage to the last."""
    sums: Tensor
    """`(B, stages + 1)`: sums of the maps, pixels first: the logit minus the relevance absorbed by later biases."""
    logits: Tensor
    """`(B,)`: the explained logit, or difference of logits."""


def relevance(model: nn.Module, x: Tensor, targets: Tensor, against: Tensor | None = None) -> Relevance:
    """Relevance of each pixel, and of each cell of each stage, for one class per image.

    Args:
        model: our Swin, with attention or in its all-MLP form.
        x: normalised images, `(B, channels, H, W)`.
        targets: the class of each image, `(B,)`.
        against: contrast classes, `(B,)`: explain `logit[target] - logit[against]`.

    Raises:
        LayerError: another model.
        TargetError: a class outside the model's classes, or not one per image.
    """
    return _relevances(model, x, batch_targets(targets, against))[2][0]


def relevance_layers(model: nn.Module) -> tuple[str, ...]:
    """The layers that `relevance_maps` accepts: `INPUT`, and the stages of our Swin from the first to the last."""
    swin = inner_model(model)
    stages = len(swin.layers) if isinstance(swin, Swin) else 0
    return (INPUT, *(f"layers.{number}" for number in range(stages)))


def relevance_maps(
    model: nn.Module, x: Tensor, select: TargetSelector, layers: Sequence[str] = (INPUT,)
) -> Attribution:
    """Signed relevance maps for several targets, from one forward pass.

    Args:
        model: our Swin.
        x: normalised images, `(B, channels, H, W)`.
        select: chooses the targets from the logits.
        layers: some of `relevance_layers`. A stage's map has one value per cell of its output.

    Raises:
        LayerError: another model, or a layer without relevance.
        TargetError: a class outside the model's classes.
    """
    known = relevance_layers(model)
    if not layers:
        raise LayerError(f"name at least one layer for relevance propagation, of {', '.join(known)}.")
    for layer in layers:
        if isinstance(inner_model(model), Swin) and layer not in known:
            raise LayerError(f"relevance propagation has maps at {', '.join(known)}, not at {layer[:80]!r}.")
    logits, targets, results = _relevances(model, x, select)
    maps = [dict(zip(known, (result.pixels, *result.stages), strict=True)) for result in results]
    return Attribution(logits, targets, [[by_layer[layer] for layer in layers] for by_layer in maps])


RELEVANCE = Method(
    "relevance",
    "Relevance propagation",
    relevance_maps,
    "pixels",
    "one pass",
    "Propagates the class score from layer to layer back to the pixels, with evidence for and against (Bach et al. "
    "2015, with the rules for transformers of Ali et al. 2022).",
    signed=True,
    staged=True,
)


def patch_relevance(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Positive part of the relevance at stage 1, `(B, h, w)`: one value per patch.

    The relevance of pixels changes sign from pixel to pixel. Summed over the channels of a patch after stage 1, whose
    windows have mixed their tokens, it is smooth enough to rank locations and still has the resolution of the patches.
    """
    attribution = relevance_maps(model, x, select, ("layers.0",))
    return Attribution(
        attribution.logits, attribution.targets, [[stage.relu() for stage in maps] for maps in attribution.maps]
    )


PATCH_RELEVANCE = Method(
    "patchrelevance",
    "Relevance of patches",
    patch_relevance,
    "pixels",
    "one pass",
    "Positive relevance of each patch at the output of stage 1, by relevance propagation; for our Swin only.",
)


def _relevances(model: nn.Module, x: Tensor, select: TargetSelector) -> tuple[Tensor, list[Target], list[Relevance]]:
    """Logits `(B, classes)`, the targets, and the relevance of each."""
    swin = inner_model(model)
    if not isinstance(swin, Swin):
        raise LayerError(
            f"relevance propagation knows the layers of our own Swin, not those of {type(swin).__name__}; "
            "choose another method, such as gradcam."
        )
    swin.check_input(x)
    # Inference tensors cannot have gradients, and autocast would round the gradients to half precision.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        logits, outputs = _forward(swin, x)
        if isinstance(model, LogitsModel):
            logits = model.as_classes(logits, len(x))
        targets = select(logits.detach())
        results = []
        for number, target in enumerate(targets):
            score = target.score(logits)
            keep = number < len(targets) - 1
            at_x, *at_outputs = torch.autograd.grad(score.sum(), [x, *outputs], retain_graph=keep)
            pixels = (x * at_x).detach().sum(1)
            stages = [(output * g).detach().sum(-1) for output, g in zip(outputs, at_outputs, strict=True)]
            sums = torch.stack([maps.sum((1, 2)) for maps in (pixels, *stages)], 1)
            results.append(Relevance(pixels, stages, sums, score.detach()))
    return logits.detach(), targets, results


def _forward(model: Swin, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The model's logits `(B, classes)` and each stage's output `(B, h, w, C)`, with the rules in their graph."""
    tokens = _embed(model.patch_embed, x)
    embedding = model.position_embedding((tokens.shape[1], tokens.shape[2]))
    tokens = tokens if embedding is None else tokens + embedding.detach()
    outputs = []
    for stage in cast(list[Stage], list(model.layers)):
        for block in cast(list[SwinBlock], list(stage.blocks)):
            tokens = _block(block, tokens)
        outputs.append(tokens)
        if stage.downsample is not None:
            tokens = _merge(stage.downsample, tokens)
    return model.head(_norm(model.norm, tokens).mean((1, 2))), outputs


def _block(block: SwinBlock, x: Tensor) -> Tensor:
    if block.post_norm:
        assert block.attn is not None
        x = x + _norm(block.norm1, _attend(block.attn, x))
        return x + _norm(block.norm2, _mlp(block.mlp, x))
    normed = _norm(block.norm1, x)
    if block.attn is not None:
        x = x + _attend(block.attn, normed)
    else:
        assert block.spatial_mlp is not None
        x = x + block.spatial_mlp(normed)  # linear already: its plain gradient conserves relevance
    return x + _mlp(block.mlp, _norm(block.norm2, x))


def _attend(attention: WindowAttention, x: Tensor) -> Tensor:
    """`WindowAttention.forward` with constant attention matrices: only the values pass relevance on."""
    batch, height, width, channels = x.shape
    window, shift = fit_window((height, width), attention.window, attention.shift)
    windows = to_windows(x, window, shift)
    weight, bias = attention.qkv.weight.detach(), attention.projection_bias
    with torch.no_grad():
        q, k, _ = attention.split(linear(windows, weight, bias))
        scores = ((q * attention.scale) @ k.transpose(-2, -1)).unflatten(0, (batch, -1))
        matrices = (scores + attention.additive_term((height, width), window, shift)).flatten(0, 1).softmax(-1)
    v = _Gamma.apply(windows, weight[2 * channels :], None if bias is None else bias.detach()[2 * channels :])
    mixed = matrices @ v.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return from_windows(_linear(attention.proj, mixed.transpose(1, 2).flatten(2)), (height, width), window, shift)


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    """`GELU(h) = h * Phi(h)` with a constant gate `Phi(h)`."""
    hidden = _linear(mlp.fc1, x)
    return _linear(mlp.fc2, hidden * torch.special.ndtr(hidden.detach()))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm with a constant standard deviation, which makes it linear."""
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.detach().square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight.detach()
    return centred * scale + norm.bias.detach()


def _embed(patches: PatchEmbed, x: Tensor) -> Tensor:
    """The patch embedding as a linear layer instead of a convolution."""
    side = patches.patch
    x = F.pad(x, (0, -x.shape[-1] % side, 0, -x.shape[-2] % side))
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5).flatten(3)
    bias = patches.proj.bias
    x = _Gamma.apply(x, patches.proj.weight.detach().flatten(1), None if bias is None else bias.detach())
    return _norm(patches.norm, x)


def _merge(merging: PatchMerging, x: Tensor) -> Tensor:
    x = merging.neighbourhoods(x)
    if merging.post_norm:
        return _norm(merging.norm, _linear(merging.reduction, x))
    return _linear(merging.reduction, _norm(merging.norm, x))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return _Gamma.apply(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


class _Gamma(torch.autograd.Function):
    """A linear layer with the gamma rule (Montavon et al. 2019) as its backward pass, for inputs of any sign.

    Output j is a sum of contributions `c_ij = x_i w_ij`, the bias included. Contributions with the sign of the sum
    count `1 + gamma` times: with `d_ij = c_ij + gamma / 2 (c_ij + sign(z_j) |c_ij|)`,

        R_i = sum_j d_ij / (sum_i d_ij) R_j

    The magnitude of the denominator is at least that of `z_j`, so relevance does not explode. Relevance is represented
    by a gradient, `R = value * gradient`. `|c_ij| = |x_i| |w_ij|` makes four matrix products enough.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`F.linear`: `(..., in)` to `(..., out)`."""
        z = linear(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        return z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient that gives the relevance of x when multiplied by x."""
        x, weight, bias, z = ctx.saved_tensors
        strengths = weight.abs()
        magnitudes = linear(x.abs(), strengths, None if bias is None else bias.abs())
        total = z + _GAMMA / 2 * (z + z.sign() * magnitudes)
        share = torch.where(total == 0, 0, z / total) * gradients[0]
        plain = linear(share, weight.t())
        favoured = linear(share * z.sign(), strengths.t())
        return plain + _GAMMA / 2 * (plain + x.sign() * favoured), None, None
