"""What a run compiles to: its shape, its jobs, the reason that is given for it, and what has no shape at all."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import ASKED, SLURM, local, plan, settings

from hpcrun.cluster import Limits
from hpcrun.compile import MOST_WORKERS
from hpcrun.config import NodePool
from hpcrun.errors import SpecError
from hpcrun.plan import Plan

Batches = list[tuple[int, int, bool, int | None, int | None]]
"""(first, count, array, throttle, after) of each."""

LOCAL = dataclasses.replace(ASKED, cluster="local")
ONE_NODE = dataclasses.replace(SLURM, nodes=1)
POOLS = settings(
    node_pools={"cpu": NodePool(partition="c"), "gpu": NodePool(partition="g"), "same": NodePool(partition="c")}
)

FIXED = {"endpoints": {"http": 8080}}
AUTO = {"endpoints": {"http": "auto"}}

TOGETHER = "one heterogeneous job (job and workers start together)"
PACKED = "one job, job and workers packed into one allocation"
ELEMENTS = "each element job and workers in one allocation (job and workers fit the same slots, so that each element of an array holds them all)"
HET = ", and Slurm has no arrays of heterogeneous jobs)"
SAID = "(as the spec says)"
HAS_ONE = "(this cluster has one node, on which the components of a heterogeneous job cannot start)"
CHAIN = ", each after the one max_parallel before it"


def workers(replicas: int = 2, **fields: Any) -> dict[str, Any]:
    """The part of a spec that asks for workers."""
    return {"worker": {"command": ["serve"], "replicas": replicas, **fields}}


def batches(made: Plan) -> Batches:
    assert [batch.index for batch in made.batches] == list(range(len(made.batches)))
    return [(batch.first, batch.count, batch.array, batch.throttle, batch.after) for batch in made.batches]


def one(count: int = 1) -> Batches:
    return [(0, count, False, None, None)]


def array(count: int, throttle: int | None = None) -> Batches:
    return [(0, count, True, throttle, None)]


def lanes(shards: int, parallel: int | None) -> Batches:
    """A job a shard, each after the one `parallel` before it."""
    return [
        (shard, 1, False, None, shard - parallel if parallel and shard >= parallel else None) for shard in range(shards)
    ]


def alike(plan_: Plan) -> tuple[str, str, Batches]:
    return plan_.shape, plan_.reason, batches(plan_)


# What a spec asks for, and the shape, the reason and the batches that it gets on a cluster of many nodes.
TABLE: list[tuple[dict[str, Any], str, str, Batches]] = [
    # Without workers.
    ({}, "job", "one program: one batch job", one()),
    ({"shards": 1}, "job", "one shard: one batch job", one()),
    ({"shards": 1, "gang": True}, "job", "one shard: one batch job", one()),
    ({"shards": 4}, "array", "4 independent shards: one job array", array(4)),
    ({"shards": 4, "max_parallel": 2}, "array", "4 independent shards: one job array", array(4, 2)),
    ({"shards": 4, "gang": True}, "gang", "4 shards: one job of 4 tasks, which start together", one(4)),
    ({"shards": 4, "gang": True, "max_parallel": 4}, "gang", "4 shards: one job of 4 tasks, which start together", one(4)),
    ({"shards": 4, "nodes": 2, "tasks": 8}, "array", "4 independent shards: one job array", array(4)),
    ({"nodes": 2, "tasks": 8}, "job", "one program: one batch job", one()),
    # One job with workers: always a gang, and heterogeneous where nobody says otherwise.
    (workers(1), "het", f"one program with one worker: {TOGETHER}", one()),
    (workers(), "het", f"one program with 2 workers: {TOGETHER}", one()),
    ({**workers(), "gang": True}, "het", f"one program with 2 workers: {TOGETHER}", one()),
    ({**workers(), "shards": 1}, "het", f"one shard with 2 workers each: {TOGETHER}", one()),
    (workers(endpoints={"http": 80}), "het", f"one program with 2 workers: {TOGETHER}", one()),
    (workers(cpus=4), "het", f"one program with 2 workers: {TOGETHER}", one()),
    ({**workers(node_pool="gpu"), "node_pool": "cpu"}, "het", f"one program with 2 workers: {TOGETHER}", one()),
    ({**workers(), "nodes": 2, "tasks": 8}, "het", f"one program with 2 workers: {TOGETHER}", one()),
    ({**workers(), "topology": "flat"}, "flat", f"one program with 2 workers: {PACKED} {SAID}", one()),
    ({**workers(), "topology": "het"}, "het", f"one program with 2 workers: one heterogeneous job {SAID}", one()),
    # Many shards with workers that start together.
    ({**workers(), "shards": 3, "gang": True}, "het", f"3 shards with 2 workers each: {TOGETHER}", one(3)),
    ({**workers(cpus=4), "shards": 3, "gang": True}, "het", f"3 shards with 2 workers each: {TOGETHER}", one(3)),
    ({**workers(), "shards": 3, "gang": True, "topology": "flat"}, "flat", f"3 shards with 2 workers each: {PACKED} {SAID}", one(3)),
    # Many shards with workers, each on its own: an array where Slurm has one for it.
    ({**workers(), "shards": 3}, "flat", f"3 shards with 2 workers each: one job array, {ELEMENTS}", array(3)),
    ({**workers(**AUTO), "shards": 3}, "flat", f"3 shards with 2 workers each: one job array, {ELEMENTS}", array(3)),
    ({**workers(1), "shards": 3}, "flat", f"3 shards with one worker each: one job array, {ELEMENTS}", array(3)),
    ({**workers(), "shards": 3, "max_parallel": 2}, "flat", f"3 shards with 2 workers each: one job array, {ELEMENTS}", array(3, 2)),
    ({**workers(node_pool="same"), "node_pool": "cpu", "shards": 3}, "flat", f"3 shards with 2 workers each: one job array, {ELEMENTS}", array(3)),
    ({**workers(cpus=2, memory="1G"), "cpus": 2, "memory": "1G", "shards": 3}, "flat", f"3 shards with 2 workers each: one job array, {ELEMENTS}", array(3)),
    ({**workers(gpus="a100:1"), "gpus": "a100:1", "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (the job of a flat allocation cannot be kept from the GPUs of its workers{HET}", lanes(3, None)),
    ({**workers(**FIXED), "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (fixed ports want a node for each worker{HET}", lanes(3, None)),
    ({**workers(cpus=4), "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (job and workers want different cpus{HET}", lanes(3, None)),
    ({**workers(cpus=4, memory="1G", gpus=1), "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (job and workers want different cpus and memory and gpus{HET}", lanes(3, None)),
    ({**workers(machine="large"), "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (job and workers want different cpus and memory{HET}", lanes(3, None)),
    ({**workers(node_pool="gpu"), "node_pool": "cpu", "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (job and workers are in different node pools{HET}", lanes(3, None)),
    ({**workers(node_pool="gpu"), "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (job and workers are in different node pools{HET}", lanes(3, None)),
    ({**workers(), "tasks": 4, "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (the job is a parallel program with nodes of its own{HET}", lanes(3, None)),
    ({**workers(), "nodes": 1, "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (the job is a parallel program with nodes of its own{HET}", lanes(3, None)),
    ({**workers(gpus="a100:1"), "gpus": "h100:1", "shards": 3}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs (the job of a flat allocation cannot be kept from the GPUs of its workers{HET}", lanes(3, None)),
    # Or what the spec says.
    ({**workers(), "shards": 3, "topology": "het"}, "het", f"3 shards with 2 workers each: 3 heterogeneous jobs {SAID}", lanes(3, None)),
    ({**workers(**FIXED), "shards": 3, "topology": "flat"}, "flat", f"3 shards with 2 workers each: one job array, each element job and workers in one allocation {SAID}", array(3)),
    ({**workers(cpus=4), "shards": 3, "topology": "flat"}, "flat", f"3 shards with 2 workers each: one job array, each element job and workers in one allocation {SAID}", array(3)),
    # Lanes: max_parallel of heterogeneous jobs side by side, each after the one max_parallel before it.
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 2}, "het", f"5 shards with 2 workers each: 5 heterogeneous jobs{CHAIN} {SAID}", lanes(5, 2)),
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 1}, "het", f"5 shards with 2 workers each: 5 heterogeneous jobs{CHAIN} {SAID}", lanes(5, 1)),
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 4}, "het", f"5 shards with 2 workers each: 5 heterogeneous jobs{CHAIN} {SAID}", lanes(5, 4)),
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 5}, "het", f"5 shards with 2 workers each: 5 heterogeneous jobs {SAID}", lanes(5, None)),
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 50}, "het", f"5 shards with 2 workers each: 5 heterogeneous jobs {SAID}", lanes(5, None)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "shape", "reason", "expected"), TABLE)
def test_table(fields: dict[str, Any], shape: str, reason: str, expected: Batches) -> None:
    """A run becomes the jobs that the design's table says, and `hpcrun compile` says why."""
    many = dataclasses.replace(SLURM, nodes=9)
    assert alike(plan(fields, config=POOLS, limits=many)) == (shape, reason, expected)
    # Where nobody could count the nodes, there are enough.
    assert alike(plan(fields, config=POOLS)) == (shape, reason, expected)


