"""Where the tasks of a workflow are put, what their allocation then needs, and the arithmetic where there is no room."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import SpecError
from hpcrun.peak import peak
from hpcrun.placement import Placement, Request, Room, placed


def task(name: str, *needs: str, **fields: Any) -> Request:
    return Request(**{"name": name, "of": name, "field": f"workflow.tasks.{name}", "needs": needs, **fields})


def replicas(of: str, count: int, *needs: str, **fields: Any) -> list[Request]:
    """The parallel replicas of a task."""
    more = {"of": of, "field": f"workflow.tasks.{of}", "replicas": count, **fields}
    return [task(f"{of}_{index}", *needs, replica=index, **more) for index in range(count)]


def chain(of: str, count: int, *needs: str, **fields: Any) -> list[Request]:
    """The sequential replicas of a task."""
    found = replicas(of, count, parallel=False, **fields)
    before = [needs, *((one.name,) for one in found)]
    return [Request(**{**vars(one), "needs": tuple(after)}) for one, after in zip(found, before, strict=False)]


def where(found: Placement) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    return {name: (place.nodes, place.devices) for name, place in found.places.items()}


def test_slices() -> None:
    """Four replicas with two GPUs each share a node of eight, as nv-sflow's page has it."""
    found = placed(replicas("worker", 4, gpus=2), Room(1, 8))
    assert [place.devices for place in found.places.values()] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert {place.nodes for place in found.places.values()} == {(0,)}
    assert (found.gpus, found.cpus) == (8, 4)


def test_first_node_with_room() -> None:
    """GPUs are in a row on one node, the first that has them."""
    wanted = [task("a", gpus=3), task("b", gpus=2), task("c", gpus=1), task("d", gpus=4)]
    found = where(placed(wanted, Room(3, 4)))
    assert found == {"a": ((0,), (0, 1, 2)), "b": ((1,), (0, 1)), "c": ((0,), (3,)), "d": ((2,), (0, 1, 2, 3))}


def test_gpus_pass_on() -> None:
    """What has ended leaves its GPUs to what comes after it, directly or not; a service, or what runs beside, does not."""
    wanted = [
        task("prepare", gpus=2), task("train", "prepare", gpus=4), task("serve", "train", gpus=2, service=True),
        task("ask", "serve", gpus=1), task("beside", gpus=1),
    ]  # fmt: skip
    found = {name: devices for name, (_, devices) in where(placed(wanted, Room(1, None))).items()}
    assert found == {"prepare": (0, 1), "train": (0, 1, 2, 3), "serve": (0, 1), "ask": (2,), "beside": (4,)}


def test_as_many_as_the_plan_needs() -> None:
    """Where nobody says how many GPUs a node has, the nodes have as few as will do."""
    assert placed(replicas("worker", 4, gpus=4), Room(2, None)).gpus == 8
    assert placed(replicas("worker", 4, gpus=4), Room(1, None)).gpus == 16
    assert placed(chain("worker", 4, gpus=4), Room(1, None)).gpus == 4


def test_gpus_of_many_nodes() -> None:
    """GPUs are counted over all nodes of a task, which has the same on each; more than a node has are whole nodes."""
    wanted = [task("one", gpus=1), task("pair", nodes=2, gpus=4), task("whole", "one", "pair", gpus=8)]
    assert where(placed(wanted, Room(2, 4))) == {
        "one": ((0,), (0,)), "pair": ((0, 1), (1, 2)), "whole": ((0, 1), (0, 1, 2, 3))
    }  # fmt: skip


def test_named_gpus() -> None:
    """GPUs by index are those, on the first node where they are free."""
    wanted = [task("a", devices=(0, 3)), task("b", devices=(3,)), task("c", devices=(1, 2)), task("d", gpus=1)]
    assert where(placed(wanted, Room(2, 4))) == {
        "a": ((0,), (0, 3)), "b": ((1,), (3,)), "c": ((0,), (1, 2)), "d": ((1,), (0,))
    }  # fmt: skip


def test_nodes() -> None:
    """Parallel replicas have nodes of their own, sequential ones the first.

    Who says nothing runs on all nodes where the spec says how many there are, and on the first where tasks do.
    """
    wanted = [
        *replicas("own", 2, nodes=2), *chain("turn", 2, nodes=3), task("last", indices=(-1, 0)),
        task("rest", exclude=(0, -1)), task("all"),
    ]  # fmt: skip
    found = placed(wanted, Room(None, None))
    assert found.nodes == 4
    assert {name: nodes for name, (nodes, _) in where(found).items()} == {
        "own_0": (0, 1), "own_1": (2, 3), "turn_0": (0, 1, 2), "turn_1": (0, 1, 2), "last": (0, 3), "rest": (1, 2),
        "all": (0,),
    }  # fmt: skip
    assert placed(wanted, Room(4, None)).places["all"].nodes == (0, 1, 2, 3)


