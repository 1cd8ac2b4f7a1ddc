"""The tasks of a workflow as their author describes them, as pydantic models. The words are nv-sflow's.

In a file any of these values may hold expressions; a `Task` is made when they are evaluated (`expansion`), for each
replica one. docs/spec.md is the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hpcrun import codespec as programs
from hpcrun import probes, quantity
from hpcrun.codespec import ABSENT_IN_RUN, NOT_OURS, CodespecGiven
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.fields import EntryError, Source, by_name, canonical, placed, shown
from hpcrun.probes import TaskProbe, TaskProbeGiven
from hpcrun.values import Command, Env, Memory, Model, Mounts, Script, Text

_ABSENT_IN_WORKFLOW = {
    "upload_all": ABSENT_IN_RUN["storage"],
    "monitor": f"{NOT_OURS}; wanted a task that runs the monitor",
}
_ABSENT_IN_TASK = {
    "outputs": f"{NOT_OURS}; wanted a script that writes into $SFLOW_TASK_OUTPUT_DIR what is to be kept",
    "result": f"{NOT_OURS}; wanted a script that writes into $SFLOW_TASK_OUTPUT_DIR what is to be kept",
    "uploads": ABSENT_IN_RUN["storage"],
    "monitor": _ABSENT_IN_WORKFLOW["monitor"],
    "ports": f"{NOT_OURS}; wanted the port as a variable, and the address as task.NAME.nodes[0].ip_address",
    "variables": "found variables of one task, wanted them under `variables`, or in the task's `env`",
    **dict.fromkeys(("cpus", "memory", "gpus", "nodes"), "found an amount beside `resources`, wanted it in there"),
}
_ABSENT_IN_RESOURCES = {
    "release_after": f"{NOT_OURS}: a task with readiness probes keeps what it has until the workflow ends, any other "
    "until it has ended; wanted a resource without it",
}
_SPELLINGS = {name: programs.SPELLINGS[name] for name in ("cwd", "working_directory", "chdir", "volume_mounts")}


def _number(value: object) -> object:
    """Numbers may come as text, from variables; true is none."""
    if isinstance(value, bool):
        raise ValueError(f"found {shown(value)}, wanted a number")
    return value


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _short(field: str) -> BeforeValidator:
    """For a model of which a value that is no mapping is one of its fields."""
    return BeforeValidator(lambda value: value if isinstance(value, (Mapping, Model)) else {field: value})


def variable_names(value: object) -> object:
    """`value`, variables by name. Raises EntryError for a name that no variable of a program may have."""
    for name in value if isinstance(value, Mapping) else ():
        if not name or "=" in name or "\0" in name:
            raise EntryError(name, f"found the variable name {name!r}, wanted a name without = or NUL")
        if name.startswith("SLURM_"):  # in nv-sflow's own files; what Slurm itself has set wins in the environment
            continue
        if name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES:
            raise EntryError(name, f"found {name}, which hpcrun sets itself; wanted a name without a reserved prefix")
    return value


def _there(value: object) -> object:
    if value is None:
        raise ValueError('found nothing, wanted a value; an empty text is written ""')
    return value


Whole = Annotated[int, Field(ge=0), BeforeValidator(_number)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_number)]
Index = Annotated[int, BeforeValidator(_number)]
Names = Annotated[list[Text], BeforeValidator(_names)]


class Variable(Model):
    """A variable of the workflow: its value, and which ones it may have."""

    value: Annotated[Any, BeforeValidator(_there)]
    domain: Annotated[list[Any], Field(min_length=1)] | None = None
    """What sweeps go over, and what the value has to be one of."""
    type: Literal["string", "integer", "float", "boolean", "list", "dict"] | None = None
    """What the value is made into; what it is in YAML by default."""
    description: str | None = None


class Replicas(Model):
    """How often a task is there: `count` times, or once for each combination of values of `variables`."""

    count: Positive | None = None
    policy: Literal["parallel", "sequential"] = "parallel"
    variables: Names = []


class Nodes(Model):
    """The nodes that a task wants."""

    count: Positive | None = None
    indices: list[Index] | None = None
    """Places in the allocation's list of nodes; -1 is the last."""
    exclude: Annotated[list[Index], BeforeValidator(lambda value: [value] if isinstance(value, int) else value)] = []


