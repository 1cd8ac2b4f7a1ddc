"""hpcrun results."""

from __future__ import annotations

import os

import click

from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
def command(run_id: str) -> None:
    """Print where the shards of a run leave their results: the last run, or RUN.

    It is the folder that programs know as HPCRUN_RESULTS_DIR.

    \b
      python merge.py "$(hpcrun results last)"
    """
    run = Run.open(run_id)
    click.echo(run.dir.results)
    if not os.listdir(run.dir.results):
        click.echo(f"hpcrun: run {run.id} ({run.plan.name!r}) has left nothing there so far", err=True)
