"""What came of a call of sbatch whose answer nobody wrote down."""

from __future__ import annotations

from typing import Any

import pytest
import unit.made as made

from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.plan import Plan
from hpcrun.reconcile import ARRIVES, AT_ONCE, ELSEWHERE, NOBODY, Evidence, Key, doubtful, reconciled, trail
from hpcrun.sender import Sender, facts
from hpcrun.sent import Sent, Submitted, submitted

ME = Sender("login1", 77, 1000)
THREE = made.plan(shards=25, limits=Limits(max_array=10, accounting=True))
NOW = 10_000.0
INTENDED = NOW - 60
KILLED: list[dict[str, Any]] = [
    {"event": "sending", "at": INTENDED, **facts(ME)},
    {"event": "intent", "at": INTENDED, "batch": 0},
    {"event": "submitted", "at": INTENDED, "batch": 0, "job": "12"},
    {"event": "intent", "at": INTENDED, "batch": 1},
]
"""The record of a submission that was killed while it submitted the second of three batches."""
LEFT = [*KILLED, {"event": "left", "at": INTENDED}]


def row(job: str, script: str, state: str = "PENDING", tasks: tuple[int, ...] | None = (0,)) -> QueueRow:
    return QueueRow(job, tasks, state, script=f"/elsewhere/mounted/runs/{script}")


def found(
    record: list[dict[str, Any]],
    *rows: QueueRow,
    alive: bool | None = False,
    claims: dict[Key, str] | None = None,
    answer: bool = True,
    asked: float = NOW,
    took: float = 0.1,
    history: tuple[AccountingRow, ...] = (),
    plan: Plan = THREE,
) -> Submitted:
    evidence = Evidence(claims or {}, {ME: alive}, rows if answer else None, asked, took, history)
    return reconciled(plan, submitted(record), trail(record), evidence)


def jobs(sent: Submitted) -> list[str]:
    """A word for each batch in order: its job, or what is known of it."""
    return [one.job or ("never" if one.never else "under way" if one.under_way else "unknown") for one in sent.sent]


def test_a_job_with_the_path_of_the_script_is_it() -> None:
    """Slurm took it: its job is found, wherever the queue's machine has the folder, and the rest was never sent."""
    sent = found(KILLED, row("11", "abd/scripts/1.sh"), row("13", "abc/scripts/1.sh"))
    assert jobs(sent) == ["12", "13", "never"]
    assert "before its turn" in sent.sent[2].found


def test_an_answer_without_it_proves_that_there_is_none() -> None:
    """Who could submit it is gone, Slurm has answered since, and shows no such script."""
    assert jobs(found(KILLED, row("12", "abc/scripts/0.sh"))) == ["12", "never", "never"]


@pytest.mark.parametrize(
    "known",
    [
        {"answer": False},
        {"asked": INTENDED + ARRIVES / 2},
        {"took": AT_ONCE * 2},
    ],
    ids=["Slurm gives no answer", "it may be arriving", "Slurm is swamped"],
)
def test_no_proof_no_verdict(known: dict[str, Any]) -> None:
    """What was on its way is unknown as long as it can still come; what was never on its way is known at once."""
    assert jobs(found(KILLED, **known)) == ["12", "unknown", "never"]


def test_somebody_still_submits_it() -> None:
    """A living submission, or one that may live on another machine, has not failed."""
    assert jobs(found(KILLED, alive=True)) == ["12", "under way", "under way"]
    sent = found(KILLED, alive=None)
    assert jobs(sent) == ["12", "unknown", "unknown"]
    assert "process 77 on login1" in sent.sent[1].found
    assert jobs(found(KILLED, alive=None, asked=INTENDED + ELSEWHERE)) == ["12", "never", "never"]


def test_a_submission_that_gave_up_may_live_on() -> None:
    """The process that follows the run, or a notebook, is not taken for one that still submits."""
    assert jobs(found(LEFT, alive=None)) == ["12", "never", "never"]
    assert jobs(found(LEFT, alive=True)) == ["12", "under way", "under way"], "an sbatch of it is still there"


