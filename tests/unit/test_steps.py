"""The srun of each step, word for word, and what is kept from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from unit.made import ASKED, local, plan

from hpcrun.allocation import Allocation
from hpcrun.node import steps
from hpcrun.plan import Plan, Role

ALWAYS = ["srun", "--input=none", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--export=ALL"]
BLOCK = ["--distribution=block", "--exact"]
LOCAL = dataclasses.replace(ASKED, cluster="local")


def where(*components: tuple[str, ...], tasks: tuple[int, ...] = ()) -> Allocation:
    """An allocation of Slurm's with these nodes in each component, and tasks on each node of the first."""
    return Allocation(
        cluster="slurm", job="7", raw_job="7", task=None, node=components[0][0], components=components, tasks=tasks
    )


def workers(replicas: int = 3, **fields: Any) -> dict[str, Any]:
    return {"worker": {"command": ["serve"], "replicas": replicas, **fields}}


def worker_of(made: Plan) -> Role:
    assert made.worker is not None
    return made.worker


def srun(made: Plan, role: Role, count: int, here: Allocation) -> list[str]:
    """What follows the words that are the same for every step of agents."""
    found = steps._srun(made, role, count, here)
    assert found[: len(ALWAYS)] == ALWAYS
    return found[len(ALWAYS) :]


def test_het() -> None:
    """The workers of a heterogeneous job are one step in its component 1, on all its nodes, in rank order."""
    made = plan(workers(cpus=4, memory="6G", gpus="a100:2"), topology="het")
    assert srun(made, worker_of(made), 3, where(("a",), ("w1", "w2"))) == [
        "--het-group=1", "--nodes=2", "--ntasks=3", *BLOCK, "--cpus-per-task=4", "--mem-per-cpu=1536M",
        "--gpus-per-task=a100:2",
    ]  # fmt: skip


def test_het_gang() -> None:
    """In a heterogeneous gang the shards are a step in component 0 and all their workers one in component 1."""
    made = plan(workers(), shards=2, gang=True, cpus=2)
    here = where(("a", "b"), ("w1",), tasks=(1, 1))
    assert srun(made, worker_of(made), 6, here) == [
        "--het-group=1", "--nodes=1", "--ntasks=6", *BLOCK, "--cpus-per-task=1", "--gres=none"
    ]  # fmt: skip
    assert srun(made, made.job, 2, here) == [
        "--het-group=0", "--nodes=2", "--ntasks=2", *BLOCK, "--cpus-per-task=2", "--gres=none"
    ]  # fmt: skip


def test_gang() -> None:
    """The shards of a gang without workers are one step over the whole job."""
    made = plan(shards=4, gang=True, gpus=1, memory=100, cpus=3)
    assert srun(made, made.job, 4, where(("a", "b", "c"), tasks=(2, 1, 1))) == [
        "--nodes=3", "--ntasks=4", *BLOCK, "--cpus-per-task=3", "--mem-per-cpu=34M", "--gpus-per-task=1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "tasks", "slots"),
    [
        (("a",), (4,), "a,a,a"),
        (("a", "b"), (2, 2), "a,b,b"),
        (("a", "b"), (1, 3), "b,b,b"),
        (("a", "b", "c", "d"), (1, 1, 1, 1), "b,c,d"),
        (("b", "a"), (3, 1), "b,b,a"),
        (("a", "b"), (3, 2), "a,a,b"),  # more than were asked for
    ],
)
def test_flat(nodes: tuple[str, ...], tasks: tuple[int, ...], slots: str) -> None:
    """Workers that share the job's allocation get the slots behind the job's own, in order, one each."""
    made = plan(workers(), topology="flat")
    assert srun(made, worker_of(made), 3, where(nodes, tasks=tasks)) == [
        "--ntasks=3", "--distribution=arbitrary", f"--nodelist={slots}", "--exact", "--cpus-per-task=1", "--gres=none"
    ]  # fmt: skip


def test_flat_array() -> None:
    """Each element of an array holds one job, whatever the number of shards."""
    made = plan(workers(2), shards=9)
    assert srun(made, worker_of(made), 2, where(("a", "b"), tasks=(2, 1)))[2] == "--nodelist=a,b"


def test_flat_gang() -> None:
    """In a packed gang the shards have the first slots and the workers of all of them those that follow."""
    made = plan(workers(2), shards=2, gang=True, topology="flat")
    here = where(("a", "b"), tasks=(3, 3))
    assert srun(made, made.job, 2, here)[:3] == ["--ntasks=2", "--distribution=arbitrary", "--nodelist=a,a"]
    assert srun(made, worker_of(made), 4, here)[:3] == [
        "--ntasks=4", "--distribution=arbitrary", "--nodelist=a,b,b,b"
    ]  # fmt: skip


