"""submitit's users on a real cluster: arrays, ranks, checkpoints at a time limit, one job of many cancelled."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from importlib import metadata
from typing import Any

import pytest
from containers import MAX_ARRAY_SIZE, Login, User

FUNCTIONS = """
import os, signal, time, submitit

def square(x):
    if x == 13:
        raise ValueError("thirteen")
    return x * x

def where():
    here = submitit.JobEnvironment()
    print(f"this is rank {here.global_rank}", flush=True)
    return [here.global_rank, here.num_tasks, here.node, here.local_rank, here.hostname in here.hostnames]

def devices():
    return os.environ.get("CUDA_VISIBLE_DEVICES")

def stay(x=None):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit's program lets it pass, until Slurm kills it
    while x != 0:
        time.sleep(0.05)
    return "ended"

class Stopped(submitit.helpers.Checkpointable):
    stops = ()
    def __call__(self):
        return list(self.stops) or stay()
    def checkpoint(self):
        self.stops = (*self.stops, submitit.JobEnvironment().global_rank)
        return submitit.helpers.DelayedSubmission(self)
"""

BEGIN = """
import json, time, submitit, functions
executor = submitit.AutoExecutor("logs", cluster="hpcrun")
executor.update_parameters(timeout_min=5, slurm_partition="main", slurm_array_parallelism=100)
"""


@pytest.fixture(scope="module")
def site(login: Login) -> str:
    """A folder that every node sees, with hpcrun as it is on the login node, and submitit.

    submitit is Python alone, so the tests' own will do.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("submitit", "cloudpickle"):
            for file in metadata.distribution(name).files or ():
                archive.add(file.locate(), str(file))
    folder = "/shared/tests/submitit-site"
    code = (
        f"rm -rf {folder} && mkdir -p {folder} && cp -r /opt/hpcrun/lib/python3*/site-packages/. {folder} && "
        f"base64 -d | tar -xz -C {folder}"
    )
    done = login("bash", "-c", code, input=base64.b64encode(packed.getvalue()).decode())
    assert done.returncode == 0, done.stderr
    return folder


def told(user: User, site: str, code: str) -> Any:
    """What a program prints last, as JSON; it starts with an `executor`."""
    user.write("functions.py", FUNCTIONS)
    program = user.write("program.py", BEGIN + code)
    done = user.sh('PYTHONPATH="$1:$PWD" exec python3 "$2"', site, program, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_array(user: User, site: str) -> None:
    """More jobs than an array may have: one run of two arrays, in which each job has its own end."""
    count = MAX_ARRAY_SIZE + 3
    found = told(
        user,
        site,
        f"""
jobs = executor.map_array(functions.square, range({count}))
errors = [job.exception() for job in jobs]
print(json.dumps({{
    "run": jobs[0].job_id.partition("_")[0],
    "failed": [index for index, error in enumerate(errors) if error is not None],
    "why": str(errors[13]),
    "results": [job.result() for job in jobs if job.exception() is None],
}}))
""",
    )
    assert found["failed"] == [13]
    assert "ValueError: thirteen" in found["why"]
    assert found["results"] == [x * x for x in range(count) if x != 13]
    shards = user.status(found["run"])["shards"]
    assert len({shard["job"].partition("_")[0] for shard in shards}) == 2


def test_ranks(user: User, site: str) -> None:
    """A job of two nodes with two tasks each: four results, each rank knows its place and has a log of its own."""
    results, logs = told(
        user,
        site,
        """
executor.update_parameters(nodes=2, tasks_per_node=2)
job = executor.submit(functions.where)
results = job.results()
print(json.dumps([results, [job.task(rank).stdout() for rank in range(4)]]))
""",
    )
    assert results == [[0, 4, 0, 0, True], [1, 4, 0, 1, True], [2, 4, 1, 0, True], [3, 4, 1, 1, True]]
    assert [f"this is rank {rank}\n" in log for rank, log in enumerate(logs)] == [True] * 4


def test_gpus_of_a_node(user: User, site: str) -> None:
    """With gpus_per_node tasks see all GPUs of their job, as under SlurmExecutor; with gpus_per_task each its own.

    Slurm 22.05 says nothing to tasks whose GPUs are not bound: there all that the job may use are theirs.
    """
    shared, own = told(
        user,
        site,
        """
executor.update_parameters(slurm_partition="gpu", tasks_per_node=2, gpus_per_node=2)
both = executor.submit(functions.devices).results()
executor.update_parameters(gpus_per_node=0, hpcrun_gpus_per_task=1)
print(json.dumps([both, executor.submit(functions.devices).results()]))
""",
    )
    assert shared in (["0,1", "0,1"], [None, None])
    assert own == ["0", "1"]


@pytest.mark.parametrize("tasks", [1, 2])
def test_checkpoint(user: User, site: str, tasks: int) -> None:
    """What its time limit ends goes on from its checkpoint: rank 0's, in the next attempt of the same shard."""
    run, results = told(
        user,
        site,
        f"""
executor.update_parameters(slurm_time="0:20", slurm_signal_delay_s=10, tasks_per_node={tasks})
job = executor.submit(functions.Stopped())
print(json.dumps([job.job_id.partition("_")[0], job.results()]))
""",
    )
    assert results == [[0]] * tasks
    (shard,) = user.status(run)["shards"]
    assert (shard["state"], shard["attempts"]) == ("succeeded", 2)


def test_cancel_one(user: User, site: str) -> None:
    """One job of an array is cancelled; the others go on."""
    found = told(
        user,
        site,
        """
jobs = executor.map_array(functions.stay, [1, 0, 0])
while jobs[0].get_info()["State"] != "RUNNING":
    time.sleep(0.1)
jobs[0].cancel()
print(json.dumps([[job.result() for job in jobs[1:]], jobs[0].exception() is not None, jobs[0].state]))
""",
    )
    assert found == [["ended", "ended"], True, "CANCELLED"]
