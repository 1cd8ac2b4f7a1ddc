"""Runs that wait for runs, on the login node: which ones, and the finalisers that their jobs depend on.

A Slurm dependency on the jobs of a run would be wrong: with retries, an array is at its end more than once. What is
depended on is a small job of that run, its finaliser (`hpcrun.node.finish`), which is submitted when the first run
comes that wants to wait, and shared by all that come after. Locally the supervisors wait for each other.
"""

from __future__ import annotations

import os

from hpcrun import events, script
from hpcrun.cluster import Cluster
from hpcrun.errors import ClusterUnavailable, HpcrunError, RunFolderError, RunNotFound, SpecError
from hpcrun.plan import Upstream
from hpcrun.run import Run, find
from hpcrun.rundir import RunDir
from hpcrun.spec import RunSpec
from hpcrun.states import TERMINAL, from_slurm
from hpcrun.upstream import KINDS, hindered, met, outcome, refusal
from hpcrun.whole import write_whole


def resolve(spec: RunSpec, home: str, cluster: Cluster) -> tuple[Upstream, ...]:
    """The runs that the run of `spec` has to wait for; those that have ended as wanted are none of them.

    Raises SpecError for a run that there is not, or whose end cannot be waited for, or that has ended otherwise.
    """
    found: dict[tuple[str, str], Upstream] = {}
    for kind in KINDS:
        for asked in getattr(spec, kind):
            try:
                one = _upstream(kind, asked, home, cluster)
            except (RunNotFound, RunFolderError) as error:
                raise SpecError(str(error), field=kind) from error
            if one is not None:
                found[one.path, kind] = one
    return tuple(found.values())


def _upstream(kind: str, asked: str, home: str, cluster: Cluster) -> Upstream | None:
    run = Run(asked if os.path.isabs(asked) else find(asked, home), cluster)
    if run.plan.cluster != cluster.name:
        raise SpecError(
            f"found run {run.id}, which is on the cluster {run.plan.cluster!r}, and this one is for {cluster.name!r}; "
            "wanted runs on one cluster (--cluster)", field=kind,
        )  # fmt: skip
    status = run.status()
    if status.done and not met(kind, status.state):
        raise SpecError(f"{refusal(kind, run.id, status.state)}. Nothing was submitted", field=kind)
    if status.done:
        return None
    if cluster.name == "local" and status.notes:
        raise SpecError(f"found run {run.id}, and {status.notes[0]}", field=kind)
    if any(not shard.job and shard.state not in TERMINAL for shard in status.shards):
        raise SpecError(
            f"found run {run.id}, which is still being submitted, or of which it is not known; wanted one that is in "
            f"the queue (`hpcrun status {run.id}`)", field=kind,
        )  # fmt: skip
    return Upstream(run.id, run.dir.path, kind, run.round())


def register(run: RunDir, upstream: tuple[Upstream, ...]) -> None:
    """Tell every run that `run` waits for where that is, so that a finaliser can stop it."""
    for one in upstream:
        folder = RunDir(one.path).dependants
        os.makedirs(folder, mode=0o700, exist_ok=True)
        events.claim(os.path.join(folder, run.run_id), run.path)


def dependency(upstream: tuple[Upstream, ...], cluster: Cluster, templates: str | None) -> str | None:
    """What ``sbatch --dependency`` gets so that a run starts after all of these; their finalisers are submitted first.

    It is ``afterany`` for each: whether the outcome is the one that was waited for is decided by the finaliser, and
    once more on the node. Raises ClusterUnavailable and SubmissionRefused.
    """
    if cluster.name == "local" or not upstream:
        return None
    ends = list(dict.fromkeys((one.path, one.round) for one in upstream))
    scripts = [RunDir(path).finish_script(in_round) for path, in_round in ends]
    known = _jobs_of(scripts, RunDir(ends[0][0]), cluster)
    own = {
        path: _submit(Run(folder, cluster), in_round, cluster, templates)
        for path, (folder, in_round) in zip(scripts, ends, strict=True)
        if path not in known
    }
    if own:  # another run may have wanted to wait at the same time: the first job is everybody's
        known = {**own, **_jobs_of(scripts, RunDir(ends[0][0]), cluster)}
        cluster.cancel(RunDir(ends[0][0]), [job for path, job in own.items() if known[path] != job])
    return "afterany:" + ":".join(known[path] for path in scripts)


def _jobs_of(scripts: list[str], run: RunDir, cluster: Cluster) -> dict[str, str]:
    """The first job of each of these scripts that is still to end; one squeue shows those of all runs."""
    alive = [row for row in cluster.queue(run) if row.script and from_slurm(row.state)[0] not in TERMINAL]
    jobs = {_below_runs(row.script): row.job for row in sorted(alive, key=lambda row: int(row.job), reverse=True)}
    return {path: jobs[_below_runs(path)] for path in scripts if _below_runs(path) in jobs}


def _below_runs(path: str) -> str:
    """The part of a script's path that is the same on machines that mount the folder of runs elsewhere."""
    return "/".join(path.split("/")[-3:])


def _submit(run: Run, in_round: int, cluster: Cluster, templates: str | None) -> str:
    """Submit the finaliser of `run`; its id."""
    path = run.dir.finish_script(in_round)
    text, called = script.template(templates)
    write_whole(path, script.render_finish(run.plan, run.dir, text, called, in_round=in_round))
    # Jobs that have ended are left out: of most of them Slurm knows nothing any more.
    left = dict.fromkeys(shard.job.split("_")[0] for shard in run.status().shards if shard.state not in TERMINAL)
    try:
        return cluster.submit_script(path, "afterany:" + ":".join(left) if left else None)
    except ClusterUnavailable:
        found = _jobs_of([path], run.dir, cluster)  # it may have been taken all the same
        if path not in found:
            raise
        return found[path]


def stop_if_too_late(run: RunDir, upstream: tuple[Upstream, ...], cluster: Cluster, jobs: tuple[str, ...]) -> None:
    """Stop `run`, which has just been submitted, where one of these ended meanwhile otherwise than it had to.

    Its finaliser may have looked for dependants before there was this one.
    """
    for one in upstream:
        state = outcome(RunDir(one.path).outcome(one.round))
        if not state or met(one.kind, state):
            continue
        if events.stop(run, hindered(state), refusal(one.kind, one.run_id, state)):
            try:
                cluster.cancel(run, tuple(reversed(jobs)))
            except HpcrunError:  # its shards find the word when they start
                pass
