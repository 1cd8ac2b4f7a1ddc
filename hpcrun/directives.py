"""sbatch's options for each component of a run's job. Pure.

Component 0 is the job: the batch script, its output and the run's own options belong to it. What a user gives by
sbatch's own names comes last and wins.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from hpcrun import quantity
from hpcrun.config import Config, NodePool
from hpcrun.plan import Role
from hpcrun.retry import delay
from hpcrun.spec import RunSpec
from hpcrun.topology import Shape, fixed_ports

if TYPE_CHECKING:
    from hpcrun.placement import Placement
    from hpcrun.states import Cause

TIME_MARGIN = 60
"""Seconds between the end of a shard's own timeout and Slurm's limit, so that the record is written first."""

Options = dict[str, str | None]

_FOR_ALL = ("time", "partition", "account", "qos", "constraint", "reservation", "exclude", "begin", "deadline", "nice")
"""Options of the user's that hold for the workers' component too: where and when, not how much."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the components are to be."""

    shape: Shape
    job: Role
    worker: Role | None
    pool: NodePool
    worker_pool: NodePool
    sized: bool
    """Whether the job's CPUs were asked for."""
    start_timeout: float
    pack: int = 1
    """How many shards an element of the array runs, one after the other."""
    backoff_factor: float = 2.0
    """What the time before a next attempt is multiplied with after each further failure."""
    default_time: float | None = None
    """Seconds that the cluster gives a job that asks for no time, as far as that is known."""
    placement: Placement | None = None
    """Where the tasks of a workflow are; then `job` stands for all of them."""


def components(
    spec: RunSpec, config: Config, asked: Asked, name: str, run_id: str
) -> tuple[tuple[tuple[str, str | None], ...], ...]:
    """The options of each component: of the job, and of the workers where these are a component of their own."""
    comment = f"{spec.sbatch['comment']} " if spec.sbatch.get("comment") else ""
    options: Options = {
        "job-name": _one_line(name),
        "open-mode": "append",
        "comment": f"{comment}hpcrun:{run_id}",
        "export": "ALL",
        "requeue": None,
    }
    options.update(_of_pool(asked.pool))
    options.update(_amounts(spec, asked))
    if spec.timeout is not None:
        starting = asked.start_timeout if asked.worker or spec.gang else 0.0
        attempt = spec.timeout + starting + config.grace
        options["time"] = str(math.ceil((_longest(spec, asked, attempt) + TIME_MARGIN) / 60))
    if spec.signal is not None:
        options["signal"] = spec.signal.sbatch
    if "no-requeue" in spec.sbatch:
        del options["requeue"]
    given = {option: value for option, value in spec.sbatch.items() if option not in ("comment", "dependency")}
    first = {**options, **given}
    if asked.pack > 1:
        first |= _times(given, None if "time" in first else asked.default_time, asked.pack)
    if asked.shape.name != "het" or asked.worker is None:
        return (tuple(first.items()),)
    return tuple(first.items()), tuple(_second(spec, asked, asked.worker, first).items())


_BY_PROGRAM: tuple[Cause, ...] = ("failed", "timed_out")


def _times(given: Options, default: float | None, pack: int) -> Options:
    """Time limits of an element of `pack` shards, of which each gets the user's own, or else the cluster's default."""
    found: Options = {}
    for option in ("time", "time-min"):
        try:
            seconds = quantity.time_limit(given.get(option) or "")
        except ValueError:
            continue
        if math.isfinite(seconds):
            found[option] = str(math.ceil(seconds * pack / 60))
    if default is not None and math.isfinite(default):
        found["time"] = str(math.ceil(default * pack / 60))
    return found


def longest_timeout(spec: RunSpec, asked: Asked, grace: float, limit: float) -> float:
    """The longest timeout, in seconds, with which a job takes no longer than `limit`; below zero where none is."""
    starting = asked.start_timeout if asked.worker or spec.gang else 0.0
    none, one = (_longest(spec, asked, attempt) for attempt in (0.0, 1.0))
    return math.floor((math.floor(limit / 60) * 60 - TIME_MARGIN - none) / (one - none) - starting - grace)


def _longest(spec: RunSpec, asked: Asked, attempt: float) -> float:
    """Seconds that a start of the job may take, where one attempt of a shard may take `attempt`.

    Several shards of one element are always tried again in place. Of a back-off, what is left of it when Slurm has
    started the job again is waited for there.
    """
    ends: list[Cause | None] = []
    for cause in _BY_PROGRAM:
        ends += [cause] * spec.retries.get(cause, 0)
    waits = [delay(spec.backoff, ends[: count + 1], asked.backoff_factor) for count in range(len(ends))]
    if spec.retry != "in_place" and "no-requeue" not in spec.sbatch and asked.pack == 1:
        return attempt + max(waits, default=0.0)
    return asked.pack * (attempt * (1 + len(ends)) + sum(waits))


