"""hpcrun results."""

from __future__ import annotations

import click

from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="RUN", default="last")
def command(run_id: str) -> None:
    """Print where the shards of a run leave their results: the last run, or RUN.

    It is the folder that programs know as HPCRUN_RESULTS_DIR.

    \b
      python merge.py "$(hpcrun results last)"
    """
    click.echo(Run.open(run_id).dir.results)
