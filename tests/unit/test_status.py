"""fold: what is known of a run to its status."""

from __future__ import annotations

from typing import Any

import pytest
from unit.made import plan

from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.slurm import _accounting_row
from hpcrun.states import SLURM_STATES, TERMINAL
from hpcrun.status import (
    Attempt,
    RunStatus,
    Said,
    Seen,
    Submitted,
    attempt,
    by_shard,
    fold,
    settled,
    submitted,
    unexplained,
    with_newer_attempts,
)

PLAN = plan(shards=2)
START = {"event": "start", "at": 1.0, "node": "n1", "job": "12", "shard": 0, "attempt": 0, "task": 0}
BEGUN = Attempt(0, node="n1", job="12", started=1.0)


def ended(cause: Any = None, *, code: int | None = 0, signal: int = 0) -> Attempt:
    return Attempt(0, node="n1", job="12", started=1.0, ended=2.0, exit_code=code, signal=signal, cause=cause)


def queued(word: str, reason: str = "None") -> Said:
    state, cause = SLURM_STATES.get(word, ("unknown", None))
    return Said(state, cause, word, node="n9", reason=reason)


def accounted(word: str, code: int | None = 0, signal: int = 0) -> Said:
    state, cause = SLURM_STATES.get(word, ("unknown", None))
    return Said(state, cause, word, exit_code=code, signal=signal, node="n9")


def status(
    record: Attempt | None, queue: Said | None, accounting: Said | None, *, asked: bool = True, kept: bool = True,
    cancelled: bool = False,
    sent: Submitted | None = None,
) -> RunStatus:  # fmt: skip
    """The status of a run of two shards; shard 1 has succeeded."""
    return fold(
        PLAN,
        Seen(
            records={1: (ended(),)} | ({} if record is None else {0: (record,)}),
            submitted=sent or Submitted({0: "12"}),
            queue=({} if queue is None else {0: queue}) if asked else None,
            accounting={0: accounting} if accounting is not None else {} if kept else None,
            cancelled=cancelled,
            asked=5.0,
        ),
    )


FAILED = ended("failed", code=3)
PREEMPTED = ended("preempted", code=None, signal=15)
NO_RECORD = "Slurm says COMPLETED, but the program left no record"


@pytest.mark.parametrize(
    ("record", "queue", "accounting", "expected"),
    [
        # A record's end beats whatever Slurm says.
        (ended(), None, None, ("succeeded", None, "")),
        (ended(), queued("COMPLETING"), None, ("succeeded", None, "")),
        (ended(), queued("RUNNING"), accounted("FAILED", 1), ("succeeded", None, "")),
        (ended(), queued("REBOOTING"), None, ("succeeded", None, "")),
        (FAILED, queued("PENDING"), accounted("COMPLETED"), ("failed", "failed", "")),
        (ended("timed_out"), None, accounted("CANCELLED"), ("timed_out", "timed_out", "")),
        (ended("cancelled"), None, None, ("cancelled", "cancelled", "")),
        (ended("lost"), None, None, ("failed", "lost", "")),
        # Slurm brings these back by itself.
        (PREEMPTED, queued("PENDING", "BeginTime"), None, ("pending", None, "BeginTime")),
        (PREEMPTED, queued("RUNNING"), None, ("pending", None, "preempted; Slurm runs it again")),
        (PREEMPTED, queued("PREEMPTED"), None, ("failed", "preempted", "")),
        (PREEMPTED, None, None, ("failed", "preempted", "")),
        (ended("node_failed", code=None), queued("REQUEUED"), None, ("pending", None, "")),
        # Without an end the queue is believed.
        (None, queued("PENDING", "Priority"), None, ("pending", None, "Priority")),
        (None, queued("PENDING"), None, ("pending", None, "")),
        (None, queued("CONFIGURING"), None, ("starting", None, "")),
        (None, queued("RUNNING"), None, ("starting", None, "")),
        (BEGUN, queued("RUNNING"), None, ("running", None, "")),
        (BEGUN, queued("COMPLETING"), None, ("running", None, "")),
        (BEGUN, queued("SUSPENDED"), None, ("running", None, "")),
        (BEGUN, queued("NODE_FAIL"), None, ("failed", "node_failed", "")),
        (BEGUN, queued("REBOOTING"), None, ("unknown", None, "REBOOTING")),
        (None, queued("RUNNING"), accounted("FAILED", 1), ("starting", None, "")),
        # Then accounting.
        (BEGUN, None, accounted("TIMEOUT"), ("timed_out", "timed_out", "")),
        (BEGUN, None, accounted("OUT_OF_MEMORY", None, 9), ("failed", "out_of_memory", "")),
        (BEGUN, None, accounted("FAILED", 1), ("failed", "failed", "")),
        (None, None, accounted("FAILED", 1), ("failed", "launch_failed", "it ended before its program started")),
        (BEGUN, None, accounted("COMPLETED"), ("failed", "launch_failed", NO_RECORD)),
        (None, None, accounted("CANCELLED"), ("cancelled", "cancelled", "")),
        (None, None, accounted("WHATEVER"), ("unknown", None, "WHATEVER")),
        # And when nobody knows it.
        (BEGUN, None, None, ("failed", "lost", "it ended without a record")),
        (None, None, None, ("cancelled", "cancelled", "by scancel, while it waited")),
    ],
)  # fmt: skip
def test_shard(record: Attempt | None, queue: Said | None, accounting: Said | None, expected: tuple[Any, ...]) -> None:
    """State, cause and word of a shard from its record, the queue and accounting, in this order of trust."""
    found = status(record, queue, accounting).shards[0]
    assert (found.state, found.cause, found.detail) == expected


