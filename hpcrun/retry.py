"""Whether what has ended is tried again, by the causes of the ends so far. Pure.

Causes share budgets: what a program does itself never eats what its cluster does to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpcrun.states import Cause

BUDGETS: dict[str, int] = {"failed": 0, "timed_out": 0, "preempted": 10, "node_failed": 10, "launch_failed": 10}
"""How often an attempt may end for a cause and be tried again, where a run does not say otherwise."""

MOST_BACKOFF = 360.0
"""Seconds that the back-off grows to at most: Kubernetes' six minutes."""

_SHARED: dict[str, str] = {"out_of_memory": "failed", "lost": "launch_failed"}
"""The budget of a cause that has none of its own name."""


def budget(cause: Cause | None) -> str:
    """The name of the budget that an end for `cause` is taken from."""
    return _SHARED.get(cause or "", cause or "")


def again(budgets: Mapping[str, int], history: Sequence[Cause | None]) -> bool:
    """Whether there is to be another attempt after those that ended so, the last one included; None is success."""
    if not history or history[-1] is None:
        return False
    name = budget(history[-1])
    return [budget(cause) for cause in history].count(name) <= budgets.get(name, 0)


def delay(backoff: float, history: Sequence[Cause | None], factor: float = 2.0) -> float:
    """Seconds from the end of the last attempt to the next one: `backoff`, and `factor` as much after each further end.

    As for the indices of a Kubernetes Job. Only ends of the program's own making count; what the cluster did to it
    puts nothing off.
    """
    own = sum(budget(cause) in ("failed", "timed_out") for cause in history)
    if not backoff or not history or budget(history[-1]) not in ("failed", "timed_out"):
        return 0.0
    return float(min(backoff * factor ** min(own - 1, 30), MOST_BACKOFF))
