"""Limits: what they forbid, in whole messages, and what only slows a run."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import ASKED, SLURM, local, plan, settings

from hpcrun.cluster import Limits
from hpcrun.compile import wheres
from hpcrun.config import NodePool
from hpcrun.errors import SpecError
from hpcrun.plan import Plan
from hpcrun.quotas import Limit, Place, Where, check, demand, room
from hpcrun.spec import from_source, raw

TIME = Limit("job", "time", 1800, "partition short", "MaxTime")
NODES = Limit("job", "node", 2, "partition short", "MaxNodes")
QUEUE = Limit("queue", "jobs", 20, "user ada in account physics", "MaxSubmitJobs")
CPUS = Limit("job", "cpu", 4, "QOS short", "MaxTRESPerJob")
GPUS = Limit("job", "gres/gpu", 1, "QOS short", "MaxTRESPerJob")
MEMORY = Limit("job", "mem", 4096, "QOS short", "MaxTRESPerJob")
POOLS = settings(node_pools={"cpu": NodePool(partition="c", account="a"), "gpu": NodePool(partition="g", qos="q")})


def under(*limits: Limit, **fields: Any) -> Limits:
    """A cluster with one place to start, which these limits bound."""
    place = Place(partition="short", account="physics", qos="short", limits=limits, **fields)
    return dataclasses.replace(SLURM, places=((place,), (place,)))


def refused(limits: Limits, **fields: Any) -> str:
    with pytest.raises(SpecError) as caught:
        plan(fields, config=POOLS, limits=limits)
    return str(caught.value)


def time_of(made: Plan) -> str | None:
    return dict(made.components[0]).get("time")


WORKERS = {"worker": {"command": ["serve"], "replicas": 2}}

# What a spec asks for, the limits, and the whole message.
REFUSED: list[tuple[dict[str, Any], Limits, str]] = [
    # Time, by whichever way it was asked for.
    ({"timeout": "2h"}, under(TIME), "timeout: found a time limit of 2h2m (timeout 2h), and partition short allows 30m (MaxTime); wanted a timeout of 28m50s at most, or another partition"),
    ({"timeout": "30m"}, under(TIME), "timeout: found a time limit of 32m (timeout 30m), and partition short allows 30m (MaxTime); wanted a timeout of 28m50s at most, or another partition"),
    ({"timeout": "30m", "retries": 1, "retry": "in_place"}, under(TIME), "timeout: found a time limit of 1h2m (timeout 30m), and partition short allows 30m (MaxTime); wanted a timeout of 14m20s at most, or another partition"),
    ({"sbatch": {"time": "2-12:30"}}, under(TIME), "sbatch.time: found a time limit of 2d12h30m, and partition short allows 30m (MaxTime); wanted 30m at most, or another partition"),
    ({"sbatch": {"time": "UNLIMITED"}}, under(TIME), "sbatch.time: found no time limit, and partition short allows 30m (MaxTime); wanted 30m at most, or another partition"),
    ({}, under(TIME, default_time=math.inf), "timeout: found no time limit, the default of partition short, and partition short allows 30m (MaxTime); wanted a timeout (or --time), or another partition"),
    ({}, under(dataclasses.replace(TIME, source="QOS short", name="MaxWall"), default_time=3600), "timeout: found a time limit of 1h, the default of partition short, and QOS short allows 30m (MaxWall); wanted a timeout (or --time), or another QOS"),
    ({**WORKERS, "timeout": "25m"}, under(TIME), "timeout: found a time limit of 37m (timeout 25m), and partition short allows 30m (MaxTime); wanted a timeout of 18m50s at most, or another partition"),
    ({**WORKERS, "timeout": "25m"}, under(dataclasses.replace(TIME, most=600)), "timeout: found a time limit of 37m (timeout 25m), and partition short allows 10m (MaxTime); wanted another partition"),
    # Size.
    ({"nodes": 8}, under(NODES), "nodes: found 8 nodes a job, and partition short allows 2 nodes (MaxNodes); wanted 2 nodes at most, or another partition"),
    ({"cpus": 5}, under(CPUS), "cpus: found 5 CPUs a job, and QOS short allows 4 CPUs (MaxTRESPerJob); wanted 4 CPUs at most, or another QOS"),
    ({"tasks": 3, "cpus": 2}, under(CPUS), "cpus: found 6 CPUs a job, and QOS short allows 4 CPUs (MaxTRESPerJob); wanted 4 CPUs at most, or another QOS"),
    ({"memory": "8G"}, under(MEMORY), "memory: found 8 GiB a job, and QOS short allows 4 GiB (MaxTRESPerJob); wanted 4 GiB at most, or another QOS"),
    ({"gpus": 2}, under(GPUS), "gpus: found 2 GPUs a job, and QOS short allows 1 GPU (MaxTRESPerJob); wanted 1 GPU at most, or another QOS"),
    ({"gpus": "a100:2"}, under(dataclasses.replace(GPUS, what="gres/gpu:a100")), "gpus: found 2 gres/gpu:a100 a job, and QOS short allows 1 gres/gpu:a100 (MaxTRESPerJob); wanted 1 gres/gpu:a100 at most, or another QOS"),
    ({"shards": 8, "gang": True}, under(CPUS), "shards: found 8 CPUs a job, and QOS short allows 4 CPUs (MaxTRESPerJob); wanted 4 CPUs at most, or another QOS"),
    ({**WORKERS, "worker": {"command": ["s"], "replicas": 5}}, under(CPUS), "worker: found 5 CPUs a job, and QOS short allows 4 CPUs (MaxTRESPerJob); wanted 4 CPUs at most, or another QOS"),
    ({"cpus": 5}, under(Limit("running", "cpu", 4, "account physics", "GrpTRES", 4)), "cpus: found 5 CPUs a job, and account physics allows 4 CPUs (GrpTRES); wanted 4 CPUs at most, or another account"),
    ({"cpus": 4, "sbatch": {"time": "50"}}, under(Limit("job", "cpu-minutes", 100, "user ada in account physics", "MaxTRESMinsPerJob")), "sbatch.time: found 200 CPU minutes a job, and user ada in account physics allows 100 CPU minutes (MaxTRESMinsPerJob); wanted 100 CPU minutes at most, or another account"),
    # How many.
    ({"shards": 30}, under(dataclasses.replace(QUEUE, used=20)), "shards: found 30 jobs to queue, and user ada in account physics leaves no room for another one (MaxSubmitJobs 20, 20 of them taken); wanted to wait until some of them have ended"),
    ({}, under(dataclasses.replace(QUEUE, used=20)), "found one job to queue, and user ada in account physics leaves no room for another one (MaxSubmitJobs 20, 20 of them taken); wanted to wait until some of them have ended"),
    ({}, under(dataclasses.replace(QUEUE, most=0)), "found one job to queue, and user ada in account physics leaves no room for another one (MaxSubmitJobs 0); wanted another account"),
    ({"shards": 50, "shards_per_element": 2}, under(QUEUE), "shards_per_element: found 25 jobs to queue, and user ada in account physics leaves room for 20 (MaxSubmitJobs 20); wanted 3 or more"),
    ({**WORKERS, "shards": 30}, under(dataclasses.replace(QUEUE, used=5)), "shards: found 30 jobs to queue, and user ada in account physics leaves room for 15 (MaxSubmitJobs 20, 5 of them taken); wanted 15 at most: shards with workers are jobs of their own"),
    ({**WORKERS, "shards": 30, "topology": "het"}, under(QUEUE), "shards: found 60 jobs to queue, and user ada in account physics leaves room for 20 (MaxSubmitJobs 20); wanted 10 at most: shards with workers are jobs of their own"),
    ({"shards": 4}, under(Limit("running", "jobs", 0, "QOS short", "MaxJobsPerUser")), "shards: found jobs to run, and QOS short allows none (MaxJobsPerUser 0); wanted another QOS"),
    # So many that each element runs several, which then take too long.
    ({"shards": 50, "timeout": "15m"}, under(QUEUE, TIME), "shards: found 50 shards, of which an element has to run 3, for user ada in account physics leaves room for 20 jobs in the queue (MaxSubmitJobs 20): a time limit of 47m for 3 shards one after the other (timeout 15m each), and partition short allows 30m (MaxTime); wanted fewer shards, a timeout of 9m30s at most, or another partition"),
    ({"shards": 50, "sbatch": {"time": "15"}}, under(QUEUE, TIME), "shards: found 50 shards, of which an element has to run 3, for user ada in account physics leaves room for 20 jobs in the queue (MaxSubmitJobs 20): a time limit of 45m for 3 shards one after the other, and partition short allows 30m (MaxTime); wanted fewer shards, less time for each, or another partition"),
    ({"shards": 50, "timeout": "15m", "shards_per_element": 5}, under(QUEUE, TIME), "timeout: found a time limit of 1h17m for 5 shards one after the other (timeout 15m each), and partition short allows 30m (MaxTime); wanted a timeout of 5m38s at most, or another partition"),
    # Where.
    ({}, under(closed="partition short, which takes no jobs now (State DRAIN)", closed_to="partition"), "sbatch.partition: found partition short, which takes no jobs now (State DRAIN); wanted another partition"),
    ({"node_pool": "cpu"}, under(closed="account a, and partition c has AllowAccounts b", closed_to="account"), "node_pool: found account a, and partition c has AllowAccounts b; wanted another account"),
    ({"node_pool": "cpu", "sbatch": {"qos": "x"}}, under(closed="QOS x, and partition c has AllowQos b", closed_to="QOS"), "sbatch.qos: found QOS x, and partition c has AllowQos b; wanted another QOS"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "limits", "said"), REFUSED)
def test_refused(fields: dict[str, Any], limits: Limits, said: str) -> None:
    """The message has the limit and whose it is, the demand, and what would do; it names the field of the spec."""
    assert refused(limits, **fields) == said


def test_the_pool_of_the_workers() -> None:
    """What is wrong with where the workers are to start is said of their pool."""
    shut = Place(closed="partition g, which takes no jobs now (State DRAIN)", closed_to="partition")
    limits = dataclasses.replace(SLURM, places=((Place(),), (shut,)))
    fields = {"worker": {"command": ["s"], "node_pool": "gpu"}}
    assert refused(limits, **fields).startswith("worker.node_pool: found partition g, which takes no jobs now")


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout": "28m50s"}, {"sbatch": {"time": "30"}}, {"sbatch": {"time": "2:00:00", "time-min": "20"}}, {},
        {"cpus": 2, "memory": "2G", "nodes": 2, "tasks": 2}, {"cpus": 4, "gpus": 1, "memory": "4G"}, {"shards": 20},
        {"sbatch": {"time": "soon"}},
    ],
)  # fmt: skip
def test_what_fits(fields: dict[str, Any]) -> None:
    """Exactly as much as is allowed is allowed; a job without a time limit gets what fits."""
    assert plan(fields, limits=under(TIME, NODES, QUEUE, CPUS, GPUS, MEMORY)).batches[0].pack == 1


@pytest.mark.parametrize("left", range(1, 12))
def test_a_timeout_that_is_wanted_fits(left: int) -> None:
    """What a message says would do, does, to the second; a second more does not."""
    limits = under(TIME, dataclasses.replace(QUEUE, used=20 - left))
    said = refused(limits, shards=20, timeout="2h")
    most = said.partition("a timeout of ")[2].partition(" at most")[0]
    plan(shards=20, timeout=most, limits=limits)
    assert "MaxTime" in refused(
        limits, shards=20, timeout=f"{most}1s" if most.endswith("m") else most.replace("s", ".9s")
    )


# What slows a run, and what `hpcrun compile` says of it behind the shape.
NOTES: list[tuple[dict[str, Any], Limits, str]] = [
    ({"shards": 9}, under(Limit("running", "jobs", 3, "QOS short", "MaxJobsPerUser")), "at most 3 at once (QOS short: MaxJobsPerUser 3)"),
    ({"shards": 9, "cpus": 4}, under(Limit("running", "cpu", 10, "account physics", "GrpTRES", 7)), "at most 2 at once (account physics: GrpTRES 10 CPUs)"),
    ({"shards": 9, "memory": "1G"}, under(Limit("running", "jobs", 8, "a", "MaxJobs"), Limit("running", "mem", 2048, "b", "GrpTRES")), "at most 2 at once (b: GrpTRES 2 GiB)"),
    ({"shards": 9}, under(waits="partition short is down, and nothing starts there until it is up"), "partition short is down, and nothing starts there until it is up"),
    ({"sbatch": {"time": "50"}}, under(Limit("budget", "cpu-minutes", 1000, "account physics", "GrpTRESMins", 960)), "account physics has 40 CPU minutes left of 1000 (GrpTRESMins), and a job may need more"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "limits", "said"), NOTES)
def test_notes(fields: dict[str, Any], limits: Limits, said: str) -> None:
    """What only slows a run is no error; its plan says so."""
    before = plan(fields).reason
    assert plan(fields, limits=limits).reason == f"{before}; {said}"


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"shards": 3}, Limit("running", "jobs", 3, "QOS short", "MaxJobsPerUser")),
        ({"shards": 9, "max_parallel": 2}, Limit("running", "jobs", 3, "QOS short", "MaxJobsPerUser")),
        ({"shards": 9}, Limit("running", "gres/gpu", 3, "QOS short", "GrpTRES")),
        ({"shards": 9}, Limit("running", "billing", 3, "QOS short", "GrpTRES")),
    ],
)
def test_no_note(fields: dict[str, Any], limit: Limit) -> None:
    """A limit that does not slow a run, or bounds what it does not use, is not worth a word."""
    assert plan(fields, limits=under(limit)).reason == plan(fields).reason


# Shards an element.
WHY = "user ada in account physics leaves room for {} in the queue: MaxSubmitJobs 20"


@pytest.mark.parametrize(
    ("shards", "used", "pack", "reason"),
    [
        (20, 0, 1, "20 independent shards: one job array"),
        (
            21,
            0,
            2,
            f"21 independent shards: one job array of 11 elements, which run up to 2 shards one after the other ({WHY.format('20 jobs')})",
        ),
        (
            60,
            0,
            3,
            f"60 independent shards: one job array of 20 elements, each of which runs 3 shards one after the other ({WHY.format('20 jobs')})",
        ),
        (
            50,
            15,
            10,
            f"50 independent shards: one job array of 5 elements, each of which runs 10 shards one after the other ({WHY.format('5 jobs')}, 15 of them taken)",
        ),
        (
            50,
            19,
            50,
            f"50 independent shards: one job array of one element, each of which runs 50 shards one after the other ({WHY.format('one job')}, 19 of them taken)",
        ),
    ],
)
def test_pack(shards: int, used: int, pack: int, reason: str) -> None:
    """Where the queue has no room for an element a shard, elements run as few more as it takes."""
    made = plan(shards=shards, limits=under(dataclasses.replace(QUEUE, used=used)))
    assert (made.batches[0].pack, made.reason) == (pack, reason)


def test_pack_by_hand() -> None:
    """The spec's number of shards an element holds, with room or without."""
    made = plan(shards=50, shards_per_element=4)
    assert made.reason == (
        "50 independent shards: one job array of 13 elements, which run up to 4 shards one after the other (as the spec says)"
    )
    assert plan(shards=50, shards_per_element=4, limits=under(QUEUE)).batches == made.batches


