"""Workflows: whether one becomes the shards of an array or the steps of one allocation, and its tasks as a plan has
them. Pure.

A sweep over one task whose replicas know nothing of each other is a sharded run; everything else shares an allocation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hpcrun.cluster import Limits
from hpcrun.codespec import Codespec
from hpcrun.errors import SpecError
from hpcrun.expansion import Expanded, Place, Texts, expanded, program, texts, title
from hpcrun.later import is_marked
from hpcrun.placement import Placement, Request, Room, placed
from hpcrun.plan import Role, Sweep, Task
from hpcrun.roles import Setting, command, reference, role_of, role_of_whole, task_probe
from hpcrun.spec import RunSpec
from hpcrun.variables import UNNAMED


@dataclasses.dataclass(frozen=True)
class Whole:
    """A workflow in one allocation."""

    job: Role
    """What stands for all of it."""
    tasks: tuple[Task, ...]
    placement: Placement
    reason: str
    why: str
    """Why it is no array."""


@dataclasses.dataclass(frozen=True)
class Swept:
    """A sweep as a sharded run."""

    spec: RunSpec
    """The run that it is; shard i is replica i."""
    field: str
    """Where the spec of the workflow has the task."""
    codespec: str
    """What its program is called in the registry, where it is."""
    task: str
    variables: tuple[tuple[str, tuple[str, ...]], ...]
    """Each variable that is swept over, and its domain."""
    programs: tuple[Codespec, ...]
    """Of each shard, where they differ in what they execute."""
    backoff_factor: float
    """What the time before a next attempt is multiplied with after each further failure."""

    def sweep(self, setting: Setting, job: Role) -> Sweep:
        """As the plan has it."""
        lines = tuple(command(setting, one, job.cwd, job.gpus) for one in self.programs)
        return Sweep(self.task, self.variables, lines)

    def named(self, field: str) -> str:
        """What the workflow calls what is the field `field` of the sharded run."""
        return f"{self.field}.{_FIELDS[field]}" if field in _FIELDS else field

    @property
    def reason(self) -> str:
        """What it is, ahead of what the sharded run becomes."""
        return f"{self.task} swept over {' × '.join(f'{name} ({len(of)})' for name, of in self.variables)}: "


_FIELDS = {
    "cpus": "resources.cpus", "memory": "resources.memory", "gpus": "resources.gpus", "shards": "replicas",
    "image": "image", "mounts": "mounts",
}  # fmt: skip
"""Fields of a sharded run, and what a task has for them."""


def of_spec(setting: Setting, spec: RunSpec, limits: Limits, named: Mapping[str, Codespec]) -> Whole | Swept:
    """What the workflow of `spec` becomes. Raises SpecError for one that cannot be carried out."""
    found = expanded(spec)
    swept = _why_together(spec, found) or _swept(spec, found, named)
    if isinstance(swept, Swept):
        return swept
    return _whole(setting, spec, limits, found, named, swept)


def programs(spec: RunSpec, named: Mapping[str, Codespec]) -> list[Codespec]:
    """What the tasks execute, their texts not evaluated."""
    return [program(spec, one, named) for one in expanded(spec)]


def name_of(spec: RunSpec) -> str:
    """What the run of a workflow is called."""
    return title(spec) or UNNAMED


# One allocation.


def _why_together(spec: RunSpec, found: Sequence[Expanded]) -> str:
    """Why the tasks share an allocation; empty where each may have one of its own."""
    assert spec.workflow is not None
    if spec.topology == "flat":
        return "as the spec says"
    if len(spec.workflow.tasks) > 1:
        return "they are tasks of one graph"
    one = found[0]
    replicas, wants = one.task.replicas, one.task.resources
    if replicas is None or not replicas.variables:
        return "it is no sweep over variables"
    if replicas.policy == "sequential":
        return "its replicas run one after the other"
    if one.task.probes.readiness or one.task.probes.failure:
        return "it has probes"
    if wants.nodes.indices is not None or wants.nodes.exclude or wants.gpus.indices is not None:
        return "it names its nodes or GPUs"
    return ""


def _nodes_of_one(spec: RunSpec, one: Request) -> int:
    """How many nodes a task runs on that has the workflow for itself."""
    if one.nodes is not None:
        return one.nodes
    capacity = _gpus_per_node(spec)
    if one.gpus:
        return -(-one.gpus // capacity) if capacity else 1
    return spec.nodes or 1


def _gpus_per_node(spec: RunSpec) -> int | None:
    return next((backend.gpus_per_node for backend in spec.backends.values()), None)


def _request(spec: RunSpec, one: Expanded, named: Mapping[str, Codespec]) -> Request:
    """What a task wants."""
    task = one.task
    wants = program(spec, one, named)
    for field in ("tasks", "nodes"):
        if (getattr(wants, field) or 1) > 1:
            raise SpecError(
                f"found {getattr(wants, field)} {field} in what {one.of} executes, wanted `resources.nodes`: a task "
                "has one process on each of its nodes", field=one.field,
            )  # fmt: skip
    cpus, memory, gpus = wants.demand()
    nodes, devices = task.resources.nodes, task.resources.gpus
    count = devices.count
    if count is None and devices.indices is None and gpus:
        each = int(gpus.rpartition(":")[2])
        count = each * (nodes.count or len(nodes.indices or ()) or 1)
    return Request(
        name=one.name,
        of=one.of,
        field=one.field,
        replica=one.replica,
        replicas=one.replicas,
        parallel=task.replicas is None or task.replicas.policy == "parallel",
        needs=one.needs,
        service=bool(task.probes.readiness),
        nodes=nodes.count,
        indices=None if nodes.indices is None else tuple(nodes.indices),
        exclude=tuple(nodes.exclude),
        gpus=count or 0,
        devices=None if devices.indices is None else tuple(devices.indices),
        cpus=cpus,
        memory=memory,
    )


def _whole(
    setting: Setting,
    spec: RunSpec,
    limits: Limits,
    found: Sequence[Expanded],
    named: Mapping[str, Codespec],
    why: str,
) -> Whole:
    here = setting.asked.cluster == "local"
    if spec.max_parallel is not None:
        raise SpecError(
            f"found it beside a workflow whose tasks share an allocation ({why}); wanted it with the sweep of one task "
            "whose replicas are independent, or `policy: sequential`", field="max_parallel",
        )  # fmt: skip
    if spec.max_failed_indexes is not None:
        raise SpecError(
            f"found it beside a workflow whose tasks share an allocation ({why}); wanted `workflow.fail_fast`",
            field="max_failed_indexes",
        )
    requests = {one.name: _request(spec, one, named) for one in found}
    gpus = _gpus_per_node(spec)
    if here:
        gpus = min(len(limits.devices), len(limits.devices) if gpus is None else gpus)
    room = Room(spec.nodes, gpus, machine=here, cpus=limits.cpus, memory=limits.memory)
    placement = placed(tuple(requests.values()), room)
    made = texts(
        spec, found, placement.places, named, nodes=placement.nodes,
        gpus_per_node=placement.gpus if gpus is None else gpus,
    )  # fmt: skip
    tasks = tuple(_task(setting, spec, one, requests[one.name], placement.places[one.name], made[one.name])
                  for one in found)  # fmt: skip
    kinds = {task.role.gpu_type for task in tasks if task.role.gpus}
    job = role_of_whole(
        setting.asked.cwd, placement.nodes, placement.cpus, placement.memory, placement.gpus,
        kinds.pop() if len(kinds) == 1 else "",
    )  # fmt: skip
    return Whole(job, tasks, placement, _reason(len(found), placement, why, here=here), why)


def _task(setting: Setting, spec: RunSpec, one: Expanded, request: Request, place: Place, made: Texts) -> Task:
    assert spec.workflow is not None
    cluster, task = setting.asked.cluster, one.task
    kind, _, _ = (made.program.demand()[2] or "").rpartition(":")
    each = len(place.devices)
    sized = {"gpus": f"{kind}:{each}" if kind else str(each), "nodes": len(place.nodes), "tasks": len(place.nodes)}
    setting = dataclasses.replace(setting, name=one.name)
    try:
        role = role_of(setting, made.program.model_copy(update=sized), one.of, None, 1, reference(task.codespec))
    except SpecError as error:
        raise SpecError(error.problem, field=f"{one.field}.{error.field}") from error
    return Task(
        name=one.name,
        of=one.of,
        replica=one.replica,
        replicas=one.replicas,
        variables=one.variables,
        role=role,
        needs=one.needs,
        nodes=place.nodes,
        devices=place.devices,
        overlaps=request.overlaps,
        readiness=tuple(task_probe(probe, cluster, failure=False) for probe in made.readiness),
        failure=tuple(task_probe(probe, cluster, failure=True) for probe in made.failure),
        retries=task.retries.count,
        interval=task.retries.interval,
        backoff=task.retries.backoff,
        timeout=task.timeout,
        fail_fast=spec.workflow.fail_fast and task.fail_fast is not False,
    )


def _reason(tasks: int, placement: Placement, why: str, *, here: bool) -> str:
    """What it becomes, and why that."""
    many = f"{tasks} tasks" if tasks > 1 else "one task"
    if here:
        return f"workflow of {many} on this machine ({why})"
    nodes = f"{placement.nodes} nodes" if placement.nodes > 1 else "one node"
    return f"workflow of {many}: one job on {nodes}, each task a step of it ({why})"


# An array.


def _swept(spec: RunSpec, found: Sequence[Expanded], named: Mapping[str, Codespec]) -> Swept | str:
    """The sweep as a sharded run, or why shards cannot be what its replicas are."""
    assert spec.workflow is not None
    one = found[0]
    task, request = one.task, _request(spec, one, named)
    retries = task.retries
    assert task.replicas is not None
    nodes = _nodes_of_one(spec, request)
    if nodes > 1:
        return f"each replica runs on {nodes} nodes"
    places = {other.name: Place((0,), tuple(range(request.gpus))) for other in found}
    made = texts(spec, found, places, named, nodes=1, gpus_per_node=_gpus_per_node(spec) or request.gpus)
    whats = [made[other.name].program for other in found]
    names = list(one.variables)
    if any(map(_knows_nodes, whats)):
        return "it asks for its nodes"
    if any(_frame(what, names) != _frame(whats[0], names) for what in whats):
        return "its replicas differ in more than what they execute and their variables"
    differ = any(_executes(what) != _executes(whats[0]) for what in whats)
    variables = tuple((name, tuple(dict.fromkeys(other.variables[name] for other in found))) for name in names)
    # Points of a sweep are independent; only who says so wants one that fails to end the others.
    said = "fail_fast" in spec.workflow.model_fields_set and spec.workflow.fail_fast
    stops = said and task.fail_fast is not False and spec.max_failed_indexes is None
    first = _frame(whats[0], names)
    fields = {name: getattr(whats[0], name) for name in Codespec.model_fields if name in RunSpec.model_fields}
    own = {
        **fields,
        "env": first.env,
        "gpus": _kind_of(whats[0], request.gpus),
        "nodes": None,
        "codespec": None,
        "workflow": None,
        "variables": {},
        "backends": {},
        "topology": "auto",
        "name": name_of(spec),
        "shards": len(found),
        "retries": {**spec.retries, **(dict.fromkeys(("failed", "timed_out"), retries.count) if retries.count else {})},
        "backoff": retries.interval if retries.count else spec.backoff,
        "timeout": task.timeout or spec.timeout,
        "max_failed_indexes": 0 if stops else spec.max_failed_indexes,
    }
    return Swept(
        spec=spec.model_copy(update=own),
        field=one.field,
        codespec=reference(task.codespec),
        task=one.of,
        variables=variables,
        programs=tuple(whats) if differ else (),
        backoff_factor=retries.backoff if retries.count else 2.0,
    )


def _frame(what: Codespec, names: Sequence[str]) -> Codespec:
    """What has to be the same for all shards: everything but what they execute, and the variables swept over."""
    env = {name: value for name, value in what.env.items() if name not in names}
    return what.model_copy(update={"command": None, "script": None, "args": [], "env": env})


def _executes(what: Codespec) -> tuple[object, ...]:
    return what.command, what.script, what.args


def _knows_nodes(what: Codespec) -> bool:
    """Whether its texts name nodes, which are known in the allocation only."""
    told = (what.script or "", what.working_dir or "", what.image or "", *(what.command or ()), *what.args)
    return any(map(is_marked, (*told, *what.env.values())))


def _kind_of(what: Codespec, gpus: int) -> str | None:
    kind, _, _ = (what.demand()[2] or "").rpartition(":")
    return (f"{kind}:{gpus}" if kind else str(gpus)) if gpus else None
