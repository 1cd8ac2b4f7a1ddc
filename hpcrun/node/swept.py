"""A shard as the replica of a swept task: what it executes, and what it is told beside what every shard is told."""

from __future__ import annotations

import os

from hpcrun import environ, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.plan import Plan


def as_replica(plan: Plan, who: environ.Who) -> tuple[Sequence[str], dict[str, str], dict[str, str]]:
    """The command of a shard, the variables of its spec, and who it is besides; its own folder of results is made.

    Raises OSError where it cannot be.
    """
    assert plan.sweep is not None
    values = sweep.values_at(plan.sweep.variables, who.shard)
    name = sweep.replica_name(plan.sweep.task, values.values())
    own = environ.swept(who, task=plan.sweep.task, name=name)
    os.makedirs(own["SFLOW_TASK_OUTPUT_DIR"], 0o700, exist_ok=True)
    command = plan.sweep.commands[who.shard] if plan.sweep.commands else plan.job.command
    return command, {**plan.job.env, **values}, own
