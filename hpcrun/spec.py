"""The run spec: what was asked for, as pydantic models.

Field names are snake_case; camelCase and the names that Sylphx, Velda, Kubernetes, Tyger and sbatch use for the same
thing are accepted beside them (`SPELLINGS`). A run's job is described by the fields of a codespec at the top level, or
by one in `codespec`; Tyger's ``job:`` is another way to write these. docs/spec.md is the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hpcrun import codespec as programs
from hpcrun import quantity
from hpcrun.codespec import Codespec, CodespecGiven, Program
from hpcrun.fields import (
    EntryError,
    Place,
    Source,
    all_of,
    canonical,
    dotted,
    model_of,
    shown,
    snake,
    suggestion,
    validated,
)
from hpcrun.indexes import MAX_INDEXES
from hpcrun.retry import BUDGETS
from hpcrun.sbatch_options import BARE, FLAGS, KNOWN, OWNED, SPEC_FIELDS
from hpcrun.values import Code, Count, MadeBy, Model, Text, Warned, one_line

SPELLINGS = {
    **programs.SPELLINGS,
    "parallelism": "shards",
    "completions": "shards",
    "total_shards": "shards",
    "timeout_seconds": "timeout",
    "pool": "node_pool",
    "slurm": "sbatch",
    "gang_scheduling": "gang",
    "backoff_limit_per_index": "retries",
    "active_deadline_seconds": "run_timeout",
}
"""Other names of a field, in snake_case."""

_NOT_YET = (
    "found a field that this version cannot carry out; wanted a spec without it (docs/scope.md says what is planned)"
)
ABSENT = (
    programs.ABSENT
    | dict.fromkeys(
        [
            "back_off_limit",
            "backoff_limit",
            "success_policy",
            "node_selector",
        ],
        _NOT_YET,
    )
    | programs.ABSENT_IN_RUN
)
"""Fields of the systems that hpcrun learns from which it refuses by name."""

_TARGET = ["codespec", "node_pool", "machine", "replicas"]
_WORKER_ONLY = dict.fromkeys(
    ("endpoints", "readiness"), "found a field of workers on the job, wanted it under `worker`"
)


def _sbatch(value: object) -> object:
    """sbatch's options by long name: a text or number, true for a bare flag, false for none at all."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, str | None] = {}
    for key, setting in value.items():
        name = str(key).lstrip("-").replace("_", "-")
        try:
            _refuse_option(name)
            if setting is not False:
                found[name] = _option_value(name, setting)
        except ValueError as error:
            raise EntryError(key, str(error)) from error
    return found


def _refuse_option(name: str) -> None:
    if name in OWNED:
        raise ValueError(f"found --{name}, which hpcrun decides: {OWNED[name]}")
    if name in SPEC_FIELDS:
        raise ValueError(f"found --{name}, wanted the spec's own field `{SPEC_FIELDS[name]}`")
    if name not in KNOWN:
        raise ValueError(f"found --{name}, which sbatch does not have.{suggestion(name, sorted(KNOWN))}")


def _option_value(name: str, setting: object) -> str | None:
    if setting is True or setting is None:
        if name not in FLAGS:
            raise ValueError(f"found --{name} without a value, wanted --{name}=VALUE")
        return None
    if name in BARE:
        raise ValueError(f"found --{name}={setting}, wanted --{name} alone: it takes no value")
    if isinstance(setting, Mapping):
        raise ValueError(f"found {shown(setting)}, wanted text, a number or a list")
    return one_line(",".join(map(str, setting)) if isinstance(setting, list) else str(setting))


def _one_job(value: object) -> object:
    if value not in (None, 1):
        raise ValueError(f"found {shown(value)}, wanted 1: for copies of the job write `shards` and `gang: true`")
    return None


def _retries(value: object) -> object:
    """Budgets by cause; a number alone is the program's."""
    if value is None or isinstance(value, bool):
        raise ValueError(f"found {shown(value)}, wanted a number from 0 to {_MOST_RETRIES}, or a mapping by cause")
    given = value if isinstance(value, Mapping) else {"failed": value}
    for cause, count in given.items():
        if cause not in BUDGETS:
            raise EntryError(
                cause, f"found an unknown cause.{suggestion(str(cause), list(BUDGETS)) or all_of(list(BUDGETS))}"
            )
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST_RETRIES:
            problem = f"found {shown(count)}, wanted a number from 0 to {_MOST_RETRIES}"
            raise EntryError(cause, problem) if isinstance(value, Mapping) else ValueError(problem)
    return dict(given)


