"""The plan of a run that `hpcrun sbatch` makes of somebody's own batch script. Pure.

sbatch stays the judge of everything that it is told. Without an option of ours the job is Slurm's alone, and the plan
only says which shards its array elements are. With one, the runtime carries the script out: sbatch gets the lines that
it reads of the script as they stand there, behind our own defaults, which they outrank; and on its command line, which
outranks both, what stood in SBATCH_* variables and then what was given.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping

from hpcrun import topology
from hpcrun.cluster import Limits
from hpcrun.config import Config
from hpcrun.errors import SpecError
from hpcrun.fields import Place, Source, snake
from hpcrun.plan import Batch, BatchScript, Plan, Role
from hpcrun.retry import BUDGETS
from hpcrun.roles import Submission
from hpcrun.sbatch_line import SEPARATOR, Effective, Header, Line
from hpcrun.sbatch_options import WRAPPED
from hpcrun.spec import RunSpec, from_source, spelled

_NUMBERS = ("shards", "max-parallel", "retries", "max-failed-indexes")
_DECIDED = frozenset(
    ["array", "wrap", "dependency", "parsable", "quiet", "verbose", "wait", "test-only", "help", "usage",
     "version", "ignore-pbs"]
)  # fmt: skip
"""Options that are said anew, or are about sbatch and not about the job."""
_HETJOB = re.compile(r"#(SBATCH|SLURM)\s+(hetjob|packjob)\b", re.IGNORECASE)
"""The lines that stand between the components of a heterogeneous job."""


def asked(own: Mapping[str, str]) -> RunSpec | None:
    """What our options ask for, as a spec; None where there is none of them. Raises SpecError."""
    given = {name: value for name, value in own.items() if name in WRAPPED}
    if not given:
        return None
    values = {
        snake(name): int(value) if name in _NUMBERS and value.isdecimal() else value for name, value in given.items()
    }
    places: dict[tuple[str | int, ...], Place] = {(snake(name),): Place(field=f"--{name}") for name in given}
    source = spelled(Source({"command": ["script"], **values}, places))
    try:
        return from_source(source)
    except SpecError as error:
        raise source.error(source.path(error.field), error.problem) from error


def check(spec: RunSpec, script: Effective) -> None:
    """Raises SpecError where our options and what the script asks of sbatch exclude each other."""
    array = script.array
    if script.get("clusters"):
        raise SpecError(
            f"found {script.get('clusters')!r} beside options of hpcrun's, which follows jobs on this cluster only; "
            "submit there, or leave hpcrun's options out", field="--clusters",
        )  # fmt: skip
    if array is not None and spec.shards is not None:
        raise SpecError(
            f"found {spec.shards} beside an array of the script's own (--array={array.text}); wanted one of both: the "
            "elements of an array are shards already", field="--shards",
        )  # fmt: skip
    if spec.max_parallel is not None and array is None and spec.shards is None:
        raise SpecError("found it without shards; wanted --shards or --array beside it", field="--max-parallel")


def plan_of(
    spec: RunSpec | None, script: Effective, when: Submission, config: Config, limits: Limits, copy: str
) -> Plan:
    """The plan of a script, of which `copy` is the path in the run folder; without a `spec` it is Slurm's alone."""
    own = spec or RunSpec(command=["script"])
    batches = _batches(own, script, limits)
    if spec is not None:
        batches = tuple(dataclasses.replace(batch, options=_words(script)) for batch in batches)
    count = sum(batch.count for batch in batches)
    name = script.job_name(script.line.script)
    cwd = os.path.join(when.cwd, script.chdir) if script.chdir else when.cwd
    in_place = script.requeue is False or own.retry == "in_place"
    return Plan(
        run_id=when.run_id,
        name=name,
        created=when.created,
        cluster="slurm",
        shape="het" if script.components > 1 else "array" if batches[0].array else "job",
        reason=_reason(spec, script, batches),
        shards=count,
        sharded=own.shards is not None or script.array is not None,
        indexed=True,
        max_parallel=own.max_parallel,
        gang=False,
        fail_fast=True,
        job=_role((copy, *script.line.args) if spec is not None else (), cwd),
        worker=None,
        start_timeout=0.0,
        lost_after=config.lost_after,
        timeout=own.timeout,
        warning=None,
        budgets={**BUDGETS, **own.retries},
        backoff=own.backoff,
        retry="in_place" if in_place else "requeue",
        max_failed=own.max_failed_indexes,
        deadline=None if own.run_timeout is None else when.created + own.run_timeout,
        grace=config.grace,
        export=None,
        separate_stderr=script.error is not None,
        committed=False,
        accounting=limits.accounting,
        prologue="",
        node_python=config.node_python,
        devices=(),
        components=_defaults(script, requeue=not in_place) if spec is not None else ((),),
        dependency=script.get("dependency"),
        upstream=(),
        batches=batches,
        batch_script=BatchScript(
            name=called(script.line),
            args=script.line.args,
            components=_parts(script.header, script.components) if spec is not None else (),
            output=script.output,
            error=script.error or "",
            supervised=spec is not None,
        ),
    )


