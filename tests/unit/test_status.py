"""fold: what is known of a run to its status."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from unit.made import plan

from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.ledger import Entry
from hpcrun.retry import BUDGETS
from hpcrun.sent import Sent, Submitted, submitted
from hpcrun.slurm import _accounting_row
from hpcrun.states import SLURM_STATES, TERMINAL
from hpcrun.status import (
    Attempt,
    RunStatus,
    Said,
    Seen,
    attempt,
    by_shard,
    fold,
    settled,
    unexplained,
    with_newer_attempts,
)

PLAN = plan(shards=2)
AGAIN = {**BUDGETS, "failed": 1}
START = {"event": "start", "at": 1.0, "node": "n1", "job": "12", "shard": 0, "attempt": 0, "task": 0}
BEGUN = Attempt(0, node="n1", job="12", started=1.0)


def ended(cause: Any = None, *, code: int | None = 0, again: bool = False, **more: Any) -> Attempt:
    """An attempt that ended so; what `more` does not say is as in BEGUN."""
    won = cause is None and not again
    return dataclasses.replace(BEGUN, ended=2.0, exit_code=code, cause=cause, again=again, won=won, **more)


def recorded(events: list[dict[str, Any]], budgets: dict[str, int] = BUDGETS) -> Attempt | None:
    """The one attempt of a shard whose record has these events."""
    return attempt(Entry(0, events, []), budgets)


def jobs(*ids: str) -> Submitted:
    """A run whose batches were all submitted, as the jobs with these ids."""
    return Submitted(tuple(Sent(batch, job=job) for batch, job in enumerate(ids)))


def known(
    records: Any, *, sent: Submitted | None = None, queue: Any = (), stopped: tuple[str, str] | None = None
) -> Seen:
    """What is known where there are these records, this queue (by default an empty one) and an empty accounting."""
    return Seen(records, sent or jobs("12"), dict(queue), {}, stopped=stopped, asked=5.0)


def queued(word: str, reason: str = "None") -> Said:
    state, cause = SLURM_STATES.get(word, ("unknown", None))
    return Said(state, cause, word, node="n9", reason=reason)


def accounted(word: str, code: int | None = 0, signal: int = 0) -> Said:
    state, cause = SLURM_STATES.get(word, ("unknown", None))
    return Said(state, cause, word, exit_code=code, signal=signal, node="n9")


def status(
    record: Attempt | None, queue: Said | None, accounting: Said | None, *, asked: bool = True, kept: bool = True,
    stopped: tuple[str, str] | None = None,
    sent: Submitted | None = None,
) -> RunStatus:  # fmt: skip
    """The status of a run of two shards; shard 1 has succeeded."""
    return fold(
        PLAN,
        Seen(
            records={1: (ended(),)} | ({} if record is None else {0: (record,)}),
            submitted=sent or jobs("12"),
            queue=({} if queue is None else {0: queue}) if asked else None,
            accounting={0: accounting} if accounting is not None else {} if kept else None,
            stopped=stopped,
            asked=5.0,
        ),
    )


FAILED = ended("failed", code=3)
PREEMPTED = ended("preempted", code=None, signal=15, again=True)
PREEMPTED_OFTEN = ended("preempted", code=None, signal=15)
TRIED_AGAIN = "attempt 0: preempted; tried again"
LEFT = "{}; it was to be tried again, and has left the queue"
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
        (PREEMPTED, queued("PENDING", "BeginTime"), None, ("pending", "preempted", TRIED_AGAIN)),
        (PREEMPTED, queued("RUNNING"), None, ("pending", "preempted", TRIED_AGAIN)),
        (PREEMPTED, queued("PREEMPTED"), None, ("failed", "preempted", "")),
        (PREEMPTED, None, None, ("failed", "preempted", LEFT.format(TRIED_AGAIN.partition(";")[0]))),
        (PREEMPTED_OFTEN, queued("PENDING", "BeginTime"), None, ("failed", "preempted", "")),
        (PREEMPTED_OFTEN, None, None, ("failed", "preempted", "")),
        (ended("node_failed", code=None, again=True), queued("REQUEUED"), None,
         ("pending", "node_failed", "attempt 0: node failed; tried again")),
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
        (BEGUN, None, accounted("FAILED", 1), ("failed", "lost", "it ended without a record")),
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
    found = status(None, None, None, stopped=("user", ""))
    assert (found.shards[0].state, found.state) == ("cancelled", "cancelled")


def test_unconfirmed_submission() -> None:
    """A batch whose submission was never confirmed has not ended, for it may be in the queue; a refused one has."""
    found = status(None, None, None, sent=Submitted((Sent(0),)))
    assert (found.shards[0].state, found.done) == ("unknown", False)
    assert found.shards[0].detail.startswith("whether it was submitted is not known")
    no = Submitted((Sent(0, refused="Invalid qos"),))
    refused = status(None, None, None, sent=no, stopped=("refused", "Invalid qos")).shards[0]
    assert refused.state == "failed"
    assert refused.detail == "not submitted: Invalid qos"


def test_addresses() -> None:
    """A shard is addressed as squeue and scancel name it, through split arrays."""
    made = plan(shards=3, limits=Limits(max_array=2, accounting=True))
    found = fold(made, known({}, sent=jobs("12", "13")))
    assert ([shard.job for shard in found.shards], found.jobs) == (["12_0", "12_1", "13_0"], ("12", "13"))
    single = fold(plan(), known({}))
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
    found = by_shard(made, jobs("12", "13"), rows)
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
        ([{"event": "ready", "at": 1.0}], None),
        ([START], BEGUN),
        ([START, {"event": "end", "at": 2.0, "exit_code": 3, "signal": 0, "cause": "failed"}], FAILED),
        ([START, {"event": "end", "at": 2.0, "exit_code": -1, "signal": 15, "cause": "preempted"}], PREEMPTED),
    ],
)
def test_attempt(events: list[dict[str, Any]], expected: Attempt | None) -> None:
    """A record is an attempt once its start is there; a signal is never shown as a code."""
    assert recorded(events) == expected


def test_submission_record() -> None:
    """An intent without an outcome is unconfirmed; a refused batch is not."""
    said: list[dict[str, Any]] = [
        {"event": "intent", "batch": 0}, {"event": "submitted", "batch": 0, "job": "12"},
        {"event": "intent", "batch": 1},
    ]  # fmt: skip
    found = submitted(said)
    assert found == Submitted((Sent(0, job="12"), Sent(1)))
    assert (found.jobs, found.unconfirmed) == (("12",), (Sent(1),))
    refused = submitted([*said, {"event": "refused", "batch": 1, "reason": "no"}])
    assert (refused.jobs, refused.unconfirmed, refused.sent[1].refused) == (("12",), (), "no")


def test_whom_to_ask_about() -> None:
    """Accounting is asked about shards that neither record nor queue explains; no one is asked once all is recorded."""
    assert unexplained(PLAN, known({0: (BEGUN,), 1: (ended(),)})) == [0]
    assert unexplained(PLAN, known({0: (PREEMPTED,), 1: (ended(),)})) == [0]
    assert unexplained(PLAN, known({0: (PREEMPTED_OFTEN,), 1: (ended(),)})) == []
    assert settled(PLAN, {0: (FAILED,), 1: (ended(),)}, jobs("12"))
    assert settled(PLAN, {0: (PREEMPTED_OFTEN,), 1: (ended(),)}, jobs("12"))
    assert not settled(PLAN, {0: (BEGUN,), 1: (ended(),)}, jobs("12"))
    assert not settled(PLAN, {0: (PREEMPTED,), 1: (ended(),)}, jobs("12"))
    assert not settled(PLAN, {1: (ended(),)}, jobs("12"))


def test_newer_attempt() -> None:
    """A shard that has begun again since the queue was asked is running, whatever the queue said then."""
    found = with_newer_attempts({0: queued("PENDING")}, {0: (PREEMPTED,)}, {0: (PREEMPTED, BEGUN), 1: (BEGUN,)})
    assert {shard: said.state for shard, said in found.items()} == {0: "running", 1: "running"}


def exit_code(*attempts: Attempt, stopped: tuple[str, str] | None = None) -> int:
    records = {index: (one,) for index, one in enumerate(attempts)}
    return fold(plan(shards=len(attempts)), known(records, stopped=stopped)).exit_code()


def test_exit_codes() -> None:
    """0 succeeded, the one program's own code or signal, 1 failed, 3 partial, 124 timed out, 130 cancelled."""
    assert exit_code(ended()) == 0
    assert exit_code(FAILED) == 3
    assert exit_code(ended("failed", code=None, signal=9)) == 137
    assert exit_code(ended("lost", code=None)) == 1
    assert exit_code(FAILED, FAILED) == 1
    assert exit_code(FAILED, ended()) == 3
    assert exit_code(ended("timed_out", code=1)) == 124
    assert exit_code(ended("cancelled"), stopped=("user", "")) == 130


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
    found = recorded(events)
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
    found = status(recorded(events), queue, None).shards[0]
    assert (found.state, found.detail, found.node) == expected


