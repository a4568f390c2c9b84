"""Entry point of the Space. It lies at the Space's root, beside `swin_core` and `dashboard`."""

import os
import sys

from dashboard.gradio_demo import main

# The proxies of Spaces have private addresses. The last other address that they forward is the visitor's; those before
# it are whatever the visitor sent.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16")

if __name__ == "__main__":
    sys.exit(main())
