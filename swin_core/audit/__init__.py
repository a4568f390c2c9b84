"""Does a model rely on the wrong thing? Regularities in what it uses, each tested by intervention."""

from swin_core.audit.findings import audit
from swin_core.audit.results import Audit

__all__ = ["Audit", "audit"]
