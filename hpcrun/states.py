"""Run, shard and task states, and the one table from Slurm's state names to them.

Every other list of states in the package is taken from here. A name of Slurm's that the table does not know is
its own outcome: it is reported as Slurm spells it and never taken as an end.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    ShardState = Literal["pending", "starting", "running", "succeeded", "failed", "timed_out", "cancelled", "unknown"]
    RunState = Literal["pending", "starting", "running", "succeeded", "failed", "partial", "cancelled", "timed_out"]
    Cause = Literal[
        "failed", "out_of_memory", "timed_out", "preempted", "node_failed", "launch_failed", "cancelled", "lost"
    ]
    TaskState = Literal["pending", "starting", "running", "ready", "succeeded", "failed", "timed_out", "cancelled"]

SHARD_STATES: tuple[ShardState, ...] = (
    "pending", "starting", "running", "succeeded", "failed", "timed_out", "cancelled", "unknown",
)  # fmt: skip
RUN_STATES: tuple[RunState, ...] = (
    "pending", "starting", "running", "succeeded", "failed", "partial", "cancelled", "timed_out",
)  # fmt: skip
CAUSES: tuple[Cause, ...] = (
    "failed", "out_of_memory", "timed_out", "preempted", "node_failed", "launch_failed", "cancelled", "lost",
)  # fmt: skip
"""Why an attempt ended without success. ``preempted`` is Slurm taking its node back, also for a requeue."""

TASK_STATES: tuple[TaskState, ...] = (
    "pending", "starting", "running", "ready", "succeeded", "failed", "timed_out", "cancelled",
)  # fmt: skip
"""Of the tasks of a workflow. One that is ``ready`` runs on, and what needs it may start."""

TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "timed_out", "cancelled", "partial"})
"""States that do not change any more, of shards, runs and tasks."""

SLURM_STATES: dict[str, tuple[ShardState, Cause | None]] = {
    # Waiting, or on the way back to waiting.
    "PENDING": ("pending", None),
    "REQUEUED": ("pending", None),
    "REQUEUE_FED": ("pending", None),
    "REQUEUE_HOLD": ("pending", None),
    "RESV_DEL_HOLD": ("pending", None),
    "SPECIAL_EXIT": ("pending", None),
    # On a node.
    "CONFIGURING": ("starting", None),
    "POWER_UP_NODE": ("starting", None),
    "RUNNING": ("running", None),
    "COMPLETING": ("running", None),
    "EXPEDITING": ("running", None),
    "RESIZING": ("running", None),
    "SIGNALING": ("running", None),
    "STAGE_OUT": ("running", None),
    "STOPPED": ("running", None),
    "SUSPENDED": ("running", None),
    "UPDATE_DB": ("running", None),
    # Ended.
    "COMPLETED": ("succeeded", None),
    "FAILED": ("failed", "failed"),
    "OUT_OF_MEMORY": ("failed", "out_of_memory"),
    "TIMEOUT": ("timed_out", "timed_out"),
    "DEADLINE": ("timed_out", "timed_out"),
    "PREEMPTED": ("failed", "preempted"),
    "NODE_FAIL": ("failed", "node_failed"),
    "BOOT_FAIL": ("failed", "launch_failed"),
    "LAUNCH_FAILED": ("failed", "launch_failed"),
    "RECONFIG_FAIL": ("failed", "launch_failed"),
    "CANCELLED": ("cancelled", "cancelled"),
    "REVOKED": ("cancelled", "cancelled"),
}
"""Slurm's job state names (man squeue, JOB STATE CODES) to a shard's state and the cause of its attempt's end."""


def from_slurm(name: str) -> tuple[ShardState, Cause | None]:
    """The shard state and cause for one of Slurm's state names; ``CANCELLED by 1000`` is ``CANCELLED``."""
    return SLURM_STATES.get(name.split(" ", 1)[0].rstrip("+"), ("unknown", None))


def from_cause(cause: Cause | None) -> ShardState:
    """The state of a shard whose last attempt ended for `cause`; None is success."""
    if cause is None:
        return "succeeded"
    if cause == "timed_out" or cause == "cancelled":
        return cause
    return "failed"


def aggregate(states: Iterable[ShardState], *, cancelled: bool) -> RunState:
    """The one state of a run from those of its shards.

    Not all ended: pending, starting or running. Else: all good is succeeded, cancelled by the user is cancelled,
    some good is partial, none good is timed_out if all of them were, else failed. ``cancelled`` says that the user
    cancelled the run as a whole; shards that were all cancelled one by one come to the same.
    """
    seen = set(states)
    if not seen <= TERMINAL:
        if seen & {"running", "succeeded", "failed", "timed_out", "cancelled"}:
            return "running"
        return "starting" if "starting" in seen else "pending"
    if seen == {"succeeded"}:
        return "succeeded"
    if cancelled or seen == {"cancelled"}:
        return "cancelled"
    if "succeeded" in seen:
        return "partial"
    return "timed_out" if seen == {"timed_out"} else "failed"
