"""Layer-wise relevance propagation (Bach et al. 2015) for our Swin: what each pixel adds to a class's logit.

The logit is handed back layer by layer so that what leaves a layer is what entered it. Written as gradient times input
that is an ordinary backward pass, through a model in which a few things are changed (Ali et al. 2022, arXiv 2202.07304;
Achtibat et al. 2024, arXiv 2402.05602):

- a LayerNorm's standard deviation, a GELU's gate and the attention matrices are constants;
- linear layers, and the embedding of the patches, hand back by the gamma rule (see `_Gamma`), since in plain gradients
  of a deep network large contributions of both signs cancel each other and leave noise.

Shortcuts, shifts, partitions, patch merging and pooling need no rule. Only biases and the position embedding keep a
part for themselves: the sum of a map falls short of the logit by that, and equals it where they are zero.

The rules are functions of this file that read the model's weights. No class, module or hook is touched, so that any
number of threads may explain and run one model at a time, without its lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_core.attribution.methods import INPUT
from swin_core.attribution.targets import Attribution, Target, TargetSelector, batch_targets
from swin_core.errors import LayerError
from swin_core.models.linear import linear
from swin_core.models.swin import Mlp, PatchEmbed, PatchMerging, Stage, Swin, SwinBlock, WindowAttention
from swin_core.models.windows import fit_window, pad_to_windows, window_partition, window_reverse

__all__ = ["Relevance", "patch_relevance", "relevance", "relevance_layers", "relevance_maps"]

_GAMMA = 0.05
"""How much more a contribution counts that has the sign of the sum. Of 0, 0.05, 0.25 and 1 it ranks pixels best (SRG)
on the bundled flower model; more of it makes maps smoother and less exact, none of it leaves noise."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Signed maps of what speaks for a class and what against it, from one backward pass."""

    pixels: Tensor
    """`(B, H, W)`: the part of each pixel in the logit, summed over channels."""
    stages: list[Tensor]
    """The same of each cell in each stage's output, `(B, h, w)`, from the first stage to the last."""
    sums: Tensor
    """`(B, stages + 1)`: sums of the maps, pixels first; each is the logit less what the biases behind it keep."""
    logits: Tensor
    """`(B,)`: what is explained, the target's logit, less that of the class it is compared with."""


def relevance(model: nn.Module, x: Tensor, targets: Tensor, against: Tensor | None = None) -> Relevance:
    """Relevance of every pixel, and of every cell of each stage, for one class an image.

    Args:
        model: our Swin, with attention or in its all-MLP form.
        x: normalised images, `(B, channels, H, W)`.
        targets: the class of each image, `(B,)`.
        against: explain `logit[target] - logit[against]` instead of the logit, `(B,)`.

    Raises:
        LayerError: another model.
        TargetError: a class outside the model's, or not one an image.
    """
    return _relevances(model, x, batch_targets(targets, against))[2][0]


def relevance_layers(model: nn.Module) -> tuple[str, ...]:
    """Where `relevance_maps` has maps: `INPUT`, and the stages of our Swin by name, from the first to the last."""
    stages = len(model.layers) if isinstance(model, Swin) else 0
    return (INPUT, *(f"layers.{number}" for number in range(stages)))


def relevance_maps(
    model: nn.Module, x: Tensor, select: TargetSelector, layers: Sequence[str] = (INPUT,)
) -> Attribution:
    """Signed maps for several targets, from one forward pass.

    Args:
        model: our Swin.
        x: normalised images, `(B, channels, H, W)`.
        select: chooses the targets from the logits.
        layers: some of `relevance_layers`. At a stage, one value for each cell of its output.

    Raises:
        LayerError: another model, or a layer without relevance.
        TargetError: a class outside the model's.
    """
    known = relevance_layers(model)
    if not layers:
        raise LayerError(f"name at least one layer for relevance propagation, of {', '.join(known)}.")
    for layer in layers:
        if isinstance(model, Swin) and layer not in known:
            raise LayerError(f"relevance propagation has maps at {', '.join(known)}, not at {layer[:80]!r}.")
    logits, targets, found = _relevances(model, x, select)
    maps = [dict(zip(known, (one.pixels, *one.stages), strict=True)) for one in found]
    return Attribution(logits, targets, [[of_one[layer] for layer in layers] for of_one in maps])