def test_nothing_is_packed_here() -> None:
    """This machine has no queue with a limit."""
    made = plan(shards=50, shards_per_element=4, limits=local(), asked=dataclasses.replace(ASKED, cluster="local"))
    assert made.batches[0].pack == 1


@given(
    shards=st.integers(2, 400),
    left=st.integers(1, 400),
    array=st.integers(1, 60),
    parallel=st.none() | st.integers(1, 90),
)
def test_every_pack(shards: int, left: int, array: int, parallel: int | None) -> None:
    """However many shards and however little room: all shards once, no more jobs than fit, as few an element as can be."""
    limits = dataclasses.replace(under(dataclasses.replace(QUEUE, most=left)), max_array=array)
    made = plan(shards=shards, max_parallel=parallel, limits=limits)
    found = [shard for batch in made.batches for task in range(batch.elements) for shard in batch.shards_of(task)]
    assert found == list(range(shards))
    elements = [batch.elements for batch in made.batches]
    assert sum(elements) <= left
    assert max(elements) <= array
    pack = made.batches[0].pack
    assert pack == 1 or math.ceil(shards / (pack - 1)) > left
    assert {batch.pack for batch in made.batches} == {pack}
    assert parallel is None or at_once(made) <= parallel


def at_once(made: Plan) -> int:
    """How many shards may run at the same time: the last of each lane, of all lanes."""
    heads = {batch.index for batch in made.batches if batch.after is None}
    return sum(b.throttle or b.elements for b in made.batches if b.index in heads)


