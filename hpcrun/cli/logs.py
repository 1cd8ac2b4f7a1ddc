"""hpcrun logs."""

from __future__ import annotations

import click

from hpcrun.cli.tail import Tail
from hpcrun.errors import UsageError
from hpcrun.indexes import parse_indexes
from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option(
    "-s", "--shard", "chosen", metavar="SET", help="Which shards: 3,17,40-44, failed, or all.  [default: all]"
)
@click.option("--role", type=click.Choice(["job", "worker", "all"]), default=None, help="Whose output.  [default: job]")
@click.option("--replica", "replicas", metavar="SET", help="Which workers of each shard: 2, 0-3, all.  [default: all]")
@click.option("--attempt", type=int, metavar="N", help="Which attempt.  [default: the last]")
@click.option("--tail", "lines", type=click.IntRange(0), metavar="N", help="Only the last N lines of each.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run has ended.")
@click.option("--path", is_flag=True, help="Print where the log files are instead.")
def command(
    run_id: str,
    chosen: str | None,
    role: str | None,
    replicas: str | None,
    attempt: int | None,
    lines: int | None,
    follow: bool,
    path: bool,
) -> None:
    """Print what the shards of a run have written: the last run, or RUN.

    Lines of more than one process begin with the shard's index, or the worker's, or both.
    """
    run = Run.open(run_id)
    shards = _chosen(run, chosen)
    processes = _processes(run, shards, role or ("worker" if replicas else "job"), replicas)
    if path:
        for shard, who, replica in processes:
            click.echo("\n".join(run.log_paths(shard, attempt, role=who, replica=replica)))
        return
    tails = [
        Tail(run, shard, attempt, _prefix(shards, processes, shard, who, replica), role=who, replica=replica)
        for shard, who, replica in processes
    ]
    for tail in tails:
        tail.skip_to(lines)
    _show(tails)
    if follow:
        for _ in run.follow():
            _show(tails)
        _show(tails)


def _processes(run: Run, shards: list[int], role: str, replicas: str | None) -> list[tuple[int, str, int]]:
    """Whose output is to be shown: (shard, role, replica) of each."""
    if role == "job":
        return [(shard, "job", 0) for shard in shards]
    if run.plan.worker is None:
        raise UsageError(f"run {run.id} has no workers")
    every = range(run.plan.worker.replicas)
    numbers = list(every) if replicas in (None, "all") else parse_indexes(replicas or "")
    jobs = ["job"] if role == "all" else []
    return [
        (shard, who, replica)
        for shard in shards
        for who, replica in [*((job, 0) for job in jobs), *(("worker", number) for number in numbers)]
    ]


def _prefix(shards: list[int], processes: list[tuple[int, str, int]], shard: int, role: str, replica: int) -> str:
    """What the lines of one process begin with: nothing where it is the only one."""
    if len(processes) == 1:
        return ""
    of_shard = [str(shard)] if len(shards) > 1 else []
    several = any(who != "job" for _, who, _ in processes)
    name = ([f"worker-{replica}"] if role == "worker" else ["job"]) if several else []
    return f"[{' '.join([*of_shard, *name])}] "


def _show(tails: list[Tail]) -> None:
    for tail in tails:
        click.echo(tail.news(), nl=False)


def _chosen(run: Run, text: str | None) -> list[int]:
    if text is None or text == "all":
        return list(range(run.plan.shards))
    if text == "failed":
        return [shard.index for shard in run.status().unsuccessful()]
    return parse_indexes(text)
