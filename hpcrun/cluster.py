"""What a cluster can be asked, whichever it is: `hpcrun.slurm` and `hpcrun.local` answer in these types."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from hpcrun.plan import Batch
from hpcrun.rundir import RunDir


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds a submission, and what the cluster keeps."""

    max_array: int
    """The most elements of one job array (Slurm's MaxArraySize: indices run from 0 to one less than it)."""
    accounting: bool
    """Whether ended jobs can be asked about."""
    version: str = ""
    nodes: int | None = None
    """How many nodes there are; None where nobody asked."""
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


@dataclasses.dataclass(frozen=True)
class AccountingRow:
    """One ended or running job or array element, as accounting knows it."""

    job: str
    tasks: tuple[int, ...] | None
    state: str
    exit_code: int
    signal: int
    nodes: str


class Cluster(Protocol):
    """The seam to a cluster. Every call raises ClusterUnavailable when the cluster cannot be asked."""

    name: str

    def limits(self) -> Limits:
        """What bounds a submission now."""
        ...

    def submit(self, run: RunDir, batch: Batch, dependency: str | None) -> str:
        """The id of the job that now carries out `batch`; raises SubmissionRefused when the cluster says no."""
        ...

    def queue(self, run: RunDir) -> list[QueueRow]:
        """Every job that waits or runs, and those that ended so lately that the queue still knows them.

        Jobs of `run` are among them; whether others are too is the cluster's business.
        """
        ...

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """What accounting knows of `jobs`; raises AccountingDisabled where there is none."""
        ...

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """End `jobs`, in this order; those that have ended already are left alone."""
        ...
