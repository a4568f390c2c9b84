"""How many images pass through a model at once."""

import torch

MOST_ON_CPU = 64
"""Most images in one pass on a CPU."""


def images_at_once(device: torch.device, side: int, most: int, gradients: bool = False) -> int:
    """Return the number of images in one pass: `most` on a GPU, elsewhere fewer where a larger batch is no faster.

    On a CPU 64 images of 32 pixels, 16 of 128 or 9 of 224 are enough; more take memory and no less time for each. Where
    malloc returns large blocks to the system (see `keep_freed_memory`), 256 images of 32 pixels take 1.6 times as long
    each. A pass whose gradients are wanted keeps all activations, up to 64 MiB for an image of 128 pixels, and is
    nearly as fast with 32 images of 32 pixels or 2 of 128.

    Args:
        device: of the model.
        side: longer side of the images in pixels.
        most: images in one pass on a GPU; no more elsewhere either.
        gradients: whether gradients are wanted.
    """
    if device.type == "cuda":
        return most
    return max(1, min(most, MOST_ON_CPU, 2**15 // side**2 if gradients else 2048 // side))