def test_detail_of_an_end() -> None:
    """What the supervisor says of an end is shown, and again while Slurm brings the job back after a lost node."""
    text = "worker 1 on n3: its node is lost (the connection to it was closed)"
    end = {**END, "exit_code": 1, "cause": "node_failed", "detail": text}
    lost = recorded([GANG, end])
    for word in ("RUNNING", "PENDING"):
        again = status(lost, queued(word, "BeginTime"), None).shards[0]
        assert (again.state, again.cause, again.detail) == ("pending", "node_failed", f"attempt 0: {text}; tried again")
    found = status(recorded([GANG, {**end, "again": False}]), None, None)
    assert (found.shards[0].state, found.shards[0].cause, found.shards[0].detail) == ("failed", "node_failed", text)
    assert found.to_json()["shards"][0]["detail"] == text


@pytest.mark.parametrize("shape", [{}, {"worker": {"command": ["serve"]}}])
def test_rows_of_a_gang(shape: dict[str, Any]) -> None:
    """One row of a gang is about all of its shards; the workers' component has a number of its own and says nothing."""
    made = plan(shape, shards=3, gang=True)
    found = by_shard(made, jobs("8"), [QueueRow("8", None, "RUNNING", nodes="a,b"), QueueRow("9", None, "PENDING")])
    seen = {shard: (said.state, said.node) for shard, said in found.items()}
    assert seen == dict.fromkeys(range(3), ("running", "a,b"))


