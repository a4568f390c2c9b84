#!/usr/bin/env python
"""Draw heat maps as one grid: `python scripts/explain.py cat.jpg --models A B --out a.png`; as `swinlens explain`."""

import sys

from swin_core.commands.explain import main

if __name__ == "__main__":
    sys.exit(main())
