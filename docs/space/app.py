"""Entry point of the Space. It lies at the Space's root, beside `swin_core` and `dashboard`."""

import os
import sys

from dashboard.gradio_demo import main

# Only the Space's proxy reaches the server: the visitors' addresses are those that it forwards.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")

if __name__ == "__main__":
    sys.exit(main())
