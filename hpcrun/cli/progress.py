"""Following a run: a live table on a terminal, plain lines elsewhere, the output itself for a single program."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from hpcrun.cli.mishaps import Mishaps
from hpcrun.cli.table import counts_line, elapsed, ending, few, note, task_row, waits_for
from hpcrun.cli.tail import Tail
from hpcrun.run import Run
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus, ShardStatus

if TYPE_CHECKING:
    from hpcrun.tasks import TaskStatus

    Shown = TypeVar("Shown", ShardStatus, TaskStatus)

_LINE_EVERY = 2.0
"""Seconds between two plain lines, at least."""
_PROBE_EVERY = 10.0
"""Seconds between two plain lines on what the probe of a task has tried."""
_AT_A_TIME = 8
"""Tasks that are told of by name in one line."""


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
        if sys.stderr.isatty():
            return _live(run)
        return (_task_lines if run.plan.tasks else _lines)(run, fresh=fresh)
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
    tail = Tail(run, 0, None, since=0)  # the first may have ended before anybody looked
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


class _Changes:
    """Tells what has become of the tasks of a workflow since somebody last looked, a line for each state."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, ...]] = {}
        self._probed: dict[str, float] = {}

    def news(self, status: RunStatus) -> list[str]:
        """The lines to print now."""
        changed: dict[str, list[str]] = {}
        for task in status.tasks:
            before = self._known.get(task.name, ("pending", 0))
            self._known[task.name] = (task.state, task.tries)
            if self._known[task.name] != before and task.state != "starting":
                changed.setdefault(_become(task), []).append(task.name)
        lines = [f"{few(names, _AT_A_TIME)} {what}" for what, names in changed.items()]
        return lines + [line for task in status.tasks if (line := self._probe(task))]

    def _probe(self, task: TaskStatus) -> str:
        """What its probe says of a task that takes its time."""
        now = time.monotonic()
        if not task.probe or now < self._probed.setdefault(task.name, now + _PROBE_EVERY):
            return ""
        self._probed[task.name] = now + _PROBE_EVERY
        return f"{task.name} not ready yet: {task.probe}"


def _become(task: TaskStatus) -> str:
    """What has become of a task, in a few words."""
    if task.state == "running" and task.tries > 1:
        return f"running, try {task.tries}"
    if not task.detail or task.state in ("succeeded", "ready"):
        return task.state
    told = task.state == "pending" or task.detail.startswith(task.state)
    return task.detail if told else f"{task.state}: {task.detail}"


def _task_lines(run: Run, *, fresh: bool) -> RunStatus:
    said = _Waiting()
    changes = _Changes()
    mishaps = Mishaps(run) if fresh else None

    def show(status: RunStatus) -> None:
        nonlocal mishaps
        said.reason(status)
        mishaps = mishaps or Mishaps(run, status)
        if not status.done:  # what became of the whole of it is told by the report
            _tell([line.replace("shard 0:", "workflow:", 1) for line in mishaps.news(status)])
        for line in changes.news(status):
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
        states = [one.state for one in status.tasks or status.shards]
        head = Text.assemble((f"run {status.run_id}", "bold"), f"  {status.state}  {counts_line(status)}")
        ended = sum(state in TERMINAL for state in states)
        bar = ProgressBar(total=len(states), completed=ended, width=min(60, console.width - 1))
        titles, rows = _rows(run, status, console.height - 6)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title in titles:
            table.add_column(title, style=None, header_style="dim", no_wrap=title != "note")
        for name, state, *cells, said in rows:
            last = Text(said, no_wrap=True, overflow="ellipsis")
            table.add_row(name, Text(state, style=_STYLES.get(state, "")), *cells, last)
        notes = [Text(text, style="yellow") for text in (*status.notes, *_of_the_whole(status))]
        more = f"and {len(states) - len(rows)} more; " if len(rows) < len(states) else ""
        foot = Text(f"{more}{int(time.monotonic() - began)} s; Ctrl-C stops following, the run goes on", style="dim")
        line = Columns([bar])  # a bar alone does not end its line
        return Group(head, line, table, *notes, foot)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        show: Callable[[RunStatus], None] = lambda status: live.update(picture(status), refresh=True)  # noqa: E731
        return run.wait(seen=show)


def _rows(run: Run, status: RunStatus, room: int) -> tuple[Sequence[str], Sequence[tuple[str, ...]]]:
    """Titles, and as many rows as there is room for."""
    if status.tasks:
        waiting = waits_for(run.plan, status)
        titles: Sequence[str] = ("task", "state", "node", "tries", "exit", "elapsed", "note")
        return titles, [task_row(task, waiting) for task in _to_show(status.tasks, room)]
    sweep = run.plan.sweep
    titles = ("task" if sweep else "shard", "state", "attempts", "exit", "node", "elapsed", "note")
    return titles, [
        (
            sweep.name(shard.index) if sweep else str(shard.index), shard.state, str(shard.attempts), ending(shard),
            shard.node, elapsed(shard), note(shard),
        )
        for shard in _to_show(status.shards, room)
    ]  # fmt: skip


def _of_the_whole(status: RunStatus) -> list[str]:
    """What a workflow as a whole waits for."""
    said = note(status.shards[0]) if status.tasks and not status.done else ""
    return [f"workflow: {said}"] if said else []


_STYLES = {
    "failed": "red", "timed_out": "red", "cancelled": "yellow", "running": "green", "ready": "green",
    "starting": "cyan",
}  # fmt: skip
_ORDER = ("failed", "timed_out", "unknown", "cancelled", "running", "starting", "ready", "pending", "succeeded")


def _to_show(found: Sequence[Shown], room: int) -> list[Shown]:
    """As many shards or tasks as there is room for, those that need attention first."""
    if len(found) <= room:
        return list(found)
    return sorted(found, key=lambda one: _ORDER.index(one.state))[: max(room, 3)]