def test_replicas_share_a_machine() -> None:
    """On one machine replicas that want a node each share it."""
    found = placed(replicas("own", 3, nodes=1), Room(4, 0, machine=True))
    assert (found.nodes, {place.nodes for place in found.places.values()}) == (1, {(0,)})


def test_the_most_at_a_time() -> None:
    """An allocation has the CPUs and the memory that are wanted on a node at a time, and not those of all tasks."""
    wanted = [
        task("prepare", cpus=6, memory=100), *replicas("train", 3, "prepare", cpus=2, memory=500),
        *chain("test", 4, "train_0", "train_1", "train_2", cpus=5, memory=900), task("log", memory=10),
    ]  # fmt: skip
    found = placed(wanted, Room(1, None))
    assert (found.cpus, found.memory) == (6 + 1, 1510)


def test_services_are_always_there() -> None:
    """A service lives beside everything that comes after it, also one of a chain of services."""
    wanted = [*chain("serve", 2, cpus=2, memory=1, service=True), task("ask", "serve_1", cpus=1, memory=1)]
    found = placed(wanted, Room(1, None))
    assert (found.cpus, found.memory) == (5, 3)


def test_by_node() -> None:
    """Sums are those of the node that needs most."""
    wanted = [*replicas("own", 2, nodes=1, cpus=3, memory=7), task("more", indices=(1,), cpus=2, memory=1)]
    found = placed(wanted, Room(None, None))
    assert (found.nodes, found.cpus, found.memory) == (2, 5, 8)


def test_who_asks_for_nothing() -> None:
    """Tasks that ask for no CPUs share one each, up to 8; with GPUs they have their own. Memory is asked for if all do."""
    found = placed([task("a", memory=100), *replicas("b", 9)], Room(None, None))
    assert (found.nodes, found.cpus, found.memory, found.gpus) == (1, 8, None, 0)
    assert placed(chain("a", 9), Room(None, None)).cpus == 1
    assert placed(replicas("a", 3, gpus=1), Room(None, None)).cpus == 3
    placed(replicas("a", 3, gpus=1), Room(None, 3, machine=True, cpus=1))


HERE = Room(None, 2, machine=True, cpus=8, memory=1000)


@pytest.mark.parametrize(
    ("wanted", "room", "message"),
    [
        (replicas("worker", 5, gpus=2), Room(1, 8),
         "workflow.tasks.worker.resources.gpus: found 2 GPUs for worker_4, and the node has 8, of which 8 are taken when it runs (worker_0 2, worker_1 2, worker_2 2, worker_3 2): 8 - 8 = 0 left; wanted fewer, more nodes, or tasks one after the other (`depends_on`; a task with readiness probes keeps its GPUs until the workflow ends)"),
        ([task("a", gpus=3), task("b", gpus=3), task("c", gpus=2)], Room(2, 4),
         "workflow.tasks.c.resources.gpus: found 2 GPUs, and the 2 nodes have 4 each, of which 6 are taken when it runs (a 3, b 3): 8 - 6 = 2 left and not in one row; wanted fewer, more nodes, or tasks one after the other (`depends_on`; a task with readiness probes keeps its GPUs until the workflow ends)"),
        ([task("a", gpus=9)], Room(1, 8), "workflow.tasks.a.resources.gpus: found 9 GPUs, and the node has 8; wanted 8 at most"),
        ([task("a", gpus=24)], Room(2, 8), "workflow.tasks.a.resources.gpus: found 24 GPUs, and the 2 nodes have 8 each; wanted 16 at most"),
        ([task("a", gpus=12)], Room(2, 8),
         "workflow.tasks.a.resources.gpus.count: found 12 GPUs, which no node of 8 has; wanted a multiple of 8, or `nodes` beside it"),
        ([task("a", gpus=3, nodes=2)], Room(2, 8),
         "workflow.tasks.a.resources.gpus.count: found 3 GPUs on 2 nodes together; wanted as many on each, such as 4"),
        ([task("a", gpus=1)], Room(1, 0), "workflow.tasks.a.resources.gpus: found one GPU, and the node has 0; wanted none"),
        ([task("a", devices=(0, 4))], Room(1, 4), "workflow.tasks.a.resources.gpus.indices: found the GPU 4, and the node has 4; wanted one from 0 to 3"),
        ([task("a", devices=(0, 1), gpus=3)], Room(1, 4),
         "workflow.tasks.a.resources.gpus.count: found 3 beside 2 indices; wanted a multiple of 2"),
        ([task("a", nodes=3)], Room(2, None),
         "workflow.tasks.a.resources.nodes.count: found 3 nodes, and there are 2 nodes; wanted fewer, or 3 nodes (`nodes`, or those of the backend)"),
        (replicas("a", 3, nodes=2), Room(4, None),
         "workflow.tasks.a.resources.nodes.count: found 2 nodes for each of 3 replicas, and there are 4 nodes; wanted fewer, or 6 nodes (`nodes`, or those of the backend)"),
        ([task("a", indices=(2,))], Room(2, None),
         "workflow.tasks.a.resources.nodes.indices: found the node 2; wanted one from -2 to 1: there are 2 nodes"),
        ([task("a", exclude=(0,))], Room(1, None),
         "workflow.tasks.a.resources.nodes.exclude: found every node; wanted one that is left"),
        ([task("a", nodes=2)], HERE,
         "workflow.tasks.a.resources.nodes.count: found 2 nodes, and this machine is one; wanted 1, or a cluster (--cluster slurm)"),
        ([task("a", indices=(1,))], HERE,
         "workflow.tasks.a.resources.nodes.indices: found the node 1, and this machine is one, which is 0; wanted that, or a cluster (--cluster slurm)"),
        ([task("a", cpus=2), *replicas("b", 3, "a", cpus=3), task("c", "a", cpus=1), task("d", "b_0", "b_1", "b_2", cpus=8)], HERE,
         "workflow.tasks.b.resources.cpus: found 10 CPUs at a time (b 9, c 1), and this machine has 8; wanted fewer, or tasks one after the other (`depends_on`, or `policy: sequential`)"),
        ([task("a", memory=600), task("b", memory=500)], HERE,
         "workflow.tasks.a.resources.memory: found 1100 MiB of memory at a time (a 600, b 500), and this machine has 1000 MiB; wanted fewer, or tasks one after the other (`depends_on`, or `policy: sequential`)"),
        ([task("a", gpus=1), task("b", gpus=2)], HERE,
         "workflow.tasks.b.resources.gpus: found 2 GPUs, and this machine has 2, of which 1 are taken when it runs (a 1): 2 - 1 = 1 left; wanted fewer, more nodes, or tasks one after the other (`depends_on`; a task with readiness probes keeps its GPUs until the workflow ends)"),
    ],
)  # fmt: skip
def test_no_room(wanted: list[Request], room: Room, message: str) -> None:
    """Who asks for more than there is learns what was counted, and what would do."""
    with pytest.raises(SpecError) as caught:
        placed(wanted, room)
    assert str(caught.value) == message


