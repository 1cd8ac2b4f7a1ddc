"""The exceptions of hpcrun.

    HpcrunError
    ├── UsageError              what the user gave is wrong; exit code 2, nothing was submitted
    │   ├── SpecError           a run spec: file, line, field
    │   ├── ConfigError         a settings file or an HPCRUN_* variable
    │   ├── TemplateError       a script template
    │   ├── HostlistError       a Slurm hostlist: column            (also a ValueError)
    │   ├── IndexSetError       an index set such as 3,17,40-44     (also a ValueError)
    │   └── RunNotFound         no such run, or more than one
    ├── ClusterError            the cluster did not do what was asked
    │   ├── ClusterUnavailable  it cannot be asked: missing, down, too slow; exit code 69
    │   │   └── AccountingDisabled   there is no slurmdbd to ask
    │   └── SubmissionRefused   it answered, with a no
    ├── RunFolderError          a run folder that cannot be read or written
    ├── CallFailed              a call of a function has come to no result, and no exception of its own says why
    └── RemoteTraceback         the cause of an exception that was raised on a node: its traceback there

Every message says what was found, what was wanted and what to do next; the facts are attributes.
All of them survive pickling, so they may cross a process boundary.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _rebuild(cls: type[HpcrunError], args: tuple[Any, ...], facts: dict[str, Any]) -> HpcrunError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(facts)
    return error


class HpcrunError(Exception):
    """Base of every error that hpcrun raises on purpose; anything else is a bug and shows its traceback."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UsageError(HpcrunError):
    """What the user gave is wrong; nothing was submitted."""

    exit_code = 2


class SpecError(UsageError):
    """A run spec cannot be used: where (``file``, ``line``, ``field``) and why (``problem``)."""

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, field: str = "") -> None:
        place = ":".join(part for part in (file, str(line) if line else "") if part)
        super().__init__(": ".join(part for part in (place, field, problem) if part))
        self.problem, self.file, self.line, self.field = problem, file, line, field


class ConfigError(SpecError):
    """A settings file or an ``HPCRUN_*`` variable cannot be used; same facts as `SpecError`."""


class TemplateError(SpecError):
    """A script template cannot be rendered; same facts as `SpecError`."""


class _ColumnError(UsageError, ValueError):
    kind = ""

    def __init__(self, text: str, column: int, found: str, wanted: str) -> None:
        super().__init__(f"{self.kind} {text!r}: column {column}: found {found}, wanted {wanted}")
        self.text, self.column, self.found, self.wanted = text, column, found, wanted


class HostlistError(_ColumnError):
    """Not a hostlist as ``scontrol show hostnames`` takes it; ``column`` counts from 1."""

    kind = "hostlist"


class IndexSetError(_ColumnError):
    """Not an index set such as ``3,17,40-44``; ``column`` counts from 1."""

    kind = "index set"


class RunNotFound(UsageError):
    """The run asked for does not exist, or its prefix fits more than one (``candidates``)."""

    def __init__(self, asked: str, home: str, candidates: tuple[str, ...] = ()) -> None:
        if candidates:
            shown = ", ".join(candidates[:5]) + (", …" if len(candidates) > 5 else "")
            problem = f"run {asked!r} fits {len(candidates)} runs ({shown}); give more of its id"
        else:
            problem = f"no run {asked!r} in {home}; `hpcrun list` shows the runs there are"
        super().__init__(problem)
        self.asked, self.home, self.candidates = asked, home, candidates


class ClusterError(HpcrunError):
    """The cluster did not do what was asked."""


class ClusterUnavailable(ClusterError):
    """The cluster cannot be asked at all: its commands are missing, its daemons are down or too slow."""

    exit_code = 69


class AccountingDisabled(ClusterUnavailable):
    """This cluster keeps no accounting, so ``sacct`` has nothing to say."""


class SubmissionRefused(ClusterError):
    """The cluster refused a submission; ``reason`` is its own word, ``command`` what was run.

    ``said`` is all that this printed, and ``code`` its exit code.
    """

    exit_code = 2

    def __init__(self, reason: str, command: tuple[str, ...], hint: str = "", said: str = "", code: int = 1) -> None:
        super().__init__(f"the cluster refused the submission: {reason}" + (f"\n  {hint}" if hint else ""))
        self.reason, self.command, self.hint, self.said, self.code = reason, command, hint, said, code


class RunFolderError(HpcrunError):
    """A run folder cannot be read or written; ``path`` and ``problem`` say which and why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class CallFailed(HpcrunError):
    """A call of a function has come to no result, and no exception of its own can say why.

    ``call`` is its number, ``shard``, ``attempt`` and ``node`` where it was made, ``cause`` why the attempt ended (such
    as ``timed_out``, ``out_of_memory``), ``log`` the last lines of its log.
    """

    def __init__(
        self, text: str, *, call: int, shard: int, attempt: int, cause: str | None, node: str, log: str
    ) -> None:
        super().__init__(text)
        self.call, self.shard, self.attempt, self.cause, self.node, self.log = call, shard, attempt, cause, node, log


class RemoteTraceback(HpcrunError):
    """The traceback of an exception on the node where it was raised, as text: the ``__cause__`` of that exception."""
