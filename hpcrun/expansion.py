"""From the tasks of a spec to the tasks that run: replicas, sweeps, who needs whom, and the texts of each. Pure.

Two passes. `expanded` resolves what decides the shape of the graph, from variables alone. `texts` resolves what tasks
execute, when their nodes and GPUs are placed. Names, order and meaning are nv-sflow's.
"""

from __future__ import annotations

import dataclasses
import graphlib
import heapq
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcrun import later
from hpcrun.codespec import Codespec, problems
from hpcrun.errors import SpecError
from hpcrun.evaluation import At, environment, has_expressions, task_of, texts_of
from hpcrun.expressions import Later, Names, text_of
from hpcrun.fields import Source, all_of, dotted, suggestion
from hpcrun.probes import TaskProbe
from hpcrun.spec import RunSpec
from hpcrun.sweep import replica_name
from hpcrun.variables import UNNAMED, Unplaced, Variables
from hpcrun.workflow import Replicas, Task

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MOST = 100_000
"""Replicas of one task."""
_LONGEST = 200
"""Characters of a name, which files are called by."""


@dataclasses.dataclass(frozen=True)
class Expanded:
    """A task that runs: one of a spec's, or one replica of it."""

    name: str
    of: str
    """The task as the spec calls it."""
    replica: int
    replicas: int
    variables: dict[str, str]
    """What this replica has of the variables that are swept over."""
    needs: tuple[str, ...]
    task: Task
    """The spec's task with everything resolved but those of its texts that ask for nodes: script, command, args, env,
    working_dir, image, mounts, and the texts of probes. `texts` resolves them."""
    env: dict[str, str]
    """All variables as text, but those that stand for what is known after placement only (`texts` has them)."""
    field: str
    """Where the spec has it, for errors: ``workflow.tasks.train``."""
    key: str
    """What the spec calls it, its expressions not evaluated."""
    swept: dict[str, Any]
    """As `variables`, the values themselves."""
    complete: bool
    """Whether none of its texts asks for nodes."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a task is put."""

    nodes: tuple[int, ...]
    """Its nodes, as places in the allocation's list of them."""
    devices: tuple[int, ...]
    """Its GPUs on each of these nodes."""


@dataclasses.dataclass(frozen=True)
class Texts:
    """What a task executes and how it is watched, with all expressions evaluated."""

    program: Codespec
    """Its codespec with what the task says laid over it: command, args, script (with ``set -e`` where wanted), env
    (variables included), working_dir, image, mounts, cpus and memory; the run's own env and working_dir where the task
    has none."""
    readiness: tuple[TaskProbe, ...]
    failure: tuple[TaskProbe, ...]


def title(spec: RunSpec) -> str | None:
    """What the run is called: its own name, else that of its job in Slurm or of its workflow. Raises SpecError."""
    named = next((backend.job_name for backend in spec.backends.values()), None)
    return spec.name or named or _workflow_name(spec)


def expanded(spec: RunSpec) -> tuple[Expanded, ...]:
    """Every task that runs, each after all that it needs, in the order of the spec otherwise.

    Raises SpecError, with the field.
    """
    groups = _groups(spec)
    _check_names(groups)
    needs = _needs(groups)
    _check_cycle(groups, needs)
    found = [one for group in groups.values() for one in group.expanded(_ends(groups, needs[group.name]))]
    return tuple(_sorted(found))


def program(spec: RunSpec, one: Expanded, named: Mapping[str, Codespec]) -> Codespec:
    """What a task executes and needs, for what decides its place: texts that ask for nodes are not evaluated yet."""
    return _program(spec, one.task, named, one.env)


def texts(
    spec: RunSpec,
    found: Sequence[Expanded],
    places: Mapping[str, Place],
    named: Mapping[str, Codespec],
    *,
    nodes: int,
    gpus_per_node: int | None,
) -> Mapping[str, Texts]:
    """The texts of each task by its name; `nodes` is how many the allocation has.

    Raises SpecError, with the field.
    """
    facts = [_node(index, gpus_per_node) for index in range(nodes)]
    contexts = {
        "workflow": _about_workflow(spec),
        "backends": Names("backend", {name: Names("fact of a backend", {"nodes": facts}) for name in spec.backends}),
        "task": Names("task", _about_tasks(found, places, gpus_per_node)),
    }
    variables = Variables(spec.variables, contexts)
    return {one.name: _texts(spec, one, found, named, variables, contexts) for one in found}


# The spec's tasks.


