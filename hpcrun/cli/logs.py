"""hpcrun logs."""

from __future__ import annotations

import click

from hpcrun.cli.tail import Tail
from hpcrun.indexes import parse_indexes
from hpcrun.run import Run


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option(
    "-s", "--shard", "chosen", metavar="SET", help="Which shards: 3,17,40-44, failed, or all.  [default: all]"
)
@click.option("--attempt", type=int, metavar="N", help="Which attempt.  [default: the last]")
@click.option("--tail", "lines", type=click.IntRange(0), metavar="N", help="Only the last N lines of each.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run has ended.")
@click.option("--path", is_flag=True, help="Print where the log files are instead.")
def command(run_id: str, chosen: str | None, attempt: int | None, lines: int | None, follow: bool, path: bool) -> None:
    """Print what the shards of a run have written: the last run, or RUN.

    Lines of more than one shard begin with the shard's index.
    """
    run = Run.open(run_id)
    shards = _chosen(run, chosen)
    if path:
        for shard in shards:
            click.echo("\n".join(run.log_paths(shard, attempt)))
        return
    tails = [Tail(run, shard, attempt, prefix=f"[{shard}] " if len(shards) > 1 else "") for shard in shards]
    for tail in tails:
        tail.skip_to(lines)
    _show(tails)
    if follow:
        for _ in run.follow():
            _show(tails)
        _show(tails)


def _show(tails: list[Tail]) -> None:
    for tail in tails:
        click.echo(tail.news(), nl=False)


def _chosen(run: Run, text: str | None) -> list[int]:
    if text is None or text == "all":
        return list(range(run.plan.shards))
    if text == "failed":
        return [shard.index for shard in run.status().unsuccessful()]
    return parse_indexes(text)
