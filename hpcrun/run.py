"""Run: the handle on one run folder."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun import events, ledger, plan
from hpcrun.cluster import Charge, Cluster
from hpcrun.errors import RunFolderError, RunNotFound, UsageError
from hpcrun.inquiry import Inquiry
from hpcrun.ledger import Entry
from hpcrun.logtail import last_lines
from hpcrun.looking import Folder, Watch, look
from hpcrun.rundir import RunDir
from hpcrun.status import Attempt, RunStatus, Seen, ShardStatus, address, attempt, fold, with_newer_attempts

if TYPE_CHECKING:
    from hpcrun.calls import Results
    from hpcrun.sent import Submitted
    from hpcrun.tasks import TaskStatus

LATELY = 1.0
"""Seconds for which what the queue has told one process is good enough for the status of another one's run."""
_MESSAGES = 20
"""Lines of what Slurm wrote that may be of use."""


def connect(name: str, environ: Mapping[str, str] | None = None, python: str = "python3") -> Cluster:
    """The cluster called `name`: ``slurm`` or ``local``."""
    here = _as_given() if environ is None else environ
    if name == "local":
        from hpcrun.local import Local

        return Local(here, python)
    from hpcrun.poller import Poller

    return Poller(here)


def _as_given() -> dict[str, str]:
    """This process's environment, without the LC_CTYPE that Python sets in it where no locale is set (PEP 538)."""
    found = dict(os.environ)
    if found.get("LC_CTYPE") == "C.UTF-8" and os.path.exists("/proc/self/environ"):
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
        if not any(entry.startswith(b"LC_CTYPE=") for entry in given):
            del found["LC_CTYPE"]
    return found