@dataclasses.dataclass(frozen=True)
class _Group:
    """A task of the spec and its replicas."""

    name: str
    key: str
    field: str
    task: Task
    """As the first replica has it."""
    names: tuple[str, ...]
    swept: tuple[dict[str, Any], ...]
    tasks: tuple[tuple[Task, bool], ...]
    """Of each replica, and whether none of its texts asks for nodes."""
    envs: tuple[dict[str, str], ...]

    @property
    def sequential(self) -> bool:
        return self.task.replicas is not None and self.task.replicas.policy == "sequential"

    @property
    def end(self) -> tuple[str, ...]:
        """Those that others wait for who depend on this."""
        return self.names[-1:] if self.sequential else self.names

    def expanded(self, upstream: tuple[str, ...]) -> Iterator[Expanded]:
        for index, name in enumerate(self.names):
            chained = self.sequential and index > 0
            task, complete = self.tasks[index]
            yield Expanded(
                name=name,
                of=self.name,
                replica=index,
                replicas=len(self.names),
                variables={key: text_of(value) for key, value in self.swept[index].items()},
                needs=(self.names[index - 1],) if chained else upstream,
                task=task,
                env=self.envs[index],
                field=self.field,
                key=self.key,
                swept=self.swept[index],
                complete=complete,
            )


def _groups(spec: RunSpec) -> dict[str, _Group]:
    """The spec's tasks by name. Raises SpecError for two of one name, and for what is wrong with one."""
    assert spec.workflow is not None
    contexts = {"workflow": _about_workflow(spec), "backends": Unplaced("backends"), "task": Unplaced("task")}
    variables = Variables(spec.variables, contexts)
    groups: dict[str, _Group] = {}
    for key, raw in spec.workflow.tasks.items():
        field = dotted(("workflow", "tasks", key))
        with At(field):
            name = variables.scope.text(key)
        if name in groups:
            raise SpecError(f"found {name!r} a second time, wanted names that differ", field=field)
        groups[name] = _group(spec, name, key, raw, variables, contexts)
    return groups


def _group(
    spec: RunSpec, name: str, key: str, raw: dict[str, Any], variables: Variables, contexts: Mapping[str, Any]
) -> _Group:
    source = Source(raw, {}, ("workflow", "tasks", key))
    task, complete = task_of(source, variables.scope)
    swept = _swept(task.replicas, variables, dotted(source.prefix)) if task.replicas else [{}]
    names = [replica_name(name, _parts(index, one)) if task.replicas else name for index, one in enumerate(swept)]
    replicas = [Variables(spec.variables, contexts, one) if one else variables for one in swept]
    tasks = [(task, complete)] * len(swept)
    if has_expressions(raw):
        tasks = [(task, complete) if one is variables else task_of(source, one.scope) for one in replicas]
    for one in {id(one): one for one, _ in tasks}.values():
        _check(spec, one, source)
    envs = [environment(replica) for replica in replicas]
    return _Group(name, key, dotted(source.prefix), task, tuple(names), tuple(swept), tuple(tasks), tuple(envs))


def _parts(index: int, swept: Mapping[str, Any]) -> list[str]:
    """What a replica's name ends in: its values, or its number where it is no sweep."""
    return [text_of(value) for value in swept.values()] if swept else [str(index)]


def _swept(replicas: Replicas, variables: Variables, field: str) -> list[dict[str, Any]]:
    """The values of each replica. Raises SpecError where there are none, or not as many as `count`."""
    domains = []
    for index, name in enumerate(replicas.variables):
        at = f"{field}.replicas.variables[{index}]"
        if name not in variables:
            problem = f"found the variable {name!r}, which there is not.{_instead(name, list(variables))}"
            raise SpecError(problem, field=at)
        if name in replicas.variables[:index]:
            raise SpecError(f"found the variable {name!r} a second time, wanted it once", field=at)
        with At(at):
            domain = variables.domain(name)
        if not domain:
            problem = f"found the variable {name!r}, which has no domain; wanted variables.{name}.domain"
            raise SpecError(problem, field=at)
        domains.append(domain)
    many = math.prod(map(len, domains)) if domains else replicas.count or 1
    if many > _MOST:
        raise SpecError(f"found {many} replicas of a task, wanted {_MOST} at most", field=f"{field}.replicas")
    if not domains:
        return [{}] * many
    found = [dict(zip(replicas.variables, values, strict=True)) for values in itertools.product(*domains)]
    if replicas.count is not None and replicas.count != many:
        sizes = " × ".join(str(len(domain)) for domain in domains)
        total = f"{sizes} = {many}" if len(domains) > 1 else sizes
        raise SpecError(
            f"found {replicas.count} beside `variables`, whose domains make {total} replicas; wanted {many}, or "
            "no `count`", field=f"{field}.replicas.count",
        )  # fmt: skip
    return found


