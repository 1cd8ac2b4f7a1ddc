"""What a program finds in its environment on the cluster, and `hpcrun env` in jobs that hpcrun did not submit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from containers import Login, User
from waiting import until

DIALECTS = ("HPCRUN_", "TYGER_", "SYLPHX_", "VELDA_", "SFLOW_", "SKYWARD_", "JOB_COMPLETION_INDEX", "COMPUTE_POOL")
Environ = dict[str, str]
Batch = Callable[..., list[Environ]]


def environ(block: str) -> Environ:
    return dict(entry.split("=", 1) for entry in block.split("\0") if entry)


@pytest.fixture(scope="session")
def everywhere(login: Login) -> str:
    """The command that starts hpcrun on every node: a copy of the login node's, on the shared file system."""
    copied = login(
        "bash", "-c", "rm -rf /shared/tests/hpcrun && mkdir -p /shared/tests && cp -r /opt/hpcrun /shared/tests/hpcrun"
    )
    assert copied.returncode == 0, copied.stderr
    return "/shared/tests/hpcrun/bin/python3 -m hpcrun"


@pytest.fixture
def batch(user: User, everywhere: str) -> Batch:
    """Submits a hand-written script that evaluates `hpcrun env`; the environments of its jobs, by array index."""

    def run(*options: str, jobs: int = 1) -> list[Environ]:
        given = ("--output=batch.out --open-mode=append", *options)
        directives = "".join(f"#SBATCH {option}\n" for option in given)
        target = 'env -0 >"found.tmp$SLURM_JOB_ID" && mv "found.tmp$SLURM_JOB_ID" "found.${SLURM_ARRAY_TASK_ID:-0}"'
        text = f'#!/bin/bash\n{directives}eval "$({everywhere} env)"\n{target}\n'
        script = user.write("by-hand.sh", text)
        done = user.sh('exec sbatch --parsable "$1"', script)
        assert done.returncode == 0, done.stderr
        names = until(lambda: found_in(user, jobs), what="the jobs' environments")
        return [environ(user.read(f"{user.folder}/{name}")) for name in names]

    return run


def found_in(user: User, jobs: int) -> list[str]:
    names = user.sh("ls | grep -E '^found\\.[0-9]+$'").stdout.split()
    return sorted(names, key=lambda name: int(name.rpartition(".")[2])) if len(names) == jobs else []


def test_a_plain_job(user: User, batch: Batch) -> None:
    """Index 0 of 1, the job's own id for the run's, its nodes; Velda's variables are for shards alone."""
    (found,) = batch("--job-name=by-hand", "--nodes=2")
    assert (found["HPCRUN_SHARD_INDEX"], found["HPCRUN_SHARD_COUNT"], found["SYLPHX_SHARD_COUNT"]) == ("0", "1", "1")
    assert (found["HPCRUN_RUN_ID"], found["HPCRUN_RUN_NAME"]) == (f"slurm-{found['SLURM_JOB_ID']}", "by-hand")
    assert found["SFLOW_BACKEND_JOB_ID"] == found["SLURM_JOB_ID"]
    assert found["SFLOW_BACKEND_NUM_NODES"] == "2"
    assert found["HPCRUN_RUN_DIR"] == user.folder
    assert not [name for name in found if name.startswith(("VELDA_", "TYGER_WORKER"))]


def test_an_array_with_a_step(batch: Batch) -> None:
    """Elements 10, 20 and 30 are the indices 0, 1 and 2 of 3 in every dialect."""
    elements = batch("--array=10-30:10", jobs=3)
    for index, found in enumerate(elements):
        who = {"SLURM_ARRAY_TASK_ID": str(10 + 10 * index), "HPCRUN_SHARD_COUNT": "3", "VELDA_TOTAL_SHARDS": "3"}
        who |= {"SYLPHX_SHARD_COUNT": "3", "SKYWARD_NUM_NODES": "3"}
        shard = ("HPCRUN_SHARD_INDEX", "SYLPHX_SHARD_INDEX", "VELDA_SHARD_ID", "JOB_COMPLETION_INDEX", "SKYWARD_RANK")
        who |= dict.fromkeys(shard, str(index))
        assert {name: found.get(name) for name in who} == who
    assert len({found["HPCRUN_RUN_ID"] for found in elements}) == 1


def test_a_heterogeneous_job(batch: Batch) -> None:
    """The nodes of component 1 are Tyger's workers, as JSON and in Slurm's order; component 0 is the job."""
    (found,) = batch("--nodes=1 --nodelist=c4", "hetjob", "--nodes=3 --nodelist=c[1-3]")
    assert json.loads(found["TYGER_WORKER_NODES"]) == ["c1", "c2", "c3"]
    assert found["SFLOW_TASK_NODE_NAME"] == "c4"
    assert found["HPCRUN_RUN_ID"] == f"slurm-{found['SLURM_JOB_ID_HET_GROUP_0']}"


def test_a_heterogeneous_job_with_several_tasks_a_node(batch: Batch) -> None:
    """Every task of the further components is a worker: its node stands there once for each, in the tasks' order."""
    (found,) = batch(
        "--nodelist=c4", "hetjob", "--ntasks=4 --ntasks-per-node=2 --nodelist=c[1-2]", "hetjob", "--nodelist=c3"
    )
    assert json.loads(found["TYGER_WORKER_NODES"]) == ["c1", "c1", "c2", "c2", "c3"]


