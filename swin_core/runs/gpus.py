"""The GPUs that CUDA shows to this program, from the driver's library NVML; without torch.

They count in the order of the bus, as in CUDA where `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`; `swin_core` sets that.
"""

import os
from collections.abc import Iterator
from typing import Any

__all__ = ["uuid_of", "visible"]


def visible() -> list[Any]:
    """NVML handles of `cuda:0`, `cuda:1` and so on; empty without a driver.

    Of the cards that are split into MIG instances, CUDA shows the first instance alone, and then no other GPU.
    """
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()  # the driver counts the calls, and does nothing from the second on
        cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        instances = {index: _instances(pynvml, card) for index, card in enumerate(cards)}
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = range(len(cards)) if named is None else list(_named(pynvml, cards, instances, named))
        for one in shown:
            if not isinstance(one, int):
                return [one]
            if instances[one]:
                return [instances[one][0]]
        return [cards[one] for one in shown]
    except pynvml.NVMLError:
        return []


def uuid_of(device: str) -> str | None:
    """The UUID of a GPU such as "cuda:0"; None if the driver does not know it."""
    kind, _, index = device.partition(":")
    gpus = visible() if kind == "cuda" else []
    if not index.isdecimal() or int(index) >= len(gpus):
        return None
    import pynvml

    try:
        return str(pynvml.nvmlDeviceGetUUID(gpus[int(index)]))
    except pynvml.NVMLError:
        return None


def _instances(pynvml: Any, card: Any) -> list[Any]:
    """The MIG instances of a card."""
    try:
        if pynvml.nvmlDeviceGetMigMode(card)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return []
        count = pynvml.nvmlDeviceGetMaxMigDeviceCount(card)
    except pynvml.NVMLError:  # a card without MIG
        return []
    found = []
    for index in range(count):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index))
        except pynvml.NVMLError:  # a place without an instance
            continue
    return found


def _named(pynvml: Any, cards: list[Any], instances: dict[int, list[Any]], named: str) -> Iterator[Any]:
    """The cards (by index) and MIG instances that `CUDA_VISIBLE_DEVICES` names, up to the first unknown, as in CUDA."""
    for name in (part.strip() for part in named.split(",")):
        if name.isdecimal() and int(name) < len(cards):
            yield int(name)
            continue
        known: list[tuple[Any, Any]] = []
        if name.startswith("GPU-"):
            known = list(enumerate(cards))
        elif name.startswith("MIG-"):
            known = [(instance, instance) for of_card in instances.values() for instance in of_card]
        matching = [one for one, handle in known if str(pynvml.nvmlDeviceGetUUID(handle)).startswith(name)]
        if len(matching) != 1:
            return
        yield matching[0]
