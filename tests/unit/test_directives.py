"""What sbatch is told of each component, whole, for each shape."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import plan, settings

from hpcrun.config import NodePool
from hpcrun.plan import Plan

Options = dict[str, str | None]

ALWAYS: Options = {
    "job-name": "train", "open-mode": "append", "comment": "hpcrun:abc", "export": "ALL", "requeue": None
}  # fmt: skip
SECOND: Options = {"job-name": "train", "comment": "hpcrun:abc", "requeue": None}
POOLS = settings(
    node_pools={
        "cpu": NodePool(partition="c", account="mine"),
        "gpu": NodePool(partition="g", qos="high", constraint="a100", reservation="r"),
    }
)


def workers(replicas: int = 2, **fields: Any) -> dict[str, Any]:
    return {"worker": {"command": ["serve"], "replicas": replicas, **fields}}


def options(made: Plan) -> list[Options]:
    """The options of each component; none is given twice."""
    found = [dict(component) for component in made.components]
    assert [len(one) for one in found] == [len(component) for component in made.components]
    return found


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        # One program, or one for each element of an array.
        ({}, {}),
        ({"shards": 4}, {}),
        ({"shards": 4, "cpus": 2, "memory": "4G", "gpus": "a:1"},
         {"cpus-per-task": "2", "mem-per-cpu": "2048M", "gpus": "a:1"}),
        # A parallel program: its memory, CPUs and GPUs are those of a process.
        ({"tasks": 6}, {"ntasks": "6"}),
        ({"nodes": 2}, {"nodes": "2", "ntasks-per-node": "1", "ntasks": "2"}),
        ({"nodes": 2, "tasks": 8}, {"nodes": "2", "ntasks-per-node": "4", "ntasks": "8"}),
        ({"nodes": 2, "tasks": 7}, {"nodes": "2", "ntasks": "7"}),
        ({"shards": 4, "nodes": 2, "tasks": 4, "cpus": 2, "memory": "4G", "gpus": 1, "mpi": "pmix"},
         {"nodes": "2", "ntasks-per-node": "2", "ntasks": "4", "cpus-per-task": "2", "mem-per-cpu": "2048M",
          "gpus-per-task": "1"}),
        ({"tasks": 4, "machine": "large"}, {"ntasks": "4", "cpus-per-task": "2", "mem-per-cpu": "2048M"}),
        # A gang of shards.
        ({"shards": 4, "gang": True}, {"ntasks": "4"}),
        ({"shards": 1, "gang": True}, {}),
        ({"shards": 4, "gang": True, "cpus": 3, "memory": "1G", "gpus": "a:2"},
         {"ntasks": "4", "cpus-per-task": "3", "mem-per-cpu": "342M", "gpus-per-task": "a:2"}),
        # Workers packed with their jobs: slots that are all as large as the larger of both.
        ({**workers(), "topology": "flat"}, {"ntasks": "3", "cpus-per-task": "1"}),
        ({**workers(), "shards": 4}, {"ntasks": "3", "cpus-per-task": "1"}),
        ({**workers(), "shards": 4, "gang": True, "topology": "flat"}, {"ntasks": "12", "cpus-per-task": "1"}),
        ({**workers(3, cpus=4, memory="2G"), "cpus": 2, "memory": "4G", "topology": "flat"},
         {"ntasks": "4", "cpus-per-task": "4", "mem-per-cpu": "1024M"}),
        ({**workers(1, cpus=2), "cpus": 4, "memory": "1G", "topology": "flat"},
         {"ntasks": "2", "cpus-per-task": "4", "mem-per-cpu": "256M"}),
        ({**workers(1, gpus="a:2"), "topology": "flat"},
         {"ntasks": "2", "cpus-per-task": "1", "gpus-per-task": "a:2"}),
        # Whose port is fixed has its node to itself.
        ({**workers(endpoints={"a": "auto", "b": 80}), "topology": "flat"},
         {"ntasks": "3", "cpus-per-task": "1", "ntasks-per-node": "1", "exclusive": None}),
        ({**workers(endpoints={"a": "auto"}), "topology": "flat"}, {"ntasks": "3", "cpus-per-task": "1"}),
        ({**workers(endpoints={"a": 80}), "shards": 4, "topology": "flat"},
         {"ntasks": "3", "cpus-per-task": "1", "ntasks-per-node": "1", "exclusive": None}),
    ],
)  # fmt: skip
def test_one_component(fields: dict[str, Any], more: Options) -> None:
    """What a job of one component gets."""
    assert options(plan(fields)) == [{**ALWAYS, **more}]


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [
        (workers(), {}, {"ntasks": "2", "cpus-per-task": "1"}),
        (workers(1), {}, {"ntasks": "1", "cpus-per-task": "1"}),
        ({**workers(), "cpus": 2, "memory": "1G", "gpus": 1},
         {"cpus-per-task": "2", "mem-per-cpu": "512M", "gpus": "1"}, {"ntasks": "2", "cpus-per-task": "1"}),
        (workers(3, cpus=4, memory="6G", gpus="a100:2"),
         {}, {"ntasks": "3", "cpus-per-task": "4", "mem-per-cpu": "1536M", "gpus-per-task": "a100:2"}),
        ({**workers(3, machine="large"), "machine": "xlarge"},
         {"cpus-per-task": "4", "mem-per-cpu": "2048M"},
         {"ntasks": "3", "cpus-per-task": "2", "mem-per-cpu": "2048M"}),
        # A job of many processes has as many tasks, and its own nodes.
        ({**workers(), "nodes": 2, "tasks": 4, "mpi": "pmix", "memory": "1G"},
         {"nodes": "2", "ntasks-per-node": "2", "ntasks": "4", "mem-per-cpu": "1024M"},
         {"ntasks": "2", "cpus-per-task": "1"}),
        ({**workers(), "tasks": 4, "shards": 3}, {"ntasks": "4"}, {"ntasks": "2", "cpus-per-task": "1"}),
        # Every shard's job and workers in one.
        ({**workers(), "shards": 3, "gang": True, "cpus": 2},
         {"ntasks": "3", "cpus-per-task": "2"}, {"ntasks": "6", "cpus-per-task": "1"}),
        ({**workers(), "shards": 1, "gang": True}, {}, {"ntasks": "2", "cpus-per-task": "1"}),
        # Fixed ports: a node for each, and where the shards are jobs of their own, nobody else's workers on it.
        (workers(endpoints={"a": 80}), {}, {"ntasks": "2", "cpus-per-task": "1", "ntasks-per-node": "1"}),
        (workers(endpoints={"a": "auto"}), {}, {"ntasks": "2", "cpus-per-task": "1"}),
        ({**workers(endpoints={"a": 80}), "shards": 3, "gang": True}, {"ntasks": "3"},
         {"ntasks": "6", "cpus-per-task": "1", "ntasks-per-node": "1"}),
        ({**workers(endpoints={"a": 80}), "shards": 3}, {},
         {"ntasks": "2", "cpus-per-task": "1", "ntasks-per-node": "1", "exclusive": None}),
        # Where each of them is.
        ({**workers(), "node_pool": "cpu"}, {"partition": "c", "account": "mine"},
         {"partition": "c", "account": "mine", "ntasks": "2", "cpus-per-task": "1"}),
        (workers(node_pool="gpu"), {},
         {"partition": "g", "qos": "high", "constraint": "a100", "reservation": "r", "ntasks": "2",
          "cpus-per-task": "1"}),
        ({**workers(node_pool="gpu"), "node_pool": "cpu"}, {"partition": "c", "account": "mine"},
         {"partition": "g", "qos": "high", "constraint": "a100", "reservation": "r", "ntasks": "2",
          "cpus-per-task": "1"}),
    ],
)  # fmt: skip
def test_two_components(fields: dict[str, Any], first: Options, second: Options) -> None:
    """The job's component has the batch script's options, the workers' what each of them needs and where it is."""
    found = options(plan({"topology": "het", **fields}, config=POOLS))
    assert found == [{**ALWAYS, **first}, {**SECOND, **second}]


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        # 90 s, 10 s of grace and a minute to write the record; where somebody is waited for, the time for that.
        ({"timeout": 90}, "3"),
        ({"timeout": 90, "shards": 3}, "3"),
        ({"timeout": 90, "start_timeout": 600}, "3"),
        ({**workers(), "timeout": 90}, "13"),
        ({**workers(), "timeout": 90, "start_timeout": 60}, "4"),
        ({**workers(), "timeout": 90, "start_timeout": 80}, "4"),
        ({**workers(), "timeout": 90, "start_timeout": 81}, "5"),
        ({**workers(), "timeout": 90, "start_timeout": 60, "shards": 3}, "4"),
        ({**workers(), "timeout": 90, "start_timeout": 60, "topology": "flat"}, "4"),
        ({"timeout": 90, "shards": 3, "gang": True, "start_timeout": 60}, "4"),
        (workers(), None),
    ],
)
def test_time(fields: dict[str, Any], minutes: str | None) -> None:
    """Slurm's limit comes after the run's own, all components' alike, so that the record is written first."""
    for component in options(plan(fields)):
        assert component.get("time") == minutes


