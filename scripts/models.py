#!/usr/bin/env python
"""List models or add one: `python scripts/models.py add flowers.pth --labels names.txt`; as `swinlens models`."""

import sys

from swin_core.commands.models import main

if __name__ == "__main__":
    sys.exit(main())