@pytest.mark.parametrize(
    ("fields", "reason", "expected"),
    [
        (workers(), f"one program with 2 workers: {PACKED} {HAS_ONE}", one()),
        (workers(cpus=4, gpus=1), f"one program with 2 workers: {PACKED} {HAS_ONE}", one()),
        ({**workers(), "shards": 3, "gang": True}, f"3 shards with 2 workers each: {PACKED} {HAS_ONE}", one(3)),
        (
            {**workers(cpus=4), "shards": 3, "max_parallel": 2},
            f"3 shards with 2 workers each: one job array, each element job and workers in one allocation {HAS_ONE}",
            array(3, 2),
        ),
        ({**workers(), "topology": "flat"}, f"one program with 2 workers: {PACKED} {SAID}", one()),
    ],
)
def test_one_node(fields: dict[str, Any], reason: str, expected: Batches) -> None:
    """On a cluster of one node, where the components of a heterogeneous job would wait forever, all share one."""
    assert alike(plan(fields, limits=ONE_NODE)) == ("flat", reason, expected)


def test_lanes_of_arrays() -> None:
    """Arrays whose elements hold workers are split and chained as others are."""
    made = plan(workers(), shards=10, max_parallel=7, limits=Limits(max_array=4, accounting=True))
    assert batches(made) == [(0, 4, True, None, None), (4, 4, True, None, 0), (8, 2, True, None, 1)]
    assert made.reason.startswith("10 shards with 2 workers each: 3 job arrays, each element job and workers in one")


