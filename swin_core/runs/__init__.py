"""Training runs: the files of a run's folder, the list of runs with their states, and starting, stopping, deleting.

Everything is read from the disk, so that every tab, shell and server sees the same. The package does not import torch,
so that a list of runs appears at once.

A run's folder holds `config.json` (settings), `launch.json` (devices and launcher), `status.json` (state),
`metrics.jsonl` and `steps.jsonl` (metrics per epoch and within epochs), `data.json` (images of
each class, files that are not used), `changes.json` (settings that were changed on the way), `log.txt`, `notes.txt`,
`model.safetensors` (newest validated weights), `checkpoints/`, and `stop` while the run is asked to stop.
"""

from swin_core.runs.changing import delete, kill, rename, request_stop, write_notes
from swin_core.runs.files import (
    add_change,
    create,
    data_lines,
    is_run_name,
    read_changes,
    read_config,
    read_data,
    read_launch,
    read_status,
    runs_root,
    stop_requested,
    write_config,
    write_launch,
    write_status,
)
from swin_core.runs.listing import RUN_STATES, Run, SavedWeights, find, list_runs, remarks_on
from swin_core.runs.liveness import identity
from swin_core.runs.locks import busy, device_locks, lock_key
from swin_core.runs.metrics import EpochMetrics, StepMetrics
from swin_core.runs.starting import TRAINER, resume, start

__all__ = [
    "RUN_STATES",
    "TRAINER",
    "EpochMetrics",
    "Run",
    "SavedWeights",
    "StepMetrics",
    "add_change",
    "busy",
    "create",
    "data_lines",
    "delete",
    "device_locks",
    "find",
    "identity",
    "is_run_name",
    "kill",
    "list_runs",
    "lock_key",
    "read_changes",
    "read_config",
    "read_data",
    "read_launch",
    "read_status",
    "remarks_on",
    "rename",
    "request_stop",
    "resume",
    "runs_root",
    "start",
    "stop_requested",
    "write_config",
    "write_launch",
    "write_notes",
    "write_status",
]
