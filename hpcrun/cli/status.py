"""hpcrun status."""

from __future__ import annotations

import json
import sys

import click

from hpcrun.cli.table import report
from hpcrun.errors import ClusterUnavailable
from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option("-a", "--all", "every", is_flag=True, help="Show every shard, not only those that did not succeed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run_id: str, every: bool, as_json: bool) -> None:
    """Show how a run is: the last one, or RUN.

    What could not be asked is said, and then the exit code is 69.
    """
    run = Run.open(run_id)
    status = run.status()
    if as_json:
        click.echo(json.dumps({**status.to_json(), "folder": run.dir.path, "results": run.dir.results}))
    else:
        click.echo(report(run, status, every=every), nl=False)
    if status.notes and not status.done:
        sys.exit(ClusterUnavailable.exit_code)