def test_rows_of_het_jobs() -> None:
    """Where each shard is a heterogeneous job, its leader's row is about it: ``8+0`` in accounting, never ``8+1``."""
    made = plan({"worker": {"command": ["serve"]}}, shards=2, topology="het")
    lines = ["8+0|FAILED|3:0|a", "8+1|COMPLETED|0:0|w", "8+0.batch|FAILED|3:0|a", "10+0|COMPLETED|0:0|b"]
    rows = [row for line in lines for row in _accounting_row(line)]
    assert [(row.job, row.tasks) for row in rows] == [("8", None), ("10", None)]
    found = by_shard(made, jobs("8", "10"), rows)
    assert {shard: (said.state, said.exit_code, said.node) for shard, said in found.items()} == {
        0: ("failed", 3, "a"), 1: ("succeeded", 0, "b")
    }  # fmt: skip


def test_addresses_of_gangs() -> None:
    """All shards of a gang are one job; shards with heterogeneous jobs of their own have one each."""
    assert [shard.job for shard in fold(plan(shards=3, gang=True), known({}, sent=jobs("8"))).shards] == ["8"] * 3
    made = plan({"worker": {"command": ["serve"]}}, shards=2, topology="het")
    assert [shard.job for shard in fold(made, known({}, sent=jobs("8", "10"))).shards] == ["8", "10"]


