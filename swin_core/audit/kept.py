"""What an audit leaves on disk beside its maps: its tests while it runs, its result, and what a user dismissed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swin_core.audit.repair import Repair
from swin_core.audit.results import Audit, Tested
from swin_core.system.atomic import atomic_write

log = logging.getLogger(__name__)

FORMAT = 4
"""Number of the way in which candidates are tested and findings made of them; raise it when that, or a constant of it,
changes. What is kept of another number is computed again; the maps of relevance stay."""

_RESULT, _DISMISSED, _STEPS = "audit.json", "dismissed.json", "steps"


def write_audit(audit: Audit, folder: Path) -> None:
    """Keep a result in place of the steps that led to it; if the disk cannot be written, it is not kept."""
    means = {name: mean.tolist() for name, mean in audit.means.items()}
    _write(folder / _RESULT, audit.to_dict() | {"means": means, "format": FORMAT})
    if (folder / _RESULT).is_file():
        shutil.rmtree(folder / _STEPS, ignore_errors=True)


def kept_step(folder: Path, key: str, compute: Callable[[], Any]) -> Any:
    """Return the JSON value of a step of an audit that has not ended; compute and keep it if it is not there yet.

    Args:
        folder: the audit's folder.
        key: what identifies the step and all that it depends on; a file is named after it.
        compute: returns the value.
    """
    file = folder / _STEPS / f"{key}.json"
    value = _read(file)
    if value is None:
        value = compute()
        _write(file, value)
    return value


def read_audit(folder: Path, seed: int | None = None) -> Audit | None:
    """Return the result that is kept in an audit's folder; None if it is missing, damaged or of another seed.

    One that another version made in another way is as good as missing.
    """
    values = _read(folder / _RESULT)
    if not isinstance(values, dict) or (seed is not None and values.get("seed") != seed):
        return None
    if values.get("format") != FORMAT:
        log.info("%s is of another version and is computed again", folder / _RESULT)
        return None
    try:
        return Audit.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged and is computed again (%s)", folder / _RESULT, error)
        return None


def forget_audit(folder: Path) -> None:
    """Remove a result that is kept, and the tests of an audit that has not ended; maps and dismissed findings stay."""
    (folder / _RESULT).unlink(missing_ok=True)
    shutil.rmtree(folder / _STEPS, ignore_errors=True)


def finding_key(finding: Tested) -> str:
    """Return what identifies a finding of an audit."""
    named = [finding.class_name, finding.kind, finding.region, finding.frame]
    if finding.kind == "content":  # one class may have several
        named.append(_digest(finding.names, finding.corners))
    return json.dumps([*named, finding.statistic] if finding.statistic else named)


def write_findings(
    folder: Path, audit: Audit, findings: Sequence[Tested], earlier: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write a findings file, to train without what it holds; return the file, which is the same for the same findings.

    Args:
        folder: the audit's folder.
        audit: the audit.
        findings: the chosen findings.
        earlier: findings that the audited model was trained without, which stay away.

    Raises:
        OSError: the disk cannot be written.
    """
    file = _findings_folder(folder) / f"{folder.name[:12]}-{_digest(*sorted(map(finding_key, findings)))}.json"
    chosen = [*(finding.to_dict() for finding in findings), *earlier]
    values = {"model": audit.model, "data": audit.data, "split": audit.split, "findings": chosen}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        stream.write(json.dumps(values, indent=1).encode())
    return file


def is_findings_file(file: str, folder: Path) -> bool:
    """Return whether a findings file is of the audit in a folder."""
    return Path(file).parent == _findings_folder(folder) and Path(file).name.startswith(f"{folder.name[:12]}-")


def _findings_folder(folder: Path) -> Path:
    """Return the folder of findings files. They are not in the audit's folder, since runs need them for longer."""
    return folder.parent.parent / "findings"


def write_repair(folder: Path, finding: Tested, run: str, repair: Repair) -> None:
    """Keep the comparison of a model with a run that was trained without a finding.

    Raises:
        OSError: the disk cannot be written.
    """
    with atomic_write(_repair_file(folder, finding, run)) as stream:
        stream.write(json.dumps(repair.to_dict()).encode())


def read_repair(folder: Path, finding: Tested, run: str) -> Repair | None:
    """Return the comparison that is kept; None if it is missing or damaged."""
    try:
        return Repair.from_dict(_read(_repair_file(folder, finding, run)))
    except (KeyError, TypeError):
        return None


def _repair_file(folder: Path, finding: Tested, run: str) -> Path:
    return folder / f"repair-{_digest(finding_key(finding))}-{run}.json"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


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
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            stream.write(json.dumps(values).encode())
    except OSError as error:
        log.warning("%s cannot be written (%s)", file, error)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
