"""What a cluster's limits forbid, before anything is queued, and how many jobs they leave room for. Pure.

A limit is Slurm's: of a partition, a QOS, an association, the whole cluster. What could not be asked is no limit.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from hpcrun import quantity

Kind = Literal["job", "queue", "running", "budget"]
"""What a limit bounds: a single job, the jobs in the queue, what runs at a time, or what is used in the long run."""

JOBS, TIME = "jobs", "time"
"""What may be bounded beside resources by Slurm's own names for them: ``cpu``, ``node``, ``mem``, ``gres/gpu``."""
MINUTES = "-minutes"
"""Behind the name of a resource: so much of it times its minutes."""


@dataclasses.dataclass(frozen=True)
class Where:
    """Where a component of a run is to start, as far as anybody says; empty is what the cluster chooses."""

    partition: str = ""
    """One, or several with commas, of which Slurm takes any."""
    account: str = ""
    qos: str = ""


@dataclasses.dataclass(frozen=True)
class Limit:
    """One limit, in jobs, seconds, MiB, or pieces of a resource; a budget is in minutes of one."""

    kind: Kind
    what: str
    most: float
    source: str
    """Whose it is, as people say it: ``partition short``, ``QOS long``, ``account physics``."""
    name: str
    """Slurm's name for it."""
    used: float = 0.0
    """How much of it is taken already."""

    @property
    def left(self) -> float:
        """How much of it is not taken; none at least."""
        return max(0.0, self.most - self.used)


@dataclasses.dataclass(frozen=True)
class Place:
    """One partition, entered as one account with one QOS, and what bounds a job there."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    limits: tuple[Limit, ...] = ()
    default_time: float | None = None
    """Seconds that a job gets which asks for no time; None where it gets what the limits allow."""
    closed: str = ""
    """Why no job may be queued there."""
    closed_to: str = ""
    """What would have to be another one: ``partition``, ``account`` or ``QOS``."""
    waits: str = ""
    """Why a job that is queued there does not start for now."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a run asks of the places of one of its components."""

    amounts: Mapping[str, float]
    """What one job needs at least, by Slurm's names of resources; MiB of ``mem``."""
    time: float | None = None
    """The time limit of one job in seconds, infinite for none; None where it asks for none."""
    jobs: int = 1
    """How many jobs it puts into the queue."""
    at_once: int = 1
    """How many of them it would run at the same time."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What forbids a run: what of it, in words, and what would do."""

    what: str
    """``time``, ``jobs``, ``partition``, ``account``, ``QOS`` or a resource by Slurm's name."""
    found: str
    """What follows "found" in a message; the limit stands in it."""
    wanted: str
    limit: Limit | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a run may be queued, and what will slow it."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def check(demand: Demand, places: Sequence[Place]) -> Verdict:
    """What forbids `demand` in all of `places`, of which one is enough, or what slows it in the first that takes it."""
    found = [_at(demand, place) for place in places]
    if not found:
        return Verdict()
    return next((verdict for verdict in found if not verdict.problems), found[0])


def room(places: Iterable[Sequence[Place]]) -> Limit | None:
    """The limit that leaves room for the fewest jobs in the queue; None where there is none."""
    found = [limit for some in places for place in some for limit in place.limits if limit.kind == "queue"]
    return min(found, key=lambda limit: limit.left, default=None)


def demand(options: Mapping[str, str | None], *, jobs: int = 1, at_once: int = 1) -> Demand:
    """What a job with these options of sbatch asks for at least; options that cannot be read ask for nothing."""
    nodes, per_node = _first(options.get("nodes")), _first(options.get("ntasks-per-node")) or 1
    tasks = _first(options.get("ntasks")) or (nodes or 1) * per_node
    if not nodes:
        nodes = math.ceil(tasks / per_node) if "ntasks-per-node" in options else 1
    cpus = tasks * (_first(options.get("cpus-per-task")) or 1)
    amounts: dict[str, float] = {"cpu": cpus, "node": nodes}
    memory = _memory(options.get("mem-per-cpu")) * cpus or _memory(options.get("mem")) * nodes
    if memory:
        amounts["mem"] = memory
    for option, times in (("gpus", 1), ("gpus-per-task", tasks), ("gpus-per-node", nodes), ("gres", nodes)):
        amounts |= {name: count * times for name, count in _gpus(option, options.get(option)).items()}
    return Demand(amounts, _time(options.get("time-min") or options.get("time")), jobs, at_once)


def _first(text: str | None) -> int:
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else 0


def _memory(text: str | None) -> int:
    try:
        return quantity.memory(text) if text else 0
    except ValueError:
        return 0


def _time(text: str | None) -> float | None:
    try:
        return quantity.time_limit(text) if text else None
    except ValueError:
        return None