@pytest.mark.parametrize(("record", "state"), [(None, "pending"), (BEGUN, "running"), (FAILED, "failed")])
def test_could_not_ask(record: Attempt | None, state: str) -> None:
    """A cluster that could not be asked ends nothing: only records do."""
    assert status(record, None, None, asked=False).shards[0].state == state


@pytest.mark.parametrize("word", [word for word, (state, _) in SLURM_STATES.items() if state not in TERMINAL])
@pytest.mark.parametrize("record", [None, BEGUN])
def test_what_slurm_still_has_is_not_ended(word: str, record: Attempt | None) -> None:
    """While Slurm has a shard in the queue and no end is recorded, the run is not done."""
    assert not status(record, queued(word), None).done


def test_gone_without_accounting() -> None:
    """Where no accounting is kept, a shard that left the queue without a record is lost, for nobody knows why."""
    found = status(None, None, None, kept=False).shards[0]
    assert (found.state, found.cause, found.detail) == ("failed", "lost", "it left the queue, and no record says why")


def test_cancelled_before_it_started() -> None:
    """A shard that left the queue of a cancelled run was cancelled."""
    found = status(None, None, None, cancelled=True)
    assert (found.shards[0].state, found.state) == ("cancelled", "cancelled")


def test_unconfirmed_submission() -> None:
    """A batch whose submission was never confirmed has not ended, for it may be in the queue; a refused one has."""
    found = status(None, None, None, sent=Submitted({}, unconfirmed=(0,)))
    assert (found.shards[0].state, found.done) == ("unknown", False)
    assert found.shards[0].detail.startswith("whether it was submitted is not known")
    refused = status(None, None, None, sent=Submitted({}, refused="Invalid qos")).shards[0]
    assert refused.state == "failed"
    assert refused.detail == "not submitted: Invalid qos"


def test_addresses() -> None:
    """A shard is addressed as squeue and scancel name it, through split arrays."""
    made = plan(shards=3, limits=Limits(max_array=2, accounting=True))
    seen = Seen({}, Submitted({0: "12", 1: "13"}), {}, {}, cancelled=False, asked=5.0)
    found = fold(made, seen)
    assert ([shard.job for shard in found.shards], found.jobs) == (["12_0", "12_1", "13_0"], ("12", "13"))
    single = fold(plan(), Seen({}, Submitted({0: "12"}), {}, {}, cancelled=False, asked=5.0))
    assert single.shards[0].job == "12"


def test_rows_to_shards() -> None:
    """Rows of the queue and of accounting reach the right shards; strangers' rows are passed over."""
    made = plan(shards=5, limits=Limits(max_array=3, accounting=True))
    rows = [
        QueueRow("12", (0, 2), "PENDING", "Priority"),
        QueueRow("13", (1,), "RUNNING", nodes="n1"),
        QueueRow("99", (0,), "RUNNING"),
        AccountingRow("13", (0,), "FAILED", 0, 9, "n2"),
    ]
    found = by_shard(made, {0: "12", 1: "13"}, rows)
    assert {shard: said.state for shard, said in found.items()} == {
        0: "pending",
        2: "pending",
        4: "running",
        3: "failed",
    }
    assert (found[3].exit_code, found[3].signal, found[0].reason) == (None, 9, "Priority")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], None),
        ([{"event": "end"}], None),
        ([START], BEGUN),
        ([START, {"event": "end", "at": 2.0, "exit_code": 3, "signal": 0, "cause": "failed"}], FAILED),
        ([START, {"event": "end", "at": 2.0, "exit_code": -1, "signal": 15, "cause": "preempted"}], PREEMPTED),
    ],
)
def test_attempt(events: list[dict[str, Any]], expected: Attempt | None) -> None:
    """A record is an attempt once its start is there; a signal is never shown as a code."""
    assert attempt(events, 0) == expected


