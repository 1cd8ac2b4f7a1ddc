"""The one table of Slurm's states, and the one state of a run."""

from __future__ import annotations

import itertools

import pytest

from hpcrun import states

# squeue(1) and sacct(1) of Slurm 25.05, JOB STATE CODES, and slurm.h's flags.
MANUAL = """
    BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE EXPEDITING FAILED LAUNCH_FAILED NODE_FAIL
    OUT_OF_MEMORY PENDING POWER_UP_NODE PREEMPTED RECONFIG_FAIL REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING
    RESV_DEL_HOLD REVOKED RUNNING SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT UPDATE_DB
"""


def test_every_state_of_slurm_is_known() -> None:
    """The table knows exactly the states that Slurm's manual lists."""
    assert sorted(states.SLURM_STATES) == sorted(MANUAL.split())


def test_the_lists_are_the_types() -> None:
    """Lists and types name the same states, and the table leads to nothing else."""
    assert {state for state, _ in states.SLURM_STATES.values()} <= set(states.SHARD_STATES)
    assert {cause for _, cause in states.SLURM_STATES.values() if cause} <= set(states.CAUSES)
    assert {*states.SHARD_STATES, *states.RUN_STATES} > states.TERMINAL


@pytest.mark.parametrize("name", ["SPECIAL", "", "running", "COMPLETED?"])
def test_unknown_is_never_an_end(name: str) -> None:
    """A name that the table does not know is unknown, which is no end."""
    assert states.from_slurm(name) == ("unknown", None)
    assert "unknown" not in states.TERMINAL


def test_accountings_spellings() -> None:
    """sacct says who cancelled, and marks a name that it cut short."""
    assert states.from_slurm("CANCELLED by 1000") == ("cancelled", "cancelled")
    assert states.from_slurm("CANCELLED+") == ("cancelled", "cancelled")


def test_states_and_causes_agree() -> None:
    """The state that Slurm's word leads to is the one that its cause leads to."""
    for state, cause in states.SLURM_STATES.values():
        if state in states.TERMINAL:
            assert states.from_cause(cause) == state


def test_every_cause_is_no_success() -> None:
    """Only no cause at all is success."""
    assert states.from_cause(None) == "succeeded"
    assert all(states.from_cause(cause) in states.TERMINAL - {"succeeded"} for cause in states.CAUSES)


# design.md, Status and exit codes.
TRUTH = [
    ("pending", "pending"),
    ("pending unknown", "pending"),
    ("pending starting", "starting"),
    ("pending running", "running"),
    ("pending succeeded", "running"),
    ("starting failed", "running"),
    ("unknown cancelled", "running"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("timed_out", "timed_out"),
    ("cancelled", "cancelled"),
    ("failed timed_out", "failed"),
    ("failed cancelled", "failed"),
    ("succeeded failed", "partial"),
    ("succeeded timed_out", "partial"),
    ("succeeded cancelled", "partial"),
]


@pytest.mark.parametrize(("shards", "run"), TRUTH)
def test_aggregate(shards: str, run: str) -> None:
    """The state of a run from those of its shards, when nobody cancelled it."""
    assert states.aggregate(shards.split(), cancelled=False) == run  # type: ignore[arg-type]


def test_aggregate_of_a_cancelled_run() -> None:
    """A cancelled run is cancelled once all has ended, unless every shard had succeeded."""
    for one, other in itertools.product(states.SHARD_STATES, repeat=2):
        found = states.aggregate([one, other], cancelled=True)
        if not {one, other} <= states.TERMINAL:
            assert found not in states.TERMINAL
        else:
            assert found == ("succeeded" if one == other == "succeeded" else "cancelled")
