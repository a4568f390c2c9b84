"""Temporary modes of a model; every module's and parameter's own state is restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode; restore each one's mode afterwards, also after an error.

    Modules are restored one by one, since a user may have frozen some of them, such as batch norms.
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
    """Turn off gradients of all parameters, which keeps the graph for other gradients small.

    `requires_grad` and `grad` are restored afterwards, also after an error: the call may come between two training
    steps.
    """
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    for parameter, requires_grad, _ in before:
        if requires_grad:
            parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter, requires_grad, gradient in before:
            if requires_grad:
                parameter.requires_grad = True
            parameter.grad = gradient
