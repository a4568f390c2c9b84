"""Entry point of the Space. It lies at the Space's root, beside `swin_core` and `dashboard`."""

import sys

from dashboard.gradio_demo import main

if __name__ == "__main__":
    sys.exit(main())