@given(shards=st.integers(1, 60), bound=st.integers(1, 70), data=st.data())
def test_never_more_het_jobs_at_once(shards: int, bound: int, data: st.DataObject) -> None:
    """However long each takes, no more than max_parallel heterogeneous jobs run, no fewer while any wait, and all do."""
    found = plan(workers(), shards=shards, topology="het", max_parallel=bound).batches
    assert [batch.first for batch in found] == list(range(shards))
    waiting, running, ended = list(found), set[int](), set[int]()
    while waiting or running:
        for batch in list(waiting):
            if batch.after is None or batch.after in ended:
                waiting.remove(batch)
                running.add(batch.index)
        assert len(running) <= bound
        done = data.draw(st.sampled_from(sorted(running)))
        running.remove(done)
        ended.add(done)
    assert len(ended) == shards


COMBINED = list(itertools.product(
    (None, 1, 3), (False, True), ("auto", "flat", "het"), (None, 1, 4), (FIXED, AUTO, {}), (None, 4), (None, "gpu"),
    (None, 2),
))  # fmt: skip


def test_every_combination() -> None:
    """Whatever is combined with whatever: a shape that can carry it out and every shard once, or a SpecError."""
    for chosen in COMBINED:
        shards, gang, topology, nodes, ports, cpus, pool, parallel = chosen
        fields = workers(cpus=cpus, node_pool=pool, **ports) | {
            "shards": shards, "gang": gang, "topology": topology, "max_parallel": parallel
        }  # fmt: skip
        limits = dataclasses.replace(SLURM, nodes=nodes)
        crowded = ports == FIXED and nodes is not None and 2 * ((shards or 1) if gang else 1) > nodes - 1
        bounded = gang and parallel and (shards or 1) > parallel
        apart = topology == "het" and nodes == 1
        if bounded or crowded or apart or (pool and (topology == "flat" or (topology == "auto" and nodes == 1))):
            with pytest.raises(SpecError):
                plan(fields, config=POOLS, limits=limits)
            continue
        made = plan(fields, config=POOLS, limits=limits)
        assert [shard for b in made.batches for shard in range(b.first, b.first + b.count)] == list(range(shards or 1))
        if topology != "auto":
            assert made.shape == topology, chosen
        elif pool or nodes == 1:
            assert made.shape == ("het" if pool else "flat"), chosen
        together = gang or shards in (None, 1)
        assert len(made.components) == (2 if made.shape == "het" else 1), chosen
        assert len(made.batches) == (1 if together or made.shape == "flat" else shards), chosen
        assert {b.array for b in made.batches} == {made.shape == "flat" and not together}, chosen


