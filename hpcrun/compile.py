"""compile_plan: from what was asked for to what will run. Pure: every fact about the world is an argument."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping

from hpcrun import admission, topology
from hpcrun.cluster import Limits
from hpcrun.codespec import Codespec
from hpcrun.config import Config, Machine, NodePool
from hpcrun.containers import check_bare, wrapped
from hpcrun.directives import Asked, components, placed
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.errors import SpecError
from hpcrun.fields import suggestion
from hpcrun.plan import Plan, Probe, Role, Upstream
from hpcrun.probes import Probe as AskedProbe
from hpcrun.quotas import Where
from hpcrun.retry import BUDGETS
from hpcrun.spec import RunSpec

START_TIMEOUT = 600.0
"""Seconds until workers must be up, where the spec does not say."""

MOST_WORKERS = (131072 - 512) // len('"' + 64 * "h" + ':65535",')
"""Workers of a shard whose addresses fit into one variable, with host names as long as Linux has them."""

_SHELLS = ("bash", "sh", "zsh", "python", "python3", "perl", "Rscript", "julia", "node")


@dataclasses.dataclass(frozen=True)
class Submission:
    """Who asks, when, from where."""

    run_id: str
    created: float
    """Seconds since the epoch."""
    cwd: str
    cluster: str
    """``slurm`` or ``local``."""
    typed: bool
    """Whether the command came from a command line, where the shell has expanded what was to be expanded."""
    run_dir: str = ""
    """Where the run's folder will be; containers mount it."""
    upstream: tuple[Upstream, ...] = ()
    """The runs to wait for."""


def compile_plan(
    spec: RunSpec, config: Config, limits: Limits, asked: Submission, named: Mapping[str, Codespec] | None = None
) -> Plan:
    """The plan of the run that `spec` asks for under these settings and limits.

    `named` has the codespecs that the spec refers to, by reference. Raises SpecError for a demand that cannot be met.
    """
    pool = _pool(spec.node_pool, config, "node_pool")
    program = _job_program(spec, named or {})
    name = spec.name or _default_name(program)
    names, settings = _export(spec.export)
    prologue = "\n".join(part for part in (config.prologue, spec.prologue or "") if part)
    setting = _Setting(config, asked, name, settings, prologue)
    job = _role(setting, program, "job", spec.machine, 1, _reference(spec.codespec))
    worker, worker_pool = _worker(setting, spec, named or {}, pool)
    demanded = topology.Demands(job, worker, _explicit(program, spec, named or {}))
    shape = topology.decide(spec, demanded, limits, asked.cluster, same_pool=pool == worker_pool)
    batches = topology.batches(spec, shape, limits, demanded, asked.cluster)
    _check_dependency(spec, chained=any(batch.after is not None for batch in batches), upstream=bool(asked.upstream))
    start_timeout = spec.start_timeout or START_TIMEOUT
    wanted = Asked(
        shape, job, worker, pool, worker_pool, demanded.explicit[0], start_timeout, batches[0].pack,
        next((place.default_time for places in limits.places for place in places), None),
    )  # fmt: skip
    options = components(spec, config, wanted, name, asked.run_id)
    slowed = admission.admitted(admission.Run(spec, wanted, config.grace, limits.places), options, batches)
    return Plan(
        run_id=asked.run_id,
        name=name,
        created=asked.created,
        cluster=asked.cluster,
        shape=shape.name,
        reason="; ".join((topology.reason(spec, shape, limits, batches, asked.cluster), *slowed)),
        shards=spec.shards or 1,
        sharded=spec.shards is not None,
        indexed=spec.completion_mode == "Indexed",
        max_parallel=spec.max_parallel,
        gang=spec.gang,
        fail_fast=spec.fail_fast,
        job=job,
        worker=worker,
        start_timeout=start_timeout,
        lost_after=config.lost_after,
        timeout=spec.timeout,
        warning=None if spec.signal is None else (spec.signal.number, spec.signal.seconds),
        budgets={**BUDGETS, **spec.retries},
        backoff=spec.backoff,
        retry="in_place" if "no-requeue" in spec.sbatch else spec.retry,
        max_failed=spec.max_failed_indexes,
        deadline=None if spec.run_timeout is None else asked.created + spec.run_timeout,
        grace=config.grace,
        export=names,
        separate_stderr=spec.stderr == "separate",
        committed=spec.results == "committed",
        accounting=limits.accounting,
        prologue=prologue,
        node_python=config.node_python,
        devices=limits.devices if demanded.gpus else (),
        components=options,
        dependency=spec.sbatch.get("dependency"),
        upstream=asked.upstream,
        batches=batches,
    )  # fmt: skip


def wheres(spec: RunSpec, config: Config) -> tuple[Where, ...]:
    """Where the job and the workers, if there are any, are to start, as far as spec and settings say.

    Raises SpecError for a node pool that there is not.
    """
    pool = _pool(spec.node_pool, config, "node_pool")
    found = [placed(spec, pool, own=False)]
    if spec.worker is not None:
        own = spec.worker.node_pool
        found.append(placed(spec, _pool(own, config, "worker.node_pool") if own else pool, own=own is not None))
    return tuple(Where(one.get("partition") or "", one.get("account") or "", one.get("qos") or "") for one in found)


def bare_mounts(spec: RunSpec, named: Mapping[str, Codespec]) -> tuple[str, ...]:
    """The folders that programs without an image want to find where they are."""
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