def test_outside_of_jobs(user: User) -> None:
    """On the login node there is nothing to print; the message says where to call it."""
    done = user.hpcrun("env")
    assert (done.returncode, done.stdout) == (2, "")
    assert "inside a Slurm job" in done.stderr


def test_every_dialect_in_an_element(user: User) -> None:
    """A shard of a real array is told who and where it is in the words of each system."""
    run_id = user.submit("-N", "3", "--name", "dialects", "--max-parallel", "1", "--nodelist", "c2", "--", "env", "-0")
    assert user.hpcrun("wait", run_id).returncode == 0
    folder = f"{user.home}/runs/{run_id}"
    found = environ(user.hpcrun("logs", run_id, "--shard", "2").stdout)
    expected = {
        "HPCRUN_RUN_ID": run_id, "HPCRUN_RUN_NAME": "dialects", "HPCRUN_RUN_DIR": folder,
        "HPCRUN_RESULTS_DIR": f"{folder}/results", "HPCRUN_ROLE": "job", "HPCRUN_SHARD_INDEX": "2",
        "HPCRUN_SHARD_COUNT": "3", "HPCRUN_REPLICA_INDEX": "0", "HPCRUN_REPLICA_COUNT": "1", "HPCRUN_ATTEMPT": "0",
        "TYGER_RUN_ID": run_id, "SYLPHX_SHARD_INDEX": "2", "SYLPHX_SHARD_COUNT": "3", "VELDA_SHARD_ID": "2",
        "VELDA_TOTAL_SHARDS": "3", "JOB_COMPLETION_INDEX": "2", "SFLOW_REPLICA_INDEX": "2",
        "SFLOW_WORKSPACE_DIR": user.folder, "SFLOW_OUTPUT_DIR": folder, "SFLOW_TASK_NODE_NAME": "c2",
        "SFLOW_TASK_ASSIGNED_NODE_NAMES": "c2", "SFLOW_BACKEND_JOB_ID": found["SLURM_JOB_ID"], "SKYWARD_NODE": "c2",
        "SKYWARD_RANK": "2", "SKYWARD_NODE_ID": "2", "SKYWARD_NUM_NODES": "3", "SKYWARD_CLUSTER": run_id,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    pool: dict[str, Any] = json.loads(found["COMPUTE_POOL"])
    assert (pool["node"], pool["total_nodes"], pool["job_id"]) == (2, 3, run_id)
    assert not [name for name in found if name in ("TYGER_WORKER_NODES", "RANK", "WORLD_SIZE", "MASTER_ADDR")]


SET_BEFORE = r"""
export EMPTY= LINES_OF=$'a\nb\n' EQUALS=a=b=c QUOTES="'\"\`\$(x)" PYTHONPATH=/nowhere LC_ALL=C
greet() { echo "hello $1"; }; export -f greet
"""
SLURMS = (
    "SLURM", "CUDA_VISIBLE", "ROCR_", "ZE_", "GPU_DEVICE_", "HOSTNAME", "ENVIRONMENT", "TMPDIR", "HYDRA_",
    "I_MPI_HYDRA_", "OMPI_MCA_plm_", "PRTE_MCA_plm_",
)  # fmt: skip
"""What slurmd itself sets in every job's environment begins like this."""


def test_the_submissions_environment_arrives(user: User) -> None:
    """`env -0` before and in a shard differ by Slurm's variables and the run's own alone; functions can be called."""
    script = "env -0 >before; exec hpcrun run --json -- bash -c 'env -0; greet you'"
    done = user.sh(SET_BEFORE + script)
    assert done.returncode == 0, done.stderr
    before = submissions_own(user.read(f"{user.folder}/before"))
    block, _, said = user.hpcrun("logs", "last").stdout.rpartition("\0")
    assert said == "hello you\n"
    assert submissions_own(block) == before
    assert {"EMPTY", "LINES_OF", "EQUALS", "QUOTES", "BASH_FUNC_greet%%"} <= set(before)


def submissions_own(block: str) -> Environ:
    """An environment without what Slurm, hpcrun and the shell that prints it have to say."""
    others = (*DIALECTS, *SLURMS, "_", "SHLVL")
    return {name: value for name, value in environ(block).items() if not name.startswith(others)}


def test_submitting_from_inside_a_job(user: User, everywhere: str) -> None:
    """A submit in an element of an array makes a job of its own: nothing of the outer one shapes or names it."""
    inner = f'{everywhere} submit -N 2 -- bash -c "env -0; exit 0" >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"'
    outer = user.submit("-N", "3", "-c", "2", "--mem", "600M", "--partition", "gpu", "--", "bash", "-c", inner)
    assert user.hpcrun("wait", outer).returncode == 0, user.hpcrun("status", outer).stdout
    inner_ids = user.sh(f'cat "$HPCRUN_HOME/runs/{outer}/results"/*').stdout.split()
    assert len(set(inner_ids)) == 3
    for run_id in inner_ids:
        assert user.hpcrun("wait", run_id).returncode == 0
        found = environ(user.hpcrun("logs", run_id, "--shard", "1").stdout)
        assert (found["HPCRUN_RUN_ID"], found["HPCRUN_SHARD_INDEX"], found["HPCRUN_SHARD_COUNT"]) == (run_id, "1", "2")
        assert (found["SLURM_JOB_PARTITION"], found["SLURM_CPUS_ON_NODE"]) == ("main", "1")
        assert found["SLURM_ARRAY_JOB_ID"] == user.status(run_id)["jobs"][0]