@pytest.mark.parametrize(
    ("fields", "default", "time"),
    [
        ({"timeout": "10m"}, None, "32"),
        ({"sbatch": {"time": "10"}}, None, "30"),
        ({"sbatch": {"time": "9:30"}}, None, "29"),
        ({"sbatch": {"time": "UNLIMITED"}}, None, "UNLIMITED"),
        ({"timeout": "10m", "sbatch": {"time": "20"}}, None, "60"),
        ({}, None, None),
        ({}, 600.0, "30"),
        ({}, math.inf, None),
        ({"timeout": "10m"}, 600.0, "32"),
        ({"timeout": "10m", "retries": 2, "retry": "in_place"}, None, "93"),
    ],
)
def test_time_of_an_element(fields: dict[str, Any], default: float | None, time: str | None) -> None:
    """Time limits are what a shard gets: an element of three gets three times as much, also of the cluster's default."""
    assert time_of(plan(fields, shards=60, limits=under(QUEUE, default_time=default))) == time


def test_time_min_of_an_element() -> None:
    """The least that a user would take is a shard's too."""
    made = plan(shards=60, sbatch={"time": "60", "time-min": "20"}, limits=under(QUEUE))
    assert dict(made.components[0])["time-min"] == "60"


def test_room() -> None:
    """The limit that leaves the least room counts, of all places."""
    least = dataclasses.replace(QUEUE, most=100, used=95)
    assert room([(Place(limits=(QUEUE,)),), (Place(limits=(TIME, least)),)]) == least
    assert room([(Place(limits=(TIME,)),)]) is None
    assert dataclasses.replace(QUEUE, used=30).left == 0