def test_submission_record() -> None:
    """An intent without an outcome is unconfirmed; a refused batch is not."""
    said: list[dict[str, Any]] = [
        {"event": "intent", "batch": 0}, {"event": "submitted", "batch": 0, "job": "12"},
        {"event": "intent", "batch": 1},
    ]  # fmt: skip
    assert submitted(said) == Submitted({0: "12"}, (1,), "")
    assert submitted([*said, {"event": "refused", "batch": 1, "reason": "no"}]) == Submitted({0: "12"}, (), "no")


def test_whom_to_ask_about() -> None:
    """Accounting is asked about shards that neither record nor queue explains; no one is asked once all is recorded."""
    seen = Seen({0: (BEGUN,), 1: (ended(),)}, Submitted({0: "12"}), {}, {}, cancelled=False, asked=5.0)
    assert unexplained(PLAN, seen) == [0]
    assert settled(PLAN, {0: (FAILED,), 1: (ended(),)})
    assert not settled(PLAN, {0: (BEGUN,), 1: (ended(),)})
    assert not settled(PLAN, {0: (PREEMPTED,), 1: (ended(),)})
    assert not settled(PLAN, {1: (ended(),)})


def test_newer_attempt() -> None:
    """A shard that has begun again since the queue was asked is running, whatever the queue said then."""
    found = with_newer_attempts({0: queued("PENDING")}, {0: (PREEMPTED,)}, {0: (PREEMPTED, BEGUN), 1: (BEGUN,)})
    assert {shard: said.state for shard, said in found.items()} == {0: "running", 1: "running"}


def exit_code(*attempts: Attempt, cancelled: bool = False) -> int:
    records = {index: (one,) for index, one in enumerate(attempts)}
    seen = Seen(records, Submitted({0: "12"}), {}, {}, cancelled=cancelled, asked=5.0)
    return fold(plan(shards=len(attempts)), seen).exit_code()


def test_exit_codes() -> None:
    """0 succeeded, the one program's own code or signal, 1 failed, 3 partial, 124 timed out, 130 cancelled."""
    assert exit_code(ended()) == 0
    assert exit_code(FAILED) == 3
    assert exit_code(ended("failed", code=None, signal=9)) == 137
    assert exit_code(ended("lost", code=None)) == 1
    assert exit_code(FAILED, FAILED) == 1
    assert exit_code(FAILED, ended()) == 3
    assert exit_code(ended("timed_out", code=1)) == 124
    assert exit_code(ended("cancelled"), cancelled=True) == 130


def test_json() -> None:
    """The JSON has counts, folded indices as Kubernetes writes them, and every shard."""
    found = status(FAILED, None, None).to_json()
    assert found["counts"] == {"succeeded": 1, "failed": 1}
    assert (found["status"], found["completedIndexes"], found["failedIndexes"]) == ("partial", "1", "0")
    assert [shard["state"] for shard in found["shards"]] == ["failed", "succeeded"]


GANG = {**START, "gang": True, "node": "first"}
READY = {"event": "ready", "at": 1.5, "node": "n2", "workers": ["w1"]}
SLOW = {"event": "waiting", "at": 1.2, "text": "worker 1 on n3: nothing listens on port 80"}
END = {"event": "end", "at": 2.0, "exit_code": 0, "signal": 0, "cause": None}
NOT_UP = "the rest of its gang is not up yet"


@pytest.mark.parametrize(
    ("events", "waits", "node", "detail"),
    [
        ([START], False, "n1", ""),
        ([GANG], True, "first", ""),
        ([GANG, SLOW], True, "first", SLOW["text"]),
        ([GANG, SLOW, {**SLOW, "text": "later"}], True, "first", "later"),
        ([GANG, SLOW, READY], False, "n2", ""),
        ([GANG, READY], False, "n2", ""),
        ([GANG, END], False, "first", ""),
        ([GANG, SLOW, END], False, "first", ""),
        ([GANG, READY, END], False, "n2", ""),
        ([GANG, {**END, "cause": "failed", "detail": "worker 0 exited"}], False, "first", "worker 0 exited"),
    ],
)
def test_record_of_a_gang(events: list[dict[str, Any]], waits: bool, node: str, detail: str) -> None:
    """A shard of a gang waits until all are ready; then it is where it runs, and its end says what was wrong."""
    found = attempt(events, 0)
    assert found is not None
    assert (found.gang, found.waits, found.node, found.detail) == (bool(events[0].get("gang")), waits, node, detail)


