"""Launch distributed runs on Slurm, or on one machine.

`__all__` is the whole public API. Names are loaded when they are first used, so that importing the package costs
next to nothing and needs neither pydantic nor click.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.errors import (
        AccountingDisabled,
        ClusterError,
        ClusterUnavailable,
        ConfigError,
        HostlistError,
        HpcrunError,
        IndexSetError,
        RunFolderError,
        RunNotFound,
        SpecError,
        SubmissionRefused,
        TemplateError,
        UsageError,
    )
    from hpcrun.run import Run
    from hpcrun.status import RunStatus, ShardStatus
    from hpcrun.submission import submit

__version__ = "0.1.0"

_HOMES = {
    "hpcrun.errors": (
        "AccountingDisabled", "ClusterError", "ClusterUnavailable", "ConfigError", "HostlistError", "HpcrunError",
        "IndexSetError", "RunFolderError", "RunNotFound", "SpecError", "SubmissionRefused", "TemplateError",
        "UsageError",
    ),
    "hpcrun.run": ("Run",),
    "hpcrun.status": ("RunStatus", "ShardStatus"),
    "hpcrun.submission": ("submit",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AccountingDisabled", "ClusterError", "ClusterUnavailable", "ConfigError", "HostlistError", "HpcrunError",
    "IndexSetError", "Run", "RunFolderError", "RunNotFound", "RunStatus", "ShardStatus", "SpecError",
    "SubmissionRefused", "TemplateError", "UsageError", "__version__", "submit",
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