# What has no shape, with the limits under which it has none, and the whole message.
REFUSED: list[tuple[dict[str, Any], Limits, str]] = [
    ({"shards": 2, "gang": True, "tasks": 2}, SLURM, "gang: found several tasks a shard in a gang of shards, wanted one of them"),
    ({"shards": 2, "gang": True, "nodes": 2}, SLURM, "gang: found several tasks a shard in a gang of shards, wanted one of them"),
    ({**workers(), "shards": 2, "gang": True, "tasks": 2}, SLURM, "gang: found several tasks a shard in a gang of shards, wanted one of them"),
    ({**workers(), "topology": "het"}, ONE_NODE, "topology: found het on a cluster of one node, on which two components cannot start; wanted flat or auto"),
    ({**workers(node_pool="gpu"), "topology": "flat"}, SLURM, "topology: found flat, but job and workers are in different node pools; wanted het or auto"),
    ({**workers(), "topology": "flat", "tasks": 2}, SLURM, "topology: found flat, but the job is a parallel program with nodes of its own; wanted het or auto"),
    ({**workers(), "topology": "flat", "nodes": 1}, SLURM, "topology: found flat, but the job is a parallel program with nodes of its own; wanted het or auto"),
    ({**workers(gpus="a:1"), "gpus": "b:1", "topology": "flat"}, SLURM, "topology: found flat, but the job of a flat allocation cannot be kept from the GPUs of its workers; wanted het or auto"),
    ({**workers(), "tasks": 2}, ONE_NODE, "worker: found workers that need a heterogeneous job (the job is a parallel program with nodes of its own), and this cluster has one node, on which its components cannot start together; make job and workers alike"),
    ({**workers(node_pool="gpu"), "shards": 3}, ONE_NODE, "worker: found workers that need a heterogeneous job (job and workers are in different node pools), and this cluster has one node, on which its components cannot start together; make job and workers alike"),
    (workers(2, **FIXED), ONE_NODE, "worker.codespec.endpoints: found a fixed port for 2 workers, each of which wants a node of its own, and there is none for them; wanted auto as the port"),
    (workers(2, **FIXED), dataclasses.replace(SLURM, nodes=2), "worker.codespec.endpoints: found a fixed port for 2 workers, each of which wants a node of its own, and there is one for them; wanted auto as the port"),
    ({**workers(2, **FIXED), "shards": 2, "gang": True}, dataclasses.replace(SLURM, nodes=4), "worker.codespec.endpoints: found a fixed port for 4 workers, each of which wants a node of its own, and there are 3 for them; wanted auto as the port"),
    (workers(MOST_WORKERS + 1), SLURM, f"worker.replicas: found {MOST_WORKERS + 1}, wanted {MOST_WORKERS} at most: the addresses of all workers of a shard go into one variable, which holds 128 KiB; use more shards"),
    (workers(3, max_replicas=2), SLURM, "worker.replicas: found 3, and the codespec allows at most 2 (maxReplicas)"),
    ({**workers(), "shards": 5, "topology": "het", "max_parallel": 2, "sbatch": {"dependency": "afterok:1?afterok:2"}}, SLURM, "sbatch.dependency: found alternatives (?) beside max_parallel on a run of several arrays, which depend on each other; wanted dependencies that all must hold (,)"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "limits", "said"), REFUSED)