def test_gang_is_starting() -> None:
    """A run whose gang is not up yet is starting, and then it runs."""
    made = plan(shards=2, gang=True)
    for events, state in (([GANG], "starting"), ([GANG, READY], "running")):
        records = {shard: (recorded(events),) for shard in range(2)}
        queue = by_shard(made, jobs("8"), [QueueRow("8", None, "RUNNING")])
        assert fold(made, known(records, sent=jobs("8"), queue=queue)).state == state


# Attempts that are followed by others.


@pytest.mark.parametrize(
    ("last", "word", "reason", "said"),
    [
        (ended("failed", code=3, again=True), "PENDING", "BeginTime",
         "attempt 0: failed with exit code 3; tried again"),
        (ended("failed", code=None, signal=9, again=True), "PENDING", "None",
         "attempt 0: failed with signal 9; tried again"),
        (ended("timed_out", code=1, again=True), "RUNNING", "None", "attempt 0: timed out; tried again"),
        (ended("out_of_memory", code=None, signal=9, number=2, again=True), "COMPLETING", "None",
         "attempt 2: out of memory; tried again"),
        (ended("failed", code=1, again=True, detail="worker 0 exited"), "REQUEUED", "None",
         "attempt 0: worker 0 exited; tried again"),
        (ended("failed", code=3, again=True), "PENDING", "JobHeldUser",
         "attempt 0: failed with exit code 3; tried again (JobHeldUser)"),
    ],
)  # fmt: skip
def test_to_be_tried_again(last: Attempt, word: str, reason: str, said: str) -> None:
    """Between two attempts a shard is pending, and it says how the last one ended and what holds up the next."""
    found = status(last, queued(word, reason), None)
    shard = found.shards[0]
    assert (shard.state, shard.cause, shard.detail) == ("pending", last.cause, said)
    assert (shard.exit_code, shard.signal, shard.ended) == (None, 0, None), "nothing of it has ended for good"
    assert not found.done


FAILED_ONCE = ended("failed", code=3, again=True)


def test_a_shard_that_waits_is_cancelled() -> None:
    """Where the run was cancelled before the next attempt began, that is how the shard ended."""
    shard = status(FAILED_ONCE, None, None, stopped=("user", "")).shards[0]
    assert (shard.state, shard.cause, shard.attempts) == ("cancelled", "cancelled", 1)
    shard = status(FAILED_ONCE, queued("CANCELLED"), None).shards[0]
    assert (shard.state, shard.cause) == ("cancelled", "cancelled")
    shard = status(FAILED_ONCE, None, accounted("CANCELLED")).shards[0]
    assert (shard.state, shard.cause) == ("cancelled", "cancelled")


@pytest.mark.parametrize("kept", [True, False])
def test_a_shard_that_waits_leaves_the_queue(kept: bool) -> None:
    """Nobody tries it again: it has failed as its last attempt did, and that is said."""
    found = status(FAILED_ONCE, None, None, kept=kept)
    shard = found.shards[0]
    assert (shard.state, shard.cause) == ("failed", "failed")
    assert shard.detail == LEFT.format("attempt 0: failed with exit code 3")
    assert found.done


def test_what_could_not_be_asked_about() -> None:
    """A shard that is to be tried again waits for all anybody knows, not more."""
    found = status(FAILED_ONCE, None, None, asked=False)
    assert (found.shards[0].state, found.done) == ("pending", False)


def test_the_next_attempt() -> None:
    """Once it has begun it is the one that counts; all are counted."""
    second = Attempt(1, node="n2", job="12", started=3.0)
    seen = known({0: (FAILED_ONCE, second), 1: (ended(),)}, queue={0: queued("RUNNING")})
    shard = fold(PLAN, seen).shards[0]
    assert (shard.state, shard.cause, shard.node, shard.started, shard.attempts) == ("running", None, "n2", 3.0, 2)
    over = fold(PLAN, known({0: (FAILED_ONCE, ended(number=1)), 1: (ended(),)}))
    assert (over.state, over.shards[0].attempts) == ("succeeded", 2)
    worse = fold(PLAN, known({0: (FAILED_ONCE, ended("failed", code=4, number=1)), 1: (ended(),)}))
    assert (worse.state, worse.shards[0].exit_code, worse.shards[0].attempts) == ("partial", 4, 2)


