"""hpcrun results."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

import click

from hpcrun.cli.table import columns, ending
from hpcrun.errors import UsageError
from hpcrun.indexes import fold_indexes, parse_indexes
from hpcrun.results import committed
from hpcrun.run import Run
from hpcrun.tasks import Table, swept


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option("-s", "--shard", "chosen", metavar="SET", help="The folder of each of these: 3,17,40-44, or all.")
@click.option("--path", is_flag=True, help="Print the folder, also where a sweep has a table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run_id: str, chosen: str | None, path: bool, as_json: bool) -> None:
    """Print where the shards of a run leave their results: the last run, or RUN.

    It is one folder for all, which programs know as HPCRUN_RESULTS_DIR. With `results: committed` each shard has a
    folder of its own in it as soon as it has succeeded; --shard prints these, and ends with code 1 where one is not
    there.

    Of a sweep, print a table of its variables and of what became of each of their values; --path prints the folder.

    \b
      python merge.py "$(hpcrun results last --path)"
    """
    run = Run.open(run_id)
    if run.plan.batch_script is not None and not run.plan.batch_script.supervised:
        raise UsageError(
            f"run {run.id} is Slurm's alone, and has no folder for results: what its script leaves is where that says; "
            f"`hpcrun logs {run.id}` shows its output"
        )
    tables = _tables(run) if chosen is None and not path else ()
    if tables and not as_json:
        click.echo("\n".join(_table(table) for table in tables), nl=False)
        return
    shards = _chosen(run, chosen)
    attempts = committed(run.dir, shards) if run.plan.committed else {}
    if as_json:
        sweeps = {"sweeps": [dataclasses.asdict(table) for table in tables]} if tables else {}
        click.echo(json.dumps({**_json(run, shards, attempts), **sweeps}))
    elif chosen is None:
        click.echo(run.dir.results)
    else:
        click.echo("".join(f"{run.dir.committed(shard)}\n" for shard in attempts), nl=False)
    missing = [shard for shard in shards if shard not in attempts] if run.plan.committed else []
    if missing:
        click.echo(f"hpcrun: run {run.id} ({run.plan.name!r}) has no results yet of {fold_indexes(missing)}", err=True)
    elif not run.plan.committed and not os.listdir(run.dir.results):
        returned = os.path.exists(run.dir.payload)
        more = f"; what it returns is read by hpcrun.Run.open({run.id!r}).results()" if returned else ""
        click.echo(f"hpcrun: run {run.id} ({run.plan.name!r}) has left nothing there so far{more}", err=True)
    if missing and chosen is not None:
        sys.exit(1)


def _tables(run: Run) -> tuple[Table, ...]:
    """What the sweeps of the run have come to; none where it has no sweep, and then nothing is asked."""
    if run.plan.sweep is None and not any(task.variables for task in run.plan.tasks):
        return ()
    return swept(run.plan, run.status())


def _table(table: Table) -> str:
    head = ("TASK", *table.variables, "STATUS", "EXIT", "ATTEMPTS")
    rows = [
        (point.name, *point.variables.values(), point.state, ending(point), str(point.attempts))
        for point in table.points
    ]
    return columns([head, *rows])


def _chosen(run: Run, text: str | None) -> list[int]:
    if text is not None and not run.plan.committed:
        raise UsageError(
            f"found a choice of shards, and those of run {run.id} share one folder; wanted none, or a run with "
            "`results: committed`"
        )
    every = range(run.plan.shards)
    found = list(every) if text in (None, "all") else parse_indexes(text or "")
    for shard in found:
        if shard not in every:
            raise UsageError(f"found shard {shard}, wanted 0 to {run.plan.shards - 1}")
    return found


def _json(run: Run, shards: list[int], attempts: dict[int, int]) -> dict[str, Any]:
    facts: dict[str, Any] = {"run_id": run.id, "folder": run.dir.results, "committed": run.plan.committed}
    if run.plan.committed:
        facts["shards"] = [
            {"index": shard, "attempt": attempt, "folder": run.dir.committed(shard)}
            for shard, attempt in attempts.items()
        ]
        facts["missing"] = fold_indexes(shard for shard in shards if shard not in attempts)
    return facts
