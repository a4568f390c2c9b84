"""Ranks: errors of an exchange are distinguished from errors of the computation, in real processes and by message."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from swin_core.errors import PeerExitedError
from swin_core.system.distributed import join_ranks, peer_errors
from tests.fixtures.ranks import run_ranks


def exchange(mode: str) -> int:
    """Exchange something with the other rank, and print the error that comes of it."""
    with join_ranks(["cpu"]) as ranks:
        model = ranks.data_parallel(torch.nn.Linear(3, 3)) if mode.endswith("backward") else torch.nn.Identity()
        ranks.any(False)
        if ranks.rank == 1 and mode.startswith("gone"):
            time.sleep(0.5)  # rank 0 waits for this one by then
            os._exit(1)
        try:
            if mode == "gone":
                ranks.sum(torch.ones(3))
            elif mode == "gone in backward":
                with peer_errors():
                    model(torch.ones(2, 3)).sum().backward()
            elif mode == "backward":
                loss = model(torch.ones(2, 3)).sum()
                loss.register_hook(lambda gradient: torch.ones(2) @ torch.ones(3))
                with peer_errors():
                    loss.backward()
        except Exception as error:
            print(type(error).__name__, str(error)[:200], flush=True)
        os._exit(0)


def first_rank(mode: str, folder: Path) -> tuple[str, str]:
    """Run two ranks; return the standard output and standard error of rank 0."""
    run_ranks(exchange, mode, folder=folder)
    return (folder / "output-0").read_text(), (folder / "errors-0").read_text()


@pytest.mark.parametrize("mode", ["gone", "gone in backward"])
def test_a_peer_that_exits_is_named_and_the_true_error_is_logged(mode: str, tmp_path: Path) -> None:
    output, errors = first_rank(mode, tmp_path)
    assert output.startswith("PeerExitedError another process of this run is gone")
    assert "Connection closed by peer" in errors or "Connection reset by peer" in errors


def test_an_error_of_the_backward_pass_stays_what_it_is(tmp_path: Path) -> None:
    output, _ = first_rank("backward", tmp_path)
    assert output.startswith("RuntimeError")
    assert "size" in output


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: remote process exited"),
        dist.DistNetworkError("the client socket has timed out"),
        RuntimeError("[/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:20194."),
        RuntimeError("[/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation"),
        RuntimeError("Application timeout caused pair closure"),
    ],
)
def test_connection_errors_are_converted_and_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PeerExitedError) as caught, peer_errors():
        raise error
    assert caught.value.__cause__ is error
    assert str(error) in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("inconsistent tensor size, expected tensor [2] and src [3] to have the same number of elements"),
        RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:456] op.preamble.length <= op.nbytes. 12 vs 8"),
        RuntimeError("Expected all tensors to be on the same device"),
        ValueError("another kind"),
    ],
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, peer_errors():
        raise error
    assert caught.value is error
