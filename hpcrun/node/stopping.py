"""Stopping a whole run from inside of it: too many shards have failed, or its time is up.

So these promises hold with nobody following. Whoever finds the limit passed leaves the word that nothing more may
start, which is read before every start, and ends what runs and waits.
"""

from __future__ import annotations

import os
import time

from hpcrun import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from hpcrun.allocation import Allocation
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir
else:
    import _signal as signal

_DEADLINE = 60.0


def stop_if_overdue(plan: Plan, run: RunDir, allocation: Allocation) -> None:
    """Stop the run where its time is up."""
    if plan.deadline is not None and time.time() >= plan.deadline and not os.path.exists(run.cancelled):
        _stop(run, allocation, "run_timeout", f"its time is up: run_timeout is {plan.deadline - plan.created:g} s")


def count_failed(plan: Plan, run: RunDir, allocation: Allocation, shard: int) -> None:
    """Count a shard that has failed for good, and stop the run where that is one too many."""
    if plan.max_failed is None:
        return
    folder = run.failed
    os.makedirs(folder, 0o700, exist_ok=True)
    events.mark(os.path.join(folder, str(shard)))
    failed = len(os.listdir(folder))
    if failed > plan.max_failed:
        text = f"{failed} shards have failed for good, and max_failed_indexes is {plan.max_failed}"
        if plan.sweep is not None and not plan.max_failed:
            from hpcrun import sweep

            values = sweep.values_at(plan.sweep.variables, shard)
            name = sweep.replica_name(plan.sweep.task, values.values())
            text = f"{name} has failed, which ends the other replicas (fail_fast)"
        _stop(run, allocation, "max_failed_indexes", text)


def _stop(run: RunDir, allocation: Allocation, by: str, text: str) -> None:
    if not events.stop(run, by, text):
        return
    if allocation.cluster == "local":
        supervisor = os.getppid()
        if allocation.job == f"local-{supervisor}":  # else that is dead, and this the child of a stranger
            os.kill(supervisor, signal.SIGTERM)
        return
    import subprocess

    jobs = [event["job"] for event in events.read(run.submission) if event["event"] == "submitted"]
    # The last first: ending one that another waits for would start the other.
    command = ["scancel", "--quiet", *reversed(dict.fromkeys([*jobs, allocation.job]))]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        os.write(2, f"hpcrun: cannot end the rest of the run: {error}\n".encode())