def called(line: Line) -> str:
    """What a message calls the script of a command line."""
    return line.script or ("wrap" if line.wrap is not None else "sbatch")


def _batches(spec: RunSpec, script: Effective, limits: Limits) -> tuple[Batch, ...]:
    array = script.array
    if array is not None:
        bounds = [bound for bound in (spec.max_parallel, array.throttle) if bound]
        ids = array.text.partition("%")[0]
        throttle = min(bounds) if bounds else None
        return (Batch(0, 0, len(array.ids), array=True, throttle=throttle, pack=1, after=None, ids=ids),)
    shape = topology.Shape("het" if script.components > 1 else "array", "")
    return topology.batches(spec, shape, limits, topology.Demands(_role((), ""), None, (True, True)), "slurm")


def _role(command: tuple[str, ...], cwd: str) -> Role:
    """The job: what it gets is between its script and Slurm."""
    return Role(
        name="job", codespec="", command=command, env={}, expand=False, cwd=cwd, cpus=1, memory=None, gpus=0,
        gpu_type="", replicas=1, nodes=None, tasks=1, mpi=None, endpoints={}, readiness=None, restart="never",
        units=1.0,
    )  # fmt: skip


def _defaults(script: Effective, *, requeue: bool) -> tuple[tuple[tuple[str, str | None], ...], ...]:
    """What stands before the script's own lines, for each component: what these do not say."""
    first: list[tuple[str, str | None]] = []
    if script.get("job-name", 0) is None and not _of_several_lines(script):
        first.append(("job-name", script.job_name(script.line.script)))
    if script.get("open-mode", 0) is None:
        first.append(("open-mode", "append"))  # Slurm's own way is to begin anew with each start
    if requeue:
        first.append(("requeue", None))
    return (tuple(first), *((),) * (script.components - 1))


def _of_several_lines(script: Effective) -> bool:
    """Whether the job has a name that no line of a script can hold: that of a file with a line break in its own."""
    return "\n" in script.job_name(script.line.script)


def _words(script: Effective) -> tuple[str, ...]:
    """The options of sbatch's command line: those of the environment, which rank below it, stand before its own."""
    of_environ = [option.spelled() for option in script.environment if not option.off and option.name not in _DECIDED]
    if script.get("job-name", 0) is None and _of_several_lines(script):
        of_environ.append(f"--job-name={script.job_name(script.line.script)}")
    sections: list[list[str]] = [[]]
    for word in script.line.option_words(without=_DECIDED):
        if word == SEPARATOR:
            sections.append([])
        elif word != "--":
            sections[-1].append(word)
    return tuple(word for section in sections for word in (SEPARATOR, *of_environ, *section))[1:]


def _parts(header: Header, components: int) -> tuple[str, ...]:
    """The lines of a script that sbatch reads, by component."""
    found: list[list[str]] = [[]]
    for line in header.lines:
        if _HETJOB.match(line):
            found.append([])
        else:
            found[-1].append(line)
    return (*("\n".join(lines) for lines in found), *("",) * (components - len(found)))


def _reason(spec: RunSpec | None, script: Effective, batches: tuple[Batch, ...]) -> str:
    what = f"the batch script {called(script.line)}"
    if spec is None:
        return f"{what}, carried out by Slurm alone"
    if len(batches) > 1:
        return f"{what}, {sum(batch.count for batch in batches)} times: {len(batches)} submissions"
    return f"{what}, {batches[0].count} times: one job array" if batches[0].array else f"{what}: one job"
