"""The GPUs that CUDA shows to this process, through the driver's library NVML, without torch.

They are numbered in PCI bus order, as in CUDA with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, which `swin_core` sets.
"""

import os
from collections.abc import Iterator
from typing import Any


def visible() -> list[Any]:
    """Return NVML handles of `cuda:0`, `cuda:1` and so on; none without a driver.

    If a visible card is split into MIG instances, CUDA shows its first instance only, and no other GPU.
    """
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()  # from the second call on, this does nothing
        cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        instances = {index: _instances(pynvml, card) for index, card in enumerate(cards)}
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = range(len(cards)) if setting is None else list(_selected(pynvml, cards, instances, setting))
        for item in shown:
            if not isinstance(item, int):
                return [item]
            if instances[item]:
                return [instances[item][0]]
        return [cards[index] for index in shown]
    except pynvml.NVMLError:
        return []


def uuid_of(device: str) -> str | None:
    """Return the UUID of a GPU such as "cuda:0"; None if the driver does not know it."""
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
    """Return the MIG instances of a card."""
    try:
        if pynvml.nvmlDeviceGetMigMode(card)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return []
        count = pynvml.nvmlDeviceGetMaxMigDeviceCount(card)
    except pynvml.NVMLError:  # a card without MIG
        return []
    instances = []
    for index in range(count):
        try:
            instances.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index))
        except pynvml.NVMLError:  # no instance at this index
            continue
    return instances


def _selected(pynvml: Any, cards: list[Any], instances: dict[int, list[Any]], setting: str) -> Iterator[Any]:
    """Yield the cards (by index) and MIG instances in `CUDA_VISIBLE_DEVICES`, up to the first unknown, as CUDA does."""
    for name in (part.strip() for part in setting.split(",")):
        if name.isdecimal() and int(name) < len(cards):
            yield int(name)
            continue
        known: list[tuple[Any, Any]] = []
        if name.startswith("GPU-"):
            known = list(enumerate(cards))
        elif name.startswith("MIG-"):
            known = [(instance, instance) for of_card in instances.values() for instance in of_card]
        matching = [item for item, handle in known if str(pynvml.nvmlDeviceGetUUID(handle)).startswith(name)]
        if len(matching) != 1:
            return
        yield matching[0]