def _check(spec: RunSpec, task: Task, source: Source) -> None:
    """Fields of a task that are each right."""
    given = [field for field in ("script", "command", "codespec") if getattr(task, field) is not None]
    if not given:
        raise source.error((), "found no program, wanted `script`, `command` or `codespec`")
    if task.script is not None and not task.script.strip():
        raise source.error(("script",), "found an empty script, wanted a line at least")
    if len(given) > 1:
        raise source.error((given[1],), f"found `{given[1]}` beside `{given[0]}`, wanted one of them")
    if task.args and task.command is None:
        raise source.error(("args",), f"found `args` beside `{given[0]}`, wanted a `command`")
    if task.fail_fast and task.script is None:
        raise source.error(("fail_fast",), f"found `set -e` for a `{given[0]}`, wanted it with a `script`")
    for path, problem in problems(task.codespec, "job") if isinstance(task.codespec, Codespec) else ():
        raise source.error(("codespec", *path), problem)
    if task.backend is not None and task.backend not in spec.backends:
        there = "there is none" if not spec.backends else f"there is {next(iter(spec.backends))!r}"
        raise source.error(("backend",), f"found the backend {task.backend!r}; {there}")
    nodes = task.resources.nodes
    if nodes.indices is not None and nodes.count is not None and nodes.count != len(nodes.indices):
        problem = f"found {nodes.count} beside {len(nodes.indices)} indices, wanted one of them"
        raise source.error(("resources", "nodes", "count"), problem)


def _check_names(groups: Mapping[str, _Group]) -> None:
    """Names that files can have, and of which no two are the same, where nv-sflow silently drops a task."""
    owners: dict[str, str] = {}
    for group in groups.values():
        for name, swept in zip(group.names, group.swept, strict=True):
            told = f"the replica {name!r} ({_shown(swept)})" if swept else repr(name)
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise SpecError(
                    f"found {told}, wanted a name of letters, digits, _, - and . only: files are called by it",
                    field=group.field,
                )
            if len(name) > _LONGEST:
                raise SpecError(f"found a name of {len(name)} characters, wanted {_LONGEST} at most", field=group.field)
            if name in owners:
                raise SpecError(
                    f"found {told} a second time, {owners[name]} has that name; wanted values or tasks of which no two "
                    "have the same name (`.`, `-` and spaces of values become `_`)", field=group.field,
                )  # fmt: skip
            owners[name] = f"{group.name} with {_shown(swept)}" if swept else f"task {group.name}"


def _shown(swept: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={text_of(value)}" for name, value in swept.items())


# Who needs whom.


def _needs(groups: Mapping[str, _Group]) -> dict[str, list[str]]:
    """The tasks that each depends on, by name. Raises SpecError for one that there is not."""
    found: dict[str, list[str]] = {}
    for group in groups.values():
        for index, name in enumerate(group.task.depends_on):
            if name not in groups:
                owner = next((other.name for other in groups.values() if name in other.names), None)
                hint = f" It is a replica of {owner}; wanted `{owner}`, which stands for all of them" if owner else ""
                raise SpecError(
                    f"found the task {name!r}, which there is not.{hint or _instead(name, list(groups))}",
                    field=f"{group.field}.depends_on[{index}]",
                )
        found[group.name] = list(dict.fromkeys(group.task.depends_on))
    for group in groups.values():
        for name in group.task.required_by:
            if name in groups and name != group.name and group.name not in found[name]:
                found[name].append(group.name)
    return found


def _instead(found: str, known: list[str]) -> str:
    """What `found` may have been meant for."""
    return suggestion(found, known) or all_of(list(dict.fromkeys(known)))


def _ends(groups: Mapping[str, _Group], needs: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for one in needs for name in groups[one].end)


def _check_cycle(groups: Mapping[str, _Group], needs: Mapping[str, Sequence[str]]) -> None:
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        loop = error.args[1][::-1]  # each depends on the next
        edges = ", ".join(f"{one} depends on {other}" for one, other in itertools.pairwise(loop))
        raise SpecError(
            f"found tasks that wait for each other: {edges}; wanted one of these dependencies gone",
            field=f"{groups[loop[0]].field}.depends_on",
        ) from error


def _sorted(found: Sequence[Expanded]) -> Iterator[Expanded]:
    """Each after all that it needs, else in the order they are in."""
    place = {one.name: index for index, one in enumerate(found)}
    sorter = graphlib.TopologicalSorter({one.name: one.needs for one in found})
    sorter.prepare()
    ready: list[int] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, place[name])
        index = heapq.heappop(ready)
        yield found[index]
        sorter.done(found[index].name)


