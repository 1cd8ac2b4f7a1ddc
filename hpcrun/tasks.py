"""Tasks: what each of a plan's has come to, by its record; which ones a name means; what a sweep has come to. Pure."""

from __future__ import annotations

import dataclasses

from hpcrun.errors import UsageError
from hpcrun.states import TASK_STATES, TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from hpcrun.plan import Plan, Task
    from hpcrun.states import ShardState, TaskState
    from hpcrun.status import RunStatus


@dataclasses.dataclass(frozen=True)
class TaskStatus:
    """A task of a workflow, or one replica of it, in the last attempt. Times are seconds since the epoch."""

    name: str
    """Its own: ``train_16`` is a replica of ``train``."""
    of: str
    """The task as the spec calls it."""
    replica: int
    variables: dict[str, str]
    """What this replica has of the variables that are swept over."""
    state: TaskState
    tries: int = 0
    """How often it has been started."""
    exit_code: int | None = None
    """Of the last try, once that has ended; None also where a signal killed it."""
    signal: int = 0
    node: str = ""
    """Its nodes, separated by commas."""
    started: float | None = None
    """When the last try was."""
    ready: float | None = None
    """When that one was found ready."""
    ended: float | None = None
    detail: str = ""
    """How it ended, or why it waits, in words."""
    probe: str = ""
    """What its readiness probe tried last, while it is not ready."""
    due: float | None = None
    """When the next try is to start, between two of them."""

    @property
    def done(self) -> bool:
        """Whether nothing of it will change any more in this attempt."""
        return self.state in TERMINAL


def fold(plan: Plan, events: Iterable[Mapping[str, Any]], *, over: bool) -> tuple[TaskStatus, ...]:
    """The status of each task of `plan`, in its order, from the record of one attempt.

    `over` says that this attempt has ended: what has no end then was cancelled with it.
    """
    found = {task.name: _pending(task) for task in plan.tasks}
    for event in events:
        name = event.get("task")
        if event["event"] == "task" and isinstance(name, str) and name in found and event["state"] in TASK_STATES:
            found[name] = _after(found[name], event)
    return tuple(_as_ended(task) if over and not task.done else task for task in found.values())


def _pending(task: Task) -> TaskStatus:
    return TaskStatus(task.name, task.of, task.replica, dict(task.variables), "pending")


def _after(before: TaskStatus, event: Mapping[str, Any]) -> TaskStatus:
    """A task after one line of its record, which replaces what the one before has said of its state."""
    state: TaskState = event["state"]
    now = dataclasses.replace(
        before, state=state, node=event.get("node", before.node), detail=event.get("detail", ""),
        probe=event.get("probe", ""), due=event.get("due"),
    )  # fmt: skip
    if state == "starting":
        return dataclasses.replace(
            now, tries=before.tries + 1, started=event["at"], node=event.get("node", ""),
            exit_code=None, signal=0, ready=None, ended=None,
        )  # fmt: skip
    if state == "ready":
        return dataclasses.replace(now, ready=event["at"])
    if state in TERMINAL or state == "pending":
        code, number = event.get("exit_code", -1), event.get("signal", 0)
        code = None if number or code < 0 else code
        return dataclasses.replace(now, exit_code=code, signal=number, ended=event["at"])
    return now


def _as_ended(task: TaskStatus) -> TaskStatus:
    return dataclasses.replace(task, state="cancelled", detail="", probe="", due=None)


def named(plan: Plan, names: Sequence[str]) -> list[int]:
    """The places, in the plan, of the tasks with these names, each once: a replica's own, or a task's for all of them.

    Where the shards of the run are the replicas of one task they are the indices of shards. Raises UsageError for a
    name that nothing has.
    """
    known = _names(plan)
    found: dict[int, None] = {}
    for name in names:
        if name not in known:
            raise UsageError(_unknown(plan, name, list(known)))
        found.update(dict.fromkeys(known[name]))
    return list(found)


def _names(plan: Plan) -> dict[str, list[int]]:
    """Every name there is, and the places that it means; a replica's own name wins over that of a task."""
    if plan.sweep is not None:
        own = {plan.sweep.name(shard): [shard] for shard in range(plan.shards)}
        return {plan.sweep.task: list(range(plan.shards)), **own}
    found: dict[str, list[int]] = {}
    for place, task in enumerate(plan.tasks):
        found.setdefault(task.of, []).append(place)
    return {**found, **{task.name: [place] for place, task in enumerate(plan.tasks)}}


def _unknown(plan: Plan, name: str, known: list[str]) -> str:
    import difflib

    if not known:
        return f"found the task {name!r}, and run {plan.run_id} has no tasks; wanted its shards, by their index"
    close = difflib.get_close_matches(name, known, 1)
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    hint = f"Did you mean {close[0]!r}?" if close else f"Wanted one of: {', '.join(known[:8])}{more}"
    return f"found the task {name!r}, which run {plan.run_id} does not have. {hint}"


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a sweep: its values, and what has become of it."""

    name: str
    variables: dict[str, str]
    state: ShardState | TaskState
    exit_code: int | None
    signal: int
    attempts: int
    """How often it has been started: the attempts of a shard, or the tries of a task in the workflow's last one."""


@dataclasses.dataclass(frozen=True)
class Table:
    """What the points of a sweep have come to, in the order of the Cartesian product."""

    task: str
    """The task as the spec calls it."""
    variables: tuple[str, ...]
    points: tuple[Point, ...]


def swept(plan: Plan, status: RunStatus) -> tuple[Table, ...]:
    """A table for each sweep of the run; none where nothing is swept over."""
    if plan.sweep is not None:
        sweep = plan.sweep
        points = tuple(
            Point(
                sweep.name(shard.index), sweep.values(shard.index), shard.state, shard.exit_code, shard.signal,
                shard.attempts,
            )
            for shard in status.shards
        )  # fmt: skip
        return (Table(sweep.task, tuple(name for name, _ in sweep.variables), points),)
    found: dict[str, list[TaskStatus]] = {}
    for task in status.tasks:
        if task.variables:
            found.setdefault(task.of, []).append(task)
    return tuple(
        Table(
            name,
            tuple(tasks[0].variables),
            tuple(
                Point(task.name, task.variables, task.state, task.exit_code, task.signal, task.tries)
                for task in sorted(tasks, key=lambda task: task.replica)
            ),
        )
        for name, tasks in found.items()
    )
