"""Whether what has ended is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hpcrun import retry

if TYPE_CHECKING:
    from hpcrun.states import Cause


def test_lost_nodes() -> None:
    """The loss of a node is made good ten times, and then no more."""
    for times in range(1, 11):
        assert retry.again(["node_failed"] * times)
    assert not retry.again(["node_failed"] * 11)
    assert not retry.again(["node_failed"] * 12)


@pytest.mark.parametrize(
    "cause", [None, "failed", "out_of_memory", "timed_out", "preempted", "launch_failed", "cancelled", "lost"]
)
def test_other_ends(cause: Cause | None) -> None:
    """A good end is the last one, and a program's own failure is not tried again by itself."""
    assert not retry.again([cause])
    assert not retry.again(["node_failed", cause])


def test_the_last_one_counts() -> None:
    """What else went wrong before takes nothing from what a lost node may cost."""
    assert retry.again(["preempted"] * 20 + ["node_failed"])
    assert retry.again(["node_failed"] * 5 + ["preempted"] * 20 + ["node_failed"] * 5)
    assert not retry.again(["node_failed"] * 6 + ["preempted"] + ["node_failed"] * 5)


def test_nothing_yet() -> None:
    """Before the first end there is nothing to try again."""
    assert not retry.again([])
