"""Statuses as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hpcrun.logtail import last_lines
from hpcrun.run import Run
from hpcrun.states import SHARD_STATES, TASK_STATES
from hpcrun.status import RunStatus, ShardStatus

if TYPE_CHECKING:
    from hpcrun.plan import Plan, Sweep
    from hpcrun.tasks import Point, TaskStatus

_ROWS = 20
"""Shards that a report shows one by one: all of a small run, else the unsuccessful ones."""
_TAIL = 10
"""Lines of a log that it quotes."""


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text, one a line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(line + "\n" for line in lines)


def report(run: Run, status: RunStatus, *, every: bool = False) -> str:
    """The whole of a status: counts with folded indices, a table of shards, the end of a failed one's log.

    Of a workflow, the same of its tasks.
    """
    parts = [f"run {status.run_id}  {status.name!r}  {status.state}{_age(status)}\n"]
    if status.tasks:
        counts = [(state, str(len(names)), _cut(", ".join(names))) for state, names in by_state(status).items()]
    else:
        counts = [(state, str(count), _cut(status.folded(state))) for state, count in status.counts().items()]
    parts.append(columns([("  " + state, *rest) for state, *rest in counts]))
    if status.jobs and run.plan.cluster == "slurm":
        parts.append(f"  Slurm: {_cut(', '.join(status.jobs))}\n")
    parts += [f"  note: {note}\n" for note in status.notes]
    parts += _of_tasks(run, status, every=every) if status.tasks else _of_shards(run, status, every=every)
    return "".join(parts)


def _of_shards(run: Run, status: RunStatus, *, every: bool) -> list[str]:
    """The rows of the shards that are to be seen, and what a failed one has said."""
    parts = []
    bad = status.unsuccessful()
    every = every or 1 < len(status.shards) <= _ROWS
    shown = list(status.shards) if every else bad[:_ROWS] or _waiting_for_a_reason(status)
    if shown:
        parts.append("\n" + shard_table(shown, run.plan.sweep))
    if not every and len(bad) > _ROWS:
        parts.append(f"  … and {len(bad) - _ROWS} more: hpcrun status {status.run_id} --all\n")
    if bad:
        # What was cancelled, in a gang for instance, has less to say than what failed.
        parts.append("\n" + _last_words(run, next((shard for shard in bad if shard.state != "cancelled"), bad[0])))
    return parts


def _of_tasks(run: Run, status: RunStatus, *, every: bool) -> list[str]:
    """How the workflow as a whole is, where that is news, the rows of its tasks, and what a failed one has said."""
    parts = []
    whole = status.shards[0]
    why = note(whole) if not any(task.detail and task.detail in note(whole) for task in status.tasks) else ""
    which = f"attempt {whole.attempts - 1}" if whole.attempts > 1 else ""
    if why or which:
        parts.append(f"  workflow: {', '.join(text for text in (which, why) if text)}\n")
    every = every or len(status.tasks) <= _ROWS
    shown = list(status.tasks) if every else [task for task in status.tasks if task.state in _TELLING][:_ROWS]
    if shown:
        parts.append("\n" + task_table(run.plan, shown, status))
    if len(shown) < len(status.tasks):
        parts.append(f"  … and {len(status.tasks) - len(shown)} more: hpcrun status {status.run_id} --all\n")
    failed = [task for task in status.tasks if task.state in ("failed", "timed_out")]
    if failed:
        parts.append("\n" + _last_words_of_task(run, status, min(failed, key=lambda task: task.ended or 0.0)))
    elif status.done and status.state != "succeeded" and not any(task.tries for task in status.tasks):
        parts.append("\n" + _launch_words(run, whole))
    return parts


_TELLING = ("failed", "timed_out", "ready", "running", "starting")
"""States of tasks that are shown of a large workflow."""


def by_state(status: RunStatus) -> dict[str, list[str]]:
    """The names of the tasks in each state, the empty ones left out."""
    found: dict[str, list[str]] = {state: [] for state in TASK_STATES}
    for task in status.tasks:
        found[task.state].append(task.name)
    return {state: names for state, names in found.items() if names}


def task_table(plan: Plan, tasks: Iterable[TaskStatus], status: RunStatus) -> str:
    """One row a task."""
    waiting = waits_for(plan, status)
    head = ("TASK", "STATUS", "NODE", "TRIES", "EXIT", "ELAPSED", "NOTE")
    return columns([head, *(task_row(task, waiting) for task in tasks)])


def task_row(task: TaskStatus, waiting: dict[str, str]) -> tuple[str, ...]:
    """A task's row; `waiting` says what those wait for that cannot start yet."""
    said = task.detail or task.probe or (waiting.get(task.name, "") if task.state == "pending" else "")
    if task.due is not None:
        said += f" in {spell(task.due - time.time())}"
    return task.name, task.state, task.node, str(task.tries or ""), ending(task), elapsed(task), said