def _runs(value: object) -> object:
    """Runs by name: one, several with commas, or a list."""
    given = value if isinstance(value, (list, tuple)) else [value]
    names = [name.strip() for word in given for name in (word.split(",") if isinstance(word, str) else [""])]
    if not all(names):
        raise ValueError(f"found {shown(value)}, wanted runs: the id of each, the beginning of it, or last")
    return names


_MOST_RETRIES = 50
"""Kubernetes' and Sylphx' bound of backoffLimitPerIndex."""
Retries = Annotated[dict[str, int], BeforeValidator(_retries)]
Runs = Annotated[list[str], BeforeValidator(_runs)]


def _workflow(value: object) -> object:
    from hpcrun import workflow

    return model_of(workflow.Workflow, value)


def _variable(value: object) -> object:
    from hpcrun import workflow

    return model_of(workflow.Variable, value)


def _variable_names(value: object) -> object:
    from hpcrun import workflow

    return workflow.variable_names(value)


def _backend(value: object) -> object:
    from hpcrun import backends

    return model_of(backends.Backend, value)


if TYPE_CHECKING:
    from hpcrun.backends import Backend
    from hpcrun.workflow import Variable, Workflow
else:
    Backend = Annotated[Any, MadeBy(_backend)]
    Variable = Annotated[Any, MadeBy(_variable)]
    Workflow = Annotated[Any, MadeBy(_workflow)]


class Worker(Model):
    """The workers of a run: what they execute, where, and how many (Tyger's code target)."""

    codespec: CodespecGiven
    node_pool: str | None = None
    machine: str | None = None
    replicas: Count = 1
    """How many, for each shard."""


class RunSpec(Program):
    """One run: a program, how many shards of it, the workers it needs, and what each needs.

    The program's own fields are those of its job; they win over `codespec`.
    """

    name: Text | None = None
    """Any text; the program's name by default."""
    codespec: CodespecGiven | None = None
    """What the job executes; a name, or inline."""
    worker: Annotated[Worker, MadeBy.the(Worker)] | None = None
    """The workers that each shard's job needs before it starts."""
    shards: Annotated[Count, Field(le=MAX_INDEXES)] | None = None
    """How many indices the run has; none by default, which is one program and no shard variables of Velda."""
    gang: Annotated[bool, Field(strict=True)] = False
    """Whether all shards start together or none does."""
    fail_fast: Annotated[bool, Field(strict=True)] = True
    """In a gang of shards: whether the first that fails ends the others."""
    topology: Literal["auto", "flat", "het"] = "auto"
    """With workers: one allocation for job and workers (flat) or a heterogeneous job (het)."""
    start_timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds until the workers, or all shards of a gang, must be up; 10 minutes by default."""
    completion_mode: Literal["Indexed", "NonIndexed"] = "Indexed"
    """Whether shards pick their part of the work by their index, or take it from a queue and are interchangeable."""
    replicas: Annotated[None, BeforeValidator(_one_job)] = None
    max_parallel: Count | None = None
    """How many shards may run at once over the whole run."""
    timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds that one attempt of a shard may take, or 90s, 15m, 1h30m."""
    signal: Warned | None = None
    """The warning before the end, as sbatch's ``--signal``: USR1 or USR2, @ and how many seconds before (60)."""
    retries: Retries = {}
    """How often a shard is tried again: a number for failures of the program, or a mapping by cause."""
    retry: Literal["requeue", "in_place"] = "requeue"
    """Whether Slurm starts the next attempt, perhaps on another node, or the same allocation does, at once."""
    backoff: Annotated[float, BeforeValidator(quantity.seconds)] = 0.0
    """Seconds between a failure and the next attempt, doubled with each further failure up to six minutes."""
    max_failed_indexes: Annotated[int, Field(strict=True, ge=0)] | None = None
    """How many shards may fail for good; with one more the rest is stopped."""
    run_timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds from the submission after which the whole run is stopped."""
    after: Runs = []
    """Runs that must have ended, however, before this one starts."""
    after_success: Runs = []
    """Runs that must have succeeded."""
    after_fail: Runs = []
    """Runs that must have failed, also in part or by their time."""
    shards_per_element: Count | None = None
    """How many shards an element of the job array runs, one after the other; as few as the limits allow by default."""
    machine: str | None = None
    node_pool: str | None = None
    stderr: Literal["merged", "separate"] = "merged"
    results: Literal["shared", "committed"] = "shared"
    """Whether all shards leave their results in one folder, or each attempt in its own, kept when it succeeds."""
    export: Text | None = None
    """As sbatch's ``--export``: ALL (default), NONE, or NAME[=VALUE] with commas."""
    prologue: Code | None = None
    """Shell code that runs in the batch script before the program, besides the site's own."""
    sbatch: Annotated[dict[str, str | None], BeforeValidator(_sbatch)] = {}
    """Any of sbatch's long options."""
    workflow: Workflow | None = None
    """The tasks of a graph, instead of a program."""
    variables: Annotated[dict[str, Variable], BeforeValidator(_variable_names)] = {}
    """The variables that the tasks are given, and that expressions ask for."""
    version: Annotated[Literal["0.1"], BeforeValidator(str)] | None = None
    """The format of nv-sflow's files."""
    backends: Annotated[dict[str, Backend], Field(max_length=1)] = {}
    """Where nv-sflow runs the workflow; what it says is in `sbatch` and `nodes` too."""