def _gpus(option: str, text: str | None) -> dict[str, float]:
    """GPUs in ``2``, ``a100:2``, and of --gres ``gpu``, ``gpu:2`` and ``gpu:a100:2``: all, and those of a kind."""
    if option == "gres":
        if not text or not text.startswith("gpu") or "," in text:
            return {}
        text = text[4:] or "1"
    kind, _, count = (text or "").split("(")[0].rpartition(":")
    if not count.isdecimal():
        return {}
    return {"gres/gpu": int(count), **({f"gres/gpu:{kind}": int(count)} if kind else {})}


def _at(demand: Demand, place: Place) -> Verdict:
    asked = demand.time if demand.time is not None else place.default_time
    each = [(limit, _each(limit, demand, asked)) for limit in place.limits]
    problems = [Problem(place.closed_to, place.closed, f"another {place.closed_to}")] if place.closed else []
    for limit, amount_of_one in each:
        if limit.kind == "queue" and demand.jobs > limit.left:
            problems.append(_queue_problem(demand, limit))
        elif limit.kind != "queue" and amount_of_one > limit.most:
            problems.append(_job_problem(demand, place, limit, amount_of_one))
    return Verdict(tuple(problems), () if problems else tuple(_notes(demand, place, each)))


def _notes(demand: Demand, place: Place, each: Iterable[tuple[Limit, float]]) -> Iterator[str]:
    if place.waits:
        yield place.waits
    bounds = [(int(limit.most // amount), limit) for limit, amount in each if limit.kind == "running" and amount]
    at_once, limit = min(bounds, key=lambda bound: bound[0], default=(demand.at_once, None))
    if limit is not None and at_once < demand.at_once:
        yield f"at most {at_once} at once ({limit.source}: {limit.name} {_amount_or_jobs(limit)})"
    for limit, amount_of_one in each:
        if limit.kind == "budget" and amount_of_one > limit.left:
            left = amount(limit.what, limit.left)
            yield f"{limit.source} has {left} left of {limit.most:.0f} ({limit.name}), and a job may need more"


def _each(limit: Limit, demand: Demand, time: float | None) -> float:
    """What one job takes of a limit."""
    if limit.what == TIME:
        return time or 0.0
    if limit.what == JOBS:
        return 1.0
    resource, per_minute, _ = limit.what.partition(MINUTES)
    amount = demand.amounts.get(resource, 0.0)
    if not per_minute:
        return amount
    return amount * (time or 0.0) / 60 if time != math.inf else 0.0  # Slurm makes the time fit where none was asked for


def taken(limit: Limit) -> str:
    """A limit with what is taken of it: ``MaxSubmitJobs 20, 5 of them taken``."""
    return f"{limit.name} {limit.most:.0f}" + (f", {limit.used:.0f} of them taken" if limit.used else "")


def _queue_problem(demand: Demand, limit: Limit) -> Problem:
    number = "one job" if demand.jobs == 1 else f"{demand.jobs} jobs"
    room = f"room for {limit.left:.0f}" if limit.left else "no room for another one"
    text = f"{number} to queue, and {limit.source} leaves {room} ({taken(limit)})"
    if limit.left:
        return Problem(JOBS, text, f"{limit.left:.0f} at most", limit)
    return Problem(
        JOBS, text, "to wait until some of them have ended" if limit.most else f"another {_other(limit)}", limit
    )


def _job_problem(demand: Demand, place: Place, limit: Limit, each: float) -> Problem:
    another, allowed = f"another {_other(limit)}", amount(limit.what, limit.most)
    if limit.what == JOBS:
        return Problem(JOBS, f"jobs to run, and {limit.source} allows none ({limit.name} 0)", another, limit)
    if limit.what == TIME:
        found = "no time limit" if each == math.inf else f"a time limit of {quantity.spell(each)}"
        found += "" if demand.time is not None else f", the default of partition {place.partition}"
    else:
        found = f"{amount(limit.what, each)} a job"
    text = f"{found}, and {limit.source} allows {allowed} ({limit.name})"
    return Problem(limit.what, text, f"{allowed} at most, or {another}", limit)


def _other(limit: Limit) -> str:
    """What of a run decides whether this limit holds for it."""
    word = limit.source.partition(" ")[0]
    return word if word in ("partition", "QOS") else "account"


def _amount_or_jobs(limit: Limit) -> str:
    return f"{limit.most:.0f}" if limit.what == JOBS else amount(limit.what, limit.most)


_MANY = {"cpu": "CPUs", "node": "nodes", "gres/gpu": "GPUs"}
_ONE = {"cpu": "CPU", "node": "node", "gres/gpu": "GPU"}


def amount(what: str, value: float) -> str:
    """An amount of a resource as people say it: ``4 CPUs``, ``2 GiB``, ``30m``."""
    if what == TIME:
        return quantity.spell(value)
    if what == "mem":
        return f"{value / 1024:.0f} GiB" if value >= 1024 and value % 1024 == 0 else f"{value:.0f} MiB"
    resource, per_minute, _ = what.partition(MINUTES)
    if per_minute:
        return f"{math.floor(value)} {_ONE.get(resource, resource)} minutes"
    return f"{value:.0f} {(_ONE if value == 1 else _MANY).get(what, what)}"
