"""Runs: what lies in a run's folder, which runs there are and how they are, and what can be done with them.

All truth is on the disk. Whoever reads it sees the same: another tab, a shell, or a server that was started anew. This
package knows programs and no torch, so that a list of runs is there in a blink.

A run's folder holds `config.json` (settings), `launch.json` (devices and who started it), `status.json` (how it is),
`metrics.jsonl` and `steps.jsonl` (figures by epoch and within), `log.txt`, `notes.txt`, `model.safetensors` (the newest
validated weights), `checkpoints/`, and `stop` while it is asked to stop.
"""

from swin_core.runs.changing import delete, kill, rename, request_stop, write_notes
from swin_core.runs.files import (
    create,
    is_run_name,
    read_config,
    read_launch,
    read_status,
    runs_root,
    stop_requested,
    write_launch,
    write_status,
)
from swin_core.runs.listing import STATES, Checkpoint, Run, find, list_runs
from swin_core.runs.liveness import identity
from swin_core.runs.locks import busy, device_locks, lock_key
from swin_core.runs.metrics import EpochMetrics, StepMetrics
from swin_core.runs.starting import TRAINER, resume, start

__all__ = [
    "STATES",
    "TRAINER",
    "Checkpoint",
    "EpochMetrics",
    "Run",
    "StepMetrics",
    "busy",
    "create",
    "delete",
    "device_locks",
    "find",
    "identity",
    "is_run_name",
    "kill",
    "list_runs",
    "lock_key",
    "read_config",
    "read_launch",
    "read_status",
    "rename",
    "request_stop",
    "resume",
    "runs_root",
    "start",
    "stop_requested",
    "write_launch",
    "write_notes",
    "write_status",
]
