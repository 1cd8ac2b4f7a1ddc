"""What submitit's own program knows of the job that it runs in."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import ClassVar, NoReturn

from submitit.core import job_environment, logger
from submitit.core.utils import DelayedSubmission, JobPaths

from hpcrun.rundir import RunDir

TASKS, NODES, RANK = "SUBMITIT_HPCRUN_TASKS", "SUBMITIT_HPCRUN_NODES", "SUBMITIT_HPCRUN_RANK"
"""How many tasks and nodes a job has, as its submission says; and which task this is, where Slurm does not say so."""


class HpcrunJobEnvironment(job_environment.JobEnvironment):
    """A shard of a run as submitit's job: its id is ``RUN_INDEX``."""

    _env: ClassVar[dict[str, str]] = {
        "job_id": "HPCRUN_RUN_ID",
        "array_job_id": "HPCRUN_RUN_ID",
        "array_task_id": "HPCRUN_SHARD_INDEX",
    }

    def activated(self) -> bool:
        """Whether this process belongs to a job that submitit has submitted by hpcrun, and not to any other run."""
        return super().activated() and "HPCRUN_RUN_ID" in os.environ

    @property
    def hostnames(self) -> list[str]:
        """The nodes of this job, in Slurm's order."""
        named = os.environ.get("SFLOW_TASK_ASSIGNED_NODE_NAMES", "")
        return named.split(",") if named else [self.hostname]

    @property
    def num_tasks(self) -> int:
        """How many tasks this job has."""
        return _number(TASKS, "SLURM_NTASKS", 1)

    @property
    def num_nodes(self) -> int:
        """How many nodes it has."""
        return _number(NODES, "SLURM_JOB_NUM_NODES", 1)

    @property
    def node(self) -> int:
        """Which of its nodes this is, from 0."""
        return _number("", "SLURM_NODEID", 0) if self._has_step() else 0

    @property
    def global_rank(self) -> int:
        """Which of its tasks this is, from 0."""
        return _number(RANK, "SLURM_PROCID", 0) if self._has_step() else _number(RANK, "", 0)

    @property
    def local_rank(self) -> int:
        """Which of the tasks on this node this is, from 0."""
        return _number(RANK, "SLURM_LOCALID", 0) if self._has_step() else _number(RANK, "", 0)

    def _has_step(self) -> bool:
        # Of a single task, and of those that hpcrun starts without Slurm, Slurm's variables would tell of another job.
        return self.num_tasks > 1 and not os.environ.get(RANK)

    def _handle_signals(self, paths: JobPaths, submission: DelayedSubmission) -> None:
        """As submitit does; and let the logs be found where submitit has them: it calls this once a start."""
        if self.global_rank:
            _write_to(paths.stdout, paths.stderr if _has_own_stderr() else None)
        else:
            _link_logs(paths)
        _clear(paths)
        super()._handle_signals(paths, submission)

    def _requeue(self, countdown: int) -> NoReturn:
        """Wait for the end that this process was warned of; by its cause hpcrun then starts the next attempt.

        To end now would be the program's own end, after which nothing follows. At the time limit, and at a preemption,
        the one who ends it knows why.
        """
        signal.signal(self._usr_sig(), signal.SIG_IGN)
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, signal.SIG_DFL)
        logger.get_logger().info(
            f"Job {self.job_id} waits for its end, after which it is started again ({countdown} remaining timeouts)"
        )
        while True:
            signal.pause()


def _number(own: str, slurm: str, default: int) -> int:
    return int(os.environ.get(own) or os.environ.get(slurm) or default)


def _logs() -> dict[str, str]:
    """The logs of this attempt, by kind (``out`` and ``err``, or ``log`` for both), as far as they are there."""
    run = RunDir(os.environ["HPCRUN_RUN_DIR"])
    shard, attempt = int(os.environ["HPCRUN_SHARD_INDEX"]), int(os.environ["HPCRUN_ATTEMPT"])
    found = {kind: run.log(shard, attempt, kind) for kind in ("out", "err", "log")}
    return {kind: path for kind, path in found.items() if os.path.exists(path)}


def _has_own_stderr() -> bool:
    return "err" in _logs()


def _clear(paths: JobPaths) -> None:
    """Take away what an earlier attempt has left that is no success: submitit would not write beside it."""
    if not int(os.environ.get("HPCRUN_ATTEMPT") or 0):
        return
    half = paths.result_pickle.with_name(f"{paths.result_pickle.name}.save_tmp")
    for path in (half, paths.result_pickle):
        path.unlink(missing_ok=True)


def _link_logs(paths: JobPaths) -> None:
    """Let submitit's names of the logs be links to those of this attempt."""
    logs = _logs()
    links = {"out": paths.stdout, "log": paths.stdout, "err": paths.stderr}
    for kind, path in logs.items():
        new = f"{links[kind]}.part"
        with contextlib.suppress(OSError):  # what is only a convenience must not end a job
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            os.symlink(path, new)
            os.replace(new, links[kind])


def _write_to(out: os.PathLike[str], err: os.PathLike[str] | None) -> None:
    """Let this process write into files of its own, at their ends: the shard's log is that of task 0."""
    for descriptors, path in (((1,) if err else (1, 2), out), ((2,), err)):
        if path is None:
            continue
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for descriptor in descriptors:
            os.dup2(opened, descriptor)
        os.close(opened)
