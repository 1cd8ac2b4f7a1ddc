"""submit: from a spec to a run that the cluster carries out, submitted once."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from hpcrun import after, events, registry, runtime, script, spec, specfile
from hpcrun import config as settings
from hpcrun.cluster import Cluster
from hpcrun.compile import bare_mounts, compile_plan, wheres
from hpcrun.errors import ClusterUnavailable, RunFolderError, SpecError, SubmissionRefused, UsageError
from hpcrun.fields import Source
from hpcrun.plan import Plan
from hpcrun.roles import Submission
from hpcrun.run import Run, connect, runs_folder
from hpcrun.rundir import RunDir
from hpcrun.sending import announce, send
from hpcrun.sent import submitted
from hpcrun.whole import write_whole

if TYPE_CHECKING:
    from hpcrun.payload import Call

_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing that looks like something else
_ID_LENGTH = 8
_SHOWN = 60
"""Characters of a value that an error shows."""


def submit(
    what: Callable[..., Any] | Sequence[str] | str | os.PathLike[str] | Mapping[str, Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    python: str | None = None,
    **fields: Any,
) -> Run:
    """Submit a run; the handle on it.

    `what` is a function, which every shard calls with `args` and `kwargs`, a command as a list, the path of a spec
    file, or a mapping with the fields of a spec; `fields` are further fields of the spec (``shards=8``) and win.
    `cluster` is ``slurm``, ``local`` or ``auto`` (default: what the settings say).

    A function may be any callable that cloudpickle can pickle, also of ``__main__``, a notebook or another function;
    of a coroutine function the coroutine is run. `python` is the interpreter that calls it on the nodes (this one, by
    its path; it has to be of the same version, and to have hpcrun). What it returns comes back by `Run.results`.
    Raises SpecError for a spec that cannot be used, UsageError for a function or arguments that cannot go to another
    process, ClusterUnavailable and SubmissionRefused.
    """
    if callable(what) and not isinstance(what, (str, Mapping)):
        return submit_calls(what, [[(args, _named(kwargs))]], cluster=cluster, python=python, fields=fields)
    given: object = what
    if isinstance(given, bytes) or not isinstance(given, (os.PathLike, Iterable)):
        raise UsageError(
            f"found {_short(what)}, wanted a function, a command as a list, the path of a spec file, or a mapping; a "
            "function is called on the nodes, so hand it over with its arguments: submit(f, 1) and not submit(f(1))"
        )
    if args or kwargs is not None or python is not None:
        raise UsageError(
            f"found arguments for a function (`args`, `kwargs`, `python`) beside {type(what).__name__} {what!r}, "
            "wanted them with a function; arguments of a command stand in its list"
        )
    config = settings.load(os.environ, os.getcwd())
    typed = False
    if isinstance(what, (str, os.PathLike)):
        source = _file(os.fspath(what))
    elif isinstance(what, Mapping):
        source = spec.raw(what)
    else:
        source, typed = spec.raw({"command": list(what)}), True
    prepared = prepare(_laid_over(source, fields), config, cluster or config.cluster, typed=typed)
    return carry_out(prepared)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises SpecError for fields that no spec has; what they hold is looked at when a run is submitted."""
    _laid_over(spec.raw({}), fields)


def refuse_function(found: object) -> NoReturn:
    """Raises UsageError: `found` is none."""
    raise UsageError(
        f"found {_short(found)}, wanted a function: the nodes call it, so hand it over as it is, f and not f(1); "
        "a command, many times, is hpcrun.submit([program, argument], shards=8)"
    )


def _named(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(
            f"found kwargs={_short(kwargs)}, wanted the function's arguments by name: kwargs={{'scale': 2}}"
        )
    return dict(kwargs or {})


def _short(value: object) -> str:
    """`value` as an error names it: a data set that is no function may be long."""
    text = repr(value)
    return f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '…'} ({type(value).__name__})"


def _file(path: str) -> Source:
    try:
        return specfile.read(path)
    except SpecError as error:
        if os.path.exists(path) or path.endswith((".yaml", ".yml", ".json")):
            raise
        hint = f"; a command is a list: hpcrun.submit({path.split()!r})"
        raise SpecError(f"{error.problem}{hint}", file=error.file) from error


