#!/usr/bin/env python
"""List, stop, resume, rename or delete runs: `python scripts/runs.py stop RUN`; the same as `swinlens runs`."""

import sys

from swin_core.commands.runs import main

if __name__ == "__main__":
    sys.exit(main())