def test_a_success_is_one() -> None:
    """Whatever else was believed or begun meanwhile, a shard with a success has succeeded."""
    lost = ended("lost", code=None, number=1)
    begun = Attempt(1, node="n2", job="12", started=3.0)
    for other in (lost, begun):
        found = fold(PLAN, known({0: (ended(), other), 1: (ended(),)}))
        assert found.state == "succeeded"
        assert settled(PLAN, {0: (ended(), other), 1: (ended(),)}, jobs("12"))


@pytest.mark.parametrize(
    ("end", "budgets", "expected"),
    [
        ({"cause": "failed", "exit_code": 3}, BUDGETS, False),
        ({"cause": "failed", "exit_code": 3}, AGAIN, True),
        ({"cause": "failed", "exit_code": 3, "again": False}, AGAIN, False),
        ({"cause": "failed", "exit_code": 3, "again": True}, BUDGETS, True),
        ({"cause": "node_failed", "exit_code": -1}, BUDGETS, True),
        ({"cause": None}, AGAIN, False),
    ],
)
def test_who_says_whether_another_follows(end: dict[str, Any], budgets: dict[str, int], expected: bool) -> None:
    """Whoever wrote the end; where they could not know, the budgets."""
    found = recorded([START, {**END, **end}], budgets)
    assert found is not None
    assert found.again == expected


def test_budgets_count_what_went_before() -> None:
    """Of the same round; what a retry by hand left behind is forgotten."""
    failed = {**END, "cause": "failed", "exit_code": 3}
    first = Entry(0, [START, failed], [])
    second = attempt(Entry(1, [START, failed], []), AGAIN, [first])
    by_hand = attempt(Entry(1, [{**START, "round": 1}, failed], []), AGAIN, [first])
    assert second is not None
    assert by_hand is not None
    assert (second.again, by_hand.again, by_hand.round) == (False, True, 1)


def test_a_pause_before_the_next_attempt() -> None:
    """Its record says before when the next one is not to start."""
    found = recorded([START, {**END, "cause": "failed", "exit_code": 3, "again": True, "due": 62.0}], AGAIN)
    assert found is not None
    assert (found.again, found.due) == (True, 62.0)


# Retries by hand.

TWICE = Submitted((Sent(0, job="12"), Sent(0, round=1, tasks=(0,), job="20")))


def test_a_retry_by_hand_in_the_record() -> None:
    """Each round has a line of its own, with the elements that it was for."""
    said: list[dict[str, Any]] = [
        {"event": "intent", "batch": 0}, {"event": "submitted", "batch": 0, "job": "12"},
        {"event": "intent", "batch": 0, "round": 1, "tasks": "0,3-5"},
    ]  # fmt: skip
    assert submitted(said).sent == (Sent(0, job="12"), Sent(0, round=1, tasks=(0, 3, 4, 5)))
    job = {"event": "submitted", "batch": 0, "round": 1, "job": "20"}
    assert submitted([*said, job]).jobs == ("12", "20")
    assert submitted([job, *said]).jobs == ("12",), "what was never intended is nobody's"


@pytest.mark.parametrize(
    ("records", "queue", "expected"),
    [
        ((FAILED,), queued("PENDING", "Priority"), ("pending", None, "Priority")),
        ((FAILED,), queued("RUNNING"), ("starting", None, "")),
        ((FAILED, Attempt(1, node="n2", job="20", started=9.0, round=1)), queued("RUNNING"), ("running", None, "")),
        ((FAILED, ended(number=1, round=1)), None, ("succeeded", None, "")),
        ((FAILED, ended("failed", code=4, number=1, round=1)), None, ("failed", "failed", "")),
        ((FAILED,), None, ("cancelled", "cancelled", "by scancel, while it waited")),
    ],
)
def test_a_retry_by_hand(records: tuple[Attempt, ...], queue: Said | None, expected: tuple[Any, ...]) -> None:
    """An end of an earlier round is not the end of a shard that was submitted again."""
    everything = {0: records, 1: (FAILED,)}
    found = fold(PLAN, known(everything, sent=TWICE, queue={} if queue is None else {0: queue}))
    shard, other = found.shards
    assert (shard.state, shard.cause, shard.detail) == expected
    assert (shard.job, other.job) == ("20_0", "12_1")
    assert (other.state, other.cause) == ("failed", "failed"), "it was not part of the retry"
    whole = records[-1].round == 1 and records[-1].ended is not None
    assert settled(PLAN, everything, TWICE) == whole
    assert unexplained(PLAN, known(everything, sent=TWICE)) == ([] if whole else [0])


