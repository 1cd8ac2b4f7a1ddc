"""submitit's executor: what is submitted at once is one run, and each job a shard of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from submitit.core import core
from submitit.core.utils import DelayedSubmission, JobPaths

from hpcrun.submitit_plugin import environment, parameters
from hpcrun.submitit_plugin.job import HpcrunJob, run_link

if TYPE_CHECKING:
    from hpcrun.submission import Prepared


class _Names(set[str]):
    """The names of parameters, of which only hpcrun's own are told one by one.

    AutoExecutor looks names up here; and from a list of all executors' names it makes out whose a name without prefix
    is, the last executor's. Told all of them, it would take away what people give the slurm executor.
    """

    def __iter__(self) -> Iterator[str]:
        return iter((*sorted(parameters.OWN), "and those of the slurm executor"))


class HpcrunExecutor(core.Executor):
    """Submits functions as runs of hpcrun, to Slurm, or to this machine where there is none.

    `max_num_timeout` (3) is how often a checkpointable function is started again after its time limit, and
    `max_pickle_size_gb` (1) bounds what is pickled for one submission. `python` is shell code for the Python of the
    jobs; it has to have submitit and hpcrun. `cluster` is ``auto``, ``slurm`` or ``local``, by default what hpcrun's
    settings say.
    """

    job_class = HpcrunJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int | None = None,
        max_pickle_size_gb: float | None = None,
        python: str | None = None,
        cluster: str | None = None,
    ) -> None:
        super().__init__(folder)
        from submitit.auto import auto

        slurm = _meant_for_slurm(auto.flexible_init.__code__)
        self.max_num_timeout = _first(max_num_timeout, slurm.get("max_num_timeout"), 3)
        self.max_pickle_size_gb = _first(max_pickle_size_gb, slurm.get("max_pickle_size_gb"), 1.0)
        self.python = _first(python, slurm.get("python"), None)
        if cluster is not None:
            self.parameters["cluster"] = cluster

    @classmethod
    def affinity(cls) -> int:
        """0: there, and chosen by nobody but who asks for it."""
        return 0

    @classmethod
    def _equivalence_dict(cls) -> core.EquivalenceDict:
        return {
            "name": "job_name",
            "timeout_min": "time",
            "mem_gb": "mem",
            "nodes": "nodes",
            "cpus_per_task": "cpus_per_task",
            "gpus_per_node": "gpus_per_node",
            "tasks_per_node": "ntasks_per_node",
        }

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return _Names(parameters.NAMES)

    def _convert_parameters(self, params: dict[str, Any]) -> dict[str, Any]:
        """AutoExecutor's shared parameters under Slurm's names, and over them those that are prefixed ``slurm_``."""
        from submitit.auto import auto

        return {
            **self._named(params),
            **self._named(_meant_for_slurm(auto.AutoExecutor._internal_update_parameters.__code__)),
        }

    def _named(self, params: dict[str, Any]) -> dict[str, Any]:
        memory = {"mem_gb": f"{params['mem_gb']}G"} if "mem_gb" in params else {}
        return super()._convert_parameters({**params, **memory})

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        """Change parameters. Raises UsageError for one that there is not, or that cannot be honoured."""
        whole = {**self.parameters, **kwargs}
        self._fields(whole, jobs=1, timeouts=0, local=False)
        super()._internal_update_parameters(**kwargs)

    def _fields(self, given: dict[str, Any], *, jobs: int, timeouts: int, local: bool) -> dict[str, Any]:
        parameters.check_more(given.get("spec") or {})
        count = parameters.tasks(given)
        program = [sys.executable, "-u", "-m", "submitit.core._submit", str(self.folder)]
        fields = parameters.spec(
            given, python=self.python, program=program, jobs=jobs, timeouts=timeouts, local=local,
            usr_signal=environment.HpcrunJobEnvironment.USR_SIG,
        )  # fmt: skip
        if local and count > 1:
            starter = [sys.executable, "-m", "hpcrun.submitit_plugin.ranks", str(count)]
            fields["command"] = [*starter, *fields["command"]]
        fields["env"] = {
            "SUBMITIT_EXECUTOR": self.name(),
            environment.TASKS: str(count),
            environment.NODES: str(parameters.nodes(given)),
            environment.RANK: "",  # where this is itself a task of a job
        }
        return fields

    def _prepared(self, delayed: Sequence[DelayedSubmission]) -> Prepared:
        """The run of these submissions, decided and not yet submitted."""
        from hpcrun import config, spec, submission

        given = dict(self.parameters)
        settings = config.load(os.environ, os.getcwd())
        cluster = submission.choose(given.get("cluster") or settings.cluster)
        checkpoints = any(hasattr(one.function, "checkpoint") for one in delayed)
        timeouts = self.max_num_timeout if checkpoints else 0
        fields = self._fields(given, jobs=len(delayed), timeouts=timeouts, local=cluster == "local")
        more = spec.spelled(spec.raw(given.get("spec") or {}))
        if isinstance(more.values.get("retries"), int):  # or it would stand for all budgets
            more.values["retries"] = {"failed": more.values["retries"]}
        source = spec.spelled(spec.raw(fields)).under(more)
        # What is `typed` is not searched for $(VAR), which may stand in the folder's name.
        return submission.prepare(source, settings, cluster, typed=True)

    def _internal_process_submissions(self, delayed_submissions: Sequence[DelayedSubmission]) -> list[core.Job[Any]]:
        from hpcrun import submission
        from hpcrun.errors import ClusterUnavailable

        delayed = list(delayed_submissions)
        prepared = self._prepared(delayed)
        ids = [f"{prepared.plan.run_id}_{index}" for index in range(len(delayed))]
        written: list[Path] = []
        try:
            self._pickle(delayed, ids, written)
            link = run_link(self.folder, prepared.plan.run_id)
            link.symlink_to(prepared.dir.path)
            written.append(link)
            submission.carry_out(prepared)
        except ClusterUnavailable:  # jobs may have been submitted, and need what they are to run
            raise
        except Exception:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        tasks = range(parameters.tasks(self.parameters))
        return [self.job_class(folder=self.folder, job_id=job_id, tasks=list(tasks)) for job_id in ids]

    def _pickle(self, delayed: Sequence[DelayedSubmission], ids: Sequence[str], written: list[Path]) -> None:
        """Write what each job is to run; `written` gets the paths."""
        minutes = parameters.minutes(self.parameters)
        JobPaths.get_first_id_independent_folder(self.folder).mkdir(parents=True, exist_ok=True)
        for one, job_id in zip(delayed, ids, strict=True):
            path = JobPaths(self.folder, job_id=job_id).submitted_pickle
            path.parent.mkdir(parents=True, exist_ok=True)
            one.set_timeout(minutes, self.max_num_timeout)  # type: ignore[arg-type]  # it counts in fractions too
            written.append(path)
            one.dump(path)
            size = path.stat().st_size / 1024**3 * len(ids)
            if len(written) == 1 and size > self.max_pickle_size_gb:
                raise RuntimeError(
                    f"found an estimated {size:.2f} GB of pickled functions and arguments, wanted "
                    f"{self.max_pickle_size_gb} GB at most; pass paths of files instead of their contents, or raise "
                    "executor.max_pickle_size_gb"
                )


def _meant_for_slurm(caller: CodeType) -> dict[str, Any]:
    """What was given with the prefix ``slurm_`` to the AutoExecutor's function `caller`, which called this module.

    AutoExecutor drops what is prefixed with another executor's name and tells nobody. Who has only changed
    ``cluster="slurm"`` would lose partition and account without a word, so it is looked for where it was given.
    """
    frame = sys._getframe(1)
    for _ in range(3):
        if frame.f_back is None:
            break
        frame = frame.f_back
        if frame.f_code is caller:
            given = frame.f_locals.get("kwargs", {})
            return {name.removeprefix("slurm_"): given[name] for name in given if name.startswith("slurm_")}
    return {}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