def patch_relevance(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """What is above zero in the maps of `relevance_maps` at stage 1, `(B, h, w)`: one value a patch.

    The relevance of pixels changes its sign from one to the next. Summed over a patch's channels after stage 1, whose
    windows have exchanged what they hold, it is smooth enough to rank places, and still as fine as the patches.
    """
    found = relevance_maps(model, x, select, ("layers.0",))
    return Attribution(found.logits, found.targets, [[one.relu() for one in maps] for maps in found.maps])


def _relevances(model: nn.Module, x: Tensor, select: TargetSelector) -> tuple[Tensor, list[Target], list[Relevance]]:
    """Logits `(B, classes)`, the targets, and the answer to each."""
    if not isinstance(model, Swin):
        raise LayerError(
            f"relevance propagation knows the layers of our own Swin, not those of {type(model).__name__}; "
            "choose another method, such as gradcam."
        )
    model.check_input(x)
    # A tensor made in inference mode can have no gradient, and half precision would blur the gradients.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        logits, maps = _forward(model, x)
        targets = select(logits.detach())
        found = []
        for place, target in enumerate(targets):
            score = target.score(logits)
            pulled = torch.autograd.grad(score.sum(), [x, *maps], retain_graph=place < len(targets) - 1)
            pixels = (x * pulled[0]).detach().sum(1)
            stages = [(one * gradient).detach().sum(-1) for one, gradient in zip(maps, pulled[1:], strict=True)]
            sums = torch.stack([one.sum((1, 2)) for one in (pixels, *stages)], 1)
            found.append(Relevance(pixels, stages, sums, score.detach()))
    return logits.detach(), targets, found


def _forward(model: Swin, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The model's logits `(B, classes)` and each stage's output `(B, h, w, C)`, with the rules in their graph."""
    tokens = _embed(model.patch_embed, x)
    embedding = model.position_embedding((tokens.shape[1], tokens.shape[2]))
    tokens = tokens if embedding is None else tokens + embedding.detach()
    maps = []
    for stage in cast(list[Stage], list(model.layers)):
        for block in cast(list[SwinBlock], list(stage.blocks)):
            tokens = _block(block, tokens)
        maps.append(tokens)
        if stage.downsample is not None:
            tokens = _merge(stage.downsample, tokens)
    return model.head(_norm(model.norm, tokens).mean((1, 2))), maps


def _block(block: SwinBlock, x: Tensor) -> Tensor:
    normed = _norm(block.norm1, x)
    if block.attn is not None:
        x = x + _attend(block.attn, normed)
    else:
        assert block.spatial_mlp is not None
        x = x + block.spatial_mlp(normed)  # linear as it is: its plain gradient hands back everything
    return x + _mlp(block.mlp, _norm(block.norm2, x))


def _attend(attention: WindowAttention, x: Tensor) -> Tensor:
    """Window attention as in `WindowAttention.forward`, whose matrices are constants: only values hand back."""
    batch, height, width, channels = x.shape
    window, shift = fit_window((height, width), attention.window, attention.shift)
    x = pad_to_windows(x, window)
    grid = (x.shape[1], x.shape[2])
    windows = window_partition(torch.roll(x, (-shift[0], -shift[1]), (1, 2)), window)
    heads, weight, bias = attention.heads, attention.qkv.weight.detach(), attention.qkv.bias
    with torch.no_grad():
        q, k = (
            linear(windows, weight[part], None if bias is None else bias[part])
            .unflatten(-1, (heads, -1))
            .transpose(1, 2)
            for part in (slice(0, channels), slice(channels, 2 * channels))
        )
        scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).unflatten(0, (batch, -1))
        matrices = (scores + attention.additive_term(grid, window, shift)).flatten(0, 1).softmax(-1)
    v = _Gamma.apply(windows, weight[2 * channels :], None if bias is None else bias.detach()[2 * channels :])
    mixed = matrices @ v.unflatten(-1, (heads, -1)).transpose(1, 2)
    x = window_reverse(_linear(attention.proj, mixed.transpose(1, 2).flatten(2)), window, grid)
    return torch.roll(x, shift, (1, 2))[:, :height, :width]


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    """`GELU(h) = h * Phi(h)` with a constant gate `Phi(h)`."""
    hidden = _linear(mlp.fc1, x)
    return _linear(mlp.fc2, hidden * torch.special.ndtr(hidden.detach()))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm with a constant standard deviation: the mean is linear, and hands back as it is."""
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.detach().square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight.detach()
    return centred * scale + norm.bias.detach()


def _embed(patches: PatchEmbed, x: Tensor) -> Tensor:
    """The convolution over patches as the linear layer that it is."""
    side = patches.patch
    x = F.pad(x, (0, -x.shape[-1] % side, 0, -x.shape[-2] % side))
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5).flatten(3)
    bias = patches.proj.bias
    x = _Gamma.apply(x, patches.proj.weight.detach().flatten(1), None if bias is None else bias.detach())
    return _norm(patches.norm, x)


def _merge(merging: PatchMerging, x: Tensor) -> Tensor:
    return _linear(merging.reduction, _norm(merging.norm, merging.neighbourhoods(x)))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return _Gamma.apply(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


class _Gamma(torch.autograd.Function):
    """A linear layer that hands relevance back by the gamma rule (Montavon et al. 2019), for inputs of any sign.

    Output j is a sum of contributions `c_ij = x_i w_ij`, and of the bias as one more. Those with the sign of the sum
    count `1 + gamma` times: with `d_ij = c_ij + gamma / 2 (c_ij + sign(z_j) |c_ij|)`,

        R_i = sum_j d_ij / (sum_i d_ij) R_j

    The denominator is never smaller than `z_j` in size, so that nothing grows. What comes and goes are gradients, with
    `R = value * gradient` on either side. Four matrix products in all, as `|c_ij| = |x_i| |w_ij|`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`(..., in)` to `(..., out)`, as `F.linear` does it."""
        z = linear(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        return z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient whose product with x is the relevance of x."""
        x, weight, bias, z = ctx.saved_tensors
        sizes = linear(x.abs(), weight.abs(), None if bias is None else bias.abs())
        total = z + _GAMMA / 2 * (z + z.sign() * sizes)
        share = torch.where(total == 0, 0, z / total) * gradients[0]
        plain = linear(share, weight.t().contiguous())
        favour = linear(share * z.sign(), weight.t().abs().contiguous())
        return plain + _GAMMA / 2 * (plain + x.sign() * favour), None, None
