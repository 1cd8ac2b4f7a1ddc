"""Whether the cluster's limits let a run in, and what of its spec would have to change. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from hpcrun import quotas
from hpcrun.directives import Asked, longest_timeout
from hpcrun.errors import SpecError
from hpcrun.plan import Batch
from hpcrun.quantity import spell
from hpcrun.quotas import JOBS, MINUTES, TIME, Demand, Limit, Place, Problem, Verdict
from hpcrun.spec import RunSpec

Components = Sequence[Sequence[tuple[str, str | None]]]
"""The options of sbatch of each component."""

_FIELDS = {"cpu": "cpus", "node": "nodes", "mem": "memory"}
_WHERE = {"partition": "partition", "account": "account", "QOS": "qos"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that wants in: what was asked for, and where each of its components may start."""

    spec: RunSpec
    asked: Asked
    grace: float
    places: tuple[tuple[Place, ...], ...]


def admitted(run: Run, components: Components, batches: Sequence[Batch]) -> tuple[str, ...]:
    """What will slow the run, in words.

    Raises SpecError where a limit forbids it: with the limit and whose it is, the demand, and what would do.
    """
    notes: dict[str, None] = {}
    number = sum(batch.elements if batch.array else 1 for batch in batches)
    at_once = min(number, run.spec.max_parallel or number)
    for index, (demand, verdict) in enumerate(verdicts(components, run.places, number, at_once)):
        if verdict.problems:
            raise _Refusal(run, verdict.problems[0], index, demand).error()
        notes |= dict.fromkeys(verdict.notes)
    return tuple(notes)


def verdicts(
    components: Components, places: Sequence[Sequence[Place]], number: int, at_once: int
) -> Iterator[tuple[Demand, Verdict]]:
    """What each component of `number` jobs asks for, `at_once` of them at a time, and what its places say to that."""
    for options, there in zip(components, places, strict=False):
        alike = sum(_entered(other) == _entered(there) for other in places[: len(components)])
        demand = quotas.demand(dict(options), jobs=number * alike, at_once=at_once)
        yield demand, quotas.check(demand, there)


def _entered(places: Sequence[Place]) -> set[tuple[str, str]]:
    """Under which names jobs are counted."""
    return {(place.account, place.qos) for place in places}


@dataclasses.dataclass(frozen=True)
class _Refusal:
    run: Run
    problem: Problem
    component: int
    demand: Demand

    def error(self) -> SpecError:
        limit, found, wanted = self.problem.limit, self.problem.found, self.problem.wanted
        if limit is not None and self.problem.what == TIME:
            found, wanted = self._of_time(limit)
        elif limit is not None and limit.kind == "queue":
            wanted = self._fewer(limit)
        return SpecError(f"found {found}; wanted {wanted}", field=self._field())

    def _packed_for(self) -> Limit | None:
        """The limit because of which elements run several shards; None where they do not, or the spec says so."""
        chosen = self.run.asked.pack > 1 and self.run.spec.shards_per_element is None
        return quotas.room(self.run.places) if chosen else None

    def _of_time(self, limit: Limit) -> tuple[str, str]:
        """Found and wanted, where the time limit of a job is too long."""
        spec, pack, packed = self.run.spec, self.run.asked.pack, self._packed_for()
        each = f" for {pack} shards one after the other" if pack > 1 else ""
        *ways, other = self.problem.wanted.split(", or ")
        if self.demand.time is None:
            ways = ["a timeout (or --time)"]
        elif spec.timeout is not None and "time" not in spec.sbatch:
            each += f" (timeout {spell(spec.timeout)}{' each' if each else ''})"
            most = longest_timeout(spec, self.run.asked, self.run.grace, limit.most)
            ways = [f"a timeout of {spell(most)} at most"] if most > 0 else []
        found = self.problem.found.replace(", and ", f"{each}, and ", 1)
        if packed is not None:
            found = (
                f"{spec.shards} shards, of which an element has to run {pack}, for {packed.source} leaves room for "
                f"{packed.left:.0f} jobs in the queue ({quotas.taken(packed)}): {found}"
            )
            ways = ["fewer shards", *(ways if spec.timeout is not None else ["less time for each"])]
        return found, f"{', '.join(ways)}, or {other}" if ways else other

    def _fewer(self, limit: Limit) -> str:
        """What would do, where there are too many jobs."""
        spec, shards = self.run.spec, self.run.spec.shards or 1
        if limit.left < 1 or shards == 1 or spec.gang:
            return self.problem.wanted
        if spec.shards_per_element is not None:
            return f"{math.ceil(shards / int(limit.left))} or more"
        return f"{int(limit.left) * shards // self.demand.jobs} at most: shards with workers are jobs of their own"

    def _field(self) -> str:
        """What of the spec the problem is with."""
        spec, what, shape = self.run.spec, self.problem.what, self.run.asked.shape.name
        if what in _WHERE:
            return self._field_of_place(_WHERE[what])
        if what == TIME or what.endswith(MINUTES):
            return "shards" if self._packed_for() else "sbatch.time" if "time" in spec.sbatch else "timeout"
        if what == JOBS:
            return "shards_per_element" if spec.shards_per_element is not None else "shards" if spec.shards else ""
        if self.component == 1 or shape == "flat":
            return "worker"
        if shape == "workflow":
            return "nodes" if what == "node" and spec.nodes else "workflow"
        return "shards" if shape == "gang" else _FIELDS.get(what, "gpus")

    def _field_of_place(self, option: str) -> str:
        spec = self.run.spec
        if self.component == 1 and spec.worker is not None and spec.worker.node_pool is not None:
            return "worker.node_pool"
        return f"sbatch.{option}" if option in spec.sbatch or spec.node_pool is None else "node_pool"
