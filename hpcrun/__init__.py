"""Launch distributed runs on Slurm, or on one machine.

`__all__` is the whole public API. Names are loaded when they are first used, so that importing the package costs
next to nothing and needs neither pydantic nor click.

PYTEST_DONT_REWRITE: pytest would warn of a package with a plug-in that is imported before it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.calls import Results
    from hpcrun.checkpoints import checkpoint
    from hpcrun.errors import (
        AccountingDisabled,
        CallFailed,
        ClusterError,
        ClusterUnavailable,
        ConfigError,
        HostlistError,
        HpcrunError,
        IndexSetError,
        RemoteTraceback,
        RunFolderError,
        RunNotFound,
        SpecError,
        SubmissionRefused,
        TemplateError,
        UsageError,
    )
    from hpcrun.executor import Executor
    from hpcrun.here import Current, current
    from hpcrun.mapping import map  # noqa: A004
    from hpcrun.output import stderr, stdout
    from hpcrun.run import Run
    from hpcrun.sharding import shard
    from hpcrun.status import RunStatus, ShardStatus
    from hpcrun.submission import submit
    from hpcrun.tasks import TaskStatus

__version__ = "0.1.0"

_HOMES = {
    "hpcrun.calls": ("Results",),
    "hpcrun.checkpoints": ("checkpoint",),
    "hpcrun.errors": (
        "AccountingDisabled", "CallFailed", "ClusterError", "ClusterUnavailable", "ConfigError", "HostlistError",
        "HpcrunError", "IndexSetError", "RemoteTraceback", "RunFolderError", "RunNotFound", "SpecError",
        "SubmissionRefused", "TemplateError", "UsageError",
    ),
    "hpcrun.executor": ("Executor",),
    "hpcrun.here": ("Current", "current"),
    "hpcrun.mapping": ("map",),
    "hpcrun.output": ("stderr", "stdout"),
    "hpcrun.run": ("Run",),
    "hpcrun.sharding": ("shard",),
    "hpcrun.status": ("RunStatus", "ShardStatus"),
    "hpcrun.submission": ("submit",),
    "hpcrun.tasks": ("TaskStatus",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AccountingDisabled", "CallFailed", "ClusterError", "ClusterUnavailable", "ConfigError", "Current", "Executor",
    "HostlistError", "HpcrunError", "IndexSetError", "RemoteTraceback", "Results", "Run", "RunFolderError",
    "RunNotFound", "RunStatus", "ShardStatus", "SpecError", "SubmissionRefused", "TaskStatus", "TemplateError",
    "UsageError", "__version__", "checkpoint", "current", "map", "shard", "stderr", "stdout", "submit",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'hpcrun' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