def test_a_claim_is_the_firmest_witness() -> None:
    """The job that has begun with a batch is the batch's, and another of the same script stands back."""
    rows = [row("13", "abc/scripts/1.sh"), row("14", "abc/scripts/1.sh"), row("14", "abc/scripts/1.sh", tasks=(1,))]
    sent = found(KILLED, *rows, claims={(1, 0): "14"})
    assert (jobs(sent), sent.doubles) == (["12", "14", "never"], ("13",))
    assert found(KILLED, *rows).doubles == ("14",), "before one has begun, the first is taken for it"
    sent = found(KILLED, row("9", "abc/scripts/0.sh"), row("12", "abc/scripts/0.sh"), claims={(0, 0): "9"})
    assert (jobs(sent)[0], sent.doubles) == ("9", ("12",)), "also where the record names the other one"
    assert jobs(found(KILLED, answer=False, claims={(1, 0): "13"})) == ["12", "13", "never"], "nobody need be asked"


def test_a_number_that_slurm_gives_a_second_time() -> None:
    """A slurmctld that crashes forgets its last seconds: the job that now has the number is not the run's."""
    others = QueueRow("12", None, "RUNNING", script="/home/user/other.sh", comment="(null)")
    sent = found(KILLED, others)
    assert jobs(sent) == ["never", "never", "never"]
    assert "12" in sent.sent[0].found
    assert "12" not in (*sent.jobs, *sent.doubles), "a cancel leaves it alone"
    assert jobs(found(KILLED, row("12", "xyz/scripts/0.sh")))[0] == "never", "another run's"
    assert jobs(found(KILLED, row("12", "abc/scripts/1.sh"))) == ["never", "12", "never"], "another batch's"


def test_a_site_that_submits_a_copy_of_the_script() -> None:
    """The comment is a second witness: jobs that carry it are the run's, and the one that nobody knows is the one."""
    rows = [QueueRow(job, (0,), "PENDING", script="/tmp/copy", comment="mine hpcrun:abc") for job in ("12", "13")]
    assert jobs(found(KILLED, *rows)) == ["12", "13", "never"]
    finish = QueueRow("14", None, "PENDING", script="/tmp/copy", comment="hpcrun-finish:abc")
    assert jobs(found(KILLED, rows[0], finish)) == ["12", "never", "never"]


def test_components_of_one_job_are_one_job() -> None:
    """The rows of a job and of its array's elements are no doubles."""
    rows = [row("13", "abc/scripts/1.sh", tasks=(task,)) for task in range(3)]
    assert found(KILLED, *rows).doubles == ()


def test_accounting_remembers_what_the_queue_has_forgotten() -> None:
    """A job that ended long ago without having begun with its batch was submitted all the same."""
    gone = AccountingRow("13", (0,), "FAILED", 1, 0, "c1", "sbatch --parsable /x/runs/abc/scripts/1.sh")
    assert jobs(found(KILLED, history=(gone,))) == ["12", "13", "never"]


def test_rounds_are_apart() -> None:
    """The script of a retry is another one, and its batch is the retry's."""
    record = [
        *LEFT,
        {"event": "sending", "at": INTENDED, **facts(ME)},
        {"event": "intent", "at": INTENDED, "batch": 1, "round": 1, "tasks": "0,3"},
    ]
    sent = found(record, row("20", "abc/scripts/1.1.sh"), claims={(1, 0): NOBODY})
    assert [(one.batch, one.round, one.job, one.never) for one in sent.sent] == [
        (0, 0, "12", False),
        (1, 0, "", True),
        (2, 0, "", True),
        (1, 1, "20", False),
    ]
    assert sent.of(THREE.batches[1])(3) == Sent(1, 1, (0, 3), "20")


def test_a_refusal_needs_no_finding_out() -> None:
    """Slurm's no stays the reason."""
    sent = found([*KILLED, {"event": "refused", "batch": 1, "reason": "no"}])
    assert (sent.sent[1].refused, sent.sent[1].never) == ("no", False)


def test_a_whole_record_leaves_no_doubt() -> None:
    """Then no process is looked for, and no accounting is asked."""
    whole = [*KILLED[:3]]
    for batch in (1, 2):
        whole += [{"event": "intent", "batch": batch}, {"event": "submitted", "batch": batch, "job": f"{20 + batch}"}]
    assert not doubtful(THREE, submitted(whole))
    assert doubtful(THREE, submitted(whole[:-1]))
    assert doubtful(THREE, submitted(KILLED[:3]))
    assert jobs(found(whole, alive=None)) == ["12", "21", "22"]


def test_nothing_was_written_but_who_submits() -> None:
    """Killed before the first intent: no batch was submitted, and Slurm need not be asked for that."""
    assert jobs(found(KILLED[:1], answer=False)) == ["never"] * 3
    assert jobs(found(KILLED[:1], answer=False, alive=True)) == ["under way"] * 3