GRAPHS = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.integers(0, 6)), st.booleans(), st.integers(0, 3)), max_size=7
)  # fmt: skip


def graph(drawn: list[tuple[int, set[int], bool, int]]) -> list[Request]:
    """Tasks that need some of those before them."""
    return [
        task(f"t{index}", *(f"t{other}" for other in sorted(needs) if other < index), gpus=gpus, service=service,
             cpus=cpus or None)
        for index, (gpus, needs, service, cpus) in enumerate(drawn)
    ]  # fmt: skip


def together(wanted: list[Request], some: tuple[Request, ...]) -> bool:
    """Whether all of `some` may run at the same time."""
    before: dict[str, set[str]] = {}
    for one in wanted:
        before[one.name] = {one.name}.union(*(before[name] for name in one.needs))
    return not any(a.name in before[b.name] and not a.service for a, b in itertools.permutations(some, 2) if a is not b)


@given(GRAPHS)
def test_nobody_shares_a_gpu(drawn: list[tuple[int, set[int], bool, int]]) -> None:
    """Whatever the graph, tasks that may run at the same time have different GPUs, and each has as many as it wants."""
    wanted = graph(drawn)
    found = placed(wanted, Room(1, None))
    for one in wanted:
        assert len(found.places[one.name].devices) == one.gpus
    for pair in itertools.combinations(wanted, 2):
        if together(wanted, pair):
            assert not set(found.places[pair[0].name].devices) & set(found.places[pair[1].name].devices)


@given(GRAPHS)
def test_enough_and_not_more(drawn: list[tuple[int, set[int], bool, int]]) -> None:
    """The CPUs of an allocation are the most that tasks want which may run at the same time."""
    wanted = graph(drawn)
    subsets = itertools.chain.from_iterable(
        itertools.combinations(wanted, count) for count in range(1, len(wanted) + 1)
    )
    at_once = [some for some in subsets if together(wanted, some)]
    own = max((sum(0 if one.overlaps else one.cpus or 1 for one in some) for some in at_once), default=0)
    shared = max((sum(one.overlaps for one in some) for some in at_once), default=0)
    assert placed(wanted, Room(1, None)).cpus == max(1, own + min(shared, 8))


def test_peak_names_them() -> None:
    """Besides the sum it says whose it is."""
    assert peak({"a": 3, "b": 2, "c": 2, "d": 9}, {"b": {"a"}, "c": {"a"}, "d": {"a", "b", "c"}}) == (9, ("d",))
    assert peak({"a": 3, "b": 2, "c": 2}, {"b": {"a"}, "c": {"a"}}) == (4, ("b", "c"))
    assert peak({}, {}) == (0, ())
