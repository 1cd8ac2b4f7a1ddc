"""Where the tasks of a workflow run: on which nodes of its allocation, with which GPUs, beside whom. Pure.

The rules are nv-sflow's. A task is put on the nodes it names or counts; one that asks for GPUs alone goes to the first
node with as many in a row that nobody has; any other one runs on all nodes where the spec says how many these are, and
on the first where tasks do. GPUs pass on to tasks that begin when their
owner has ended, which a service never does before the workflow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from hpcrun.errors import SpecError
from hpcrun.expansion import Place
from hpcrun.peak import peak

_SHARED = 8
"""CPUs at most that tasks get which share what there is: they have not said how many they need."""
_NAMED = 6
"""Tasks that an error names."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a task wants, and what it waits for."""

    name: str
    of: str
    """The task as the spec calls it."""
    field: str
    """Where the spec has it."""
    replica: int = 0
    replicas: int = 1
    parallel: bool = True
    needs: tuple[str, ...] = ()
    service: bool = False
    """Whether it lives until the workflow ends."""
    nodes: int | None = None
    indices: tuple[int, ...] | None = None
    """Which nodes; from the end where negative."""
    exclude: tuple[int, ...] = ()
    gpus: int = 0
    """GPUs on all its nodes together."""
    devices: tuple[int, ...] | None = None
    """Which GPUs, on each of its nodes."""
    cpus: int | None = None
    """CPUs on each of its nodes; None shares what there is."""
    memory: int | None = None
    """MiB on each of its nodes."""

    @property
    def overlaps(self) -> bool:
        """Whether it shares its nodes' CPUs."""
        return self.cpus is None and not self.gpus and not self.devices

    @property
    def wants_nodes(self) -> bool:
        """Whether it says which nodes, or how many."""
        return self.nodes is not None or self.indices is not None

    @property
    def nodes_wanted(self) -> int:
        """How many nodes there must be for it and its replicas."""
        excluded = [index + 1 if index >= 0 else -index for index in dict.fromkeys(self.exclude)]
        if self.indices is not None:
            wanted = max((index + 1 if index >= 0 else -index for index in self.indices), default=1)
        else:
            wanted = (self.nodes or 1) * (self.replicas if self.parallel and self.nodes else 1)
        return max([wanted + len(excluded), *excluded])


@dataclasses.dataclass(frozen=True)
class Room:
    """What there is."""

    nodes: int | None
    """None is as many as the tasks want."""
    gpus: int | None
    """On each node; None is as many as the tasks want."""
    machine: bool = False
    """Whether this machine is all there is: one node, which replicas that want a node each share."""
    cpus: int | None = None
    """Of the machine."""
    memory: int | None = None
    """Of the machine, in MiB."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where every task is, and what that takes."""

    places: Mapping[str, Place]
    nodes: int
    cpus: int
    """The most that are wanted on a node at a time; tasks that share CPUs count one each, up to `_SHARED`."""
    memory: int | None
    """The most MiB that are wanted on a node at a time; None where a task does not say how much it wants."""
    gpus: int
    """On each node."""


def placed(requests: Sequence[Request], room: Room) -> Placement:
    """Where each of `requests` is put, which come in an order in which each is after all that it needs.

    Raises SpecError for a task that there is no room for, with the arithmetic.
    """
    nodes = room.nodes or max([1, *(one.nodes_wanted for one in requests)])
    if room.machine:
        _check_machine(requests)
        nodes = 1
    ended = _ended_before(requests)
    shape = _Shape(nodes, everywhere=room.nodes is not None, machine=room.machine)
    if room.gpus is not None:
        places, gpus = _Planner(requests, ended, shape, room.gpus).places()
    else:
        places, gpus = _in_least(requests, ended, shape)
    sums = _Sums(requests, ended, places, one_each=not room.machine)
    cpus, memory = sums.most("cpus", nodes), sums.most("memory", nodes)
    cpus += min(sums.most("shared", nodes), _SHARED)
    if room.machine:
        sums.check("cpus", room.cpus, "")
        sums.check("memory", room.memory, " MiB")
    told = all(one.memory is not None for one in requests)
    return Placement(places, nodes, max(1, cpus), memory if told else None, gpus)