def _machine(name: str | None, config: Config, field: str) -> Machine:
    if name is None:
        return Machine()
    if name not in config.machines:
        raise _unknown(field, name, sorted(config.machines))
    return config.machines[name]


def _pool(name: str | None, config: Config, field: str) -> NodePool:
    if name is None:
        return NodePool()
    if name not in config.node_pools:
        raise _unknown(field, name, sorted(config.node_pools))
    return config.node_pools[name]


def _unknown(field: str, found: str, known: list[str]) -> SpecError:
    table = f"[{field.rpartition('.')[2]}s.{found}]"
    wanted = f"one of: {', '.join(known)}" if known else f"a {table} in hpcrun.toml; there is none yet"
    return SpecError(f"found {found!r}, wanted {wanted}.{suggestion(found, known)}", field=field)


def _job_program(spec: RunSpec, named: Mapping[str, Codespec]) -> Codespec:
    """What the job executes: its codespec, and what the run says beside it laid over that."""
    base = named[spec.codespec] if isinstance(spec.codespec, str) else spec.codespec or Codespec()
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
    setting: _Setting, spec: RunSpec, named: Mapping[str, Codespec], job_pool: NodePool
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
    pool = _pool(asked.node_pool, setting.config, "worker.node_pool") if asked.node_pool else job_pool
    if program.image and setting.config.containers.runtime == "pyxis":
        raise SpecError(
            "found an image for workers and the runtime pyxis, which cannot start it inside the workers' own step; "
            "wanted another runtime in [containers], or workers without image", field="worker.image",
        )  # fmt: skip
    if program.working_dir is None:
        program = program.model_copy(update={"working_dir": spec.working_dir})
    return _role(setting, program, "worker", asked.machine, asked.replicas, _reference(asked.codespec)), pool


def _reference(given: str | Codespec | None) -> str:
    return given if isinstance(given, str) else ""


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


def _export(text: str | None) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """sbatch's ``--export`` as the names a program is to see (None for all) and the variables it sets."""
    if text is None:
        return None, {}
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise SpecError(
            f"found {text!r} with an open quote, wanted ALL, NONE, or NAME[=VALUE] with commas", field="export"
        ) from error
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for name in settings:
        if not name or name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES:
            raise SpecError(f"found {name}=, wanted a name that hpcrun does not set itself", field="export")
    names = tuple(word for word in words if "=" not in word and word not in ("ALL", "NONE", "NIL"))
    return (None if "ALL" in words else names), settings


@dataclasses.dataclass(frozen=True)
class _Setting:
    """What the roles of a run have in common."""

    config: Config
    asked: Submission
    name: str
    settings: dict[str, str]
    """Variables that ``--export`` sets."""
    prologue: str


def _role(setting: _Setting, program: Codespec, role: str, machine: str | None, replicas: int, reference: str) -> Role:
    sized = _machine(machine, setting.config, "machine" if role == "job" else "worker.machine")
    typed = setting.asked.typed and role == "job" and not reference
    cpus, memory, gpus = program.demand()
    cwd = os.path.normpath(os.path.join(setting.asked.cwd, program.working_dir or "."))
    gpu_count = int(gpus.rpartition(":")[2]) if gpus else sized.gpus
    return Role(
        name=role,
        codespec=reference,
        command=_command(setting, program, cwd, gpu_count),
        env={**setting.settings, **program.env},
        expand=not typed and not program.script,
        cwd=cwd,
        cpus=cpus or sized.cpus,
        memory=memory or sized.memory,
        gpus=gpu_count,
        gpu_type=gpus.rpartition(":")[0] if gpus else "",
        replicas=replicas,
        nodes=program.nodes,
        tasks=program.tasks or program.nodes or 1,
        mpi=program.mpi,
        endpoints=dict(program.endpoints),
        readiness=_probe(program.readiness) if program.readiness else None,
        restart=program.restart,
        units=float(cpus or sized.units or sized.cpus),
    )


def _command(setting: _Setting, program: Codespec, cwd: str, gpus: int) -> tuple[str, ...]:
    if program.script:
        command: tuple[str, ...] = ("bash", "-c", program.script, setting.name)
    else:
        command = (*(program.command or ()), *program.args)
    if program.image:
        command = wrapped(
            command, image=program.image, mounts=program.mounts, cwd=cwd, folders=(cwd, setting.asked.run_dir),
            gpus=gpus > 0, shm=program.resources.shm, containers=setting.config.containers,
        )  # fmt: skip
    else:
        check_bare(program.mounts)
    if setting.prologue and setting.asked.cluster == "local":
        # On Slurm the batch script runs the prologue; here there is none.
        return ("bash", "-c", f'_program=("$@")\n{setting.prologue}\nexec "${{_program[@]}}"', "bash", *command)
    return command


def _probe(asked: AskedProbe) -> Probe:
    tcp, http, log = asked.tcp_port, asked.http_get, asked.log_watch
    kinds = (("tcp_port", tcp), ("http_get", http), ("log_watch", log), ("exec", asked.exec))
    return Probe(
        kind=next(kind for kind, check in kinds if check is not None),
        port=tcp.port if tcp else "",
        host=tcp.host if tcp else "",
        url=http.url if http else "",
        headers=dict(http.headers) if http else {},
        pattern=log.pattern if log else "",
        match_count=log.match_count if log else 1,
        command=tuple(asked.exec.command) if asked.exec else (),
        delay=asked.delay,
        interval=asked.interval,
        each_check_timeout=asked.each_check_timeout,
        timeout=asked.timeout,
        success_threshold=asked.success_threshold,
    )
