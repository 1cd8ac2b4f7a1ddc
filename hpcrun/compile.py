"""compile_plan: from what was asked for to what will run. Pure: every fact about the world is an argument."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpcrun import admission, topology
from hpcrun.cluster import Limits
from hpcrun.codespec import Codespec
from hpcrun.config import Config, NodePool
from hpcrun.directives import Asked, components, placed
from hpcrun.errors import SpecError
from hpcrun.plan import Batch, Plan, Role, Sweep, Task
from hpcrun.quotas import Where
from hpcrun.retry import BUDGETS
from hpcrun.roles import Setting, Submission, exported, node_pool, reference, role_of
from hpcrun.spec import RunSpec

if TYPE_CHECKING:
    from hpcrun import workflows

START_TIMEOUT = 600.0
"""Seconds until workers must be up, where the spec does not say."""

MOST_WORKERS = (131072 - 512) // len('"' + 64 * "h" + ':65535",')
"""Workers of a shard whose addresses fit into one variable, with host names as long as Linux has them."""

_SHELLS = ("bash", "sh", "zsh", "python", "python3", "perl", "Rscript", "julia", "node")


def compile_plan(
    spec: RunSpec, config: Config, limits: Limits, asked: Submission, named: Mapping[str, Codespec] | None = None
) -> Plan:
    """The plan of the run that `spec` asks for under these settings and limits.

    `named` has the codespecs that the spec refers to, by reference. Raises SpecError for a demand that cannot be met.
    """
    named = named or {}
    names, settings = exported(spec.export)
    prologue = "\n".join(part for part in (config.prologue, spec.prologue or "") if part)
    setting = Setting(config, asked, "", settings, prologue)
    if spec.workflow is None:
        return _plan(setting, spec, limits, names, _program(setting, spec, limits, named, None))
    from hpcrun import workflows

    workflow = workflows.of_spec(setting, spec, limits, named)
    if isinstance(workflow, workflows.Whole):
        return _plan(setting, spec, limits, names, _workflow(setting, spec, limits, workflow))
    try:
        decided = _program(setting, workflow.spec, limits, named, workflow)
        return _plan(setting, workflow.spec, limits, names, decided)
    except SpecError as error:
        raise SpecError(error.problem, field=workflow.named(error.field)) from error


def _plan(setting: Setting, spec: RunSpec, limits: Limits, names: tuple[str, ...] | None, decided: _Decided) -> Plan:
    """The plan, when all is decided in which runs differ; `names` are those of the variables that programs see."""
    config, asked = setting.config, setting.asked
    wanted, batches = decided.wanted, decided.batches
    chained = any(batch.after is not None for batch in batches)
    _check_dependency(spec, chained=chained, upstream=bool(asked.upstream))
    options = components(spec, config, wanted, decided.name, asked.run_id)
    slowed = admission.admitted(admission.Run(spec, wanted, config.grace, limits.places), options, batches)
    return Plan(
        run_id=asked.run_id,
        name=decided.name,
        created=asked.created,
        cluster=asked.cluster,
        shape=wanted.shape.name,
        reason="; ".join((decided.reason, *slowed)),
        shards=spec.shards or 1,
        sharded=spec.shards is not None,
        indexed=spec.completion_mode == "Indexed",
        max_parallel=spec.max_parallel,
        gang=spec.gang,
        fail_fast=spec.fail_fast,
        job=wanted.job,
        worker=wanted.worker,
        start_timeout=wanted.start_timeout,
        lost_after=config.lost_after,
        timeout=spec.timeout,
        warning=None if spec.signal is None else (spec.signal.number, spec.signal.seconds),
        budgets={**BUDGETS, **spec.retries},
        backoff=spec.backoff,
        backoff_factor=wanted.backoff_factor,
        retry="in_place" if "no-requeue" in spec.sbatch else spec.retry,
        max_failed=spec.max_failed_indexes,
        deadline=None if spec.run_timeout is None else asked.created + spec.run_timeout,
        grace=config.grace,
        export=names,
        separate_stderr=spec.stderr == "separate",
        committed=spec.results == "committed",
        accounting=limits.accounting,
        prologue=setting.prologue,
        node_python=config.node_python,
        devices=limits.devices if decided.gpus else (),
        components=options,
        dependency=spec.sbatch.get("dependency"),
        upstream=asked.upstream,
        batches=batches,
        tasks=decided.tasks,
        sweep=decided.sweep,
    )


@dataclasses.dataclass(frozen=True)
class _Decided:
    """What differs from one kind of run to the other."""

    name: str
    wanted: Asked
    batches: tuple[Batch, ...]
    gpus: int
    """Whether it takes GPUs, and how many at a time."""
    reason: str
    tasks: tuple[Task, ...] = ()
    sweep: Sweep | None = None


def _program(
    setting: Setting, spec: RunSpec, limits: Limits, named: Mapping[str, Codespec], swept: workflows.Swept | None
) -> _Decided:
    """A run of one program: with shards, which may be those of a sweep, with workers."""
    cluster = setting.asked.cluster
    pool = node_pool(spec.node_pool, setting.config, "node_pool")
    program = _job_program(spec, named)
    name = spec.name or _default_name(program)
    setting = dataclasses.replace(setting, name=name)
    known_as = swept.codespec if swept else reference(spec.codespec)
    job = role_of(setting, program, "job", spec.machine, 1, known_as)
    worker, worker_pool = _worker(setting, spec, named, pool)
    demanded = topology.Demands(job, worker, _explicit(program, spec, named))
    shape = topology.decide(spec, demanded, limits, cluster, same_pool=pool == worker_pool)
    batches = topology.batches(spec, shape, limits, demanded, cluster)
    wanted = Asked(
        shape, job, worker, pool, worker_pool, demanded.explicit[0], spec.start_timeout or START_TIMEOUT,
        batches[0].pack, 2.0 if swept is None else swept.backoff_factor, _default_time(limits),
    )  # fmt: skip
    reason = topology.reason(spec, shape, limits, batches, cluster)
    if swept is None:
        return _Decided(name, wanted, batches, demanded.gpus, reason)
    return _Decided(name, wanted, batches, demanded.gpus, swept.reason + reason, (), swept.sweep(setting, job))


def _workflow(setting: Setting, spec: RunSpec, limits: Limits, whole: workflows.Whole) -> _Decided:
    """A run of many programs in one allocation."""
    pool = node_pool(spec.node_pool, setting.config, "node_pool")
    wanted = Asked(
        topology.Shape("workflow", whole.why), whole.job, None, pool, pool, True, spec.start_timeout or START_TIMEOUT,
        1, default_time=_default_time(limits), placement=whole.placement,
    )  # fmt: skip
    batch = Batch(index=0, first=0, count=1, array=False, throttle=None, pack=1, after=None)
    from hpcrun import workflows

    return _Decided(workflows.name_of(spec), wanted, (batch,), whole.placement.gpus, whole.reason, whole.tasks)


def _default_time(limits: Limits) -> float | None:
    return next((place.default_time for places in limits.places for place in places), None)


def wheres(spec: RunSpec, config: Config) -> tuple[Where, ...]:
    """Where the job and the workers, if there are any, are to start, as far as spec and settings say.

    Raises SpecError for a node pool that there is not.
    """
    pool = node_pool(spec.node_pool, config, "node_pool")
    found = [placed(spec, pool, own=False)]
    if spec.worker is not None:
        own = spec.worker.node_pool
        found.append(placed(spec, node_pool(own, config, "worker.node_pool") if own else pool, own=own is not None))
    return tuple(Where(one.get("partition") or "", one.get("account") or "", one.get("qos") or "") for one in found)


def bare_mounts(spec: RunSpec, named: Mapping[str, Codespec]) -> tuple[str, ...]:
    """The folders that programs without an image want to find where they are."""
    if spec.workflow is not None:
        from hpcrun import workflows

        programs = workflows.programs(spec, named)
    else:
        programs = [_job_program(spec, named), *([_worker_program(spec, named)] if spec.worker else [])]
    return tuple(source for program in programs if not program.image for source, _, _ in program.mounts)


def _check_dependency(spec: RunSpec, *, chained: bool, upstream: bool) -> None:
    dependency = spec.sbatch.get("dependency")
    if dependency and "?" in dependency and (chained or upstream):
        other = (
            "runs to wait for" if upstream else "max_parallel on a run of several arrays, which depend on each other"
        )
        raise SpecError(
            f"found alternatives (?) beside {other}; wanted dependencies that all must hold (,)",
            field="sbatch.dependency",
        )


def _job_program(spec: RunSpec, named: Mapping[str, Codespec]) -> Codespec:
    """What the job executes: its codespec, and what the run says beside it laid over that."""
    base = named[spec.codespec] if isinstance(spec.codespec, str) else spec.codespec or Codespec.model_construct()
    over = {
        field: value
        for field in ("command", "script", "args", "working_dir", "image", "mounts", "cpus", "memory", "gpus", "nodes",
                      "tasks", "mpi")
        if (value := getattr(spec, field))
    }  # fmt: skip
    if spec.resources.model_fields_set:
        amounts = {"cpus": spec.resources.cpus, "memory": spec.resources.memory, "gpus": spec.resources.gpu}
        unset = {field: None for field, amount in amounts.items() if amount is not None}
        over = {**unset, **over, "resources": spec.resources}
    return base.model_copy(update={**over, "env": {**base.env, **spec.env}})


def _worker_program(spec: RunSpec, named: Mapping[str, Codespec]) -> Codespec:
    assert spec.worker is not None
    given = spec.worker.codespec
    return named[given] if isinstance(given, str) else given


def _worker(
    setting: Setting, spec: RunSpec, named: Mapping[str, Codespec], job_pool: NodePool
) -> tuple[Role | None, NodePool]:
    """The workers' role and where it runs: in the job's pool where it names none."""
    asked = spec.worker
    if asked is None:
        return None, job_pool
    program = _worker_program(spec, named)
    most = program.max_replicas
    if most is not None and asked.replicas > most:
        raise SpecError(
            f"found {asked.replicas}, and the codespec allows at most {most} (maxReplicas)", field="worker.replicas"
        )
    if asked.replicas > MOST_WORKERS:
        raise SpecError(
            f"found {asked.replicas}, wanted {MOST_WORKERS} at most: the addresses of all workers of a shard go into "
            "one variable, which holds 128 KiB; use more shards", field="worker.replicas",
        )  # fmt: skip
    pool = node_pool(asked.node_pool, setting.config, "worker.node_pool") if asked.node_pool else job_pool
    if program.image and setting.config.containers.runtime == "pyxis":
        raise SpecError(
            "found an image for workers and the runtime pyxis, which cannot start it inside the workers' own step; "
            "wanted another runtime in [containers], or workers without image", field="worker.image",
        )  # fmt: skip
    if program.working_dir is None:
        program = program.model_copy(update={"working_dir": spec.working_dir})
    return role_of(setting, program, "worker", asked.machine, asked.replicas, reference(asked.codespec)), pool


def _explicit(job: Codespec, spec: RunSpec, named: Mapping[str, Codespec]) -> tuple[bool, bool]:
    """Whether the CPUs of the job and of the workers were asked for, or are the one that everything gets."""
    worker = spec.worker
    return (
        job.demand()[0] is not None or spec.machine is not None,
        worker is not None and (_worker_program(spec, named).demand()[0] is not None or worker.machine is not None),
    )


def _default_name(program: Codespec) -> str:
    """The program's name; of ``python train.py`` that is ``train``."""
    words = [*(program.command or ["script"]), *program.args]
    first = os.path.basename(words[0])
    if first in _SHELLS and len(words) > 1 and not words[1].startswith("-"):
        return os.path.splitext(os.path.basename(words[1]))[0] or first
    return first
