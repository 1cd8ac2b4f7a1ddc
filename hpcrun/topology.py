"""What a run compiles to: its shape, its batches, and why. Pure.

The rules are those of docs/design.md, "What a run compiles to"; what forces them is Slurm's: there are no arrays of
heterogeneous jobs, and two components of one never share a node.
"""

from __future__ import annotations

import dataclasses
import math

from hpcrun.cluster import Limits
from hpcrun.errors import SpecError
from hpcrun.plan import Batch, Role
from hpcrun.quotas import room, taken
from hpcrun.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape of `plan.Plan.shape`, and why it is this one."""

    name: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Demands:
    """The roles of a run. `explicit` says of job and workers whether their CPUs were asked for."""

    job: Role
    worker: Role | None
    explicit: tuple[bool, bool]

    @property
    def gpus(self) -> int:
        """GPUs of one shard with its workers."""
        return self._sum("gpus")

    @property
    def memory(self) -> int:
        """MiB of one shard with its workers, as far as they say."""
        return self._sum("memory")

    @property
    def cpus(self) -> int:
        """CPUs of one shard with its workers, with one for each process that did not say."""
        return self._sum("cpus")

    @property
    def explicit_cpus(self) -> int:
        """CPUs of one shard with its workers, as far as they say, and one at least."""
        job, worker = self.explicit
        total = self.job.cpus * self.job.tasks if job else 0
        if self.worker and worker:
            total += self.worker.cpus * self.worker.replicas
        return max(total, 1)

    def _sum(self, what: str) -> int:
        total = (getattr(self.job, what) or 0) * self.job.tasks
        return total + ((getattr(self.worker, what) or 0) * self.worker.replicas if self.worker else 0)


def decide(spec: RunSpec, demands: Demands, limits: Limits, cluster: str, *, same_pool: bool) -> Shape:
    """The shape of the run.

    Raises SpecError where what was asked for has none.
    """
    worker = demands.worker
    if spec.gang and demands.job.tasks > 1 and (spec.shards or 1) > 1:
        raise SpecError("found several tasks a shard in a gang of shards, wanted one of them", field="gang")
    if worker is None:
        if (spec.shards or 1) == 1:
            return Shape("job")
        return Shape("gang") if spec.gang else Shape("array")
    if cluster == "local" and spec.topology == "het":
        raise SpecError("found het on the local cluster, wanted auto: there is one machine", field="topology")
    shape = Shape("flat") if cluster == "local" else _with_workers(spec, demands, limits, same_pool=same_pool)
    there = None if limits.nodes is None else limits.nodes - 1  # the job has a node to itself
    _check_fixed_ports(spec, demands, 1 if cluster == "local" else there)
    return shape


def _check_fixed_ports(spec: RunSpec, demands: Demands, there: int | None) -> None:
    """Raises SpecError where fixed ports want more nodes than are `there` for workers."""
    if there is None or demands.worker is None or not fixed_ports(demands.worker):
        return
    wanted = demands.worker.replicas * ((spec.shards or 1) if spec.gang else 1)
    if wanted > there:
        raise SpecError(
            f"found a fixed port for {wanted} workers, each of which wants a node of its own, and there "
            f"{'is one' if there == 1 else f'are {there}' if there else 'is none'} for them; wanted auto as the port",
            field="worker.codespec.endpoints",
        )  # fmt: skip


def _with_workers(spec: RunSpec, demands: Demands, limits: Limits, *, same_pool: bool) -> Shape:
    assert demands.worker is not None
    impossible = _not_flat(demands, same_pool=same_pool)
    unequal = _unequal(demands)
    if spec.topology == "flat" and impossible:
        raise SpecError(f"found flat, but {impossible}; wanted het or auto", field="topology")
    if spec.topology == "het" and limits.nodes == 1:
        raise SpecError(
            "found het on a cluster of one node, on which two components cannot start; wanted flat or auto",
            field="topology",
        )
    if spec.topology != "auto":
        return Shape(spec.topology, "as the spec says")
    if limits.nodes == 1:
        if impossible:
            raise SpecError(
                f"found workers that need a heterogeneous job ({impossible}), and this cluster has one node, on which "
                "its components cannot start together; make job and workers alike", field="worker",
            )  # fmt: skip
        return Shape("flat", "this cluster has one node, on which the components of a heterogeneous job cannot start")
    if spec.gang or (spec.shards or 1) == 1:
        return Shape("het", "job and workers start together")
    fixed = "fixed ports want a node for each worker" if fixed_ports(demands.worker) else ""
    other = impossible or unequal or fixed
    if other:
        return Shape("het", f"{other}, and Slurm has no arrays of heterogeneous jobs")
    return Shape("flat", "job and workers fit the same slots, so that each element of an array holds them all")


def _not_flat(demands: Demands, *, same_pool: bool) -> str:
    """Why job and workers cannot share an allocation; empty where they can."""
    if not same_pool:
        return "job and workers are in different node pools"
    if demands.job.tasks > 1 or demands.job.nodes:
        return "the job is a parallel program with nodes of its own"
    if demands.job.gpus:
        return "the job of a flat allocation cannot be kept from the GPUs of its workers"
    return ""


def _unequal(demands: Demands) -> str:
    job, worker = demands.job, demands.worker
    assert worker is not None
    differing = [what for what in ("cpus", "memory", "gpus") if getattr(job, what) != getattr(worker, what)]
    return f"job and workers want different {' and '.join(differing)}" if differing else ""


def fixed_ports(worker: Role | None) -> bool:
    """Whether workers listen on a port that is the same for each, so that no two fit on a node."""
    return worker is not None and any(worker.endpoints.values())


def batches(spec: RunSpec, shape: Shape, limits: Limits, demands: Demands, cluster: str) -> tuple[Batch, ...]:
    """The jobs or arrays of the run, each as large as the cluster takes one.

    `max_parallel` holds over all of them without anybody watching: as many lanes of arrays as fit under it, each array
    after the one before it in its lane, each with its share as its own throttle. An element runs one shard at a time.
    """
    shards = spec.shards or 1
    throttle = _local_throttle(demands, limits, shards if spec.gang else 1) if cluster == "local" else None
    if shards == 1 or spec.gang:
        return (Batch(index=0, first=0, count=shards, array=False, throttle=None, pack=1, after=None),)
    pack = _pack(spec, shape, limits, cluster)
    elements = math.ceil(shards / pack)
    size = 1 if shape.name == "het" else min(elements, limits.max_array)
    at_once = min(value for value in (spec.max_parallel, throttle, elements) if value is not None)
    lanes = max(1, at_once // size)
    share = at_once // lanes
    return tuple(
        Batch(
            index=index,
            first=first * pack,
            count=min(size * pack, shards - first * pack),
            array=shape.name != "het",
            throttle=share if share < min(size, elements - first) else None,
            pack=pack,
            after=index - lanes if spec.max_parallel is not None and index >= lanes else None,
        )
        for index, first in enumerate(range(0, elements, size))
    )


def _pack(spec: RunSpec, shape: Shape, limits: Limits, cluster: str) -> int:
    """How many shards an element runs: as few as let the whole run into the queue. Shards with workers have their own.

    Here nothing is queued, and one supervisor starts shard after shard.
    """
    if cluster == "local" or shape.name != "array":
        return 1
    if spec.shards_per_element is not None:
        return spec.shards_per_element
    bound, shards = room(limits.places), spec.shards or 1
    return math.ceil(shards / int(bound.left)) if bound is not None and 1 <= bound.left < shards else 1


def _local_throttle(demands: Demands, limits: Limits, at_once: int) -> int:
    """How many shards this machine holds at once; `at_once` of them have to be.

    Processes that did not say how many CPUs they need share them. Raises SpecError where the machine holds too few
    shards, with the arithmetic.
    """
    kinds = (
        ("cpus", demands.explicit_cpus, limits.cpus, ""),
        ("memory", demands.memory, limits.memory, " MiB"),
        ("gpus", demands.gpus, len(limits.devices), ""),
    )
    for field, wanted, there, unit in kinds:
        if there is not None and wanted * at_once > there and (field != "cpus" or any(demands.explicit)):
            each = f"{wanted}{unit} a shard{_sum_shown(demands, field)}"
            times = f", times {at_once} shards of a gang" if at_once > 1 else ""
            raise SpecError(f"found {each}{times}, and this machine has {there}{unit}; lower it", field=field)
    if fixed_ports(demands.worker):
        return 1
    amounts = (("cpus", demands.cpus, limits.cpus, ""), *kinds[1:])
    fits = [there // wanted for _, wanted, there, _ in amounts if wanted and there is not None]
    return max(1, min(fits))


def _sum_shown(demands: Demands, field: str) -> str:
    worker = demands.worker
    if worker is None:
        return ""
    job, each = (getattr(demands.job, field) or 0) * demands.job.tasks, getattr(worker, field) or 0
    return f" (job {job}, {_count(worker.replicas, 'worker')} of {each})"


def reason(spec: RunSpec, shape: Shape, limits: Limits, found: tuple[Batch, ...], cluster: str) -> str:
    """The shape and why it is this one, as ``hpcrun compile`` shows it."""
    workers = f" with {_count(spec.worker.replicas, 'worker')}{' each' if spec.shards else ''}" if spec.worker else ""
    what = f"{_so_many(spec)}{workers}"
    if cluster == "local":
        together = " all at once" if spec.gang and (spec.shards or 1) > 1 else ""
        at_once = f", up to {found[0].throttle or spec.shards} at once" if spec.shards and not spec.gang else ""
        return f"{what} on this machine{together}{at_once}"
    if shape.name == "gang":
        return f"{what}: one job of {spec.shards} tasks, which start together"
    if shape.name in ("het", "flat"):
        return f"{what}: {_workers_reason(shape, found)}"
    if not found[0].array:
        return f"{what}: one batch job"
    return _array_reason(spec, limits, found)


def _workers_reason(shape: Shape, found: tuple[Batch, ...]) -> str:
    chain = ", each after the one max_parallel before it" if any(batch.after is not None for batch in found) else ""
    if shape.name == "het":
        many = "one heterogeneous job" if len(found) == 1 else f"{len(found)} heterogeneous jobs{chain}"
    elif found[0].array:
        many = f"{_count(len(found), 'job array')}, each element job and workers in one allocation"
    else:
        many = "one job, job and workers packed into one allocation"
    return f"{many} ({shape.why})" if shape.why else many


def _array_reason(spec: RunSpec, limits: Limits, found: tuple[Batch, ...]) -> str:
    packed = _pack_reason(spec, limits, found)
    if len(found) == 1:
        return f"{spec.shards} independent shards: one job array{packed}"
    chain = "" if spec.max_parallel is None else ", one after the other so that max_parallel holds with nobody watching"
    return (
        f"{spec.shards} independent shards: {len(found)} job arrays, for this cluster takes arrays of up to "
        f"{limits.max_array} elements{chain}{packed}"
    )


def _pack_reason(spec: RunSpec, limits: Limits, found: tuple[Batch, ...]) -> str:
    pack, bound = found[0].pack, room(limits.places)
    if pack == 1:
        return ""
    elements = sum(batch.elements for batch in found)
    why = "as the spec says"
    if spec.shards_per_element is None and bound is not None:
        why = f"{bound.source} leaves room for {_count(int(bound.left), 'job')} in the queue: {taken(bound)}"
    each = f"each of which runs {pack}" if (spec.shards or 1) % pack == 0 else f"which run up to {pack}"
    return f" of {_count(elements, 'element')}, {each} shards one after the other ({why})"


def _so_many(spec: RunSpec) -> str:
    if spec.shards is None:
        return "one program"
    return f"{spec.shards} shards" if spec.shards > 1 else "one shard"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}s" if number > 1 else f"one {noun}"