def submit_calls(
    function: Callable[..., Any],
    chunks: Iterable[list[Call]],
    *,
    cluster: str | None,
    python: str | None,
    fields: Mapping[str, Any],
    mapped: bool = False,
) -> Run:
    """Submit calls of `function`: where they are `mapped` a shard for each of `chunks`, else one that all shards make.

    Raises what `submit` does.
    """
    from hpcrun import call, payload  # 10 ms, and of no use to commands

    config = settings.load(os.environ, os.getcwd())
    try:
        source = _laid_over(spec.raw({"name": payload.named(function)}), fields)
    except SpecError as error:
        raise _as_argument(error, fields, mapped) from None
    asked = spec.spelled(config.default_fields()).under(source)
    for field in ("command", "script", "args", "codespec", "tasks", "nodes", "mpi"):
        if field in asked.values:
            raise asked.error((field,), f"found it beside a function, wanted {_INSTEAD.get(field, 'one of them')}")
    # Shards of a gang await each other, and of what an attempt commits all or nothing counts.
    anew = bool(asked.values.get("gang")) or asked.values.get("results") == "committed"
    runs = runs_folder(config.home)
    os.makedirs(runs, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".payload-", dir=runs) as folder:
        path = os.path.join(folder, "payload")
        count, _ = payload.write(path, function, chunks)
        program: dict[str, Any] = {"command": [python or sys.executable, "-u", "-c", call.COMMAND.format(anew)]}
        if "timeout" not in asked.values and "signal" not in asked.values:
            program["signal"] = "USR2@60"  # for hooks of hpcrun.checkpoint
        decided = spec.raw({**program, **({"shards": count} if mapped else {})})
        prepared = prepare(source.under(spec.spelled(decided)), config, cluster or config.cluster, typed=True)
        prepared.payload = path
        return carry_out(prepared)


def _as_argument(error: SpecError, fields: Mapping[str, Any], mapped: bool) -> SpecError:
    """`error`, with what to do where a field that there is not was meant for the function."""
    if error.field not in fields or spec.is_field(error.field):
        return error
    how = f"functools.partial(function, {error.field}=…)" if mapped else f"kwargs={{{error.field!r}: …}}"
    said = error.problem.partition(" Wanted one of")[0]  # all fields there are, which would hide what follows
    return SpecError(f"{said} An argument of the function is given by {how}", field=error.field)


_INSTEAD = {"tasks": "`shards` and `gang=True`", "nodes": "`shards` and `gang=True`", "mpi": "a command"}


def _laid_over(source: Source, fields: Mapping[str, Any]) -> Source:
    """`source` with the fields of a spec that were given as Python values."""
    given = {field: _by_name(value) for field, value in fields.items()}
    return spec.spelled(source).under(spec.spelled(spec.raw(given)))


def _by_name(value: Any) -> Any:
    """A field's value with runs, as ``after`` takes them, replaced by their folders."""
    if isinstance(value, Run):
        return value.dir.path
    return [_by_name(one) for one in value] if isinstance(value, (list, tuple)) else value


class Prepared:
    """A run that is decided and not yet submitted; `source` is the spec as it was given."""

    def __init__(self, plan: Plan, source: Source, config: settings.Config, cluster: Cluster) -> None:
        self.plan, self.source, self.config, self.cluster = plan, source, config, cluster
        self.dir = RunDir(os.path.join(runs_folder(config.home), plan.run_id))
        self.payload: str | None = None
        """The file with the function that it calls, which becomes the run folder's."""
        self.batch_script: bytes | None = None
        """The batch script that it carries out."""

    def scripts(self) -> list[str]:
        """The sbatch script of each batch; none for the local cluster."""
        if self.plan.cluster == "local":
            return []
        text, called = script.template(self.config.templates, script.template_of(self.plan))
        return [script.render(self.plan, self.dir, batch, text, called) for batch in self.plan.batches]


def prepare(source: Source, config: settings.Config, cluster: str, *, typed: bool) -> Prepared:
    """Decide the run that `source` asks for; nothing is written and nothing submitted.

    `typed` says that the command came from a command line. Raises SpecError, ClusterUnavailable.
    """
    whole = spec.beneath(spec.spelled(source), config.default_fields())
    whole, named = registry.pinned(whole, registry.folder(config))
    asked = spec.from_source(whole)
    chosen = connect(choose(cluster), python=config.node_python)
    when = now(config.home, chosen.name, typed=typed)
    try:
        when = dataclasses.replace(when, upstream=after.resolve(asked, config.home, chosen))
        here = config.check_limits and "clusters" not in asked.sbatch  # of another cluster nothing is asked
        limits = chosen.limits(wheres(asked, config), places=here)
        plan = compile_plan(asked, config, limits, when, named)
        _check_folders(bare_mounts(asked, named))
    except SpecError as error:
        raise whole.error(whole.path(error.field), error.problem) from error
    return Prepared(plan, whole, config, chosen)


def now(home: str, cluster: str, *, typed: bool) -> Submission:
    """Who asks for a run, now and here, under an id that it is to have."""
    run_id = new_id()
    return Submission(
        run_id=run_id, created=time.time(), cwd=os.getcwd(), cluster=cluster, typed=typed,
        run_dir=os.path.join(runs_folder(home), run_id),
    )  # fmt: skip