def _check_machine(requests: Iterable[Request]) -> None:
    for one in requests:
        if (one.nodes or 1) > 1:
            raise SpecError(
                f"found {one.nodes} nodes, and this machine is one; wanted 1, or a cluster (--cluster slurm)",
                field=f"{one.field}.resources.nodes.count",
            )
        for field in ("indices", "exclude"):
            other = next((index for index in getattr(one, field) or () if index not in (0, -1)), None)
            if other is not None:
                raise SpecError(
                    f"found the node {other}, and this machine is one, which is 0; wanted that, or a cluster "
                    "(--cluster slurm)", field=f"{one.field}.resources.nodes.{field}",
                )  # fmt: skip


def _ended_before(requests: Iterable[Request]) -> dict[str, set[str]]:
    """Those that have ended when each begins: all that it comes after, but for services."""
    services = {one.name for one in requests if one.service}
    before: dict[str, set[str]] = {}
    for one in requests:
        before[one.name] = set(one.needs).union(*(before[name] for name in one.needs))
    return {name: names - services for name, names in before.items()}


@dataclasses.dataclass(frozen=True)
class _Shape:
    """How many nodes there are, whether tasks that want none in particular run on all of them, and `Room.machine`."""

    nodes: int
    everywhere: bool
    machine: bool


def _in_least(
    requests: Sequence[Request], ended: Mapping[str, Collection[str]], shape: _Shape
) -> tuple[dict[str, Place], int]:
    """The places with as few GPUs on a node as will do, and how many these are."""
    total = sum(one.gpus or len(one.devices or ()) for one in requests)
    most = max([total, *(max(one.devices) + 1 for one in requests if one.devices)], default=0)
    if shape.nodes == 1 or not most:
        return _Planner(requests, ended, shape, most).places()
    least = 1
    while least < most:
        middle = (least + most) // 2
        try:
            _Planner(requests, ended, shape, middle).places()
            most = middle
        except SpecError:
            least = middle + 1
    return _Planner(requests, ended, shape, most).places()


