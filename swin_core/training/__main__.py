"""`python -m swin_core.training` is the command `swinlens train`."""

import sys

from swin_core.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
