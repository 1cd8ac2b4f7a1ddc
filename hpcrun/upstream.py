"""Runs that start after other runs: which outcomes let them start, and the words for it.

The rules are Velda's: every condition must be met, a run that was cancelled meets none, and one that was not started
because of the run before it counts as failed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.states import RunState

_MET: dict[str, tuple[RunState, ...]] = {
    "after": ("succeeded", "partial", "failed", "timed_out"),
    "after_success": ("succeeded",),
    "after_fail": ("partial", "failed", "timed_out"),
}

KINDS = tuple(_MET)
"""The fields of a spec that name runs to wait for."""

_AWAITED = {"after": "ends", "after_success": "succeeds", "after_fail": "fails"}
_ONLY = {"after": "its end", "after_success": "its success", "after_fail": "its failure"}
_HOW: dict[str, str] = {
    "succeeded": "has succeeded",
    "partial": "has succeeded only in part",
    "failed": "has failed",
    "timed_out": "has timed out",
    "cancelled": "was cancelled",
    "gone": "has left no trace",
}


def met(kind: str, state: str) -> bool:
    """Whether a run that has ended in `state` is what one of these `KINDS` waits for."""
    return state in _MET[kind]


def awaited(kind: str, run_id: str) -> str:
    """What is waited for, to be read behind "after": ``run X succeeds``."""
    return f"run {run_id} {_AWAITED[kind]}"


def refusal(kind: str, run_id: str, state: str) -> str:
    """Why a run that was to start after another one does not start."""
    how = _HOW.get(state, f"is {state} and nobody waits for its end any more")
    return f"run {run_id} {how}; this run was to start only after {_ONLY[kind]}"


def outcome(path: str) -> str:
    """The state in the file `path`, in which a finaliser has left how its run ended; empty where there is none."""
    from json import loads

    try:
        with open(path, encoding="utf-8") as file:
            return str(loads(file.read())["state"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def hindered(state: str) -> str:
    """Who is said to have stopped a run whose condition an outcome has made impossible, as `events.stop` takes it.

    A cancel is handed on as one; anything else is the failure of the run before.
    """
    return "user" if state == "cancelled" else "upstream"
