"""Whether what has ended is tried again, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import retry
from hpcrun.states import CAUSES

if TYPE_CHECKING:
    from hpcrun.states import Cause

NO_BUDGETS = dict.fromkeys(retry.BUDGETS, 0)


@pytest.mark.parametrize("cause", ["preempted", "node_failed", "launch_failed", "lost"])
def test_what_the_cluster_does(cause: Cause) -> None:
    """It is made good ten times, and then no more."""
    for times in range(1, 11):
        assert retry.again(retry.BUDGETS, [cause] * times)
    assert not retry.again(retry.BUDGETS, [cause] * 11)
    assert not retry.again(retry.BUDGETS, [cause] * 12)


@pytest.mark.parametrize("cause", [None, "failed", "out_of_memory", "timed_out", "cancelled"])
def test_what_the_program_does(cause: Cause | None) -> None:
    """A good end is the last one, and a program's own failure is not tried again unless somebody asks for it."""
    assert not retry.again(retry.BUDGETS, [cause])
    assert not retry.again(retry.BUDGETS, ["node_failed", cause])


@pytest.mark.parametrize(
    ("budgets", "history", "expected"),
    [
        ({"failed": 2}, ["failed"], True),
        ({"failed": 2}, ["failed", "failed"], True),
        ({"failed": 2}, ["failed", "failed", "failed"], False),
        # Memory and failures share one budget.
        ({"failed": 2}, ["out_of_memory", "failed"], True),
        ({"failed": 2}, ["out_of_memory", "failed", "out_of_memory"], False),
        # So do what never started and what was lost.
        ({"launch_failed": 1}, ["lost"], True),
        ({"launch_failed": 1}, ["launch_failed", "lost"], False),
        # Time does not.
        ({"failed": 1, "timed_out": 1}, ["timed_out", "failed"], True),
        ({"failed": 1, "timed_out": 1}, ["failed", "timed_out"], True),
        ({"failed": 1, "timed_out": 1}, ["failed", "timed_out", "failed"], False),
        ({"failed": 5}, ["timed_out"], False),
        ({"timed_out": 1}, ["timed_out"], True),
        ({"timed_out": 1}, ["timed_out", "timed_out"], False),
        # What the cluster does never eats what the program has, and the other way round.
        ({"failed": 1}, ["preempted"] * 9 + ["node_failed"] * 9 + ["failed"], True),
        ({"failed": 1, "node_failed": 1}, ["failed", "node_failed"], True),
        ({"node_failed": 0}, ["node_failed"], False),
        # An end that was asked for is one, and so is a success, whatever there is left.
        ({"failed": 9}, ["cancelled"], False),
        ({"cancelled": 9, "failed": 9}, ["failed", None], False),
        ({"failed": 9}, [], False),
    ],
)
def test_budgets(budgets: dict[str, int], history: list[Cause | None], expected: bool) -> None:
    """An end may be followed by another attempt as long as its own budget is not used up."""
    assert retry.again({**NO_BUDGETS, **budgets}, history) == expected


def test_the_last_one_counts() -> None:
    """What else went wrong before takes nothing from what a lost node may cost."""
    assert retry.again(retry.BUDGETS, ["preempted"] * 20 + ["node_failed"])
    assert retry.again(retry.BUDGETS, ["node_failed"] * 5 + ["preempted"] * 20 + ["node_failed"] * 5)
    assert not retry.again(retry.BUDGETS, ["node_failed"] * 6 + ["preempted"] + ["node_failed"] * 5)


def test_nothing_yet() -> None:
    """Before the first end there is nothing to try again."""
    assert not retry.again(retry.BUDGETS, [])
    assert retry.delay(1.0, []) == 0.0


@given(
    budgets=st.fixed_dictionaries({name: st.integers(0, 3) for name in retry.BUDGETS}),
    ends=st.lists(st.sampled_from(CAUSES), max_size=40),
)
def test_attempts_have_an_end(budgets: dict[str, int], ends: list[Cause]) -> None:
    """Whatever befalls a shard, it is tried no more often than all its budgets together allow."""
    tried = 1
    while tried <= len(ends) and retry.again(budgets, ends[:tried]):
        tried += 1
    assert tried <= 1 + sum(budgets.values())


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (5, 160), (6, 320), (7, 360), (50, 360)])
def test_back_off_doubles_up_to_six_minutes(failures: int, seconds: float) -> None:
    """As for the indices of a Kubernetes Job, with 10 s to begin with there as here."""
    assert retry.delay(10.0, ["failed"] * failures) == seconds
    assert retry.delay(10.0, ["timed_out"] * failures) == seconds
    assert retry.delay(10.0, ["out_of_memory"] * failures) == seconds


@pytest.mark.parametrize(
    ("history", "seconds"),
    [
        (["node_failed"], 0),
        (["failed", "preempted"], 0),
        (["failed", "lost"], 0),
        (["launch_failed"], 0),
        ([None], 0),
        (["node_failed", "preempted", "failed"], 10),
        (["failed", "node_failed", "failed"], 20),
        (["failed", "timed_out", "out_of_memory"], 40),
    ],
)
def test_only_its_own_ends_put_a_program_off(history: list[Cause | None], seconds: float) -> None:
    """After what the cluster did to it the next attempt is due at once, and does not make later pauses longer."""
    assert retry.delay(10.0, history) == seconds


@pytest.mark.parametrize(("backoff", "seconds"), [(0.0, 0.0), (0.5, 1.0), (300.0, 360.0), (1000.0, 360.0)])
def test_how_long_the_first_pause_is(backoff: float, seconds: float) -> None:
    """None by default; no pause is longer than six minutes, whatever was asked for."""
    assert retry.delay(backoff, ["failed", "failed"]) == seconds


def test_every_cause_has_a_budget() -> None:
    """Of each way to end without success it is decided what it is taken from; an end that was asked for has none."""
    assert {retry.budget(cause) for cause in CAUSES} - {"cancelled"} == set(retry.BUDGETS)
