"""hpcrun cancel."""

from __future__ import annotations

import click

from hpcrun.cli.group import no_run_given
from hpcrun.run import Run


@click.command()
@click.argument("run_ids", metavar="RUN…", nargs=-1)
def command(run_ids: tuple[str, ...]) -> None:
    """Let nothing more of a run start and end what runs.

    Programs get SIGTERM first, and time to end (Slurm's KillWait; locally `grace` of hpcrun.toml).
    """
    if not run_ids:
        raise no_run_given()
    for run_id in run_ids:
        run = Run.open(run_id)
        before, after = run.status(), run.cancel()
        if before.done and after.state == before.state:
            click.echo(f"run {run.id} has ended already: {before.state}")
        else:
            click.echo(f"run {run.id}: cancelled")