@pytest.mark.parametrize(
    ("events", "queue", "expected"),
    [
        ([GANG], queued("RUNNING"), ("starting", NOT_UP, "first")),
        ([GANG, SLOW], queued("RUNNING"), ("starting", SLOW["text"], "first")),
        ([GANG, SLOW, READY], queued("RUNNING"), ("running", "", "n2")),
        ([GANG, READY], queued("RUNNING"), ("running", "", "n2")),
        ([GANG, READY], queued("COMPLETING"), ("running", "", "n2")),
        ([GANG], queued("NODE_FAIL"), ("failed", "", "first")),
        ([GANG], None, ("failed", "it ended without a record", "first")),
    ],
)
def test_gang_starts(events: list[dict[str, Any]], queue: Said | None, expected: tuple[str, str, str]) -> None:
    """Until its workers are up a running job is starting, and the status says for whom it waits."""
    found = status(attempt(events, 0), queue, None).shards[0]
    assert (found.state, found.detail, found.node) == expected


def test_detail_of_an_end() -> None:
    """What the supervisor says of an end is shown, and again while Slurm brings the job back after a lost node."""
    text = "worker 1 on n3: its node is lost (the connection to it was closed)"
    lost = attempt([GANG, {**END, "exit_code": 1, "cause": "node_failed", "detail": text}], 0)
    found = status(lost, None, None)
    assert (found.shards[0].state, found.shards[0].cause, found.shards[0].detail) == ("failed", "node_failed", text)
    assert found.to_json()["shards"][0]["detail"] == text
    again = status(lost, queued("RUNNING"), None).shards[0]
    assert (again.state, again.detail) == ("pending", f"{text}; Slurm runs it again")
    waits = status(lost, queued("PENDING", "BeginTime"), None).shards[0]
    assert (waits.state, waits.detail) == ("pending", "BeginTime")


@pytest.mark.parametrize("shape", [{}, {"worker": {"command": ["serve"]}}])
def test_rows_of_a_gang(shape: dict[str, Any]) -> None:
    """One row of a gang is about all of its shards; the workers' component has a number of its own and says nothing."""
    made = plan(shape, shards=3, gang=True)
    found = by_shard(made, {0: "8"}, [QueueRow("8", None, "RUNNING", nodes="a,b"), QueueRow("9", None, "PENDING")])
    seen = {shard: (said.state, said.node) for shard, said in found.items()}
    assert seen == dict.fromkeys(range(3), ("running", "a,b"))


def test_rows_of_het_jobs() -> None:
    """Where each shard is a heterogeneous job, its leader's row is about it: ``8+0`` in accounting, never ``8+1``."""
    made = plan({"worker": {"command": ["serve"]}}, shards=2, topology="het")
    lines = ["8+0|FAILED|3:0|a", "8+1|COMPLETED|0:0|w", "8+0.batch|FAILED|3:0|a", "10+0|COMPLETED|0:0|b"]
    rows = [row for line in lines for row in _accounting_row(line)]
    assert [(row.job, row.tasks) for row in rows] == [("8", None), ("10", None)]
    found = by_shard(made, {0: "8", 1: "10"}, rows)
    assert {shard: (said.state, said.exit_code, said.node) for shard, said in found.items()} == {
        0: ("failed", 3, "a"), 1: ("succeeded", 0, "b")
    }  # fmt: skip


def test_addresses_of_gangs() -> None:
    """All shards of a gang are one job; shards with heterogeneous jobs of their own have one each."""
    seen = Seen({}, Submitted({0: "8"}), {}, {}, cancelled=False, asked=5.0)
    assert [shard.job for shard in fold(plan(shards=3, gang=True), seen).shards] == ["8"] * 3
    seen = Seen({}, Submitted({0: "8", 1: "10"}), {}, {}, cancelled=False, asked=5.0)
    made = plan({"worker": {"command": ["serve"]}}, shards=2, topology="het")
    assert [shard.job for shard in fold(made, seen).shards] == ["8", "10"]


def test_gang_is_starting() -> None:
    """A run whose gang is not up yet is starting, and then it runs."""
    made = plan(shards=2, gang=True)
    for events, state in (([GANG], "starting"), ([GANG, READY], "running")):
        records = {shard: (attempt(events, 0),) for shard in range(2)}
        queue = by_shard(made, {0: "8"}, [QueueRow("8", None, "RUNNING")])
        seen = Seen(records, Submitted({0: "8"}), queue, {}, cancelled=False, asked=5.0)  # type: ignore[arg-type]
        assert fold(made, seen).state == state
