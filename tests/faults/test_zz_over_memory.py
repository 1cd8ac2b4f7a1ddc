"""Slurm itself kills what takes too much memory, without cgroups. Makes the cluster anew, and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import Login, User, up
from gangs import gone


@pytest.fixture(scope="module", autouse=True)
def over_memory_kill(login: Login) -> Iterator[None]:
    """Slurm looks every second how much memory jobs use while this module's tests run."""
    up("--over-memory-kill")
    yield
    up()


TAKES = "python3 -c 'import time; x = b\"x\" * (300 << 20); time.sleep(60)'"
"""Fills 300 MB and keeps it."""


@pytest.mark.full
def test_slurm_kills_for_want_of_memory(user: User) -> None:
    """All of the job is killed at once, its supervisor too: the cause is known, and counts as the program's own."""
    script = f"case $HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT in 0.0 | 1.*) exec {TAKES};; esac"
    done = user.hpcrun("run", "-N", "3", "--retries", "1", "--mem", "100M", "--", "bash", "-c", script)
    assert done.returncode == 3
    run = user.status("last")
    shards = [(one["state"], one["attempts"], one["cause"]) for one in run["shards"]]
    assert shards == [("succeeded", 2, None), ("failed", 2, "out_of_memory"), ("succeeded", 1, None)]
    gone(user, run["run_id"])
