"""Temporary modes and hooks of a model; every module's and parameter's own state is restored afterwards."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

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


@contextmanager
def watch_outputs(modules: Mapping[str, nn.Module], read: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call `read(name, output)` whenever one of the modules has run in this thread, until the block ends.

    Hooks are visible to all threads, so calls on one model must hold its `Classifier.lock`; other threads are ignored.

    Args:
        modules: the modules by name.
        read: what it returns, unless that is None, replaces the module's output.
    """
    thread = threading.get_ident()

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, inputs, output: read(name, output) if threading.get_ident() == thread else None

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(hook_of(name)))
        yield


@contextmanager
def watch_inputs(modules: Mapping[str, nn.Module], read: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call `read(name, input)` whenever one of the modules is about to run in this thread, until the block ends.

    `input` is the module's first positional argument, which `read` does not replace. Locking is as for
    `watch_outputs`.
    """
    thread = threading.get_ident()

    def hook_of(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            if inputs and threading.get_ident() == thread:
                read(name, inputs[0])

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(hook_of(name)))
        yield
