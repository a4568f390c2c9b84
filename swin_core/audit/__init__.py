"""Does a model rely on the wrong thing? Regularities in what it uses, each tested by intervention."""

from swin_core.audit.findings import Audit, audit

__all__ = ["Audit", "audit"]
