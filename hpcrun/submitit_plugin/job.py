"""submitit's job: a shard of a run, and what is known of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from submitit.core import core, utils

from hpcrun.errors import ClusterUnavailable, RunFolderError, RunNotFound

if TYPE_CHECKING:
    from hpcrun.status import ShardStatus
    from hpcrun.submitit_plugin.watching import Watched

_WORDS = {
    "pending": "PENDING",
    "starting": "PENDING",  # to submitit CONFIGURING is an end
    "running": "RUNNING",
    "succeeded": "COMPLETED",
    "failed": "FAILED",
    "timed_out": "TIMEOUT",
    "cancelled": "CANCELLED",
    "unknown": "UNKNOWN",
}
"""submitit knows states by Slurm's names."""
_BY_CAUSE = {"out_of_memory": "OUT_OF_MEMORY", "node_failed": "NODE_FAIL"}


def run_link(folder: str | Path, run_id: str) -> Path:
    """The link in submitit's folder to the folder of a run."""
    return utils.JobPaths.get_first_id_independent_folder(folder) / f"{run_id}_run"


class HpcrunInfoWatcher(core.InfoWatcher):
    """What is known of all jobs of this process, by run: one status tells of all jobs of it."""

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[str, str | Path] = {}
        self._runs: dict[str, Watched] = {}

    def register(self, job_id: str, folder: str | Path) -> None:
        """Know a job, which was submitted from `folder`."""
        self._folders[job_id.partition("_")[0]] = folder
        self.register_job(job_id)

    def run_of(self, job_id: str) -> Watched:
        """The run that a job is of. Raises RunNotFound, RunFolderError."""
        run_id = job_id.partition("_")[0]
        if run_id not in self._runs:
            from hpcrun.submitit_plugin.watching import Watched

            self._runs[run_id] = Watched.found(run_link(self._folders[run_id], run_id), run_id)
        return self._runs[run_id]

    def get_info(self, job_id: str, mode: str = "standard") -> dict[str, str]:
        """State, node and more of a job; nothing where nobody has asked yet and `mode` is ``cache``."""
        status = self.run_of(job_id).status(mode)
        if status is None:
            return {}
        shard = status.shards[index_of(job_id)]
        return {
            "JobID": job_id,
            "State": _state(shard),
            "NodeList": shard.node,
            "SlurmJobID": shard.job,
            "Detail": shard.detail,
        }

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """The state of a job by Slurm's name of it."""
        return self.get_info(job_id, mode).get("State", "UNKNOWN")

    def update(self) -> None:
        """Ask about every run that has not ended."""
        for job_id in {job.partition("_")[0]: job for job in self._registered}.values():
            self.run_of(job_id).status("force")


def _state(shard: ShardStatus) -> str:
    word = _WORDS[shard.state]
    return _BY_CAUSE.get(shard.cause or "", word) if word == "FAILED" else word


def index_of(job_id: str) -> int:
    """Which shard of its run a job is."""
    return int(job_id.rpartition("_")[2])


class HpcrunJob(core.Job[core.R]):
    """One job; its id is ``RUN_INDEX``, and ``hpcrun status RUN`` knows its run."""

    watcher = HpcrunInfoWatcher()

    def __init__(self, folder: str | Path, job_id: str, tasks: Sequence[int] = (0,)) -> None:
        self._folder = folder
        super().__init__(folder, job_id, tasks)

    def _register_in_watcher(self) -> None:
        self.watcher.register(self.job_id, self._folder)

    @property
    def _run(self) -> Watched:
        return self.watcher.run_of(self.job_id)

    def _kept_run(self) -> Watched | None:
        """The run, as long as its folder is kept: results outlive it."""
        try:
            return self._run
        except (RunNotFound, RunFolderError):
            return None

    def done(self, force_check: bool = False) -> bool:
        """Whether the job has ended: its result is there, or its shard is not tried again."""
        run = None if self._sub_jobs else self._kept_run()
        if run is not None and run.tries_failures_again:
            return self.watcher.is_done(self.job_id, mode="force" if force_check else "standard")
        return super().done(force_check)

    def wait(self) -> None:
        """Wait until the job has ended. Whoever waits follows the run, so that what is requeued starts soon."""
        while not self.done():
            if not self._run.step():
                time.sleep(0.5)

    def cancel(self, check: bool = True) -> None:
        """End this job, and no other.

        Where jobs cannot be ended one by one (without Slurm, or where an array's element has several) they are ended
        when all that are left of their run have been cancelled. With `check`, raises ClusterUnavailable.
        """
        try:
            self._run.cancel(index_of(self.job_id))
        except ClusterUnavailable:
            if check:
                raise

    def results(self) -> list[core.R]:
        """The result of each task, once the job has ended; raises the exception of the one that has failed."""
        error = self.exception() if self._sub_jobs else None
        if error is not None:
            raise error
        self._settle()
        return super().results()

    def exception(self) -> utils.UncompletedJobError | utils.FailedJobError | None:
        """What went wrong, once the job has ended. Of several tasks, one that failed before those ended with it."""
        self._settle()
        if not self._sub_jobs:
            return super().exception()
        errors = [error for job in self._sub_jobs if (error := job.exception()) is not None]
        errors.sort(key=lambda error: not isinstance(error, utils.FailedJobError))
        return errors[0] if errors else None

    def _settle(self) -> None:
        """Wait for the end, and know how long a result that is not there then may still come."""
        self.wait()
        run = self._kept_run()
        if run is not None:
            self._results_timeout_s = run.patience

    def _get_logs_string(self, name: str) -> str | None:
        """What the job has written in all of its attempts, or None if there is nothing yet."""
        if name not in ("stdout", "stderr"):
            raise ValueError(f"found {name!r}, wanted stdout or stderr")
        if self.task_id:  # the other tasks of a job have files of their own, which submitit reads
            return super()._get_logs_string(name)
        return self._run.logs(index_of(self.job_id), name)