IN_PLACE = {"timeout": 90, "retry": "in_place"}
TWICE = {"failed": 1, "timed_out": 1}


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        # Each start by Slurm is one attempt, however many there may be.
        ({"timeout": 90, "retries": 5}, "3"),
        ({"timeout": 90, "retries": 5, "shards": 3}, "3"),
        # In place all of them are one start: six attempts of 90 s, each with its grace, and the minute for the record.
        ({**IN_PLACE, "retries": 5}, "11"),
        ({**IN_PLACE, "retries": 5, "shards": 3}, "11"),
        ({**IN_PLACE, "retries": TWICE}, "6"),
        ({**IN_PLACE, "retries": 0}, "3"),
        ({"timeout": 90, "retries": 5, "sbatch": {"no-requeue": True}}, "11"),
        # What the cluster does to it is not to be planned for.
        ({**IN_PLACE, "retries": {"preempted": 5, "node_failed": 5, "launch_failed": 5}}, "3"),
        # Back-off: in place all of it, 10 + 20 + 40 s; where Slurm starts each attempt, the longest one pause.
        ({**IN_PLACE, "retries": 3, "backoff": 10}, "9"),
        ({"timeout": 90, "retries": 3, "backoff": 10}, "4"),
        ({"timeout": 90, "retries": 0, "backoff": 10}, "3"),
        ({"timeout": 90, "retries": {"node_failed": 3}, "backoff": 10}, "3"),
        ({"timeout": 90, "retries": 20, "backoff": 300}, "9"),
        ({**IN_PLACE, "retries": 2, "backoff": 300}, "17"),
        # Of a gang each attempt may take the time of a start.
        ({**IN_PLACE, "retries": 1, "shards": 3, "gang": True, "start_timeout": 60}, "7"),
        ({**workers(), **IN_PLACE, "retries": 1, "start_timeout": 60}, "7"),
        # Shards that share an element are tried again in place, each of them.
        ({"timeout": 90, "shards": 6, "shards_per_element": 3}, "6"),
        ({"timeout": 90, "shards": 6, "shards_per_element": 3, "retries": 1}, "11"),
        ({"timeout": 90, "shards": 6, "shards_per_element": 3, "retries": 1, "backoff": 10}, "12"),
        # Without a timeout the cluster decides.
        ({"retry": "in_place", "retries": 3, "backoff": 10}, None),
    ],
)
def test_time_for_retries(fields: dict[str, Any], minutes: str | None) -> None:
    """Slurm's limit is long enough for every attempt that one start of the job may make, and for the pauses in it."""
    for component in options(plan(fields)):
        assert component.get("time") == minutes


