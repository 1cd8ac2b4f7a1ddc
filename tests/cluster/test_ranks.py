"""Shards and jobs that are parallel programs: MPI ranks on the real cluster."""

from __future__ import annotations

import json

import pytest
from containers import RELEASE, User
from gangs import gone, with_workers

pytestmark = pytest.mark.skipif(RELEASE == "26.05", reason="Debian's 26.05 has no PMIx, and its Open MPI nothing else")

ALLREDUCE = """
# Adds up the ranks. Each says who it is; the first one also what it was told of workers.
import os, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
said = world.gather((world.rank, MPI.Get_processor_name(), os.environ["HPCRUN_SHARD_INDEX"]))
if world.rank == 0:
    for rank, node, shard in said:
        print(f"rank {rank} of {world.size} of shard {shard} on {node}: {total}", flush=True)
    print(os.environ.get("TYGER_WORKER_NODES", "no workers"), flush=True)
world.barrier()
sys.exit(7 if len(sys.argv) > 1 and sys.argv[1] == str(world.rank) else 0)
"""


def test_shards_of_four_ranks(user: User) -> None:
    """Each element of an array is an MPI program of its own, with one log and one exit code."""
    program = user.write("allreduce.py", ALLREDUCE)
    spec = {"command": ["python3", program], "shards": 2, "tasks": 4, "mpi": "pmix"}
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    for shard in (0, 1):
        *ranks, workers = user.hpcrun("logs", run_id, "--shard", str(shard)).stdout.splitlines()
        assert [line.partition(" on ")[0] for line in ranks] == [f"rank {n} of 4 of shard {shard}" for n in range(4)]
        assert {line.rpartition(": ")[2] for line in ranks} == {"10"}
        assert workers == "no workers"
    assert len(user.status(run_id)["jobs"]) == 1
    gone(user, run_id)


def test_a_rank_fails(user: User) -> None:
    """Its exit code is the run's, and the other ranks are gone."""
    program = user.write("allreduce.py", ALLREDUCE)
    spec = {"command": ["python3", program, "2"], "tasks": 4, "mpi": "pmix"}
    assert user.hpcrun("run", user.write("run.yaml", json.dumps(spec))).returncode == 7
    gone(user, user.status("last")["run_id"])


def test_a_job_of_ranks_with_workers(user: User) -> None:
    """Four ranks on two nodes are the job of two workers, each rank told where they are; the workers end with it."""
    spec = with_workers(user, 2, nodes=2, tasks=4, mpi="pmix")
    run_id = user.submit_spec({**spec, "command": ["python3", user.write("allreduce.py", ALLREDUCE)]})
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    *ranks, workers = user.hpcrun("logs", run_id).stdout.splitlines()
    nodes = [line.rpartition(" on ")[2] for line in ranks]
    assert nodes == ["c1: 10", "c1: 10", "c2: 10", "c2: 10"]
    found = user.results(run_id, "worker.*")
    assert json.loads(workers) == [found[f"worker.0.{replica}.0"]["node"] for replica in range(2)] == ["c3", "c3"]
    gone(user, run_id)