def test_alternatives() -> None:
    """Of several partitions one that takes the job is enough; where none does, the first one's reason is told."""
    small, large = Place(partition="small", limits=(CPUS,)), Place(partition="large", waits="large is down")
    asked = demand({"cpus-per-task": "8"})
    assert check(asked, [small, large]).problems == ()
    assert check(asked, [small, large]).notes == ("large is down",)
    assert check(asked, [small, dataclasses.replace(small, limits=(NODES, CPUS))]).problems[0].limit == CPUS
    assert check(asked, []).problems == ()


@pytest.mark.parametrize(
    ("options", "amounts"),
    [
        ({}, {"cpu": 1, "node": 1}),
        ({"nodes": "2-4", "ntasks-per-node": "3"}, {"cpu": 6, "node": 2}),
        ({"ntasks": "6", "ntasks-per-node": "1", "exclusive": None}, {"cpu": 6, "node": 6}),
        ({"ntasks": "6", "cpus-per-task": "2", "mem-per-cpu": "512M"}, {"cpu": 12, "node": 1, "mem": 6144}),
        ({"gpus": "a100:2"}, {"cpu": 1, "node": 1, "gres/gpu": 2, "gres/gpu:a100": 2}),
        ({"ntasks": "3", "gpus-per-task": "1"}, {"cpu": 3, "node": 1, "gres/gpu": 3}),
        ({"nodes": "2", "gres": "gpu:v100:4(S:0)"}, {"cpu": 2, "node": 2, "gres/gpu": 8, "gres/gpu:v100": 8}),
        ({"gres": "gpu"}, {"cpu": 1, "node": 1, "gres/gpu": 1}),
        ({"gres": "lscratch:5", "nodes": "x", "mem-per-cpu": "much"}, {"cpu": 1, "node": 1}),
    ],
)
def test_demand(options: dict[str, str | None], amounts: dict[str, float]) -> None:
    """What sbatch is told is what a job needs at least; what cannot be read is Slurm's to refuse."""
    assert demand(options).amounts == amounts


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [Where()]),
        ({"node_pool": "cpu"}, [Where("c", "a")]),
        ({"node_pool": "cpu", "sbatch": {"partition": "p", "qos": "x"}}, [Where("p", "a", "x")]),
        ({**WORKERS, "node_pool": "cpu"}, [Where("c", "a"), Where("c", "a")]),
        ({"worker": {"command": ["s"], "node_pool": "gpu"}, "sbatch": {"partition": "p", "account": "b"}},
         [Where("p", "b"), Where("g", "b", "q")]),
    ],
)  # fmt: skip
def test_wheres(fields: dict[str, Any], expected: list[Where]) -> None:
    """Where the job and its workers start: what sbatch will be told of each."""
    assert list(wheres(from_source(raw({"command": ["x"], **fields})), POOLS)) == expected
