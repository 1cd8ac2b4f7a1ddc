"""Following a run: a live table on a terminal, plain lines elsewhere, the output itself for a single program."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import click

from hpcrun.cli.mishaps import Mishaps
from hpcrun.cli.table import counts_line, elapsed, ending, note
from hpcrun.cli.tail import Tail
from hpcrun.run import Run
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus, ShardStatus

_LINE_EVERY = 2.0
"""Seconds between two plain lines, at least."""


def follow(run: Run, *, quiet: bool, show_output: bool, fresh: bool = False) -> RunStatus:
    """Follow `run` to its end; its last status.

    What went wrong before is not told, unless the run is a `fresh` one. Ctrl-C ends the following only; on a terminal
    it is asked whether to cancel the run as well.
    """
    try:
        if quiet:
            return run.wait()
        if show_output:
            return _output(run)
        return _live(run) if sys.stderr.isatty() else _lines(run, fresh=fresh)
    except KeyboardInterrupt:
        _interrupted(run)
        sys.exit(130)


def _interrupted(run: Run) -> None:
    click.echo(f"\nno longer following; run {run.id} goes on", err=True)
    try:
        if sys.stdin.isatty() and sys.stderr.isatty() and click.confirm("Cancel it?", default=False, err=True):
            run.cancel()
            click.echo(f"run {run.id}: cancelled", err=True)
            return
    except (KeyboardInterrupt, click.Abort):
        click.echo("", err=True)
    click.echo(f"  hpcrun wait {run.id}    follow it again\n  hpcrun cancel {run.id}  end it", err=True)


def _output(run: Run) -> RunStatus:
    tail = Tail(run, 0, None)
    said = _Waiting()
    mishaps = Mishaps(run)

    def show(status: RunStatus) -> None:
        click.echo(tail.news(), nl=False)
        said.reason(status)
        # How the last one ended is told by the report.
        _tell([line for line in mishaps.news(status) if not status.done or line.endswith(" used)")])

    return run.wait(seen=show)


class _Waiting:
    """Says once why a run waits, and what could not be asked."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def reason(self, status: RunStatus) -> None:
        waits = next((s.detail for s in status.shards if s.state == status.state and _is_news(s)), "")
        for text in (*status.notes, f"waiting: {waits}" if waits and status.state in ("pending", "starting") else ""):
            if text and text not in self._said:
                self._said.add(text)
                click.echo(f"  {text}", err=True)


def _is_news(shard: ShardStatus) -> bool:
    """Whether a shard waits for something that is worth a line: not where it only waits to be tried again."""
    return bool(shard.detail) and not shard.detail.endswith("; tried again")


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"  {line}", err=True)


def _lines(run: Run, *, fresh: bool) -> RunStatus:
    last, next_line = "", 0.0
    said = _Waiting()
    mishaps = Mishaps(run) if fresh else None

    def show(status: RunStatus) -> None:
        nonlocal last, next_line, mishaps
        line = counts_line(status)
        said.reason(status)
        mishaps = mishaps or Mishaps(run, status)
        _tell(mishaps.news(status))
        if line != last and (time.monotonic() >= next_line or status.done):
            last, next_line = line, time.monotonic() + _LINE_EVERY
            click.echo(f"{time.strftime('%H:%M:%S')}  {line}", err=True)

    return run.wait(seen=show)


def _live(run: Run) -> RunStatus:
    # Only here: rich takes longer to import than most commands to run.
    from rich.columns import Columns
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    began = time.monotonic()

    def picture(status: RunStatus) -> Group:
        ended = sum(count for state, count in status.counts().items() if state in TERMINAL)
        head = Text.assemble((f"run {status.run_id}", "bold"), f"  {status.state}  {counts_line(status)}")
        bar = ProgressBar(total=len(status.shards), completed=ended, width=min(60, console.width - 1))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("shard", "state", "attempts", "exit", "node", "elapsed", "note"):
            table.add_column(title, style=None, header_style="dim", no_wrap=title != "note")
        shown = _to_show(status, console.height - 6)
        for shard in shown:
            style = _STYLES.get(shard.state, "")
            table.add_row(
                str(shard.index), Text(shard.state, style=style), str(shard.attempts), ending(shard), shard.node,
                elapsed(shard), Text(note(shard), no_wrap=True, overflow="ellipsis"),
            )  # fmt: skip
        notes = [Text(text, style="yellow") for text in status.notes]
        more = f"and {len(status.shards) - len(shown)} more; " if len(shown) < len(status.shards) else ""
        foot = Text(f"{more}{int(time.monotonic() - began)} s; Ctrl-C stops following, the run goes on", style="dim")
        line = Columns([bar])  # a bar alone does not end its line
        return Group(head, line, table, *notes, foot)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        show: Callable[[RunStatus], None] = lambda status: live.update(picture(status), refresh=True)  # noqa: E731
        return run.wait(seen=show)


_STYLES = {"failed": "red", "timed_out": "red", "cancelled": "yellow", "running": "green", "starting": "cyan"}
_ORDER = ("failed", "timed_out", "unknown", "cancelled", "running", "starting", "pending", "succeeded")


def _to_show(status: RunStatus, room: int) -> list[ShardStatus]:
    """As many shards as there is room for, those that need attention first."""
    if len(status.shards) <= room:
        return list(status.shards)
    return sorted(status.shards, key=lambda shard: (_ORDER.index(shard.state), shard.index))[: max(room, 3)]
