#!/usr/bin/env python
"""List the installed packages with known vulnerabilities, by pip-audit: `python scripts/vulnerabilities.py`.

The advisories are those of PyPI. Where they cannot be reached, one line says so. What is found is reported and is no
error: an advisory is published without any change here, and may have no release that mends it.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from urllib.request import urlopen

KNOWN = "https://pypi.org/pypi/pip/23.2.1/json"
"""A release that has advisories. Some mirrors of PyPI have none, and pip-audit then says that all is well."""
PROBE_SECONDS, INSTALL_SECONDS, AUDIT_SECONDS = 3, 120, 300


def unreachable() -> str:
    """Return why the advisories cannot be had, or an empty text."""
    try:
        with urlopen(KNOWN, timeout=PROBE_SECONDS) as answer:
            return "" if json.load(answer)["vulnerabilities"] else f"{KNOWN} has no advisories"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{KNOWN}: {error}"


def main() -> None:
    """Run the command line."""
    if reason := unreachable():
        print(f"Known vulnerabilities were not looked up: {reason}")
        return
    # pip-audit has many requirements of its own, which would change the environment that is tested.
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", folder]
        audit = [
            sys.executable,
            "-m",
            "pip_audit",
            "--progress-spinner",
            "off",
            "--path",
            sysconfig.get_path("purelib"),
        ]
        try:
            subprocess.run([*pip, "pip-audit"], check=True, timeout=INSTALL_SECONDS)
            subprocess.run(audit, env=os.environ | {"PYTHONPATH": folder}, timeout=AUDIT_SECONDS, check=False)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"Known vulnerabilities were not looked up: {error}")


if __name__ == "__main__":
    main()
