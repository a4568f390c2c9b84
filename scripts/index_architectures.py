#!/usr/bin/env python
"""Write the table of the fingerprints of all architectures of timm and torchvision, by which weights are recognised.

Run it after an update of timm or torchvision: `python scripts/index_architectures.py`. It takes some minutes.
"""

import argparse
import json
from pathlib import Path

import timm
import torchvision
from tqdm import tqdm

from swin_core.zoo.architectures import TIMM, TORCHVISION, fingerprint


def main() -> int:
    """Write the table; architectures that cannot be built without memory are left out and named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("swin_core/zoo/architectures.json"))
    options = parser.parse_args()
    names = [TIMM + name for name in timm.list_models()]
    names += [TORCHVISION + name for name in torchvision.models.list_models(module=torchvision.models)]
    table, left_out = {}, []
    for name in tqdm(names):
        try:
            table[name] = fingerprint(name)
        except Exception:  # whatever an architecture does while it is built
            left_out.append(name)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(table.items()))
    options.out.write_text(f"{{\n{lines}\n}}\n")
    print(f"{len(table)} architectures; left out: {', '.join(left_out) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
