"""What is set on a model for the length of a block, with every module's own state restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluation_mode", "frozen_parameters"]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode; leave each as it was, after success and after failure.

    Modules are restored one by one, since a user may have frozen some of them (batch norms, say).
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient, so that a graph for other gradients is small; leave each as it was.

    The parameters' own gradients, such as those between two training steps, are put back too, whatever the block did.
    """
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    for parameter, learns, _ in before:
        if learns:
            parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter, learns, gradient in before:
            if learns:
                parameter.requires_grad = True
            parameter.grad = gradient