def adopt(plan: Plan, job: str, batch_script: bytes | None, source: Mapping[str, Any], home: str) -> None:
    """Keep a run of a job that Slurm alone carries out, and that is submitted already. Raises RunFolderError."""
    run = RunDir(os.path.join(runs_folder(home), plan.run_id))
    try:
        os.makedirs(runs_folder(home), mode=0o700, exist_ok=True)
        os.mkdir(run.path, 0o700)
        write_whole(run.spec, specfile.text(source))
        if batch_script is not None:
            write_whole(run.batch_script, batch_script)
        for event, facts in (("intent", {}), ("submitted", {"job": job})):
            events.add(run.submission, event, {"at": time.time(), "batch": 0, **facts})
        write_whole(run.plan, json.dumps(plan.to_json(), indent=1))
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise RunFolderError(
            str(error.filename or run.path), f"cannot write the run folder: {error.strerror}"
        ) from error


def _check_folders(folders: Sequence[str]) -> None:
    for folder in folders:
        if not os.path.isdir(folder):
            raise SpecError(f"found no folder {folder}, wanted one that this machine and the nodes see", field="mounts")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SpecError(
                f"found the folder {folder}, in which you may not write; wanted another, or none: without an image "
                "every folder is there anyway", field="mounts",
            )  # fmt: skip


def choose(cluster: str) -> str:
    """The cluster that ``auto`` stands for here; another name stays what it is. Raises UsageError."""
    if cluster not in ("auto", "slurm", "local"):
        raise UsageError(f"found the cluster {cluster!r}, wanted auto, slurm or local")
    if cluster != "auto":
        return cluster
    return "slurm" if shutil.which("sbatch") else "local"


def new_id() -> str:
    """A new run id: eight letters and digits, the first a letter."""
    first = secrets.choice(_ID_LETTERS[10:])
    return first + "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH - 1))


def carry_out(prepared: Prepared) -> Run:
    """Submit a decided run: first its folder, then each batch, an intent before and the job id after it.

    Raises SubmissionRefused, after which nothing of the run is left in the queue, and ClusterUnavailable.
    """
    scripts = prepared.scripts()
    run = prepared.dir
    _write_folder(prepared, scripts)
    waits = _waits(prepared)
    try:
        jobs = send(run, prepared.cluster, prepared.plan, prepared.plan.batches, waits=waits)
    except SubmissionRefused as error:
        _withdraw(prepared, error)
        raise
    after.stop_if_too_late(run, prepared.plan.upstream, prepared.cluster, tuple(jobs.values()))
    return Run(run.path, prepared.cluster)


def _waits(prepared: Prepared) -> str | None:
    """The dependency on the runs before this one; where it cannot be had there is no run."""
    upstream = prepared.plan.upstream
    try:
        after.register(prepared.dir, upstream)
        return after.dependency(upstream, prepared.cluster, prepared.config.templates)
    except BaseException:
        shutil.rmtree(prepared.dir.path, ignore_errors=True)
        raise


def _withdraw(prepared: Prepared, error: SubmissionRefused) -> None:
    """Take back what was submitted of a run that was refused in the middle."""
    run = prepared.dir
    jobs = submitted(events.read(run.submission)).jobs
    if not jobs:
        shutil.rmtree(run.path, ignore_errors=True)
        return
    events.stop(run, "refused", error.reason)
    try:
        prepared.cluster.cancel(run, tuple(reversed(jobs)))
    except ClusterUnavailable:  # they end by themselves where they start
        pass


def _write_folder(prepared: Prepared, scripts: Sequence[str]) -> None:
    run, plan = prepared.dir, prepared.plan
    try:
        os.makedirs(runs_folder(prepared.config.home), mode=0o700, exist_ok=True)
        os.mkdir(run.path, 0o700)
        for folder in run.folders(plan.shards):
            os.makedirs(folder, mode=0o700)
        write_whole(run.spec, specfile.text(prepared.source.values))
        decided = json.dumps(plan.to_json(), indent=1)
        runtime.write(run, json.loads(decided), plan.node_python, os.path.join(prepared.config.home, "cache"))
        for number, text in enumerate(scripts):
            write_whole(run.script(number), text)
        if prepared.payload is not None:
            os.rename(prepared.payload, run.payload)
        if prepared.batch_script is not None:
            write_whole(run.batch_script, prepared.batch_script)
            os.chmod(run.batch_script, 0o700)
        announce(run)
        write_whole(run.plan, decided, durable=True)  # the last: a folder without a plan is no run
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        where = error.filename or run.path
        raise RunFolderError(
            str(where), f"cannot write the run folder: {error.strerror}; nothing was submitted. HPCRUN_HOME (or `home` "
            "in hpcrun.toml) chooses another place"
        ) from error  # fmt: skip