def test_refused(fields: dict[str, Any], limits: Limits, said: str) -> None:
    """What cannot be carried out is said with the reason and with what would do."""
    with pytest.raises(SpecError) as caught:
        plan(fields, config=POOLS, limits=limits)
    assert str(caught.value) == said


def test_fixed_ports_that_fit() -> None:
    """As many workers with a fixed port as there are nodes beside the job's are what a cluster can have."""
    assert plan(workers(3, **FIXED), limits=dataclasses.replace(SLURM, nodes=4)).shape == "het"
    made = plan(workers(3, **FIXED), shards=9, limits=dataclasses.replace(SLURM, nodes=4))
    assert (made.shape, len(made.batches)) == ("het", 9)


# On one machine.


def here(fields: Mapping[str, Any], **limits: Any) -> Plan:
    """The plan for a machine with 8 CPUs, 16 GiB and 2 GPUs."""
    return plan(fields, limits=local(**limits), asked=LOCAL)


@pytest.mark.parametrize(
    ("fields", "shape", "reason", "expected"),
    [
        ({}, "job", "one program on this machine", one()),
        ({"shards": 1}, "job", "one shard on this machine, up to 1 at once", one()),
        ({"shards": 20}, "array", "20 shards on this machine, up to 8 at once", array(20, 8)),
        ({"shards": 4, "gang": True}, "gang", "4 shards on this machine all at once", one(4)),
        (workers(), "flat", "one program with 2 workers on this machine", one()),
        (workers(1, **FIXED), "flat", "one program with one worker on this machine", one()),
        ({**workers(1, **FIXED), "shards": 3}, "flat", "3 shards with one worker each on this machine, up to 1 at once", array(3, 1)),
        ({**workers(), "nodes": 2, "tasks": 2}, "flat", "one program with 2 workers on this machine", one()),
        ({**workers(), "topology": "flat"}, "flat", "one program with 2 workers on this machine", one()),
        ({**workers(), "shards": 9}, "flat", "9 shards with 2 workers each on this machine, up to 2 at once", array(9, 2)),
        ({**workers(), "shards": 2, "gang": True}, "flat", "2 shards with 2 workers each on this machine all at once", one(2)),
    ],
)  # fmt: skip
def test_on_this_machine(fields: dict[str, Any], shape: str, reason: str, expected: Batches) -> None:
    """One machine has one shape for workers, whatever Slurm would need."""
    assert alike(here(fields)) == (shape, reason, expected)


def test_no_het_here() -> None:
    """Who insists on a heterogeneous job does not get another thing on one machine."""
    with pytest.raises(SpecError) as caught:
        here({**workers(), "topology": "het"})
    assert str(caught.value) == "topology: found het on the local cluster, wanted auto: there is one machine"


