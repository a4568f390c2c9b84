"""What an audit leaves on disk beside its maps: its result, and the findings that a user dismissed."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swin_core.audit.repair import Repair
from swin_core.audit.results import Audit, Tested
from swin_core.system.atomic import atomic_write

log = logging.getLogger(__name__)

_RESULT, _DISMISSED = "audit.json", "dismissed.json"


def write_audit(audit: Audit, folder: Path) -> None:
    """Keep a result; if the disk cannot be written, it is not kept."""
    means = {name: mean.tolist() for name, mean in audit.means.items()}
    _write(folder / _RESULT, audit.to_dict() | {"means": means})


def read_audit(folder: Path, seed: int | None = None) -> Audit | None:
    """Return the result that is kept in an audit's folder; None if it is missing, damaged or of another seed."""
    values = _read(folder / _RESULT)
    if not isinstance(values, dict) or (seed is not None and values.get("seed") != seed):
        return None
    try:
        return Audit.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged and is computed again (%s)", folder / _RESULT, error)
        return None


def forget_audit(folder: Path) -> None:
    """Remove a result that is kept; maps and dismissed findings stay."""
    (folder / _RESULT).unlink(missing_ok=True)


def finding_key(finding: Tested) -> str:
    """Return what identifies a finding of an audit."""
    named = [finding.class_name, finding.kind, finding.region, finding.frame]
    if finding.kind == "content":  # one class may have several
        named.append(hashlib.sha256(json.dumps([finding.names, finding.corners]).encode()).hexdigest()[:12])
    return json.dumps([*named, finding.statistic] if finding.statistic else named)


def write_finding(folder: Path, audit: Audit, finding: Tested, earlier: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write a findings file of one finding, to train without it; return the file, which is the same at each call.

    Args:
        folder: the audit's folder.
        audit: the audit.
        finding: the finding.
        earlier: findings that the audited model was trained without, which stay away.

    Raises:
        OSError: the disk cannot be written.
    """
    file = finding_file(folder, finding)
    values = {"model": audit.model, "data": audit.data, "split": audit.split, "findings": [finding.to_dict(), *earlier]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        stream.write(json.dumps(values, indent=1).encode())
    return file


def finding_file(folder: Path, finding: Tested) -> Path:
    """Return the findings file of one finding. It is not in the audit's folder, since runs need it for longer."""
    digest = hashlib.sha256(finding_key(finding).encode()).hexdigest()[:12]
    return folder.parent.parent / "findings" / f"{folder.name[:12]}-{digest}.json"


def write_repair(folder: Path, finding: Tested, run: str, repair: Repair) -> None:
    """Keep the comparison of a model with a run that was trained without a finding."""
    _write(_repair_file(folder, finding, run), repair.to_dict())


def read_repair(folder: Path, finding: Tested, run: str) -> Repair | None:
    """Return the comparison that is kept; None if it is missing or damaged."""
    try:
        return Repair.from_dict(_read(_repair_file(folder, finding, run)))
    except (KeyError, TypeError):
        return None


def _repair_file(folder: Path, finding: Tested, run: str) -> Path:
    return folder / f"repair-{finding_file(folder, finding).stem}-{run}.json"


def dismissed(folder: Path) -> set[str]:
    """Return the keys of the findings that a user dismissed."""
    keys = _read(folder / _DISMISSED)
    return {key for key in keys if isinstance(key, str)} if isinstance(keys, list) else set()


def dismiss(folder: Path, finding: Tested, hide: bool = True) -> None:
    """Dismiss a finding, or with `hide` False take that back."""
    key = finding_key(finding)
    _write(folder / _DISMISSED, sorted(dismissed(folder) | {key} if hide else dismissed(folder) - {key}))


def _write(file: Path, values: Any) -> None:
    try:
        with atomic_write(file) as stream:
            stream.write(json.dumps(values).encode())
    except OSError as error:
        log.warning("%s cannot be written (%s)", file, error)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
