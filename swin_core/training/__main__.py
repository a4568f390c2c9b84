"""`python -m swin_core.training` is the command `swinlens train`."""

import os
import sys

from swin_core.commands.train import main
from swin_core.system.distributed import under_torchrun

if __name__ == "__main__":
    status = main()
    if under_torchrun():
        # Threads of gloo and OpenMP that still run now and then abort the interpreter's exit, and torchrun would take
        # that for the end of the rank.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
