"""Roles: what the processes of a run execute and get, from the programs that were asked for. Pure."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING

from hpcrun.codespec import Codespec
from hpcrun.config import Config, Machine, NodePool
from hpcrun.containers import check_bare, wrapped
from hpcrun.environ import OWN_NODE, RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.errors import SpecError
from hpcrun.fields import suggestion
from hpcrun.plan import Probe, Role, Upstream

if TYPE_CHECKING:
    from hpcrun.probes import Probe as AskedProbe
    from hpcrun.probes import TaskProbe


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


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the roles of a run have in common."""

    config: Config
    asked: Submission
    name: str
    """The run's, and what scripts find as their ``$0``."""
    settings: dict[str, str]
    """Variables that ``--export`` sets."""
    prologue: str


def node_pool(name: str | None, config: Config, field: str) -> NodePool:
    """The node pool of this name. Raises SpecError where there is none."""
    if name is None:
        return NodePool.model_construct()
    if name not in config.node_pools:
        raise _unknown(field, name, sorted(config.node_pools))
    return config.node_pools[name]


def _machine(name: str | None, config: Config, field: str) -> Machine:
    if name is None:
        return Machine.model_construct()
    if name not in config.machines:
        raise _unknown(field, name, sorted(config.machines))
    return config.machines[name]


def _unknown(field: str, found: str, known: list[str]) -> SpecError:
    table = f"[{field.rpartition('.')[2]}s.{found}]"
    wanted = f"one of: {', '.join(known)}" if known else f"a {table} in hpcrun.toml; there is none yet"
    return SpecError(f"found {found!r}, wanted {wanted}.{suggestion(found, known)}", field=field)


def reference(given: str | Codespec | None) -> str:
    """The name of a codespec that was given by its name, else nothing."""
    return given if isinstance(given, str) else ""


def exported(text: str | None) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """sbatch's ``--export`` as the names a program is to see (None for all) and the variables it sets.

    Raises SpecError.
    """
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


def role_of(setting: Setting, program: Codespec, role: str, machine: str | None, replicas: int, codespec: str) -> Role:
    """The role of a run's ``job``, of its ``worker``, or of the task of this name.

    `codespec` is what the program is called in the registry, where it is. Raises SpecError.
    """
    sized = _machine(machine, setting.config, "worker.machine" if role == "worker" else "machine")
    typed = setting.asked.typed and role == "job" and not codespec
    cpus, memory, gpus = program.demand()
    cwd = os.path.normpath(os.path.join(setting.asked.cwd, program.working_dir or "."))
    gpu_count = int(gpus.rpartition(":")[2]) if gpus else sized.gpus
    return Role(
        name=role,
        codespec=codespec,
        command=command(setting, program, cwd, gpu_count),
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
        readiness=_worker_probe(program.readiness) if program.readiness else None,
        restart=program.restart,
        units=float(cpus or sized.units or sized.cpus),
    )


def role_of_whole(cwd: str, nodes: int, cpus: int, memory: int | None, gpus: int, gpu_type: str) -> Role:
    """The role that stands for all tasks of a workflow: what its allocation holds on each of its `nodes`."""
    return Role(
        name="job", codespec="", command=(), env={}, expand=False, cwd=cwd, cpus=cpus, memory=memory, gpus=gpus,
        gpu_type=gpu_type, replicas=1, nodes=nodes, tasks=nodes, mpi=None, endpoints={}, readiness=None,
        restart="never", units=float(cpus),
    )  # fmt: skip


def command(setting: Setting, program: Codespec, cwd: str, gpus: int) -> tuple[str, ...]:
    """The command line of a program, which starts in `cwd`: in its container and, here, after the prologue."""
    if program.script:
        words: tuple[str, ...] = ("bash", "-c", program.script, setting.name)
    else:
        words = (*(program.command or ()), *program.args)
    if program.image:
        words = wrapped(
            words, image=program.image, mounts=program.mounts, cwd=cwd, folders=(cwd, setting.asked.run_dir),
            gpus=gpus > 0, shm=program.resources.shm, containers=setting.config.containers,
        )  # fmt: skip
    else:
        check_bare(program.mounts)
    if setting.prologue and setting.asked.cluster == "local":
        # On Slurm the batch script runs the prologue; here there is none.
        return ("bash", "-c", f'_program=("$@")\n{setting.prologue}\nexec "${{_program[@]}}"', "bash", *words)
    return words


def _worker_probe(asked: AskedProbe) -> Probe:
    """The check that a worker is ready."""
    return _probe(asked, "127.0.0.1", asked.success_threshold)


FAILURE_INTERVAL = 1.0
"""Seconds between two checks for failure where a spec does not say: several hits in a row are to mean something."""


def task_probe(asked: TaskProbe, cluster: str, *, failure: bool) -> Probe:
    """The check that a task is ready, or that it has failed.

    Where it names no host it looks at the task's own node; on this machine that is the loopback.
    """
    found = _probe(
        asked,
        "127.0.0.1" if cluster == "local" else OWN_NODE,
        asked.failure_threshold if failure else asked.success_threshold,
    )
    return dataclasses.replace(
        found,
        timeout=None if failure else asked.timeout,
        interval=asked.interval if asked.interval is not None or not failure else FAILURE_INTERVAL,
        watched=asked.log_watch.logger or "" if asked.log_watch else "",
        each=asked.tcp_port is not None and asked.tcp_port.on_node == "each",
    )


def _probe(asked: AskedProbe, host: str, threshold: int) -> Probe:
    tcp, http, log = asked.tcp_port, asked.http_get or asked.http_post, asked.log_watch
    return Probe(
        kind=asked.kind,
        port=tcp.port if tcp else "",
        host=(tcp.host or host) if tcp else "",
        url=http.url if http else "",
        headers=dict(http.headers) if http else {},
        pattern=log.pattern if log else "",
        match_count=log.match_count if log else 1,
        command=tuple(asked.exec.command) if asked.exec else (),
        delay=asked.delay,
        interval=asked.interval,
        each_check_timeout=asked.each_check_timeout,
        timeout=asked.timeout,
        success_threshold=threshold,
        body=getattr(http, "body", ""),
    )
