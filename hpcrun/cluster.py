"""What a cluster can be asked, whichever it is: `hpcrun.slurm` and `hpcrun.local` answer in these types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from hpcrun.plan import Batch
from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.quotas import Place, Where


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds a submission, and what the cluster keeps."""

    max_array: int
    """The most elements of one job array (Slurm's MaxArraySize: indices run from 0 to one less than it)."""
    accounting: bool
    """Whether ended jobs can be asked about."""
    version: str = ""
    nodes: int | None = None
    """How many nodes there are for a run; None where nobody asked."""
    places: tuple[tuple[Place, ...], ...] = ()
    """For each component that was asked about, where its jobs may start, and what bounds them there."""
    cpus: int | None = None
    """CPUs that the local cluster may use; None where Slurm decides."""
    memory: int | None = None
    """MiB that the local cluster may use; None where Slurm decides."""
    devices: tuple[str, ...] = ()
    """GPUs of the local machine, by the names that CUDA_VISIBLE_DEVICES takes."""


@dataclasses.dataclass(frozen=True)
class QueueRow:
    """One line of the queue: a job that is no array (`tasks` None), or some elements of an array in the same state."""

    job: str
    tasks: tuple[int, ...] | None
    state: str
    """The cluster's own word for it."""
    reason: str = ""
    nodes: str = ""
    script: str = ""
    """The path of the script that it was submitted with; empty where the cluster does not know it."""
    comment: str = ""
    """What its submission wrote beside it."""
    begin: str = ""
    """When it started, or is to start at the earliest, in the cluster's own words: two waits of a job differ in it."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """An answer of the queue, and of when it is. Times are seconds by `hpcrun.sharing.now`."""

    rows: Sequence[QueueRow]
    asked: float
    """When it was asked: what has happened later is not in it."""
    took: float
    """How many seconds the answer took."""


@dataclasses.dataclass(frozen=True)
class AccountingRow:
    """One ended or running job or array element, as accounting knows it."""

    job: str
    tasks: tuple[int, ...] | None
    state: str
    exit_code: int
    signal: int
    nodes: str
    script: str = ""
    """The end of the command that submitted it, where that was asked for."""


@dataclasses.dataclass(frozen=True)
class Charge:
    """What accounting has of one start of a job, an array element or a component: how long it held what."""

    seconds: float
    amounts: Mapping[str, float]
    """By Slurm's names of resources: ``cpu``, ``billing``, ``gres/gpu``."""


class Cluster(Protocol):
    """The seam to a cluster. Every call raises ClusterUnavailable when the cluster cannot be asked."""

    name: str

    def limits(self, where: Sequence[Where] = (), *, places: bool = True) -> Limits:
        """What bounds a submission now, of jobs that are to start where each of `where` says.

        Without `places` nobody is asked for what bounds them there.
        """
        ...

    def submit(
        self,
        run: RunDir,
        batch: Batch,
        dependency: str | None,
        in_round: int = 0,
        tasks: Sequence[int] | None = None,
    ) -> str:
        """The id of the job that now carries out `batch`, or only its elements `tasks`, in this round of retries.

        Raises SubmissionRefused when the cluster says no. After ClusterUnavailable it may have taken it all the same.
        """
        ...

    def submit_script(self, path: str, dependency: str | None) -> str:
        """The id of the job that now runs the script at `path`, which belongs to no batch; raises as `submit` does."""
        ...

    def queue(self, run: RunDir) -> list[QueueRow]:
        """Every job that waits or runs, and those that ended so lately that the queue still knows them.

        Jobs of `run` are among them; whether others are too is the cluster's business.
        """
        ...

    def lately(self, run: RunDir, since: float) -> Asked:
        """The same as of `since` (by `hpcrun.sharing.now`) or later: somebody else's answer will do.

        What is shown there was so then. That a job is not shown means something only where `since` is after its
        submission, and after everything else that is known of it.
        """
        ...

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        """Each of these jobs and elements (``12_3``) as it stands, by itself; those that are forgotten are missing.

        In `queue` an element that waits, or is on its way to that, may be folded with others of its array.
        """
        ...

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """What accounting knows of `jobs` and elements (``12_3``); raises AccountingDisabled where there is none.

        Elements by themselves have to have begun: those that waited together may have one record for all of them.
        """
        ...

    def history(self, run: RunDir, since: float) -> list[AccountingRow]:
        """What accounting knows of everything that the owner of `run` has submitted since, by its script too.

        Raises AccountingDisabled where there is none.
        """
        ...

    def charges(self, jobs: Sequence[str], since: float) -> list[Charge]:
        """What every start of `jobs` since then was allotted; raises AccountingDisabled where nobody counts."""
        ...

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """End `jobs`, in this order; those that have ended already are left alone."""
        ...

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        """End the wait of `jobs` and elements (``12_3``) that were requeued; why not, for those it was refused for."""
        ...

    def release(self, jobs: Sequence[str]) -> None:
        """Let go of `jobs` and elements that the cluster itself has held because their launch failed."""
        ...

    def requeue(self, job: str) -> str:
        """Let a job or element that has ended, or runs, start again; why not, where the cluster says no.

        One that waits already is left as it is.
        """
        ...
