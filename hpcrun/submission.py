"""submit: from a spec to a run that the cluster carries out, submitted once."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hpcrun import config as settings
from hpcrun import events, registry, runtime, script, spec, specfile
from hpcrun.cluster import Cluster
from hpcrun.compile import Submission, compile_plan
from hpcrun.errors import ClusterUnavailable, RunFolderError, SpecError, SubmissionRefused, UsageError
from hpcrun.fields import Source
from hpcrun.plan import Plan
from hpcrun.run import Run, connect, runs_folder
from hpcrun.rundir import RunDir

_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing that looks like something else
_ID_LENGTH = 8


def submit(what: Sequence[str] | str | Mapping[str, Any], *, cluster: str | None = None, **fields: Any) -> Run:
    """Submit a run; the handle on it.

    `what` is a command as a list, the path of a spec file, or a mapping with the fields of a spec; `fields` are
    further fields of the spec (``shards=8``) and win. `cluster` is ``slurm``, ``local`` or ``auto`` (default: what
    the settings say).
    Raises SpecError for a spec that cannot be used, ClusterUnavailable and SubmissionRefused.
    """
    config = settings.load(os.environ, os.getcwd())
    typed = False
    if isinstance(what, str):
        source = specfile.read(what)
    elif isinstance(what, Mapping):
        source = spec.raw(what)
    else:
        source, typed = spec.raw({"command": list(what)}), True
    prepared = prepare(
        spec.spelled(source).under(spec.spelled(spec.raw(fields))), config, cluster or config.cluster, typed=typed
    )
    return carry_out(prepared)


class Prepared:
    """A run that is decided and not yet submitted; `source` is the spec as it was given."""

    def __init__(self, plan: Plan, source: Source, config: settings.Config, cluster: Cluster) -> None:
        self.plan, self.source, self.config, self.cluster = plan, source, config, cluster
        self.dir = RunDir(os.path.join(runs_folder(config.home), plan.run_id))

    def scripts(self) -> list[str]:
        """The sbatch script of each batch; none for the local cluster."""
        if self.plan.cluster == "local":
            return []
        text, called = script.template(self.config.templates)
        return [script.render(self.plan, self.dir, batch, text, called) for batch in self.plan.batches]


def prepare(source: Source, config: settings.Config, cluster: str, *, typed: bool) -> Prepared:
    """Decide the run that `source` asks for; nothing is written and nothing submitted.

    `typed` says that the command came from a command line. Raises SpecError, ClusterUnavailable.
    """
    whole = config.default_fields().under(source)
    whole, named = registry.pinned(spec.spelled(whole), registry.folder(config))
    asked = spec.from_source(whole)
    chosen = connect(_choose(cluster), python=config.node_python)
    run_id = new_id()
    when = Submission(
        run_id=run_id, created=time.time(), cwd=os.getcwd(), cluster=chosen.name, typed=typed,
        run_dir=os.path.join(runs_folder(config.home), run_id),
    )  # fmt: skip
    try:
        plan = compile_plan(asked, config, chosen.limits(), when, named)
    except SpecError as error:
        path = tuple(error.field.split(".")) if error.field else ()
        raise whole.error(path, error.problem) from error
    return Prepared(plan, whole, config, chosen)


def _choose(cluster: str) -> str:
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
    jobs: dict[int, str] = {}
    for batch in prepared.plan.batches:
        events.add(run.submission, "intent", {"batch": batch.index}, durable=True)
        try:
            jobs[batch.index] = prepared.cluster.submit(run, batch, _dependency(prepared.plan, batch.after, jobs))
        except SubmissionRefused as error:
            _withdraw(prepared, jobs, batch.index, error)
            raise
        except ClusterUnavailable as error:
            raise ClusterUnavailable(
                f"{error}\n  whether batch {batch.index} of run {run.run_id} was submitted is not known; "
                f"`hpcrun status {run.run_id}` shows what runs, `hpcrun cancel {run.run_id}` ends it"
            ) from error
        events.add(run.submission, "submitted", {"batch": batch.index, "job": jobs[batch.index]}, durable=True)
    return Run(run.path, prepared.cluster)


def _dependency(plan: Plan, after: int | None, jobs: Mapping[int, str]) -> str | None:
    parts = [plan.dependency] if plan.dependency else []
    if after is not None:
        parts.append(f"afterany:{jobs[after]}")
    return ",".join(parts) or None


def _withdraw(prepared: Prepared, jobs: Mapping[int, str], batch: int, error: SubmissionRefused) -> None:
    """Take back what was submitted of a run that was refused in the middle."""
    run = prepared.dir
    if not jobs:
        shutil.rmtree(run.path, ignore_errors=True)
        return
    events.add(run.submission, "refused", {"batch": batch, "reason": error.reason}, durable=True)
    events.stop(run, "refused", error.reason)
    prepared.cluster.cancel(run, tuple(reversed(list(jobs.values()))))


def _write_folder(prepared: Prepared, scripts: Sequence[str]) -> None:
    run, plan = prepared.dir, prepared.plan
    try:
        os.makedirs(runs_folder(prepared.config.home), mode=0o700, exist_ok=True)
        os.mkdir(run.path, 0o700)
        for folder in run.folders(plan.shards):
            os.makedirs(folder, mode=0o700)
        _write(run.spec, specfile.text(prepared.source.values))
        decided = json.dumps(plan.to_json(), indent=1)
        _write(run.plan, decided)
        runtime.write(run, json.loads(decided), plan.node_python, os.path.join(prepared.config.home, "cache"))
        for number, text in enumerate(scripts):
            _write(run.script(number), text)
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        where = error.filename or run.path
        raise RunFolderError(
            str(where), f"cannot write the run folder: {error.strerror}; nothing was submitted. HPCRUN_HOME (or `home` "
            "in hpcrun.toml) chooses another place"
        ) from error  # fmt: skip


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
