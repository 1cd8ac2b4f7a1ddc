"""Statuses as people read them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hpcrun.logtail import last_lines
from hpcrun.run import Run
from hpcrun.states import SHARD_STATES
from hpcrun.status import RunStatus, ShardStatus

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
    """The whole of a status: counts with folded indices, a table of shards, the end of a failed one's log."""
    parts = [f"run {status.run_id}  {status.name!r}  {status.state}{_age(status)}\n"]
    counted = status.counts()
    parts.append(columns([("  " + state, str(n), _cut(status.folded(state))) for state, n in counted.items()]))
    if status.jobs and run.plan.cluster == "slurm":
        parts.append(f"  Slurm: {_cut(', '.join(status.jobs))}\n")
    parts += [f"  note: {note}\n" for note in status.notes]
    bad = status.unsuccessful()
    every = every or 1 < len(status.shards) <= _ROWS
    shown = list(status.shards) if every else bad[:_ROWS] or _waiting_for_a_reason(status)
    if shown:
        parts.append("\n" + shard_table(shown))
    if not every and len(bad) > _ROWS:
        parts.append(f"  … and {len(bad) - _ROWS} more: hpcrun status {status.run_id} --all\n")
    if bad:
        # What was cancelled, in a gang for instance, has less to say than what failed.
        parts.append("\n" + _last_words(run, next((shard for shard in bad if shard.state != "cancelled"), bad[0])))
    return "".join(parts)


def shard_table(shards: Sequence[ShardStatus]) -> str:
    """One row a shard."""
    head = ("SHARD", "STATUS", "ATTEMPTS", "EXIT", "NODE", "ELAPSED", "JOB", "NOTE")
    rows = [
        (
            str(shard.index), shard.state, str(shard.attempts), ending(shard), shard.node, elapsed(shard), shard.job,
            note(shard),
        )
        for shard in shards
    ]  # fmt: skip
    return columns([head, *rows])


def ending(shard: ShardStatus) -> str:
    """A shard's exit code, or the signal that killed it."""
    if shard.signal:
        return f"signal {shard.signal}"
    return "" if shard.exit_code is None else str(shard.exit_code)


def note(shard: ShardStatus) -> str:
    """Why a shard is in the state it is in, where the state does not say it."""
    return shard.detail or (shard.cause or "" if shard.cause != shard.state else "").replace("_", " ")


def elapsed(shard: ShardStatus, now: float | None = None) -> str:
    """How long the last attempt took, or has taken so far; nothing for a shard between two of them."""
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
    if not "".join(said).strip():
        said, path = run.launch_messages(shard), "what Slurm wrote" if run.plan.cluster == "slurm" else "its supervisor"
        said = said[-_TAIL:]
    if not "".join(said).strip():
        return f"shard {shard.index} wrote nothing; its log is {run.log_paths(shard.index)[-1]}\n"
    quoted = "".join(f"  {line}\n" for line in said)
    return f"shard {shard.index}, last lines of {path}:\n{quoted}"


def counts_line(status: RunStatus) -> str:
    """All counts on one line, in the order of the states."""
    counted = status.counts()
    return ", ".join(f"{counted[state]} {state}" for state in SHARD_STATES if state in counted)
