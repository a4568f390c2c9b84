"""A pretended GPU: the CPU computes, and a tensor of the other device raises an error as it would beside a real GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
"""The name of the pretended device."""

_MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda)
_CPU_ONLY = (Tensor.numpy, Tensor.__array__)
_COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "on_pretended_gpu", False)


def _place(result: Any, on_gpu: bool) -> None:
    with torch._C.DisableTorchFunction():
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                leaf.untyped_storage().on_pretended_gpu = on_gpu  # views share their storage, and so the mark


class PretendedGPU(TorchFunctionMode):
    """Marks the storage of tensors that are made on `GPU` or moved there, and answers `tensor.device` by the mark.

    Every operation, also those of a backward pass and of an optimizer, raises `RuntimeError` if its tensors are on
    different devices. Scalars `()` on the CPU are accepted, as PyTorch does; indices on the CPU are not, since each use
    copies them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[tuple[int, ...]] = []
        """The shapes of the tensors that were copied from the CPU to the GPU."""
        self.downloads: list[tuple[int, ...]] = []
        """The shapes of those that were copied back."""
        self._operations = _Operations(self)

    def __enter__(self) -> PretendedGPU:
        super().__enter__()
        self._operations.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._operations.__exit__(*error)
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return GPU if is_on_gpu(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:
            return is_on_gpu(args[0])
        if func in _MOVES:
            return self._move(func, *args, **kwargs)
        if func in _CPU_ONLY and is_on_gpu(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        device = kwargs.get("device")
        if device is not None:
            kwargs["device"] = "cpu"
        generator = kwargs.get("generator")
        result = func(*args, **kwargs)
        if device is not None and torch.device(device).type == "cuda":
            _place(result, True)
        if func is Tensor.__deepcopy__:
            _place(result, is_on_gpu(args[0]))
        drawn = generator is not None and isinstance(result, Tensor)
        if drawn and is_on_gpu(result) != getattr(generator, "on_gpu", False):
            raise RuntimeError(f"{func.__name__}: the generator is on another device than the tensor")
        return result

    def _move(self, func: Any, tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        copy = options.pop("copy", False)
        device, dtype = None, None
        if func is not Tensor.to:
            device = torch.device("cpu") if func is Tensor.cpu else GPU
        elif args and isinstance(args[0], Tensor):
            device, dtype = (GPU if is_on_gpu(args[0]) else torch.device("cpu")), args[0].dtype
        else:
            device, dtype, _, _ = torch._C._nn._parse_to(*args, **options)
        before = is_on_gpu(tensor)
        after = before if device is None else device.type == "cuda"
        moved = tensor.to(dtype or tensor.dtype, copy=copy or before != after)
        if before != after:
            _place(moved, after)
            (self.uploads if after else self.downloads).append(tuple(tensor.shape))
        return moved


class _Operations(TorchDispatchMode):
    """Checks the operations below autograd and marks their results."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        on_gpu = [is_on_gpu(tensor) for tensor in tensors]
        mixed = any(on_gpu) and not all(
            there or not tensor.dim() for tensor, there in zip(tensors, on_gpu, strict=True)
        )
        if func is torch.ops.aten.copy_.default and on_gpu[0] != on_gpu[1]:
            (self._gpu.uploads if on_gpu[0] else self._gpu.downloads).append(tuple(tensors[1].shape))
        elif mixed and func not in _COPIES:
            shapes = [
                [tuple(t.shape) for t, place in zip(tensors, on_gpu, strict=True) if place is side][:3]
                for side in (True, False)
            ]
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but found {shapes[0]} on cuda:0 and "
                f"{shapes[1]} on the CPU"
            )
        result = func(*args, **(kwargs or {}))
        if any(on_gpu) and func is not torch.ops.aten.copy_.default:
            _place(result, True)
        return result


class _Generator(torch.Generator):
    """A random number generator that knows whether it belongs to the pretended GPU."""

    on_gpu = False

    def __new__(cls, device: Any = "cpu") -> _Generator:
        generator = super().__new__(cls)
        generator.on_gpu = torch.device(device).type == "cuda"
        return generator


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGPU]:
    """The pretended GPU, for the length of a test; `torch.cuda` answers as for an old card of 8 GiB."""
    gibibyte = 2**30
    answers: dict[str, Callable[..., Any]] = {
        "get_device_capability": lambda device=None: (7, 5),
        "mem_get_info": lambda device=None: (7 * gibibyte, 8 * gibibyte),
        "max_memory_allocated": lambda device=None: gibibyte,
        "max_memory_reserved": lambda device=None: 2 * gibibyte,
        "reset_peak_memory_stats": lambda device=None: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "get_device_name": lambda device=None: "Pretended GPU",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch, "Generator", _Generator)
    with PretendedGPU() as gpu:
        yield gpu