@given(st.floats(1, 1e6), st.floats(1, 1e5))
def test_time_is_enough(timeout: float, start_timeout: float) -> None:
    """However long is asked for, whole minutes hold start, run, grace and margin, and less than a minute more."""
    made = plan(workers(), timeout=timeout, start_timeout=start_timeout)
    (minutes,) = {component["time"] for component in options(made)}
    assert 0 <= int(minutes or 0) * 60 - (timeout + start_timeout + made.grace + 60) <= 60
    assert math.isfinite(int(minutes or 0))


FOR_ALL: Options = {
    "time": "1:00", "partition": "p", "account": "a", "qos": "q", "constraint": "k", "reservation": "r",
    "exclude": "n1", "begin": "now+1", "deadline": "now+9", "nice": "5",
}  # fmt: skip


@pytest.mark.parametrize("name", FOR_ALL)
def test_where_and_when_hold_for_both(name: str) -> None:
    """Options of sbatch's that say where and when are those of both components."""
    first, second = options(plan(workers(), sbatch={name: FOR_ALL[name]}))
    assert (first[name], second[name]) == (FOR_ALL[name], FOR_ALL[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [("exclusive", None), ("licenses", "x:1"), ("mail-type", "END"), ("nodelist", "n1"),
     ("hold", None), ("gres", "x:1"), ("tmp", "1G"), ("mem-per-cpu", "3G")],
)  # fmt: skip
def test_how_much_holds_for_the_job(name: str, value: str | None) -> None:
    """Others are the job's alone: what they ask for would be asked for twice."""
    first, second = options(plan(workers(), sbatch={name: value if value is not None else True}))
    assert first[name] == value
    assert second == {**SECOND, "ntasks": "2", "cpus-per-task": "1"}


def test_own_word_against_the_pools() -> None:
    """The user's own option wins over the pool of the run; over a pool that was named for the workers it does not."""
    asked = {"sbatch": {"partition": "mine", "qos": "low", "exclude": "n1"}}
    first, second = options(plan({**workers(), **asked}, node_pool="gpu", config=POOLS))
    assert (first["partition"], first["qos"], first["constraint"]) == ("mine", "low", "a100")
    assert (second["partition"], second["qos"], second["constraint"]) == ("mine", "low", "a100")
    first, second = options(plan({**workers(node_pool="gpu"), **asked}, node_pool="cpu", config=POOLS))
    assert (first["partition"], first["qos"], first["account"]) == ("mine", "low", "mine")
    assert (second["partition"], second["qos"], second["exclude"]) == ("g", "high", "n1")
    assert "account" not in second


@pytest.mark.parametrize(
    ("asked", "told"),
    [("USR2@90", "B:USR2@90"), ("B:usr1", "B:USR1@60"), ("R:SIGUSR1@5", "RB:USR1@5"), (12, "B:USR2@60"),
     ("RB:10@5", "RB:USR1@5")],
)  # fmt: skip
def test_warning(asked: str | int, told: str) -> None:
    """Slurm tells the batch process alone, which tells everybody; a component of workers has none."""
    first, second = options(plan(workers(), signal=asked))
    assert (first["signal"], "signal" in second) == (told, False)


def test_own_time_wins() -> None:
    """Who gives sbatch's own --time has it for both components, whatever the run's timeout."""
    first, second = options(plan(workers(), timeout=90, sbatch={"time": "5"}))
    assert (first["time"], second["time"]) == ("5", "5")


def test_comment_and_dependency() -> None:
    """The comment names the run in both components; a dependency is given when submitting, to neither."""
    found = options(plan(workers(), sbatch={"comment": "mine", "dependency": "afterok:1"}))
    assert [one["comment"] for one in found] == ["mine hpcrun:abc"] * 2
    assert not any("dependency" in one for one in found)


def test_no_requeue() -> None:
    """Who says no-requeue has no component that is to be requeued."""
    for found in options(plan(workers(), sbatch={"no-requeue": True})):
        assert "requeue" not in found
        assert found["no-requeue"] is None