# Values.


def _workflow_name(spec: RunSpec) -> str | None:
    assert spec.workflow is not None
    if spec.workflow.name is None:
        return None
    with At("workflow.name"):
        unplaced = {"backends": Unplaced("backends"), "task": Unplaced("task")}
        return Variables(spec.variables, unplaced).scope.text(spec.workflow.name)


def _about_workflow(spec: RunSpec) -> Names:
    return Names("fact of the workflow", {"name": _workflow_name(spec) or spec.name or UNNAMED})


# What is known when tasks are placed.


def _node(index: int, gpus: int | None, at: int | None = None) -> Names:
    """What expressions can ask of the `index`-th node of the allocation, which a task has as its `at`-th."""
    unknown = {fact: Later(later.mark(index, fact)) for fact in later.FACTS}
    return Names("fact of a node", {**unknown, "index": index if at is None else at, "num_gpus": gpus})


def _about_tasks(found: Sequence[Expanded], places: Mapping[str, Place], gpus: int | None) -> dict[str, Any]:
    """By the name of each task, and of each replica; a task with replicas is the list of them."""
    known: dict[str, Any] = {}
    for one in found:
        place = places[one.name]
        nodes = [_node(index, gpus, at) for at, index in enumerate(place.nodes)]
        known[one.name] = Names("fact of a task", {"nodes": nodes, "gpus": list(place.devices)})
    listed: dict[str, list[Any]] = {}
    for one in sorted(found, key=lambda one: one.replica):
        if one.name != one.of:
            listed.setdefault(one.of, []).append(known[one.name])
    return {**known, **listed}


def _texts(
    spec: RunSpec,
    one: Expanded,
    found: Sequence[Expanded],
    named: Mapping[str, Codespec],
    variables: Variables,
    contexts: Mapping[str, Any],
) -> Texts:
    assert spec.workflow is not None
    own = Variables(spec.variables, contexts, one.swept) if one.swept else variables
    task = one.task
    if not one.complete:
        source = Source(spec.workflow.tasks[one.key], {}, ("workflow", "tasks", one.key))
        task, _ = task_of(source, own.scope, placed=True)
    known = len(one.env) == len(spec.variables)
    env = {**texts_of(spec.env, own.scope), **(one.env if known else environment(own))}
    return Texts(
        _program(spec, task, named, env),
        tuple(_watching(task.probes.readiness or (), one, found, "readiness")),
        tuple(_watching(task.probes.failure or (), one, found, "failure")),
    )


def _program(spec: RunSpec, task: Task, named: Mapping[str, Codespec], env: Mapping[str, str]) -> Codespec:
    """What `task` says, laid over its codespec, and the run's working directory below both."""
    base = named[task.codespec] if isinstance(task.codespec, str) else task.codespec or Codespec()
    over = {name: value for name in _LAID_OVER if (value := getattr(task, name))}
    amounts = {"cpus": task.resources.cpus, "memory": task.resources.memory}
    over |= {name: amount for name, amount in amounts.items() if amount is not None}
    if task.fail_fast:
        over["script"] = f"set -e\n{task.script}"
    below = {"working_dir": spec.working_dir} if base.working_dir is None else {}
    return base.model_copy(update={**below, **over, "env": {**base.env, **env, **task.env}})


_LAID_OVER = ("command", "args", "script", "working_dir", "image", "mounts")


def _watching(probes: Sequence[TaskProbe], one: Expanded, found: Sequence[Expanded], kind: str) -> Iterator[TaskProbe]:
    """`probes`, those that watch the log of a task naming the very replica. Raises SpecError where that is unclear."""
    for index, probe in enumerate(probes):
        logger = probe.log_watch.logger if probe.log_watch else None
        if probe.log_watch is None or logger is None:
            yield probe
            continue
        field = f"{one.field}.probes.{kind}[{index}].log_watch.logger"
        own = logger in (one.name, one.of)
        named = [one.name] if own else [other.name for other in found if logger in (other.name, other.of)]
        if not named:
            problem = f"found the task {logger!r}, which there is not.{_instead(logger, [other.of for other in found])}"
            raise SpecError(problem, field=field)
        if len(named) > 1:
            problem = f"found the task {logger!r}, which has {len(named)} replicas; wanted one: {', '.join(named)}"
            raise SpecError(problem, field=field)
        yield probe.model_copy(update={"log_watch": probe.log_watch.model_copy(update={"logger": named[0]})})