def is_field(name: str) -> bool:
    """Whether a run has a field called so, in any of its spellings."""
    return SPELLINGS.get(snake(name), snake(name)) in (*RunSpec.model_fields, "job", "kind")


def spelled(source: Source) -> Source:
    """`source` with every field in its one spelling; sources are spelled alike before one is laid over another.

    Tyger's ``job:`` becomes fields of the run, and fields of a codespec that stand right under ``worker:`` become its
    inline codespec. Raises SpecError for a field that there is not.
    """
    found = canonical(source, [*RunSpec.model_fields, "job", "kind"], SPELLINGS, {**ABSENT, **_WORKER_ONLY})
    for key in source.values:
        if snake(key) == "backoff_limit_per_index":  # means something else than `retries` in a gang: see below
            found.places.setdefault(("retries",), Place(field=key))
    kind = found.values.pop("kind", "job")
    if kind not in ("job", "run"):
        raise found.error(("kind",), f"found {shown(kind)}, wanted 'job'; workers are described under `worker`")
    if "job" in found.values:
        found = _with_job(found)
    if isinstance(found.values.get("codespec"), dict):
        found = found.replaced("codespec", programs.spelled(found.inner("codespec")))
    if isinstance(found.values.get("worker"), dict):
        found = found.replaced("worker", _worker(found.inner("worker")))
    elif isinstance(found.values.get("worker"), str):
        name = found.values["worker"]
        raise found.error(
            ("worker",), f"found {shown(name)}, wanted a mapping such as {{codespec: {name}, replicas: 2}}"
        )
    if isinstance(found.values.get("resources"), dict):
        found = found.replaced("resources", programs.resources_spelled(found.inner("resources")))
    if not found.values.keys() & {"workflow", "variables", "backends"}:
        return found
    from hpcrun import backends, workflow

    return backends.spelled(workflow.sections_spelled(found))


def _with_job(found: Source) -> Source:
    """``job: {codespec, nodePool, …}`` as fields of the run."""
    if not isinstance(found.values["job"], dict):
        raise found.error(("job",), f"found {shown(found.values['job'])}, wanted a mapping with `codespec`")
    inner = canonical(found.inner("job"), _TARGET, SPELLINGS, programs.ABSENT | {"tags": _NOT_YET})
    for key in inner.values:
        if key in found.values:
            raise inner.error((key,), f"found `job.{key}` beside `{key}`, which says the same; wanted one of them")
    values = {key: value for key, value in found.values.items() if key != "job"}
    places = {path: place for path, place in found.places.items() if path[:1] != ("job",)}
    named = {
        path: dataclasses.replace(place, field=place.field or dotted(("job", *path)))
        for path, place in inner.places.items()
        if path
    }
    return Source({**values, **inner.values}, {**places, **named}, found.prefix)


