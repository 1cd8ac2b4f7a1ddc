"""A shard as the replica of a swept task: what it executes, and what it is told beside what every shard is told."""

from __future__ import annotations

import os

from hpcrun import environ, sweep
from hpcrun.node import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.plan import Plan


def as_replica(plan: Plan, who: environ.Who, node: str) -> tuple[Sequence[str], dict[str, str], dict[str, str]]:
    """The command of a shard on `node`, the variables of its spec, and who it is besides; its own folder is made.

    Raises OSError where it cannot be.
    """
    assert plan.sweep is not None
    values = sweep.values_at(plan.sweep.variables, who.shard)
    name = sweep.replica_name(plan.sweep.task, values.values())
    own = environ.swept(who, task=plan.sweep.task, name=name)
    place.make_folder(own)
    command = plan.sweep.commands[who.shard] if plan.sweep.commands else plan.job.command
    own["SFLOW_TASK_ASSIGNED_NODE_IPS"] = place.address(node) if plan.cluster == "slurm" else "127.0.0.1"
    return command, environ.not_slurms({**plan.job.env, **values}, os.environ), own
