"""What `hpcrun doctor` has asked, and what it makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from hpcrun.cluster import Limits

State = Literal["ok", "note", "problem", "not checked"]
"""All is well; it is good to know; runs fail, or leak, or are lost; nobody could tell."""

MACHINE, FOLDER, SLURM, NODES = "This machine", "Run folder", "Slurm", "Compute nodes"
"""The groups of checks, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check has found."""

    group: str
    name: str
    state: State
    found: str
    meaning: str = ""
    """What follows from it for runs."""
    todo: str = ""
    """The next step: a command, or lines of hpcrun.toml."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine on which hpcrun is called, and the settings that hold there."""

    host: str
    python: str
    settings: tuple[str, ...] = ()
    """The settings files that were read, the one that wins last."""
    unread: str = ""
    """Why the settings cannot be used; the defaults stand in for them."""
    cluster: str = "auto"
    node_python: str = "python3"
    poller: str = "squeue"
    """What the settings have asked for the queue."""
    retry: str = "requeue"
    """How the settings have failed shards tried again."""
    containers: str = ""
    """The container runtime of the settings."""
    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Slurm's commands by name, each with its path, empty where PATH has none."""
    script: str = ""
    """The first line of sbatch, where that is a script."""
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The variables that Slurm's commands would read."""
    locale: str = ""
    """What is wrong with the locale."""
    pyslurm: str = ""
    """The version of the package pyslurm; empty where there is none."""
    unfit: str = ""
    """Why it cannot be used here."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """The folder with the run folders, as this machine sees it."""

    path: str
    error: str = ""
    """Why it cannot be made, or written to."""
    modes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The permissions of the folder, and of `home` above it, by path."""
    strangers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Those of these folders that belong to another user, with their number."""
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the runtime needs of a file system and did not get, and what was said."""
    kind: str = ""
    """The type of the file system: ``nfs4``, ``lustre``, ``ext4``."""
    free: int | None = None
    """Bytes that this user may still write, as the file system tells."""
    files: int | None = None
    """Files that may still be made; None where the file system does not count them."""


@dataclasses.dataclass(frozen=True)
class Site:
    """What Slurm's commands say."""

    config: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """``scontrol show config``, by name; empty where slurmctld gave no answer."""
    error: str = ""
    limits: Limits | None = None
    """What bounds a job of this user where the settings and options send it."""
    mpi: str = ""
    """What ``srun --mpi=list`` prints; empty where it cannot be asked."""
    asked: float = 0.0
    """When slurmctld answered, by this machine's clock."""


Outcome = Literal["skipped", "refused", "waits", "silent", "reported"]


@dataclasses.dataclass(frozen=True)
class Probe:
    """What became of the one small job, and what its node said."""

    outcome: Outcome
    job: str = ""
    reason: str = ""
    """Why there is no report: Slurm's own word."""
    hint: str = ""
    """What to do about that, where it is known."""
    state: str = ""
    """Slurm's word for how a job ended that did not report."""
    code: int | None = None
    """Its exit code, where Slurm told."""
    said: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The node's report: ``NAME=VALUE`` of node/checkup.sh."""
    waited: float = 0.0
    """Seconds until the report was there."""
    between: tuple[float, float] = (0.0, 0.0)
    """By this machine's clock, when the node can have looked at its own at the earliest and at the latest."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run of one shard on this machine."""

    error: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that was asked; None is what was not."""

    machine: Machine
    folder: Folder
    site: Site | None = None
    """None where there is no Slurm, or the settings choose the local cluster."""
    probe: Probe | None = None
    trial: Trial | None = None