class Run:
    """A run by its folder: ask how it is, wait for it, read its logs, cancel it.

    Runs outlive the process that submitted them; `Run.open` finds one again from anywhere that sees its folder.
    """

    def __init__(self, path: str, cluster: Cluster | None = None) -> None:
        self.dir = RunDir(path)
        if not os.path.isdir(path):
            by_id = "" if os.sep in path else f"; Run.open({path!r}) finds a run by its id"
            raise RunFolderError(path, f"there is no such folder, wanted that of a run{by_id}")
        self.plan = plan.read(self.dir.plan)
        self._cluster = cluster or connect(self.plan.cluster)
        self._ended: dict[int, tuple[Attempt, ...]] = {}
        folder = Folder(self.dir, self.plan, self._records, self._tasks, self._never_launched)
        self._watch = Watch(folder, self._cluster)

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @classmethod
    def open(cls, asked: str, home: str | None = None) -> Run:
        """The run called `asked`: its id, a unique prefix of it, or ``last``.

        `home` is where runs are kept; by default the one that the settings name.
        Raises RunNotFound when there is none, or more than one.
        """
        return cls(find(asked, home or home_here()))

    @property
    def id(self) -> str:
        """The run's id, for life."""
        return self.plan.run_id

    @property
    def jobs(self) -> tuple[str, ...]:
        """The numbers of its Slurm jobs, in the order of their submission."""
        return self._submitted().jobs

    @property
    def cluster(self) -> Cluster:
        """The cluster that carries it out."""
        return self._cluster

    def round(self) -> int:
        """How often shards of it have been tried again by hand."""
        return max((one.round for one in self._submitted().sent), default=0)

    def status(self, max_age: float = LATELY) -> RunStatus:
        """How the run is now.

        At most two questions to the cluster, whatever the size of the run, and none once every shard has left a
        record of its end. What another process of this user on this machine was told by the queue up to `max_age`
        seconds ago is not asked again (`hpcrun.looking`). Raises RunFolderError when the run's folder is gone.
        """
        return fold(self.plan, self._look(max_age))

    def _look(self, max_age: float = 0.0) -> Seen:
        """Everything there is to know now."""
        return look([self._watch], max_age)[0]

    def _glance(self, seen: Seen) -> Seen:
        """`seen` with newer records, and nothing asked of the cluster."""
        records = self._records()
        queue = None if seen.queue is None else with_newer_attempts(seen.queue, seen.records, records)
        return dataclasses.replace(seen, records=records, queue=queue, asked=time.time(), tasks=self._tasks(records))

    def _tasks(self, records: Mapping[int, Sequence[Attempt]]) -> Sequence[Mapping[str, Any]]:
        """The record of a workflow's tasks in its last attempt."""
        attempts = records.get(0, ()) if self.plan.tasks else ()
        return events.read(self.dir.tasks(attempts[-1].number)) if attempts else ()

    def shards(self) -> tuple[ShardStatus, ...]:
        """How each shard is now, in order."""
        return self.status().shards

    def tasks(self) -> tuple[TaskStatus, ...]:
        """How each task of a workflow is now, in its last attempt, each after all that it needs."""
        return self.status().tasks

    def attempts(self) -> Mapping[int, tuple[Attempt, ...]]:
        """Every attempt that has left a record, by shard, in order."""
        return self._records()

    def charges(self) -> list[Charge]:
        """What accounting has of every start of the run's jobs.

        Raises AccountingDisabled where nobody counts, and ClusterUnavailable.
        """
        return self._cluster.charges(self._submitted().jobs, self.plan.created)

    def wait(self, timeout: float | None = None, seen: Callable[[RunStatus], None] | None = None) -> RunStatus:
        """Wait until the run has ended; its last status.

        `seen` is called with every status on the way. Raises TimeoutError after `timeout` seconds.
        """
        end_by = None if timeout is None else time.monotonic() + timeout
        for status in self.follow():
            if seen is not None:
                seen(status)
            if status.done:
                return status
            if end_by is not None and time.monotonic() > end_by:
                raise TimeoutError(f"run {self.id} is {status.state} after {timeout:g} s")
        raise AssertionError("a run is followed until it has ended")

    def follow(self) -> Iterator[RunStatus]:
        """Statuses until the run has ended, on the way to which whoever follows speeds it up (`hpcrun.follow`)."""
        from hpcrun.follow import Follower, Sight  # what a node that asks for a status need not have

        return Follower(self.plan, self.dir, self._cluster, Sight(self._look, self._glance)).statuses()

    def cancel(self) -> RunStatus:
        """Let nothing more of the run start, and end what runs; its status right after.

        A run that has ended stays as it is. Raises ClusterUnavailable when the cluster cannot be told: then the
        shards that have not started yet still will not run, and the call may be repeated.
        """
        seen = self._look()
        status = fold(self.plan, seen)
        if status.done and not self._submitted().unconfirmed:
            return status
        events.stop(self.dir, "user")
        # The last batch first: ending one that another waits for would start the other.
        self._cluster.cancel(self.dir, tuple(reversed((*seen.submitted.jobs, *seen.submitted.doubles))))
        return self.status(max_age=0.0)

    def retry(self, shards: str | Iterable[int] = "failed") -> Run:
        """Try shards again that have ended without success; the handle on the run that goes on.

        `shards` is ``failed`` (all of them), an index set such as ``3,17,40-44``, or indices. They keep the run's id,
        and have as many retries as at first. Of a function's calls in them those are repeated that have not returned.
        Raises UsageError where a shard has succeeded, has not ended, or is not there, and where nothing has failed;
        ClusterUnavailable and SubmissionRefused as `submit` does.
        """
        from hpcrun import rerun  # what a node that asks for a status need not have
        from hpcrun.config import load

        rerun.retry(self, shards, load(os.environ, os.getcwd()))
        return Run(self.dir.path, self._cluster)

    def results(self, *, return_exceptions: bool = False, timeout: float | None = None) -> list[Any]:
        """What the run's function has returned, in the order of its shards, or of the items of a map; waits for it.

        What a call has raised is raised, the first in that order; with `return_exceptions` the list has the exceptions
        in their places. `timeout` is in seconds. Raises UsageError for a run that executes a command, TimeoutError, and
        what `Results` says.
        """
        return list(self.stream(return_exceptions=return_exceptions, timeout=timeout))

    def stream(self, *, return_exceptions: bool = False, timeout: float | None = None) -> Results:
        """What the run's function returns, each as soon as it is there: see `Results`."""
        from hpcrun.calls import Results

        return Results(self, return_exceptions=return_exceptions, timeout=timeout)

    def log_paths(
        self,
        shard: int = 0,
        attempt_number: int | None = None,
        *,
        role: str = "job",
        replica: int = 0,
        task: str | None = None,
    ) -> list[str]:
        """The log files of a shard's job or of one of its workers: one file, or two with stderr apart.

        Of a workflow those of `task`: of a replica by its own name, of all replicas by the task's, and where no task is
        given of all of them; each process of a task has a file. Of the last attempt, or of one by number. Raises
        UsageError for a shard, an attempt, a worker or a task that there is not.
        """
        self._check_process(role, replica)
        if shard not in range(self.plan.shards):
            raise UsageError(f"found shard {shard!r}, wanted 0 to {self.plan.shards - 1}")
        number = max(len(ledger.read(self.dir, shard)) - 1, 0)
        if attempt_number is not None and not 0 <= attempt_number <= number:
            raise UsageError(f"found attempt {attempt_number} of shard {shard}, wanted 0 to {number}")
        chosen = number if attempt_number is None else attempt_number
        if task is not None or self.plan.tasks:
            return self._task_logs(task, chosen, attempt_number)
        if not self.plan.supervised:
            return self._outputs(self._address(shard))
        kinds = ("out", "err") if self.plan.separate_stderr else ("log",)
        return [self.dir.log(shard, chosen, kind, role=role, replica=replica) for kind in kinds]

    def _task_logs(self, task: str | None, attempt: int, asked: int | None) -> list[str]:
        from hpcrun import tasks  # what other runs do without

        places = range(len(self.plan.tasks)) if task is None else tasks.named(self.plan, [task])
        if self.plan.sweep is not None:
            return [path for shard in places for path in self.log_paths(shard, asked)]
        chosen = [self.plan.tasks[place] for place in places]
        return [self.dir.task_log(attempt, one.name, rank) for one in chosen for rank in range(len(one.nodes))]

    def _check_process(self, role: str, replica: int) -> None:
        if role not in ("job", "worker"):
            raise UsageError(f"found the role {role!r}, wanted job or worker")
        if role == "worker" and self.plan.worker is None:
            raise UsageError(f"run {self.id} has no workers")
        copies = self.plan.worker.replicas if role == "worker" and self.plan.worker is not None else 1
        if not 0 <= replica < copies:
            raise UsageError(f"found replica {replica} of {role}, wanted 0 to {copies - 1}")

    def logs(
        self,
        shard: int = 0,
        attempt: int | None = None,
        *,
        role: str = "job",
        replica: int = 0,
        task: str | None = None,
    ) -> str:
        """What the job of a shard, one of its workers, or a task of a workflow has written so far.

        Its standard output stands before its standard error where they are kept apart; tasks stand one after the other.
        Bytes that are no UTF-8 are replaced. Raises what `log_paths` does.
        """
        found = []
        for path in self.log_paths(shard, attempt, role=role, replica=replica, task=task):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    found.append(file.read())
        return "".join(found)

    def launch_messages(self, shard: ShardStatus) -> list[str]:
        """The last lines that Slurm itself wrote for a shard whose program never started: the reason, as a rule."""
        for path in [*reversed(self._outputs(shard.job, shard.node)), self.dir.local_messages]:
            if os.path.exists(path):
                return last_lines(path, _MESSAGES)
        return []

    def _outputs(self, job: str, node: str = "") -> list[str]:
        """Where Slurm itself writes what a job or element (``12_3``) puts out, on `node` where that is known."""
        from hpcrun.outputs import slurm_outputs  # most do without

        number, _, task = job.partition("_")
        return slurm_outputs(self.plan, self.dir, number, int(task) if task else None, node) if job else []

    def _address(self, shard: int) -> str:
        """The job or element that has a shard; empty where there is none."""
        batch = next(one for one in self.plan.batches if one.first <= shard < one.first + one.count)
        return address(self.plan, batch, shard, self._submitted().of_shards(batch)(shard))

    def _never_launched(self, sent: Submitted) -> frozenset[int]:
        """The shards of which Slurm has opened no output, as it does before anything of a job runs."""
        if self.plan.cluster != "slurm":
            return frozenset()
        opened = set(os.listdir(self.dir.slurm))
        found: set[int] = set()
        for batch in self.plan.batches:
            of = sent.of_shards(batch)
            for shard in range(batch.first, batch.first + batch.count):
                outputs = self._outputs(address(self.plan, batch, shard, of(shard)))
                if outputs and not any(os.path.basename(path) in opened or self._is_there(path) for path in outputs):
                    found.add(shard)
        return frozenset(found)

    def _is_there(self, path: str) -> bool:
        """Whether there is the output `path`, which is none of the run folder's."""
        return self.plan.batch_script is not None and os.path.exists(path)

    def _submitted(self) -> Submitted:
        """What the run folder alone tells of the submission."""
        return Inquiry(self.dir, self.plan).written()

    def _records(self) -> Mapping[int, tuple[Attempt, ...]]:
        """The attempts of each shard that has any. Those of shards that are through are read once by this handle."""
        found: dict[int, dict[int, bool]] = {}
        for shard, number, told_by_another in events.attempts(self.dir):
            if shard >= self.plan.shards:  # nobody of this run has written that
                continue
            numbers = found.setdefault(shard, {})
            numbers[number] = numbers.get(number, False) or told_by_another
        records = dict(self._ended)
        for shard, numbers in found.items():
            if len(self._ended.get(shard, ())) == len(numbers):
                continue
            records[shard] = self._attempts(shard, numbers)
            last = records[shard][-1:]
            if len(records[shard]) == len(numbers) and last and last[0].ended is not None and not last[0].again:
                self._ended[shard] = records[shard]
        return records

    def _attempts(self, shard: int, numbers: Mapping[int, bool]) -> tuple[Attempt, ...]:
        """The attempts of a shard; `numbers` says of each whether somebody else has told of its end."""
        entries: list[Entry] = []
        found: list[Attempt] = []
        for number, told_by_another in sorted(numbers.items()):
            other = events.read(self.dir.silence(shard, number)) if told_by_another else []
            entry = Entry(number, events.read(self.dir.record(shard, number)), other)
            one = attempt(entry, self.plan.budgets, entries)
            entries.append(entry)
            found += [one] if one is not None else []
        return tuple(found)


