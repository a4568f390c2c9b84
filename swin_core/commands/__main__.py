"""`python -m swin_core.commands` is the command `swinlens`, for torchrun's `-m`."""

import sys

from swin_core.commands import main

if __name__ == "__main__":
    sys.exit(main())