def _each_once(indices: list[int]) -> list[int]:
    twice = next((index for index in indices if indices.count(index) > 1), None)
    if twice is not None:
        raise ValueError(f"found {twice} a second time, wanted each once")
    return indices


class Gpus(Model):
    """The GPUs that a task wants."""

    count: Whole | None = None
    """Over all its nodes together."""
    indices: Annotated[list[Whole], Field(min_length=1), AfterValidator(_each_once)] | None = None
    """Which ones, on each of its nodes."""


class Resources(Model):
    """What a task wants for itself."""

    nodes: Annotated[Nodes, _short("count")] = Field(default_factory=Nodes)
    gpus: Annotated[Gpus, _short("count")] = Field(default_factory=Gpus)
    cpus: Positive | None = None
    """CPUs of its process on each node; without, and without GPUs, it shares those of its nodes with all."""
    memory: Memory | None = None
    """MiB of its process on each node."""


class Retries(Model):
    """How often a task is tried again: the wait after the n-th failure is interval * backoff ** (n - 1) seconds."""

    count: Whole
    interval: Annotated[float, BeforeValidator(quantity.seconds)] = 0.0
    backoff: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False), BeforeValidator(_number)] = 1.0


class Probes(Model):
    """When a task is ready: all of the first pass. When it has failed: one of the second hits."""

    readiness: Annotated[list[TaskProbeGiven], Field(min_length=1)] | None = None
    failure: Annotated[list[TaskProbeGiven], Field(min_length=1)] | None = None


class Task(Model):
    """A task: what it executes, after what, how often, with what."""

    script: Script | None = None
    """Shell code for bash: text, or a list of lines."""
    command: Command | None = None
    args: list[Text] = []
    codespec: CodespecGiven | None = None
    """What it executes instead; a name, or inline."""
    env: Env = {}
    working_dir: Text | None = None
    image: Text | None = None
    mounts: Mounts = []
    depends_on: Names = []
    required_by: Names = []
    """The tasks that depend on this one; those that there are not do not matter."""
    replicas: Annotated[Replicas, _short("count")] | None = None
    resources: Resources = Field(default_factory=Resources)
    probes: Probes = Field(default_factory=Probes)
    retries: Annotated[Retries, _short("count")] = Field(default_factory=lambda: Retries(count=0))
    timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds that one try may take."""
    fail_fast: Annotated[bool, Field(strict=True)] | None = None
    """True is nv-sflow's ``set -e`` in front of the script; with false its failure cancels only what needs it."""
    backend: Text | None = None
    operator: Literal["bash", "srun"] | None = None
    """nv-sflow's way to start a task, which means nothing here."""


class Workflow(Model):
    """The tasks by their names, as they were written but for spelling: `expansion.expanded` makes a `Task` of each."""

    name: Text | None = None
    fail_fast: Annotated[bool, Field(strict=True)] = True
    """Whether the first failure of a task cancels all the others, or only those that need it."""
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


def sections_spelled(found: Source) -> Source:
    """`found`, a run, with the tasks and variables of its workflow by name, and every key in its one spelling.

    ``workflow.variables`` and ``workflow.timeout`` become the run's. Raises SpecError for a key that there is not, or a
    value of another shape than it has to be.
    """
    if found.values.get("variables", {}) is None:  # a section whose lines are all comments
        found = found.without("variables")
    if isinstance(found.values.get("workflow"), dict):
        found = _moved_up(found.replaced("workflow", _spelled(found.inner("workflow"))))
    return _variables_spelled(found) if "variables" in found.values else found


def _moved_up(found: Source) -> Source:
    inner = found.inner("workflow")
    if inner.values.get("variables") is not None:
        own = _variables_spelled(inner).inner("variables")
        whole = _variables_spelled(found).inner("variables") if "variables" in found.values else Source({}, {})
        for name in own.values:
            if name in whole.values:
                raise own.error((name,), f"found it beside `variables.{name}`, wanted one of them")
        found = Source({**found.values, "variables": {}}, found.places, found.prefix)
        found = found.replaced("variables", whole.under(own))
    if inner.values.get("timeout") is not None:
        if "timeout" in found.values:
            raise inner.error(("timeout",), "found it beside `timeout`, which says the same; wanted one of them")
        value, place = inner.values["timeout"], inner.place(("timeout",))
        found = found.under(placed(("timeout",), value, place, "workflow.timeout"))
    return found.replaced("workflow", inner.without("variables").without("timeout"))


