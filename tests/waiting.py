"""Waiting for a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
_LONGEST = 2.0
"""Seconds between two questions, at most."""


def until(condition: Callable[[], Found], deadline: float = 120.0, what: str = "the condition") -> Found:
    """The first true value of `condition`; AssertionError with the last false one after `deadline` seconds.

    To ask takes less than half of the time: the processors are for what is waited for, and for other tests beside.
    """
    end_by = time.monotonic() + deadline
    while True:
        asked = time.monotonic()
        found = condition()
        took = time.monotonic() - asked
        if found:
            return found
        if time.monotonic() > end_by:
            raise AssertionError(f"{what} did not come true within {deadline:g} s; last seen: {found!r}")
        time.sleep(min(max(0.05, 1.5 * took), _LONGEST))
