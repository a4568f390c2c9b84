#!/usr/bin/env python
"""Find what a model wrongly relies on: `python scripts/audit.py MODEL --data FOLDER`; as `swinlens audit`."""

import sys

from swin_core.commands.audit import main

if __name__ == "__main__":
    sys.exit(main())
