"""Waiting for a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(condition: Callable[[], Found], deadline: float = 120.0, what: str = "the condition") -> Found:
    """The first true value of `condition`; AssertionError with the last false one after `deadline` seconds."""
    end_by = time.monotonic() + deadline
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_by:
            raise AssertionError(f"{what} did not come true within {deadline:g} s; last seen: {found!r}")
        time.sleep(0.05)
