"""Asking Slurm, from inside a job, about that job, and to start it again."""

from __future__ import annotations

import os
import subprocess
import time

from hpcrun.node import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.allocation import Allocation
    from hpcrun.rundir import RunDir

_DEADLINE = 60.0
_TOGETHER = 10.0
"""Seconds between the starts of two components that were started together, at most."""
_TRIES = 30
"""Restarts after which a job whose components do not come up together is given up."""


def sent_back(run: RunDir, allocation: Allocation) -> bool | None:
    """Send a job that was started again without its other components back into the queue, with all of them.

    Whether Slurm has taken it; None where there is no need, or an end was asked for.
    """
    if not allocation.restarts or os.path.exists(run.cancelled) or not incomplete(allocation) or program.is_told():
        return None
    os.write(2, b"hpcrun: this job was started again without its other components; all of it is requeued\n")
    return requeue(allocation)


def incomplete(allocation: Allocation) -> bool:
    """Whether this job has been started again without its other components.

    When the leader's node is lost Slurm requeues the leader alone; the old other components go on, and cannot be used.
    The environment does not tell, and neither do the restart counts, which stay different for good; but the components
    of one start begin within seconds (measured on 24.11).
    """
    if not allocation.restarts or len(allocation.components) < 2:
        return False
    other = _shown(os.environ.get("SLURM_JOB_ID_HET_GROUP_1", ""))
    own = _shown(allocation.raw_job)
    if not other or not own:
        return False
    began = [_seconds(facts.get("StartTime", "")) for facts in (own, other)]
    together = other.get("JobState") == "RUNNING" and abs(began[0] - began[1]) < _TOGETHER
    return not together and allocation.restarts < _TRIES


def by_itself(run: RunDir, allocation: Allocation) -> bool:
    """Whether the batch script of this job, which has ended, has had the job requeued.

    Slurm then ends the script by a signal, which may come later than its own end (26.05: 4 ms after scontrol's answer).
    Only a script that says so itself is asked about: it costs Slurm a question.
    """
    try:
        with open(run.batch_script, "rb") as file:
            says_so = b"requeue" in file.read()
    except OSError:
        return False
    return says_so and int(_shown(_address(allocation)).get("Restarts", "0")) > allocation.restarts


def taken_back(run: RunDir, allocation: Allocation) -> bool:
    """Whether Slurm starts this job again, or nobody is to, because an end was asked for or it is no longer ours.

    After a signal from outside never, or the run could not be cancelled: Slurm revives even what is cancelled. Nor
    where this is an earlier start of the job, on a node that has come back.
    """
    if program.is_told() or os.path.exists(run.cancelled) or _is_current(allocation) is False:
        return True
    return requeue(allocation)


def _is_current(allocation: Allocation) -> bool | None:
    """Whether this job runs, in this start of it: not cancelled, and not given to another start already.

    None where nobody can say.
    """
    shown = _shown(_address(allocation))
    if "JobState" not in shown:
        return None
    return shown["JobState"] == "RUNNING" and int(shown.get("Restarts", "0")) == allocation.restarts


def _shown(job: str) -> dict[str, str]:
    """What scontrol shows of a job, by field; nothing where it cannot be asked."""
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_DEADLINE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    first = (done.stdout.splitlines() or [""])[0]
    return dict(word.split("=", 1) for word in first.split() if "=" in word) if done.returncode == 0 else {}


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def _address(allocation: Allocation) -> str:
    return allocation.job if allocation.task is None else f"{allocation.job}_{allocation.task}"


def requeue(allocation: Allocation) -> bool:
    """Whether Slurm has taken this job back into its queue, which ends it here.

    Always by the id of the element or of the leader: inside an array ``SLURM_JOB_ID`` of the last element is that of
    the whole array. Where requeuing is off for the job its owner may switch it on.
    """
    job = _address(allocation)
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
