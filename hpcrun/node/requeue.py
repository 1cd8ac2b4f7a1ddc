"""Asking Slurm, from inside a job, to start that job again."""

from __future__ import annotations

import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.allocation import Allocation

_DEADLINE = 60.0


def requeue(allocation: Allocation) -> bool:
    """Whether Slurm has taken this job back into its queue, which ends it here.

    Always by the id of the element or of the leader: inside an array ``SLURM_JOB_ID`` of the last element is that of
    the whole array. Where requeuing is off for the job its owner may switch it on.
    """
    job = allocation.job if allocation.task is None else f"{allocation.job}_{allocation.task}"
    if _scontrol("requeue", job):
        return True
    return _scontrol("update", f"jobid={job}", "requeue=1") and _scontrol("requeue", job)


def _scontrol(*words: str) -> bool:
    try:
        done = subprocess.run(
            ["scontrol", *words], stdin=subprocess.DEVNULL, timeout=_DEADLINE, check=False, env=dict(os.environ)
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
