"""The commands of start.py: ``shard BATCH [ROUND]`` inside a Slurm job, ``local [ROUND SHARDS]`` as the local
cluster's supervisor, ``agent MEETING ROLE [RANK]`` for each process of a gang or of a workflow's task,
``finish ROUND`` for the job that tells how the run has ended, and ``checkup [PORT HOST…]`` for `hpcrun doctor`.
"""

from __future__ import annotations

import os
import sys

from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace
    from typing import NoReturn

    from hpcrun.plan import Plan


def main(argv: Sequence[str]) -> NoReturn:
    """Carry out one command; `argv` begins with the path of start.py, which is in the run folder."""
    run = RunDir(os.path.dirname(os.path.abspath(argv[0])))
    _forget_coerced_locale()
    if argv[1] == "shard":
        from hpcrun.node.batch import in_slurm

        in_slurm(_plan(), run, int(argv[2]), int(argv[3]) if len(argv) > 3 else 0)
    if argv[1] == "agent":
        from hpcrun.node.agent import serve

        rank = argv[4] if len(argv) > 4 else os.environ["SLURM_PROCID"]
        serve(_plan(), run, argv[2], argv[3], int(rank))
    if argv[1] == "finish":
        from hpcrun.node.finish import tell

        tell(run, int(argv[2]))
    if argv[1] == "checkup":
        from hpcrun.node import checkup

        checkup.tell(run, argv[2:])
    from hpcrun.node.local import carry_out

    plan = _plan()
    if len(argv) > 2:
        from hpcrun.indexes import parse_indexes

        carry_out(plan, run, parse_indexes(argv[3]), int(argv[2]))
    carry_out(plan, run, range(plan.shards), 0)


def _plan() -> Plan:
    """The plan that this node.pyz carries, as plain attributes.

    It is the value of plan.json, written as Python so that no JSON parser has to be loaded.
    """
    from hpcrun_plan import PLAN

    plan = _with_attributes(PLAN)
    for role in ("job", "worker"):
        if PLAN[role]:
            setattr(plan, role, _role(PLAN[role]))
    plan.batches = [_with_attributes(batch) for batch in plan.batches]
    plan.upstream = [_with_attributes(one) for one in plan.upstream]
    plan.tasks = [_task(task) for task in plan.tasks]
    plan.sweep = _with_attributes(plan.sweep) if plan.sweep else None
    return plan  # type: ignore[return-value]


def _role(value: dict[str, object]) -> SimpleNamespace:
    role = _with_attributes(value)
    role.readiness = _with_attributes(role.readiness) if role.readiness else None
    return role


def _task(value: dict[str, object]) -> SimpleNamespace:
    task = _with_attributes(value)
    task.role = _role(task.role)
    task.readiness = [_with_attributes(probe) for probe in task.readiness]
    task.failure = [_with_attributes(probe) for probe in task.failure]
    return task


def _with_attributes(value: dict[str, object]) -> SimpleNamespace:
    # What types.SimpleNamespace is, without importing types.
    namespace: SimpleNamespace = type(sys.implementation)()  # type: ignore[assignment]
    namespace.__dict__.update(value)
    return namespace


def _forget_coerced_locale() -> None:
    # Where no locale is set, Python sets LC_CTYPE in its own environment (PEP 538), from where it would reach the
    # program. The block that the process was started with still tells.
    if os.environ.get("LC_CTYPE") == "C.UTF-8" and os.path.exists("/proc/self/environ"):
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
        if not any(entry.startswith(b"LC_CTYPE=") for entry in given):
            del os.environ["LC_CTYPE"]
