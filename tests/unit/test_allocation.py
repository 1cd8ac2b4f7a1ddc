"""What Slurm's variables say about where a process is."""

from __future__ import annotations

import pytest

from hpcrun.allocation import from_slurm, on_this_machine


def test_job() -> None:
    """A job that is no array: one component, no task."""
    found = from_slurm({"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "c[1-2]", "SLURMD_NODENAME": "c1"})
    assert (found.job, found.raw_job, found.task, found.node) == ("12", "12", None, "c1")
    assert (found.nodes, found.components, found.restarts) == (("c1", "c2"), (("c1", "c2"),), 0)


def test_array() -> None:
    """An element is addressed by the array's id; its own number is kept beside it."""
    found = from_slurm(
        {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": "2",
         "SLURM_JOB_NODELIST": "c3"}
    )  # fmt: skip
    assert (found.job, found.raw_job, found.task, found.restarts, found.node) == ("12", "15", 0, 2, "c3")


def test_het_job() -> None:
    """A heterogeneous job has the nodes of every component, in Slurm's order, and its leader's id."""
    found = from_slurm(
        {"SLURM_JOB_ID": "21", "SLURM_HET_SIZE": "3", "SLURM_JOB_ID_HET_GROUP_0": "20",
         "SLURM_JOB_NODELIST_HET_GROUP_0": "a1", "SLURM_JOB_NODELIST_HET_GROUP_1": "b[10,2]",
         "SLURM_JOB_NODELIST_HET_GROUP_2": "c1"}
    )  # fmt: skip
    assert found.components == (("a1",), ("b10", "b2"), ("c1",))
    assert (found.job, found.nodes, found.node) == ("20", ("a1",), "a1")


def test_in_no_job() -> None:
    """Outside of a job there is no allocation."""
    with pytest.raises(KeyError):
        from_slurm({})


def test_this_machine() -> None:
    """A shard of the local cluster is alone on the machine."""
    found = on_this_machine("me", "local-3", 7)
    assert (found.cluster, found.task, found.nodes, found.components) == ("local", 7, ("me",), (("me",),))