@pytest.mark.parametrize("turned", [False, True])
def test_rows_of_two_rounds(turned: bool) -> None:
    """Of two jobs that have had a shard the later one counts, in whatever order the cluster tells of them."""
    rows = [
        AccountingRow("12", (0,), "FAILED", 3, 0, "n1"),
        AccountingRow("12", (1,), "FAILED", 4, 0, "n1"),
        AccountingRow("20", (0,), "COMPLETED", 0, 0, "n2"),
    ]
    found = by_shard(PLAN, TWICE, reversed(rows) if turned else rows)
    assert {shard: (said.state, said.node) for shard, said in found.items()} == {
        0: ("succeeded", "n2"), 1: ("failed", "n1")
    }  # fmt: skip


def test_who_has_an_element() -> None:
    """The last submission that it was part of; none where its batch was never reached."""
    (batch,) = PLAN.batches
    of = TWICE.of(batch)
    assert [sent.job if (sent := of(task)) else None for task in range(2)] == ["20", "12"]
    thrice = Submitted((*TWICE.sent, Sent(0, round=2, job="30")))
    assert [sent.job if (sent := thrice.of(batch)(task)) else None for task in range(2)] == ["30", "30"]
    assert Submitted().of(batch)(0) is None


# Elements of several shards.

PACKED = plan(shards=5, shards_per_element=2)


def test_rows_of_elements_of_several_shards() -> None:
    """A row of an element is about each of its shards; the last may have fewer."""
    found = by_shard(PACKED, jobs("12"), [QueueRow("12", (1, 2), "RUNNING", nodes="n1")])
    assert {shard: said.state for shard, said in found.items()} == dict.fromkeys((2, 3, 4), "running")


def test_shards_of_one_element() -> None:
    """One after the other: those whose turn has not come wait, and all have the element's address."""
    records = {0: (ended(),), 1: (ended("failed", code=3),), 2: (BEGUN,)}
    rows = [QueueRow("12", (1,), "RUNNING", nodes="n1"), QueueRow("12", (2,), "PENDING", "Priority")]
    found = fold(PACKED, known(records, queue=by_shard(PACKED, jobs("12"), rows)))
    assert [shard.state for shard in found.shards] == ["succeeded", "failed", "running", "pending", "pending"]
    assert [shard.job for shard in found.shards] == ["12_0", "12_0", "12_1", "12_1", "12_2"]
    assert found.shards[3].detail == "waits for its turn in its element of the array"
    assert found.shards[4].detail == "Priority"


# Runs that were stopped.

TIME_IS_UP = "its time is up: run_timeout is 5 s"
TOO_MANY = "2 shards have failed for good, and max_failed_indexes is 1"
TOLD = ended("cancelled", code=None, signal=15, detail="another reason")


