"""Programs that want more memory than there is, killed by a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from containers import User, container, docker

TAKES = "python3 -c 'len(b\"x\" * (600 << 20))'"
"""Fills 600 MB."""


@contextlib.contextmanager
def little_memory(node: str) -> Iterator[None]:
    """The kernel grants 300 MB to all of a node, and kills the largest process that wants more."""
    docker("update", "--memory", "300m", "--memory-swap", "300m", container(node))
    try:
        yield
    finally:
        docker("update", "--memory", "64g", "--memory-swap", "64g", container(node))


def test_the_kernel_kills_for_want_of_memory(user: User) -> None:
    """That is the cause in the record, and it counts among the program's own failures; others go on."""
    script = f"""case $HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT in
        0.0 | 1.*) exec {TAKES};;
        2.*) until [ -e "$HPCRUN_RESULTS_DIR/../records/1/000/1.jsonl" ]; do sleep 0.1; done;;
    esac"""
    with little_memory("c2"):
        run_id = user.submit("-N", "3", "--retries", "1", "-w", "c2", "--", "bash", "-c", script)
        assert user.hpcrun("wait", "-q", run_id).returncode == 3
    shards = user.status(run_id)["shards"]
    assert [(one["state"], one["attempts"]) for one in shards] == [("succeeded", 2), ("failed", 2), ("succeeded", 1)]
    assert (shards[1]["cause"], shards[1]["signal"]) == ("out_of_memory", 9)
    assert '"cause":"out_of_memory"' in user.read(f"{user.home}/runs/{run_id}/records/0/000/0.jsonl")
    assert "out of memory" in user.hpcrun("status", run_id).stdout.replace("_", " ")


def test_the_kernel_kills_for_want_of_memory_without_slurm(user: User) -> None:
    """The same on one machine."""
    with little_memory("login"):
        done = user.hpcrun("run", "--cluster", "local", "-N", "2", "--retries", "1", "--", "bash", "-c",
                           f"[ $HPCRUN_SHARD_INDEX = 1 ] || [ $HPCRUN_ATTEMPT = 1 ] || exec {TAKES}")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["attempts"] for one in user.status("last")["shards"]] == [2, 1]
    record = user.sh('cat "$HPCRUN_HOME"/runs/*/records/0/000/0.jsonl').stdout
    assert '"cause":"out_of_memory"' in record
