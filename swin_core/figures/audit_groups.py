"""The images of each finding of an audit, by the finding's name."""

from collections.abc import Sequence

import numpy as np

from swin_core.audit.results import Audit, Tested
from swin_core.figures.audit_text import describe


def finding_name(finding: Tested) -> str:
    """Return a short name of a finding: "tulips: region at the lower right corner"."""
    return f"{finding.class_name}: {describe(finding)}"


def finding_images(audit: Audit | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return which images show each finding, `(N,)` bool, the strongest finding first.

    Args:
        audit: the audit; None for no finding.
        names: names of the data set's N images.
    """
    index = {name: number for number, name in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    for finding in audit.findings if audit else ():
        name = finding_name(finding)
        same = sum(each == name or each.startswith(f"{name} (") for each in found)
        rows = found[f"{name} ({same + 1})" if same else name] = np.zeros(len(names), bool)
        rows[[index[name] for name in finding.names if name in index]] = True
    return found
