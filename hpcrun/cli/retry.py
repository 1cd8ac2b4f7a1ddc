"""hpcrun retry."""

from __future__ import annotations

import os
import sys

import click

from hpcrun import config
from hpcrun.cli.group import no_run_given
from hpcrun.cli.progress import follow
from hpcrun.cli.table import report
from hpcrun.indexes import fold_indexes
from hpcrun.rerun import retry
from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="RUN", required=False)
@click.argument("shards", metavar="[failed|SHARDS]", default="failed")
@click.option("-f", "--follow", "follow_too", is_flag=True, help="Follow the run to its end, and exit as `run` does.")
def command(run_id: str | None, shards: str, follow_too: bool) -> None:
    """Try shards of a run again that have ended without success: all of them, or an index set such as 3,17,40-44.

    The run keeps its id, its logs and what has succeeded; the shards go on with their next attempts, and with as many
    retries as they had at first.
    """
    if run_id is None:
        raise no_run_given()
    run = Run.open(run_id)
    chosen = retry(run, shards, config.load(os.environ, os.getcwd()))
    which = fold_indexes(chosen)
    many = f"shard {which} is" if len(chosen) == 1 else f"{len(chosen)} shards ({which}) are"
    click.echo(f"run {run.id}: {many} tried again", err=follow_too)
    if follow_too:
        run = Run.open(run.id)
        status = follow(run, quiet=False, show_output=False)
        click.echo(report(run, status), nl=False)
        sys.exit(status.exit_code())