def waits_for(plan: Plan, status: RunStatus) -> dict[str, str]:
    """Of each task what it still needs, in words."""
    met = {task.name for task in status.tasks if task.state in ("succeeded", "ready")}
    lacks = {task.name: [name for name in task.needs if name not in met] for task in plan.tasks}
    return {name: f"after {few(needed)}" for name, needed in lacks.items() if needed}


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def shard_table(shards: Sequence[ShardStatus], sweep: Sweep | None = None) -> str:
    """One row a shard; those of a sweep have a name besides."""
    head = ("SHARD", "STATUS", "ATTEMPTS", "EXIT", "NODE", "ELAPSED", "JOB", "NOTE")
    rows = [
        (
            str(shard.index), shard.state, str(shard.attempts), ending(shard), shard.node, elapsed(shard), shard.job,
            note(shard),
        )
        for shard in shards
    ]  # fmt: skip
    if sweep is None:
        return columns([head, *rows])
    names = ["TASK", *(sweep.name(shard.index) for shard in shards)]
    return columns([(row[0], name, *row[1:]) for row, name in zip([head, *rows], names, strict=True)])


def ending(shard: ShardStatus | TaskStatus | Point) -> str:
    """The exit code, or the signal that killed it."""
    if shard.signal:
        return f"signal {shard.signal}"
    return "" if shard.exit_code is None else str(shard.exit_code)


def note(shard: ShardStatus) -> str:
    """Why a shard is in the state it is in, where the state does not say it."""
    return shard.detail or (shard.cause or "" if shard.cause != shard.state else "").replace("_", " ")


def elapsed(shard: ShardStatus | TaskStatus, now: float | None = None) -> str:
    """How long the last attempt took, or has taken so far; nothing between two of them."""
    if shard.started is None or shard.state == "pending":
        return ""
    return spell((shard.ended or now or time.time()) - shard.started)


def spell(seconds: float) -> str:
    """A duration in two units at most."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _age(status: RunStatus) -> str:
    """How long an ended run took from its submission, or how old the news of another is."""
    ends = [shard.ended for shard in status.shards if shard.ended is not None]
    if not status.done:
        return f"  (as of {time.strftime('%H:%M:%S', time.localtime(status.asked))})"
    return f"  in {spell(max(ends) - status.created)}" if ends else ""


def _cut(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else text[: text.rfind(",", 0, limit)] + ",…"


def _waiting_for_a_reason(status: RunStatus) -> list[ShardStatus]:
    """One pending shard, when Slurm says why it waits: the answer to the first question everybody asks."""
    if status.done:
        return []
    return [shard for shard in status.shards if shard.state in ("pending", "unknown") and shard.detail][:1]


def _last_words(run: Run, shard: ShardStatus) -> str:
    path = run.log_paths(shard.index)[-1]
    said = last_lines(path, _TAIL)
    return _quoted(f"shard {shard.index}", said, path) if "".join(said).strip() else _launch_words(run, shard)


def _launch_words(run: Run, shard: ShardStatus) -> str:
    """What was said of a program that has written nothing."""
    who = f"shard {shard.index}" if not run.plan.tasks else "workflow"
    path = "what Slurm wrote" if run.plan.cluster == "slurm" else "its supervisor"
    said = run.launch_messages(shard)[-_TAIL:]
    if not "".join(said).strip():
        return f"{who} wrote nothing" + ("\n" if run.plan.tasks else f"; its log is {run.log_paths(shard.index)[-1]}\n")
    return _quoted(who, said, path)


def _last_words_of_task(run: Run, status: RunStatus, task: TaskStatus) -> str:
    paths = run.log_paths(attempt_number=status.shards[0].attempt, task=task.name)
    of_node = dict(zip(task.node.split(","), paths, strict=False))
    culprit = next((path for node, path in of_node.items() if task.detail.endswith(f" on {node}")), paths[0])
    paths = [culprit, *(path for path in paths if path != culprit)]
    said = {path: last_lines(path, _TAIL) for path in paths}
    path = next((path for path in paths if "".join(said[path]).strip()), None)
    if path is None:
        return f"task {task.name} wrote nothing; its log is {paths[0]}\n"
    return _quoted(f"task {task.name}", said[path], path)


def _quoted(who: str, said: Sequence[str], path: str) -> str:
    quoted = "".join(f"  {line}\n" for line in said)
    return f"{who}, last lines of {path}:\n{quoted}"


def counts_line(status: RunStatus) -> str:
    """All counts on one line, in the order of the states."""
    if status.tasks:
        return ", ".join(f"{len(names)} {state}" for state, names in by_state(status).items())
    counted = status.counts()
    return ", ".join(f"{counted[state]} {state}" for state in SHARD_STATES if state in counted)