class _Planner:
    """Puts one task after the other on nodes with `capacity` GPUs each."""

    def __init__(
        self,
        requests: Sequence[Request],
        ended: Mapping[str, Collection[str]],
        shape: _Shape,
        capacity: int,
    ) -> None:
        self._requests, self._ended, self._capacity = requests, ended, capacity
        self._machine, self._everywhere = shape.machine, shape.everywhere
        # Of each node, who has had which of its GPUs: (first, one past the last, name).
        self._had: list[list[tuple[int, int, str]]] = [[] for _ in range(shape.nodes)]

    def places(self) -> tuple[dict[str, Place], int]:
        """Where every task is, and how many GPUs of a node are used at most."""
        found = {one.name: self._place(one) for one in self._requests}
        return found, max((device + 1 for place in found.values() for device in place.devices), default=0)

    def _place(self, one: Request) -> Place:
        if not one.gpus and one.devices is None:
            return Place(self._nodes(one), ())
        if one.wants_nodes:
            nodes = self._nodes(one)
            devices = self._on(one, nodes)
        else:
            nodes, devices = self._first_fit(one)
        for node in nodes:
            self._had[node] += [(device, device + 1, one.name) for device in devices]
        return Place(nodes, devices)

    # Nodes.

    def _there(self, one: Request) -> list[int]:
        """The nodes that a task may be put on."""
        excluded = {self._index(one, "exclude", index, range(len(self._had))) for index in one.exclude}
        left = [node for node in range(len(self._had)) if node not in excluded]
        if not left:
            raise self._error(one, "nodes.exclude", "found every node", "one that is left")
        if one.indices is None:
            return left
        # In the allocation's order: srun numbers the processes of a step so, whatever order it is told.
        return sorted({self._index(one, "indices", index, left) for index in one.indices})

    def _index(self, one: Request, field: str, index: int, there: Sequence[int]) -> int:
        if not -len(there) <= index < len(there):
            raise self._error(
                one, f"nodes.{field}", f"found the node {index}",
                f"one from {-len(there)} to {len(there) - 1}: there {_are(len(there), 'node')}",
            )  # fmt: skip
        return there[index]

    def _nodes(self, one: Request) -> tuple[int, ...]:
        there = self._there(one)
        if one.nodes is None:
            return tuple(there) if self._everywhere or one.wants_nodes or one.exclude else (there[0],)
        first = one.replica * one.nodes if one.parallel and not self._machine else 0
        if first + one.nodes > len(there):
            wanted = one.nodes * (one.replicas if one.parallel else 1)
            each = f" for each of {one.replicas} replicas" if wanted > one.nodes else ""
            raise self._error(
                one, "nodes.count",
                f"found {_count(one.nodes, 'node')}{each}, and there {_are(len(there), 'node')}",
                f"fewer, or {wanted} nodes (`nodes`, or those of the backend)", all_of_them=bool(each),
            )  # fmt: skip
        return tuple(there[first : first + one.nodes])

    # GPUs.

    def _on(self, one: Request, nodes: Sequence[int]) -> tuple[int, ...]:
        """The GPUs of a task on each of its `nodes`, which are the same everywhere."""
        devices = one.devices
        if one.gpus and one.gpus % len(nodes):
            more = -(-one.gpus // len(nodes)) * len(nodes)
            raise self._error(
                one, "gpus.count", f"found {one.gpus} GPUs on {len(nodes)} nodes together",
                f"as many on each, such as {more}",
            )  # fmt: skip
        each = one.gpus // len(nodes)
        if devices is not None:
            if each and each != len(devices):
                raise self._error(
                    one, "gpus.count",
                    f"found {one.gpus} on {_count(len(nodes), 'node')} beside {len(devices)} indices",
                    f"{len(devices) * len(nodes)}",
                )  # fmt: skip
            if not all(self._is_free(one, node, devices) for node in nodes):
                raise self._taken(one, nodes, len(devices))
            return devices
        found = self._run(one, nodes, each)
        if found is None:
            raise self._taken(one, nodes, each)
        return found

    def _first_fit(self, one: Request) -> tuple[tuple[int, ...], tuple[int, ...]]:
        there = self._there(one)
        if one.devices is not None:
            if one.gpus % len(one.devices):
                raise self._error(
                    one, "gpus.count", f"found {one.gpus} beside {len(one.devices)} indices",
                    f"a multiple of {len(one.devices)}",
                )  # fmt: skip
            wanted = max(1, one.gpus // len(one.devices))
            nodes = [node for node in there if self._is_free(one, node, one.devices)][:wanted]
            if len(nodes) < wanted:
                raise self._taken(one, there, len(one.devices), wanted)
            return tuple(nodes), one.devices
        for node in there:
            devices = self._run(one, [node], one.gpus)
            if devices is not None:
                return (node,), devices
        return self._whole_nodes(one, there)

    def _whole_nodes(self, one: Request, there: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """More GPUs than a node has: all of several nodes."""
        each = self._capacity
        if one.gpus <= each or not each:
            raise self._taken(one, there, one.gpus)
        if one.gpus % each and len(there) > 1:
            raise self._error(
                one, "gpus.count", f"found {one.gpus} GPUs, which no node of {each} has",
                f"a multiple of {each}, or `nodes` beside it",
            )  # fmt: skip
        wanted, every = -(-one.gpus // each), tuple(range(each))
        nodes = [node for node in there if self._is_free(one, node, every)][:wanted]
        if len(nodes) < wanted:
            raise self._taken(one, there, each, wanted)
        return tuple(nodes), every

    def _kept(self, one: Request, node: int) -> list[tuple[int, int, str]]:
        """Who has GPUs of a node while a task runs."""
        ended = self._ended[one.name]
        return sorted(had for had in self._had[node] if had[2] not in ended)

    def _is_free(self, one: Request, node: int, devices: Collection[int]) -> bool:
        kept = {device for first, last, _ in self._kept(one, node) for device in range(first, last)}
        return max(devices) < self._capacity and not kept & set(devices)

    def _run(self, one: Request, nodes: Sequence[int], count: int) -> tuple[int, ...] | None:
        """The first `count` GPUs in a row that are free on all of `nodes`."""
        first = 0
        for begin, end, _ in sorted(had for node in nodes for had in self._kept(one, node)):
            if first + count <= begin:
                break
            first = max(first, end)
        return tuple(range(first, first + count)) if first + count <= self._capacity else None

    def _taken(self, one: Request, nodes: Sequence[int], each: int, wanted: int = 1) -> SpecError:
        """There is no room for a task: what it wants, what there is, and who has that."""
        owners: dict[str, int] = {}
        for node in nodes:
            for first, last, name in self._kept(one, node):
                owners[name] = owners.get(name, 0) + last - first
        there, taken = self._capacity * len(nodes), sum(owners.values())
        asked = _count(one.gpus or each * wanted, "GPU")
        on = "this machine" if self._machine else f"the {len(nodes)} nodes" if len(nodes) > 1 else "the node"
        has = f"{on} {'have' if len(nodes) > 1 else 'has'} {self._capacity}{' each' if len(nodes) > 1 else ''}"
        beyond = max(one.devices or (0,))
        if self._capacity and beyond >= self._capacity:
            return self._error(
                one, "gpus.indices", f"found the GPU {beyond}, and {has}", f"one from 0 to {self._capacity - 1}"
            )
        if not taken:
            return self._error(one, "gpus", f"found {asked}, and {has}", f"{there} at most" if there else "none")
        other = f", of which {taken} are taken when it runs ({_listed(owners)}): {there} - {taken} = {there - taken}"
        row = " and not in one row" if there - taken >= (one.gpus or each) else ""
        return self._error(
            one, "gpus", f"found {asked}, and {has}{other} left{row}",
            "fewer, more nodes, or tasks one after the other (`depends_on`; a task with readiness probes keeps its "
            "GPUs until the workflow ends)",
        )  # fmt: skip

    def _error(self, one: Request, field: str, found: str, wanted: str, *, all_of_them: bool = False) -> SpecError:
        name = f" for {one.name}" if one.name != one.of and not all_of_them else ""
        head, sep, tail = found.partition(",")
        return SpecError(f"{head}{name}{sep}{tail}; wanted {wanted}", field=f"{one.field}.resources.{field}")


class _Sums:
    """What is wanted at a time. Replicas are alike in what they wait for, so that a spec's task is looked at as one."""

    def __init__(
        self,
        requests: Sequence[Request],
        ended: Mapping[str, Collection[str]],
        places: Mapping[str, Place],
        *,
        one_each: bool,
    ) -> None:
        self._requests, self._places = requests, places
        # Whether tasks that have CPUs of their own without asking for any want one.
        self._one_each = one_each
        of = {one.name: one.of for one in requests}
        self._before: dict[str, set[str]] = {}
        for one in requests:
            self._before.setdefault(one.of, set()).update(of[name] for name in ended[one.name])

    def at(self, what: str, node: int) -> tuple[int, dict[str, int]]:
        """The most of ``cpus`` or ``memory`` that is wanted on a node at a time, and by which tasks of the spec.

        ``shared`` are tasks that share CPUs.
        """
        weights: dict[str, int] = {}
        for one in self._requests:
            if node not in self._places[one.name].nodes:
                continue
            amount = self._amount(one, what)
            together = one.parallel or one.service
            before = weights.get(one.of, 0)
            weights[one.of] = before + amount if together else max(before, amount)
        total, which = peak(weights, self._before)
        return total, {name: weights[name] for name in which}

    def _amount(self, one: Request, what: str) -> int:
        if what == "shared":
            return int(one.overlaps)
        found: int | None = getattr(one, what)
        return found or int(what == "cpus" and self._one_each and not one.overlaps)

    def most(self, what: str, nodes: int) -> int:
        """The most that is wanted on any node."""
        return max(self.at(what, node)[0] for node in range(nodes))

    def check(self, what: str, there: int | None, unit: str) -> None:
        """Raises SpecError where the machine has less than is wanted at a time, with the arithmetic."""
        wanted, by = self.at(what, 0)
        if there is None or wanted <= there:
            return
        largest = max(by, key=lambda name: by[name])
        field = next(one.field for one in self._requests if one.of == largest)
        named = "CPUs" if what == "cpus" else "MiB of memory"
        raise SpecError(
            f"found {wanted} {named} at a time ({_listed(by)}), and this machine has {there}{unit}; wanted fewer, or "
            "tasks one after the other (`depends_on`, or `policy: sequential`)", field=f"{field}.resources.{what}",
        )  # fmt: skip


def _listed(amounts: Mapping[str, int]) -> str:
    shown = [f"{name} {amount}" for name, amount in list(amounts.items())[:_NAMED]]
    more = len(amounts) - _NAMED
    return ", ".join([*shown, f"and {more} more" if more > 0 else ""]).removesuffix(", ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}s" if number != 1 else f"one {noun}"


def _are(number: int, noun: str) -> str:
    return f"are {number} {noun}s" if number != 1 else f"is one {noun}"