def _worker(source: Source) -> Source:
    known = [*_TARGET, *Codespec.model_fields]
    found = canonical(source, known, {**programs.SPELLINGS, "pool": "node_pool"}, programs.ABSENT)
    inline = {key: value for key, value in found.values.items() if key not in _TARGET}
    if inline and "codespec" in found.values:
        key = next(iter(inline))
        raise found.error((key,), "found a field of a codespec beside `codespec`, wanted it inside of that")
    if inline:
        named = {path: dataclasses.replace(p, field=p.field or dotted((*found.prefix, *path)))
                 for path, p in found.places.items()}  # fmt: skip
        values = {key: value for key, value in found.values.items() if key in _TARGET}
        inside = {("codespec", *path): place for path, place in named.items() if path and path[0] in inline}
        found = Source({**values, "codespec": inline}, {**named, **inside}, found.prefix)
    if isinstance(found.values.get("codespec"), dict):
        found = found.replaced("codespec", programs.spelled(found.inner("codespec")))
    return found


def from_source(source: Source) -> RunSpec:
    """The spec that `source` describes, whatever spellings it uses.

    Raises SpecError with file, line and field.
    """
    found = spelled(source)
    if "workflow" in found.values and not isinstance(found.values["workflow"], dict):
        what = shown(found.values["workflow"])
        raise found.error(("workflow",), f"found {what}, wanted a mapping with `tasks`")
    for path, kind in ((("codespec",), "job"), (("worker", "codespec"), "worker")):
        found = _kinds(found, path, kind)
    workers = found.values.get("worker")
    if isinstance(workers, dict) and "codespec" not in workers:
        raise found.error(
            ("worker",), "found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there "
            "(--worker-codespec)"
        )  # fmt: skip
    if found.values.get("workflow") is not None:
        return _of_workflow(found)
    for field in ("variables", "backends", "version"):
        if field in found.values:
            raise found.error((field,), f"found `{field}` without `workflow`, wanted both of them")
    spec = validated(RunSpec, found)
    _check_programs(spec, found)
    _check_together(spec, found)
    return spec


def beneath(source: Source, defaults: Source) -> Source:
    """`source` laid over `defaults`, both spelled; a workflow takes none for what its tasks say themselves."""
    for field in _IN_TASKS if source.values.get("workflow") is not None else ():
        defaults = defaults.without(field)
    return defaults.under(source)


_IN_TASKS = {
    **dict.fromkeys(("command", "args", "script", "codespec", "image", "mounts"), "it in a task"),
    **dict.fromkeys(("cpus", "memory", "gpus", "resources"), "it in the `resources` of a task"),
    **dict.fromkeys(("tasks", "mpi"), "srun or mpirun in the script of a task"),
    **dict.fromkeys(("shards", "shards_per_element"), "`replicas` of a task"),
    "worker": "tasks with readiness probes, and others that depend on them",
    "gang": "replicas of the policy parallel, which start together",
    "fail_fast": "`workflow.fail_fast`",
    "completion_mode": "a workflow without it",
    "machine": "`cpus`, `memory` and `gpus` in the `resources` of a task",
    "stderr": "redirections in the scripts of tasks",
}
"""Fields of a run that it has not beside `workflow`, and what to write instead."""
_RESOLVED = ("name", "timeout", "run_timeout", "nodes", "max_parallel", "working_dir", "node_pool")
"""Fields beside `workflow` that may hold expressions, besides `env`."""


def _of_workflow(found: Source) -> RunSpec:
    """The spec of a workflow; what its tasks say is looked at when they are expanded."""
    from hpcrun import backends, variables

    for field, instead in _IN_TASKS.items():
        if found.values.get(field, RunSpec.model_fields[field].default) != RunSpec.model_fields[field].default:
            raise found.error((field,), f"found `{field}` beside `workflow`, wanted {instead}")
    known = variables.of_run(found)
    found = variables.resolved(found, _RESOLVED, known.scope)
    if isinstance(found.values["workflow"], dict):
        inner = variables.resolved(found.inner("workflow"), ("fail_fast",), known.scope)
        found = found.replaced("workflow", inner)
    found = backends.laid_under(found, known)
    spec = validated(RunSpec, found)
    _check_together(spec, found)
    return spec


