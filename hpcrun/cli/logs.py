"""hpcrun logs."""

from __future__ import annotations

import click

from hpcrun.cli.tail import Tail
from hpcrun.errors import UsageError
from hpcrun.indexes import parse_indexes
from hpcrun.run import Run
from hpcrun.tasks import named


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option(
    "-s", "--shard", "chosen", metavar="SET", help="Which shards: 3,17,40-44, failed, or all.  [default: all]"
)
@click.option("--role", type=click.Choice(["job", "worker", "all"]), default=None, help="Whose output.  [default: job]")
@click.option("--replica", "replicas", metavar="SET", help="Which workers of each shard: 2, 0-3, all.  [default: all]")
@click.option(
    "-t", "--task", "names", metavar="NAME[,NAME…]", help="Which tasks of a workflow or sweep, or replicas of one."
)
@click.option("--attempt", type=int, metavar="N", help="Which attempt.  [default: the last]")
@click.option("--tail", "lines", type=click.IntRange(0), metavar="N", help="Only the last N lines of each.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run has ended.")
@click.option("--path", is_flag=True, help="Print where the log files are instead.")
def command(
    run_id: str,
    chosen: str | None,
    role: str | None,
    replicas: str | None,
    names: str | None,
    attempt: int | None,
    lines: int | None,
    follow: bool,
    path: bool,
) -> None:
    """Print what the shards of a run have written: the last run, or RUN.

    Of a workflow, what its tasks have written: all of them, or those of --task, which is a replica's own name
    (train_16), or the task's for all of its replicas (train). Lines of more than one process begin with the shard's
    index, or the worker's, or both; or with the name of the task.
    """
    run = Run.open(run_id)
    tasks = _tasks(run, names, [chosen, role, replicas])
    if run.plan.tasks:
        run.log_paths(attempt_number=attempt)  # which says whether there is that attempt
        tails = _of_tasks(run, tasks, attempt)
    else:
        shards = _chosen(run, chosen) if names is None else tasks
        processes = _processes(run, shards, role or ("worker" if replicas else "job"), replicas)
        tails = [
            Tail(run, shard, attempt, _prefix(run, shards, processes, shard, who, replica), role=who, replica=replica)
            for shard, who, replica in processes
        ]
    if path:
        for tail in tails:
            click.echo("\n".join(tail.paths()))
        return
    for tail in tails:
        tail.skip_to(lines)
    _show(tails)
    if follow:
        for _ in run.follow():
            _show(tails)
        _show(tails)


def _tasks(run: Run, names: str | None, others: list[str | None]) -> list[int]:
    """The places of the tasks that are chosen, or the shards that are the replicas of one."""
    if (names is not None or run.plan.tasks) and any(other is not None for other in others):
        raise UsageError(
            f"found --shard, --role or --replica for tasks, wanted --task alone: those of run {run.id} have names"
            if run.plan.tasks
            else "found --task beside --shard, --role or --replica, wanted one of them"
        )
    if names is None:
        return list(range(len(run.plan.tasks)))
    return named(run.plan, names.split(","))


def _of_tasks(run: Run, places: list[int], attempt: int | None) -> list[Tail]:
    chosen = [(run.plan.tasks[place], rank) for place in places for rank in range(len(run.plan.tasks[place].nodes))]
    ranks = any(rank for _, rank in chosen)
    prefixes = [f"[{task.name} {rank}] " if ranks else f"[{task.name}] " for task, rank in chosen]
    return [
        Tail(run, 0, attempt, prefix if len(chosen) > 1 else "", replica=rank, task=task.name)
        for (task, rank), prefix in zip(chosen, prefixes, strict=True)
    ]


def _processes(run: Run, shards: list[int], role: str, replicas: str | None) -> list[tuple[int, str, int]]:
    """Whose output is to be shown: (shard, role, replica) of each."""
    if role == "job":
        return [(shard, "job", 0) for shard in shards]
    if run.plan.worker is None:
        raise UsageError(f"run {run.id} has no workers, wanted no --replica, and no --role but job")
    every = range(run.plan.worker.replicas)
    numbers = list(every) if replicas in (None, "all") else parse_indexes(replicas or "")
    jobs = ["job"] if role == "all" else []
    return [
        (shard, who, replica)
        for shard in shards
        for who, replica in [*((job, 0) for job in jobs), *(("worker", number) for number in numbers)]
    ]


def _prefix(
    run: Run, shards: list[int], processes: list[tuple[int, str, int]], shard: int, role: str, replica: int
) -> str:
    """What the lines of one process begin with: nothing where it is the only one."""
    if len(processes) == 1:
        return ""
    of_shard = [run.plan.sweep.name(shard) if run.plan.sweep else str(shard)] if len(shards) > 1 else []
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
