"""hpcrun list."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import click

from hpcrun.cli.table import columns
from hpcrun.errors import RunFolderError
from hpcrun.run import Run, all_paths, home_here, statuses
from hpcrun.status import RunStatus


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many of the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(limit: int, as_json: bool) -> None:
    """List the runs there are, the newest first."""
    home = home_here()
    found = _found(list(reversed(all_paths(home)[-limit:])))
    if as_json:
        click.echo(json.dumps([_brief(status) for status in found]))
        return
    if not found:
        click.echo(f"no runs in {home} yet; `hpcrun run -N 4 -- COMMAND` starts one", err=True)
        return
    rows = [("RUN", "STATUS", "SHARDS", "CREATED", "NAME")]
    rows += [
        (s.run_id, s.state, _size(s), _when(s.created), repr(s.name)[1:-1])
        for s in found
    ]  # fmt: skip
    click.echo(columns(rows), nl=False)


def _found(paths: Sequence[str]) -> list[RunStatus]:
    """The statuses of the runs in these folders, for at most two questions to Slurm; the rest is complained of."""
    runs = []
    for path in paths:
        try:
            runs.append(Run(path))
        except RunFolderError as error:
            click.echo(f"hpcrun: {error}", err=True)
    try:
        return statuses(runs)
    except RunFolderError as error:  # it has been removed just now
        click.echo(f"hpcrun: {error}", err=True)
        left = [run.dir.path for run in runs if not error.path.startswith(run.dir.path)]
        return _found(left) if len(left) < len(runs) else []


def _brief(status: RunStatus) -> dict[str, object]:
    return {**status.to_json(), "shards": len(status.shards), "tasks": len(status.tasks)}


def _size(status: RunStatus) -> str:
    return f"{len(status.tasks)} tasks" if status.tasks else str(len(status.shards))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