@pytest.mark.parametrize(
    ("fields", "throttle"),
    [
        # Processes that do not say how many CPUs they need share them, and still not all shards run at once.
        (workers(1), 4),
        (workers(2), 2),
        (workers(7), 1),
        (workers(50), 1),
        # Those that say get them.
        ({**workers(1, cpus=3), "cpus": 1}, 2),
        ({**workers(1, cpus=7), "cpus": 1}, 1),
        ({**workers(1, cpus=4)}, 1),
        ({"tasks": 4}, 2),
        ({"tasks": 4, "cpus": 2}, 1),
        # The scarcest counts.
        ({**workers(3, memory="1G"), "memory": "1G"}, 2),
        ({**workers(1, memory="7G"), "memory": "1G"}, 2),
        ({**workers(1, gpus=1)}, 2),
        ({**workers(1, gpus=1), "gpus": 1}, 1),
        ({**workers(1), "max_parallel": 3}, 3),
        ({**workers(1), "max_parallel": 30}, 4),
    ],
)
def test_local_throttle(fields: dict[str, Any], throttle: int) -> None:
    """As many shards at once as this machine has CPUs, memory and GPUs for, their workers counted in."""
    assert here({**fields, "shards": 100}).batches[0].throttle == throttle


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({**workers(2, cpus=4), "cpus": 1}, "cpus: found 9 a shard (job 1, 2 workers of 4), and this machine has 8; lower it"),
        ({**workers(3, memory="5G"), "memory": "2G"}, "memory: found 17408 MiB a shard (job 2048, 3 workers of 5120), and this machine has 16384 MiB; lower it"),
        ({**workers(4, memory="5G")}, "memory: found 20480 MiB a shard (job 0, 4 workers of 5120), and this machine has 16384 MiB; lower it"),
        ({**workers(2, gpus=1), "gpus": 1}, "gpus: found 3 a shard (job 1, 2 workers of 1), and this machine has 2; lower it"),
        ({"tasks": 5, "cpus": 2}, "cpus: found 10 a shard, and this machine has 8; lower it"),
        (workers(2, **FIXED), "worker.codespec.endpoints: found a fixed port for 2 workers, each of which wants a node of its own, and there is one for them; wanted auto as the port"),
        ({"shards": 3, "gang": True, "cpus": 4}, "cpus: found 4 a shard, times 3 shards of a gang, and this machine has 8; lower it"),
        ({"shards": 3, "gang": True, "memory": "6G"}, "memory: found 6144 MiB a shard, times 3 shards of a gang, and this machine has 16384 MiB; lower it"),
        ({"shards": 3, "gang": True, "gpus": 1}, "gpus: found 1 a shard, times 3 shards of a gang, and this machine has 2; lower it"),
        ({**workers(1, cpus=3), "cpus": 1, "shards": 3, "gang": True}, "cpus: found 4 a shard (job 1, one worker of 3), times 3 shards of a gang, and this machine has 8; lower it"),
    ],
)  # fmt: skip
def test_this_machine_is_too_small(fields: dict[str, Any], said: str) -> None:
    """A shard with its workers, or a gang, that this machine cannot hold is refused with the arithmetic."""
    with pytest.raises(SpecError) as caught:
        here(fields)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "fields",
    [
        workers(50), {**workers(2), "cpus": 8}, {"shards": 50, "gang": True}, {**workers(9), "shards": 9, "gang": True},
        {"tasks": 50}, {**workers(1, cpus=7), "cpus": 1}, {"shards": 2, "gang": True, "cpus": 4},
        {**workers(3, memory="4G"), "memory": "4G"}, {**workers(2, gpus=1)},
    ],
)  # fmt: skip
def test_what_fits(fields: dict[str, Any]) -> None:
    """Whoever does not say how many CPUs may share them, however many there are; what fits exactly fits."""
    assert here(fields).batches[0].throttle is None


def test_workers_of_a_gang_must_fit() -> None:
    """A gang whose workers alone ask for more CPUs than there are is refused, although its job asked for none."""
    with pytest.raises(
        SpecError, match=r"^cpus: found 4 a shard .*, times 3 shards of a gang, and this machine has 8;"
    ):
        here({**workers(1, cpus=4), "shards": 3, "gang": True})