def placed(spec: RunSpec, pool: NodePool, *, own: bool) -> Options:
    """Where a component starts: the user's options win, except over a pool that is the workers' `own`."""
    of_user = {name: value for name, value in spec.sbatch.items() if name in _FOR_ALL}
    return {**of_user, **_of_pool(pool)} if own else {**_of_pool(pool), **of_user}


def _of_pool(pool: NodePool) -> Options:
    return {field: value for field, value in pool.model_dump().items() if value is not None}


def _amounts(spec: RunSpec, asked: Asked) -> Options:
    """How much the first component gets."""
    shards, job, worker = spec.shards or 1, asked.job, asked.worker
    if asked.placement is not None:
        return _of_tasks(spec, asked.placement, job)
    if asked.shape.name == "flat" and worker is not None:
        return _slots(job, worker, (shards if spec.gang else 1) * (1 + worker.replicas))
    if asked.shape.name == "gang" or (asked.shape.name == "het" and spec.gang and shards > 1):
        return {"ntasks": str(shards), **_process(job, cpus=asked.sized)}
    if job.tasks > 1 or job.nodes:
        nodes: Options = {"nodes": str(job.nodes)} if job.nodes else {}
        if job.nodes and job.tasks % job.nodes == 0:
            nodes["ntasks-per-node"] = str(job.tasks // job.nodes)
        return {**nodes, "ntasks": str(job.tasks), **_process(job, cpus=asked.sized)}
    found: Options = {}
    if asked.sized:
        found["cpus-per-task"] = str(job.cpus)
    if job.memory:
        found["mem-per-cpu"] = _mem_per_cpu(job)
    if job.gpus:
        found["gpus"] = _gpus(job)
    return found


def _of_tasks(spec: RunSpec, placement: Placement, whole: Role) -> Options:
    """One allocation for all tasks of a workflow: what they want on a node at a time."""
    found: Options = {
        "nodes": str(placement.nodes), "ntasks-per-node": "1", "cpus-per-task": str(placement.cpus),
    }  # fmt: skip
    if placement.memory and not {"mem-per-cpu", "mem-per-gpu"} & spec.sbatch.keys():
        found["mem"] = f"{placement.memory}M"
    if placement.gpus:
        found["gpus-per-node"] = _gpus(whole)
    return found


def _slots(job: Role, worker: Role, count: int) -> Options:
    """One allocation for job and workers: `count` equal slots, each as large as the larger of both needs it."""
    larger = dataclasses.replace(
        job,
        cpus=max(job.cpus, worker.cpus),
        memory=max(job.memory or 0, worker.memory or 0) or None,
        gpus=worker.gpus,  # the job has none: see topology
        gpu_type=worker.gpu_type,
    )
    found = {"ntasks": str(count), **_process(larger, cpus=True)}
    # Ports that are fixed want a node for each worker, and nobody else's workers on it.
    return {**found, "ntasks-per-node": "1", "exclusive": None} if fixed_ports(worker) else found


def _second(spec: RunSpec, asked: Asked, worker: Role, first: Options) -> Options:
    """The workers' component."""
    count = worker.replicas * ((spec.shards or 1) if spec.gang else 1)
    shared = ("job-name", "comment", "requeue", "no-requeue", "time")
    found: Options = {name: first[name] for name in shared if name in first}
    own_pool = spec.worker is not None and spec.worker.node_pool is not None
    found.update(placed(spec, asked.worker_pool, own=own_pool))
    found["ntasks"] = str(count)
    found.update(_process(worker, cpus=True))
    if fixed_ports(worker):
        found["ntasks-per-node"] = "1"
        if (spec.shards or 1) > 1 and not spec.gang:
            found["exclusive"] = None  # or the workers of two shards would meet on a node, and on the port
    return found


def _process(role: Role, *, cpus: bool) -> Options:
    """What each task of a component gets."""
    found: Options = {"cpus-per-task": str(role.cpus)} if cpus else {}
    if role.memory:
        found["mem-per-cpu"] = _mem_per_cpu(role)
    if role.gpus:
        found["gpus-per-task"] = _gpus(role)
    return found


def _mem_per_cpu(role: Role) -> str:
    return f"{math.ceil((role.memory or 0) / role.cpus)}M"


def _gpus(role: Role) -> str:
    return f"{role.gpu_type}:{role.gpus}" if role.gpu_type else str(role.gpus)


def _one_line(name: str) -> str:
    """A name that Slurm can hold; the run itself keeps the true one."""
    return "".join(char if char.isprintable() else "?" for char in name)[:200] or "run"