@pytest.mark.parametrize(
    ("by", "text", "record", "expected"),
    [
        ("user", "", None, ("cancelled", "cancelled", "")),
        ("user", "", FAILED_ONCE, ("cancelled", "cancelled", "")),
        ("user", "", FAILED, ("failed", "failed", "")),
        ("max_failed_indexes", TOO_MANY, None, ("cancelled", "cancelled", TOO_MANY)),
        ("max_failed_indexes", TOO_MANY, FAILED_ONCE, ("cancelled", "cancelled", TOO_MANY)),
        ("max_failed_indexes", TOO_MANY, ended("cancelled", code=None), ("cancelled", "cancelled", TOO_MANY)),
        ("max_failed_indexes", TOO_MANY, TOLD, ("cancelled", "cancelled", "another reason")),
        ("max_failed_indexes", TOO_MANY, FAILED, ("failed", "failed", "")),
        ("max_failed_indexes", TOO_MANY, ended(), ("succeeded", None, "")),
        ("run_timeout", TIME_IS_UP, None, ("timed_out", "timed_out", TIME_IS_UP)),
        ("run_timeout", TIME_IS_UP, FAILED_ONCE, ("timed_out", "timed_out", TIME_IS_UP)),
        ("run_timeout", TIME_IS_UP, FAILED, ("failed", "failed", "")),
        ("refused", "Invalid qos", None, ("cancelled", "cancelled", "Invalid qos")),
        ("upstream", "run b has failed", None, ("failed", "cancelled", "run b has failed")),
    ],
)
def test_stopped(by: str, text: str, record: Attempt | None, expected: tuple[Any, ...]) -> None:
    """What had not ended when a run was stopped ends as the reason wants it, and says it; what had, stays."""
    found = status(record, None, None, stopped=(by, text))
    shard = found.shards[0]
    assert (shard.state, shard.cause, shard.detail) == expected
    assert found.stopped == text
    assert found.to_json()["stopped"] == text


@pytest.mark.parametrize(
    ("by", "state"),
    [("user", "cancelled"), ("max_failed_indexes", "partial"), ("run_timeout", "partial"), ("upstream", "partial")],
)
def test_the_state_of_a_run_that_was_stopped(by: str, state: str) -> None:
    """Only its user cancels a run; one that stopped itself has the state that its shards have."""
    found = status(None, None, None, stopped=(by, "why"))
    assert (found.state, found.done) == (state, True)


def test_a_run_that_ran_out_of_time() -> None:
    """It has timed out where none of it was done, exit code 124."""
    found = fold(PLAN, known({0: (ended("timed_out", code=1),)}, stopped=("run_timeout", TIME_IS_UP)))
    assert [shard.state for shard in found.shards] == ["timed_out", "timed_out"]
    assert (found.state, found.exit_code()) == ("timed_out", 124)


@pytest.mark.parametrize(("by", "state"), [("user", "cancelled"), ("run_timeout", "timed_out")])
@pytest.mark.parametrize(("queue", "accounting"), [(queued("FAILED"), None), (None, accounted("FAILED", None, 15))])
def test_stopped_in_a_pause(by: str, state: str, queue: Said | None, accounting: Said | None) -> None:
    """A shard that waited for its next attempt was stopped, whatever Slurm calls the end of its job."""
    text = TIME_IS_UP if by == "run_timeout" else ""
    shard = status(FAILED_ONCE, queue, accounting, stopped=(by, text)).shards[0]
    assert (shard.state, shard.cause, shard.detail) == (state, state, text)
    waiting = status(FAILED_ONCE, queued("PENDING"), None, stopped=(by, text)).shards[0]
    assert waiting.state == "pending", "until it has left the queue"
    unasked = status(FAILED_ONCE, None, None, stopped=(by, text), asked=False).shards[0]
    assert unasked.state == "pending"


def test_what_still_runs_when_a_run_is_stopped() -> None:
    """Until they have left the queue its shards are what Slurm says."""
    found = status(BEGUN, queued("RUNNING"), None, stopped=("max_failed_indexes", TOO_MANY))
    assert (found.shards[0].state, found.done) == ("running", False)


def test_refused_in_the_middle() -> None:
    """The batches that were never taken have failed for Slurm's reason; the others are cancelled on its account."""
    made = plan(shards=4, limits=Limits(max_array=2, accounting=True))
    sent = Submitted((Sent(0, job="12"), Sent(1, refused="Invalid qos")))
    found = fold(made, known({}, sent=sent, stopped=("refused", "Invalid qos")))
    assert [(shard.state, shard.cause, shard.detail) for shard in found.shards] == [
        *[("cancelled", "cancelled", "Invalid qos")] * 2,
        *[("failed", "launch_failed", "not submitted: Invalid qos")] * 2,
    ]
    assert (found.state, found.stopped) == ("failed", "Invalid qos")