def _spelled(source: Source) -> Source:
    known = [*Workflow.model_fields, "timeout", "variables"]  # of the run, which moves them
    found = canonical(source, known, {}, _ABSENT_IN_WORKFLOW)
    if found.values.get("tasks") is not None:
        found = by_name(found, "tasks")
        found = found.replaced("tasks", found.inner("tasks").mapped(_task))
    return found


def _variables_spelled(source: Source) -> Source:
    """`source` with its ``variables`` as a mapping of mappings."""
    found = by_name(source, "variables", bare="value")
    known = list(Variable.model_fields)
    return found.replaced("variables", found.inner("variables").mapped(lambda one: canonical(one, known, {}, {})))


def _task(source: Source) -> Source:
    found = canonical(source, list(Task.model_fields), _SPELLINGS, _ABSENT_IN_TASK)
    if isinstance(found.values.get("codespec"), dict):
        found = found.replaced("codespec", programs.spelled(found.inner("codespec")))
    for name, model in (("replicas", Replicas), ("retries", Retries)):
        found = _inner(found, name, list(model.model_fields))
    found = _inner(found, "resources", list(Resources.model_fields))
    if isinstance(found.values.get("resources"), dict):
        resources = found.inner("resources")
        for name, fields in (("nodes", Nodes), ("gpus", Gpus)):
            resources = _inner(resources, name, list(fields.model_fields), _ABSENT_IN_RESOURCES)
        found = found.replaced("resources", resources)
    found = _inner(found, "probes", list(Probes.model_fields))
    if isinstance(found.values.get("probes"), dict):
        found = found.replaced("probes", _probes(found.inner("probes")))
    if isinstance(found.values.get("operator"), dict):
        raise found.error(("operator",), "found options of an operator, wanted `image`, `resources` and the like")
    if isinstance(found.values.get("script"), list):
        lines = [_line(found, index, line) for index, line in enumerate(found.values["script"])]
        found = Source({**found.values, "script": lines}, found.places, found.prefix)
    return found


def _inner(source: Source, key: str, known: list[str], absent: Mapping[str, str] | None = None) -> Source:
    if not isinstance(source.values.get(key), dict):
        return source
    return source.replaced(key, canonical(source.inner(key), known, {}, absent or {}))


def _probes(source: Source) -> Source:
    """Probes as lists; one alone may stand without."""
    found = source
    for name in ("readiness", "failure"):
        given = found.values.get(name)
        if isinstance(given, dict):
            one = probes.spelled(found.inner(name), TaskProbe)
            places = {path: place for path, place in found.places.items() if path[:1] != (name,) or path == (name,)}
            places |= {(name, 0, *path): place for path, place in one.places.items()}
            found = Source({**found.values, name: [one.values]}, places, found.prefix)
        elif isinstance(given, list):
            for index, probe in enumerate(given):
                if isinstance(probe, dict):
                    found = _probe(found, name, index)
    return found


def _probe(source: Source, name: str, index: int) -> Source:
    one = probes.spelled(source.inner(name, index), TaskProbe)
    values = [*source.values[name][:index], one.values, *source.values[name][index + 1 :]]
    places = {(name, index, *path): place for path, place in one.places.items()}
    return Source({**source.values, name: values}, {**source.places, **places}, source.prefix)


def _line(source: Source, index: int, line: object) -> object:
    """A line of a script; ``- echo "a: b"`` is a mapping for YAML, of which nv-sflow makes the line again."""
    if isinstance(line, dict) and len(line) == 1:
        [(key, value)] = line.items()
        if value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return f"{key}: {'' if value is None else value}".rstrip()
    if not isinstance(line, str):
        raise source.error(("script", index), f"found {shown(line)}, wanted a line of text (put it in quotes)")
    return line
