"""What Slurm's variables say about where a process is."""

from __future__ import annotations

import pytest

from hpcrun.allocation import from_slurm, on_this_machine, tasks_per_node


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


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("1", (1,)), ("4(x2)", (4, 4)), ("2(x3),1", (2, 2, 2, 1)), ("1,2(x2),3", (1, 2, 2, 3)), ("16(x1)", (16,)),
        ("", ()), ("2,", (2,)),
    ],
)  # fmt: skip
def test_tasks_per_node(text: str, counts: tuple[int, ...]) -> None:
    """Slurm writes equal counts of neighbours once."""
    assert tasks_per_node(text) == counts


def test_several_tasks_a_node() -> None:
    """Every task of the further components is a worker on its node, in order; the first component's are the job's."""
    found = from_slurm(
        {"SLURM_JOB_ID": "20", "SLURM_HET_SIZE": "3", "SLURM_JOB_ID_HET_GROUP_0": "20",
         "SLURM_JOB_NODELIST_HET_GROUP_0": "a[1-2]", "SLURM_TASKS_PER_NODE_HET_GROUP_0": "2,1",
         "SLURM_JOB_NODELIST_HET_GROUP_1": "b[1-4]", "SLURM_TASKS_PER_NODE_HET_GROUP_1": "2(x3),1",
         "SLURM_JOB_NODELIST_HET_GROUP_2": "c1", "SLURM_TASKS_PER_NODE_HET_GROUP_2": "2"}
    )  # fmt: skip
    assert (found.nodes, found.tasks) == (("a1", "a2"), (2, 1))
    assert found.workers == ("b1", "b1", "b2", "b2", "b3", "b3", "b4", "c1", "c1")


def test_het_job_without_counts() -> None:
    """Where Slurm does not say how many tasks a component has on its nodes, each of them is one worker."""
    found = from_slurm(
        {"SLURM_JOB_ID": "20", "SLURM_HET_SIZE": "2", "SLURM_JOB_NODELIST_HET_GROUP_0": "a",
         "SLURM_JOB_NODELIST_HET_GROUP_1": "b[1-2]"}
    )  # fmt: skip
    assert (found.workers, found.tasks) == (("b1", "b2"), ())


def test_tasks_of_a_plain_job() -> None:
    """A job that is not heterogeneous has the tasks of its nodes, and no workers."""
    found = from_slurm({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_TASKS_PER_NODE": "2(x3),1"})
    assert (found.nodes, found.tasks, found.workers) == (("n1", "n2", "n3", "n4"), (2, 2, 2, 1), ())