def _kinds(found: Source, path: tuple[str, ...], kind: str) -> Source:
    """Fill in the kind of an inline codespec, which its place tells, and check the codespec by itself."""
    outer = found
    for key in path[:-1]:
        if not isinstance(outer.values.get(key), dict):
            return found
        outer = outer.inner(key)
    given = outer.values.get(path[-1])
    if isinstance(given, str):
        try:
            programs.reference(given)
        except ValueError as error:
            raise outer.error((path[-1],), str(error)) from error
    if not isinstance(given, dict):
        return found
    inner = outer.inner(path[-1])
    programs.checked(inner, kind)
    whole = outer.replaced(path[-1], Source({"kind": kind, **inner.values}, inner.places, inner.prefix))
    return found.replaced(path[0], whole) if len(path) > 1 else whole


def _check_programs(spec: RunSpec, found: Source) -> None:
    for path, problem in spec.problems_of_ranks() if spec.codespec is not None else spec.problems():
        raise found.error(path, problem)
    for field in ("command", "script", "args") if spec.codespec is not None else ():
        if getattr(spec, field):
            raise found.error((field,), f"found `{field}` beside `codespec`, wanted one of them")


def _check_together(spec: RunSpec, found: Source) -> None:
    """Fields that are each right and do not go together."""
    if spec.gang and spec.shards is None and spec.worker is None:
        raise found.error(("gang",), "found a gang of one program, wanted `shards` (or workers, which start together)")
    if spec.gang and spec.max_parallel is not None and spec.max_parallel < (spec.shards or 1):
        raise found.error(
            ("max_parallel",), f"found {spec.max_parallel} beside `gang: true`, which starts all {spec.shards} shards "
            "at once; wanted one of them"
        )  # fmt: skip
    if spec.gang and _is_per_index(found):
        raise found.error(
            ("retries",), "found a limit for each index beside `gang: true`, whose shards are tried again together; "
            "wanted `retries`"
        )  # fmt: skip
    if spec.signal is not None and spec.timeout is not None and spec.signal.seconds >= spec.timeout:
        raise found.error(
            ("signal",), f"found a warning {spec.signal.seconds} s before the end of what may take {spec.timeout:g} s; "
            "wanted it to come later, or a longer `timeout`"
        )  # fmt: skip
    _check_queue(spec, found)
    if spec.max_failed_indexes is not None and spec.gang:
        raise found.error(("max_failed_indexes",), "found it beside `gang: true`, whose shards fail together")
    _check_packed(spec, found)
    if spec.topology == "flat" and spec.workflow is not None:
        return  # not as an array
    if spec.topology != "auto" and spec.worker is None:
        raise found.error(("topology",), f"found {spec.topology} without workers, wanted `worker`, or no topology")


def _is_per_index(found: Source) -> bool:
    """Whether the retries were asked for as a limit of each index."""
    return snake(found.place(("retries",)).field.rpartition(".")[2].lstrip("-")) == "backoff_limit_per_index"


def _check_queue(spec: RunSpec, found: Source) -> None:
    """What needs an index goes with no interchangeable shards."""
    if spec.completion_mode == "Indexed":
        return
    limited = _is_per_index(found)
    for field, there in (("retries", limited), ("max_failed_indexes", spec.max_failed_indexes is not None)):
        if there:
            instead = "; wanted `retries`" if field == "retries" else ""
            raise found.error(
                (field,), f"found it beside `completionMode: NonIndexed`, whose shards have no index{instead}"
            )


def _check_packed(spec: RunSpec, found: Source) -> None:
    if spec.shards_per_element is None or spec.shards_per_element == 1:
        return
    for field, there in (("shards", spec.shards is None), ("gang", spec.gang), ("worker", spec.worker is not None)):
        if there:
            what = "without `shards`" if field == "shards" else f"beside `{field}`"
            raise found.error(
                ("shards_per_element",),
                f"found it {what}, wanted it with shards that are independent and have no workers",
            )


def raw(values: Mapping[str, Any]) -> Source:
    """A source of values that stand in no file."""
    return Source(dict(values), {})