RANKS = ["srun", "--input=none", "--kill-on-bad-exit=1", "--export=ALL", "--exact"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tasks": 4}, ["--ntasks=4", "--cpus-per-task=1", "--gres=none"]),
        ({"tasks": 4, "nodes": 2, "mpi": "pmix", "cpus": 2, "memory": "1G", "gpus": 1},
         ["--nodes=2", "--ntasks=4", "--mpi=pmix", "--cpus-per-task=2", "--mem-per-cpu=512M", "--gpus-per-task=1"]),
        ({"nodes": 3}, ["--nodes=3", "--ntasks=3", "--cpus-per-task=1", "--gres=none"]),
        ({**workers(), "tasks": 4, "mpi": "pmi2"},
         ["--het-group=0", "--ntasks=4", "--mpi=pmi2", "--cpus-per-task=1", "--gres=none"]),
        ({"shards": 8, "tasks": 2}, ["--ntasks=2", "--cpus-per-task=1", "--gres=none"]),
    ],
)  # fmt: skip
def test_ranks(fields: dict[str, Any], words: list[str]) -> None:
    """The ranks of a parallel program are one step; the first bad end of one ends all."""
    made = plan(fields)
    found = steps.ranks(made.job, made, ["sim", "a b"])
    assert found == [*RANKS, *words, "sim", "a b"]


def test_ranks_here() -> None:
    """On one machine mpirun starts them."""
    made = plan(limits=local(), asked=LOCAL, tasks=4, nodes=2, mpi="pmix")
    assert steps.ranks(made.job, made, ["sim", "x"]) == ["mpirun", "-n", "4", "sim", "x"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_NTASKS", "9"), ("SLURM_NPROCS", "9"), ("SLURM_NNODES", "9"), ("SLURM_JOB_NUM_NODES", "9"),
        ("SLURM_CPUS_PER_TASK", "9"), ("SLURM_TRES_PER_TASK", "cpu:9"), ("SLURM_MEM_PER_CPU", "9"),
        ("SLURM_MEM_PER_NODE", "9"), ("SLURM_GPUS", "9"), ("SLURM_GPUS_PER_TASK", "9"), ("SLURM_GRES", "gpu:9"),
        ("SLURM_DISTRIBUTION", "cyclic"), ("SLURM_EXACT", "1"), ("SLURM_OVERLAP", "1"), ("SLURM_WHOLE", "1"),
        ("SLURM_MPI_TYPE", "pmix"), ("SLURM_NTASKS_PER_NODE", "9"), ("SLURM_HINT", "nomultithread"),
        ("SLURM_OUTPUT", "x"),
    ],
)  # fmt: skip
def test_what_would_shape_a_step(name: str, value: str) -> None:
    """What the batch script's own options left in the environment does not change the steps behind their options."""
    assert steps.without_shape({name: value, "PATH": "/bin"}) == {"PATH": "/bin"}


def test_what_a_step_needs() -> None:
    """Which job this is, where slurmctld is and what the user set reach srun."""
    kept = {
        "SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_NODELIST": "a",
        "SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_1": "8", "SLURM_TASKS_PER_NODE": "1", "HOME": "/h", "A": "1",
        "CUDA_VISIBLE_DEVICES": "0",
    }  # fmt: skip
    assert steps.without_shape(kept) == kept


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["--cpus-per-task=1", "--gres=none"]),
        ({"cpus": 3, "memory": 100}, ["--cpus-per-task=3", "--mem-per-cpu=34M", "--gres=none"]),
        ({"gpus": "a100:2"}, ["--cpus-per-task=1", "--gpus-per-task=a100:2"]),
        ({"gpus": "0"}, ["--cpus-per-task=1", "--gres=none"]),
    ],
)
def test_amounts(fields: dict[str, Any], words: list[str]) -> None:
    """What each task gets is what its role asked for, and no GPUs where none were asked for."""
    assert steps.amounts(plan(fields).job) == words


def test_steps_ask_for_what_the_job_was_given() -> None:
    """The memory of a step is as rounded as that of its job, or Slurm would refuse the step."""
    made = plan(workers(cpus=3, memory=1000), topology="het")
    options = dict(made.components[1])
    assert f"--mem-per-cpu={options['mem-per-cpu']}" in steps.amounts(worker_of(made))
    assert f"--cpus-per-task={options['cpus-per-task']}" in steps.amounts(worker_of(made))
