"""The Space's entry, at its root: Python finds `swin_core` and `dashboard` beside it."""

import sys

from dashboard.gradio_demo import main

if __name__ == "__main__":
    sys.exit(main())
