"""hpcrun wait."""

from __future__ import annotations

import json
import sys

import click

from hpcrun.cli.progress import follow
from hpcrun.cli.table import report
from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the last status, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
def command(run_id: str, as_json: bool, quiet: bool) -> None:
    """Wait until a run has ended, and exit as `run` does: the last run, or RUN."""
    run = Run.open(run_id)
    status = follow(run, quiet=as_json or quiet, show_output=False)
    if as_json:
        click.echo(json.dumps(status.to_json()))
    elif not quiet:
        click.echo(report(run, status), nl=False)
    sys.exit(status.exit_code())