def statuses(runs: Sequence[Run], max_age: float = LATELY) -> list[RunStatus]:
    """How these runs are now: the same as `Run.status` of each, for at most two questions for all of them.

    Raises RunFolderError when the folder of one is gone.
    """
    seen = look([run._watch for run in runs], max_age)
    return [fold(run.plan, one) for run, one in zip(runs, seen)]


def home_here() -> str:
    """Where run folders are, by the settings that hold here. Raises ConfigError."""
    from hpcrun.settings_files import home_at_a_glance  # nodes know the folders

    found = home_at_a_glance(os.environ, os.getcwd())
    if found is None:
        from hpcrun.config import load

        found = load(os.environ, os.getcwd()).home
    return found


def runs_folder(home: str) -> str:
    """Where the run folders of `home` are."""
    return os.path.join(home, "runs")


def all_paths(home: str) -> list[str]:
    """The folders of all runs, the oldest first."""
    try:
        with os.scandir(runs_folder(home)) as entries:
            found = [(entry.stat().st_ctime, entry.name, entry.path) for entry in entries if _is_run(entry.path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(runs_folder(home), f"cannot read the runs: {error.strerror}") from error
    return [path for _, _, path in sorted(found)]


def _is_run(path: str) -> bool:
    return os.path.exists(RunDir(path).plan)


def _written(path: str) -> int:
    """When the plan of a run was written, which is done once: plans themselves may be those of other versions."""
    try:
        return os.stat(RunDir(path).plan).st_mtime_ns
    except FileNotFoundError:
        return 0


def _jobs(path: str) -> set[str]:
    """The numbers of the jobs that a run was submitted as."""
    return {event["job"] for event in events.read(RunDir(path).submission) if event["event"] == "submitted"}


def find(asked: str, home: str) -> str:
    """The folder of the run called `asked`: an id, a unique prefix, ``last``, or the number of a Slurm job of it.

    Raises RunNotFound.
    """
    direct = os.path.join(runs_folder(home), asked)
    if asked and os.sep not in asked and _is_run(direct):
        return direct
    paths = all_paths(home)
    job = asked.partition("_")[0]
    if job.isdecimal():  # no id of a run is
        having = (path for path in reversed(paths) if job in _jobs(path))
        found = next(having, None)
        if found is not None:
            return found
    if asked == "last":
        if not paths:
            raise RunNotFound(asked, home)
        return max(paths, key=_written)
    fitting = [path for path in paths if asked and os.path.basename(path).startswith(asked)]
    if len(fitting) != 1:
        raise RunNotFound(asked, home, tuple(map(os.path.basename, fitting)))
    return fitting[0]
