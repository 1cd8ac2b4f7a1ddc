"""Whether what has ended is tried again, by the causes of the ends so far. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.states import Cause

BUDGETS: dict[Cause, int] = {"node_failed": 10}
"""How often an attempt may end for a cause and be tried again; never for others."""


def again(history: Sequence[Cause | None]) -> bool:
    """Whether there is to be another attempt after those that ended so, the last one included."""
    last = history[-1] if history else None
    return last is not None and history.count(last) <= BUDGETS.get(last, 0)
