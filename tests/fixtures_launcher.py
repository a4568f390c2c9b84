"""A launcher for the tests of runs: what `swinlens train --run FOLDER` does in a run's folder, without training.

The settings tell it how to behave: `steps` (of a hundredth of a second), `ranks` (programs that it starts, each in a
session of its own as torchrun does; the first writes the status), `deaf` (SIGTERM is ignored), `fails` (a line).
It ends after a minute by itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from swin_core import runs
from swin_core.errors import RunError


def work(folder: Path, steps: int) -> None:
    """Take steps until all are done or the run is asked to stop."""
    state, step = "finished", 0
    until = time.monotonic() + 60
    while step < steps and time.monotonic() < until:
        step += 1
        with (folder / "steps.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "loss": 1 / step}) + "\n")
        runs.write_status(folder, state="running", step=step, steps=steps)
        if runs.stop_requested(folder):
            state = "stopped"
            break
        time.sleep(0.01)
    runs.write_status(folder, state=state, step=step, steps=steps)


def main() -> int:
    folder = Path(sys.argv[2]).resolve()
    config, facts = runs.read_config(folder), runs.read_launch(folder)
    if config.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "RANK" in os.environ:
        if os.environ["RANK"] == "0":
            work(folder, config["steps"])
        else:
            time.sleep(60)
        return 0
    if config.get("fails"):
        print(f"swinlens train: {config['fails']}", file=sys.stderr)
        return 1
    try:
        with runs.device_locks(facts["devices"], folder):
            runs.write_launch(folder, **facts)
            runs.write_status(folder, state="starting")
            ranks = [
                subprocess.Popen(
                    [sys.executable, __file__, "--run", folder],
                    env={**os.environ, "RANK": str(rank)},
                    start_new_session=True,
                )
                for rank in range(config.get("ranks", 0))
            ]
            if not ranks:
                work(folder, config["steps"])
                return 0
            ranks[0].wait()
            for rank in ranks[1:]:
                rank.kill()
                rank.wait()
    except RunError as error:
        print(f"swinlens train: {error}", file=sys.stderr)
        return 3 if error.busy else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
