"""Somebody who follows: requeued shards start soon and not too soon, lost ones start again, a stopped run ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurmlike import JOB, World

from hpcrun import events, follow
from hpcrun.cluster import QueueRow
from hpcrun.run import Run
from hpcrun.status import RunStatus


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """A run on a Slurm with a clock of its own, which is the follower's too."""

    def make(**fields: Any) -> World:
        found = World(tmp_path, **fields)
        monkeypatch.setattr(follow, "time", found.clock)
        return found

    return make


def begin(world: World, *tasks: int) -> None:
    for task in tasks or range(len(world.elements)):
        world.start(task)


def waits(world: World, shard: int = 0) -> list[float]:
    """Seconds from the end of each attempt to the start of the next one."""
    return [start - end for end, start in zip(world.ends(shard), world.starts(shard)[1:], strict=False)]


def test_the_next_attempt_starts_within_four_seconds(world: Callable[..., World]) -> None:
    """Of every failure; and never sooner than two seconds after the job has left its node."""
    slurm = world(retries=5)
    slurm.exits[0] = [1] * 5
    begin(slurm)
    assert slurm.followed()[-1].state == "succeeded"
    assert len(waits(slurm)) == 5
    assert max(waits(slurm)) <= 4
    assert slurm.revoked == []


@pytest.mark.parametrize("completing", [0.01, 1.7, 40.0])
def test_a_job_that_takes_its_time_to_leave_its_node(world: Callable[..., World], completing: float) -> None:
    """The two seconds count from there, and Slurm is not asked without end meanwhile."""
    slurm = world(retries=1)
    slurm.exits[0], slurm.completing = [1], completing
    begin(slurm)
    assert slurm.followed()[-1].state == "succeeded"
    (waited,) = waits(slurm)
    assert completing + 2 <= waited <= completing + 8.5
    assert slurm.revoked == []
    assert len(slurm.called("queue")) + len(slurm.called("look_at")) < 25


def test_a_job_that_is_shown_folded_with_its_array(world: Callable[..., World]) -> None:
    """Beside elements that have not started squeue shows that it waits while it still completes: not to be believed."""
    slurm = world(shards=3, retries=1)
    slurm.exits[0], slurm.completing = [1], 1.5
    begin(slurm, 0)
    slurm.clock.later(20.0, lambda: begin(slurm, 1, 2))
    assert slurm.followed()[-1].state == "succeeded"
    assert slurm.revoked == []
    assert 3.5 <= waits(slurm)[0] <= 5.5


def test_a_follower_who_comes_later(world: Callable[..., World]) -> None:
    """They cannot know how long it has waited, so they wait two seconds themselves."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm)
    slurm.clock.sleep(30)
    assert slurm.followed()[-1].state == "succeeded"
    assert waits(slurm)[0] == pytest.approx(30 - 1 + 2 + slurm.latency, abs=0.5)


def test_without_a_follower_it_takes_two_minutes(world: Callable[..., World]) -> None:
    """What the others are measured by."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm)
    slurm.clock.sleep(200)
    assert waits(slurm)[0] > 120
    assert slurm.run().status().state == "succeeded"


def test_what_slurm_has_overheard_is_said_again(world: Callable[..., World]) -> None:
    """An update that was lost costs seconds, not two minutes."""
    slurm = world(retries=1)
    slurm.exits[0], slurm.deaf = [1], True
    begin(slurm)
    slurm.clock.later(5.0, lambda: setattr(slurm, "deaf", False))
    assert slurm.followed()[-1].state == "succeeded"
    assert waits(slurm)[0] < 12
    assert len(slurm.called("start_now")) > 1


def test_back_off_is_kept(world: Callable[..., World]) -> None:
    """Before the end of its back-off nothing is started, soon after it everything."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm, 0)
    slurm.clock.sleep(0.5)
    slurm.elements[0].become("RUNNING")
    slurm.record_end(0, 0, exit_code=1, cause="failed", again=True, due=slurm.clock.now + 30)
    slurm.taken_back(0)
    assert slurm.followed()[-1].state == "succeeded"
    assert 30 <= waits(slurm)[0] <= 34


def test_a_held_shard_stays_held(world: Callable[..., World]) -> None:
    """Nobody overrules who holds it; its status names the reason; released, it starts."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm)
    slurm.clock.later(2.0, lambda: setattr(slurm.elements[0], "reason", "JobHeldAdmin"))
    slurm.clock.later(60.0, lambda: setattr(slurm.elements[0], "reason", "BeginTime"))
    statuses = slurm.followed()
    assert statuses[-1].state == "succeeded"
    assert any("JobHeldAdmin" in status.shards[0].detail for status in statuses)
    assert 60 < slurm.starts(0)[1] - slurm.starts(0)[0] < 95


def test_what_slurm_holds_after_a_failed_launch_is_released(world: Callable[..., World]) -> None:
    """Nobody else would: it is what a crashed slurmctld makes of a job that it starts twice."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm)
    slurm.clock.later(2.0, lambda: setattr(slurm.elements[0], "reason", "launch failed requeued held"))
    assert slurm.followed()[-1].state == "succeeded"
    assert any(call[0] == "release" for call in slurm.calls)


def test_many_at_once_are_one_call(world: Callable[..., World]) -> None:
    """Three hundred shards that fail within a second: a few questions, a few calls, no load."""
    slurm = world(shards=300, retries=1)
    for shard in range(300):
        slurm.exits[shard] = [1]
    for shard in range(300):
        slurm.clock.later(shard / 300, lambda shard=shard: slurm.start(shard))  # type: ignore[misc]
    assert slurm.followed()[-1].state == "succeeded"
    assert max(wait for shard in range(300) for wait in waits(slurm, shard)) <= 4
    assert len(slurm.called("start_now")) <= 20
    assert sum(map(len, slurm.called("start_now"))) == 300
    assert len(slurm.called("queue")) + len(slurm.called("look_at")) <= 25
    assert slurm.revoked == []


def test_slurm_that_does_not_answer_is_a_note(world: Callable[..., World]) -> None:
    """It is said, it ends nothing, and it is tried again."""
    slurm = world(retries=1)
    slurm.exits[0] = [1]
    begin(slurm)
    slurm.clock.later(2.0, lambda: setattr(slurm, "down", True))
    slurm.clock.later(20.0, lambda: setattr(slurm, "down", False))
    statuses = slurm.followed()
    assert statuses[-1].state == "succeeded"
    assert waits(slurm)[0] < 60
    assert any("slurmctld is down" in note for status in statuses for note in status.notes)
    assert statuses[-1].notes == ()


def test_what_slurm_itself_requeues(world: Callable[..., World]) -> None:
    """After preemption, and after the loss of a node, which leaves no end, the wait is the same and is ended too."""
    slurm = world(shards=2)
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.sleep(5)
    slurm.record_end(0, 0, exit_code=-1, cause="preempted", again=True)
    slurm.taken_back(0)
    slurm.taken_back(1)
    slurm.takes = 1.0
    slurm.clock.later(60, lambda: slurm.end(1, 1))
    at = slurm.clock.now
    slurm.followed()
    assert slurm.starts(0)[1] - at <= 4
    assert slurm.starts(1)[1] - at <= 6


def test_nobody_elses_wait_is_ended(world: Callable[..., World]) -> None:
    """Neither that of other runs, nor the one that a user asked for with --begin."""
    slurm = world(shards=2, retries=1)
    slurm.exits[0] = [1]
    slurm.elements[1].reason = "BeginTime"
    slurm.strangers = [QueueRow("7", None, "PENDING", "BeginTime"), QueueRow("8", (0, 1), "PENDING", "BeginTime")]
    begin(slurm, 0)
    slurm.clock.later(100, lambda: slurm.start(1))
    slurm.followed()
    assert slurm.called("start_now") == [(f"{JOB}_0",)]


def interleaved(world: World, *followers: Run) -> list[RunStatus]:
    """Let several follow at the same time; the last status that each one saw."""
    last: list[RunStatus] = []
    going = [run.follow() for run in followers]
    for turn in itertools.count():
        assert turn < 10_000
        for one in list(going):
            status = next(one, None)
            if status is None:
                going.remove(one)
            else:
                last.append(status)
        if not going:
            return last[-len(followers) :]
    raise AssertionError


def test_two_followers_do_no_harm(world: Callable[..., World]) -> None:
    """Each keeps the rule, and a lost shard is started again, and counted, once."""
    slurm = world(shards=2, retries=3)
    slurm.exits[0] = [1, 1, 1]
    slurm.never_launches[1] = 2
    begin(slurm)
    states = [status.state for status in interleaved(slurm, slurm.run(), slurm.run())]
    assert states == ["succeeded", "succeeded"]
    assert slurm.revoked == []
    assert len(slurm.called("requeue")) == 2
    assert slurm.attempts(1) == 3


def test_a_shard_that_never_launched_is_started_again(world: Callable[..., World]) -> None:
    """Slurm lost it before its program started: it is a further attempt, and nobody sees it fail on the way."""
    slurm = world()
    slurm.never_launches[0] = 3
    begin(slurm)
    statuses = slurm.followed()
    assert statuses[-1].state == "succeeded"
    assert statuses[-1].shards[0].attempts == 4
    assert {status.shards[0].state for status in statuses} <= {"unknown", "pending", "starting", "running", "succeeded"}
    assert slurm.revoked == []
    said = events.read(slurm.dir.silence(0, 0))
    assert [(event["cause"], event["again"]) for event in said] == [("launch_failed", True)]


def test_the_budget_of_launches_ends(world: Callable[..., World]) -> None:
    """Ten times, as `launch_failed` allows; then the shard has failed, and says why."""
    slurm = world()
    slurm.never_launches[0] = 50
    begin(slurm)
    status = slurm.followed(most=3000)[-1]
    assert (status.state, status.shards[0].cause, status.shards[0].attempts) == ("failed", "launch_failed", 11)
    assert "before its program started" in status.shards[0].detail
    assert len(slurm.called("requeue")) == 10


def test_a_shard_whose_supervisor_was_killed(world: Callable[..., World]) -> None:
    """Its record has a start and no end, and its job is gone: it was lost, and is tried again."""
    slurm = world()
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.later(5, lambda: slurm.elements[0].become("FAILED"))
    slurm.clock.later(6, lambda: setattr(slurm, "takes", 1.0))
    status = slurm.followed()[-1]
    assert (status.state, status.shards[0].attempts) == ("succeeded", 2)
    assert events.read(slurm.dir.silence(0, 0))[0]["cause"] == "lost"


@pytest.mark.parametrize(
    ("word", "output", "cause"),
    [
        ("OUT_OF_MEMORY", "", "out_of_memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch.\n", "out_of_memory"),
        ("CANCELLED", "slurmstepd: error: Job 5 exceeded memory limit (9 > 5), being killed\n", "out_of_memory"),
        ("NODE_FAIL", "", "node_failed"),
        ("BOOT_FAIL", "", "launch_failed"),
        ("PREEMPTED", "slurmstepd-c1: error: *** JOB 5 ON c1 CANCELLED AT x DUE TO PREEMPTION ***\n", "preempted"),
        (
            "PREEMPTED",
            "[2026-05-21T21:53:52.776] error: *** JOB 5 ON c1 CANCELLED AT x DUE TO PREEMPTION ***\n",
            "preempted",
        ),
    ],
)
def test_why_it_was_lost(world: Callable[..., World], word: str, output: str, cause: str) -> None:
    """Each end without a record is taken from the budget of its own cause."""
    slurm = world(retries=2)
    slurm.takes = 1000.0
    begin(slurm)
    slurm.output().write_text(output)
    slurm.clock.later(5, lambda: slurm.elements[0].become(word))
    slurm.clock.later(6, lambda: setattr(slurm, "takes", 1.0))
    status = slurm.followed()[-1]
    assert status.state == "succeeded"
    assert events.read(slurm.dir.silence(0, 0))[0]["cause"] == cause


def test_a_budget_of_nothing(world: Callable[..., World]) -> None:
    """Out of memory counts as the program's own failure: without retries it is the end."""
    slurm = world()
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.later(5, lambda: slurm.elements[0].become("OUT_OF_MEMORY"))
    status = slurm.followed()[-1]
    assert (status.state, status.shards[0].cause) == ("failed", "out_of_memory")
    assert slurm.called("requeue") == []


@pytest.mark.parametrize("word", ["CANCELLED", "COMPLETED", "DEADLINE"])
def test_what_is_never_started_again(world: Callable[..., World], word: str) -> None:
    """A shard that somebody has cancelled, one that may have succeeded, and one whose time is over."""
    slurm = world(retries=5)
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.later(5, lambda: slurm.elements[0].become(word))
    assert slurm.followed()[-1].done
    assert slurm.called("requeue") == []


def test_what_was_cancelled_while_it_waited_is_so_at_once(world: Callable[..., World]) -> None:
    """Nobody has to wait for a record that cannot come."""
    slurm = world()
    slurm.clock.later(5, lambda: slurm.elements[0].become("CANCELLED"))
    began = slurm.clock.now
    statuses = slurm.followed()
    assert {status.state for status in statuses} == {"pending", "cancelled"}
    assert slurm.clock.now - began < 10


def test_what_the_script_complains_of_would_not_change(world: Callable[..., World]) -> None:
    """A node without that Python: the shard has failed, and Slurm's own output says why."""
    slurm = world()
    slurm.never_launches[0] = 1
    slurm.output().write_text("/var/spool/slurm_script: line 9: /no/python: No such file\n")
    begin(slurm)
    status = slurm.followed()[-1]
    assert (status.state, status.shards[0].cause) == ("failed", "launch_failed")
    assert slurm.called("requeue") == []


def test_a_record_that_comes_late_is_believed(world: Callable[..., World]) -> None:
    """On a network file system the end may be seen seconds after Slurm tells of it; then nothing is lost."""
    slurm = world()
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.later(5, lambda: slurm.elements[0].become("FAILED"))
    slurm.clock.later(8, lambda: slurm.record_end(0, 0, exit_code=3, cause="failed", again=False))
    statuses = slurm.followed()
    assert (statuses[-1].state, statuses[-1].shards[0].exit_code) == ("failed", 3)
    assert slurm.called("requeue") == []
    assert not os.path.exists(slurm.dir.silence(0, 0))


def test_a_job_that_slurm_refuses_to_start_again(world: Callable[..., World]) -> None:
    """The shard has failed for good, with Slurm's reason."""
    slurm = world()
    slurm.never_launches[0] = 1
    slurm.refusal = "Requested operation is presently disabled"
    begin(slurm)
    status = slurm.followed()[-1]
    assert status.state == "failed"
    assert "presently disabled" in status.shards[0].detail


def test_a_run_folder_that_cannot_be_written(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost shard has failed then, and it is said why nothing was done about it."""
    slurm = world()
    slurm.never_launches[0] = 1
    begin(slurm)

    def full(path: str, text: str) -> bool:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(events, "claim", full)
    statuses = slurm.followed()
    assert statuses[-1].state == "failed"
    assert any("No space left" in note for note in statuses[-1].notes)
    assert slurm.called("requeue") == []


def test_a_shard_that_ended_before_it_could_requeue_itself(world: Callable[..., World]) -> None:
    """Its record says that it is tried again, and its job is gone: whoever follows does it."""
    slurm = world(retries=1)
    slurm.takes = 1000.0
    begin(slurm)
    slurm.clock.sleep(3)
    slurm.record_end(0, 0, exit_code=1, cause="failed", again=True)
    slurm.elements[0].become("FAILED")
    slurm.takes = 1.0
    assert slurm.followed()[-1].state == "succeeded"
    assert len(slurm.called("requeue")) == 1


def test_a_gang_is_started_again_whole(world: Callable[..., World]) -> None:
    """One job, one requeue, and all shards of it have the same attempts."""
    slurm = world(shards=3, gang=True)
    slurm.takes = 1000.0
    assert not slurm.plan.batches[0].array
    slurm.elements[0].become("FAILED", "NonZeroExitCode")
    slurm.clock.later(60, lambda: slurm.elements[0].become("CANCELLED"))
    status = slurm.followed()[-1]
    assert slurm.called("requeue") == [(JOB,)]
    assert slurm.called("start_now")[0] == (JOB,)
    assert [events.read(slurm.dir.silence(shard, 0))[0]["cause"] for shard in range(3)] == ["launch_failed"] * 3
    assert status.state == "cancelled"


def test_the_time_of_a_run_is_up_while_it_waits(world: Callable[..., World]) -> None:
    """It leaves the queue at once, and says why, although none of its shards has started."""
    slurm = world(shards=3, run_timeout="30s")
    began = slurm.clock.now
    statuses = slurm.followed()
    assert statuses[-1].state == "timed_out"
    assert slurm.clock.now - began < 33
    assert slurm.called("cancel") == [(JOB,)]
    assert events.stopped(slurm.dir) == ("run_timeout", "its time is up: run_timeout is 30 s")


def test_a_run_that_others_have_stopped(world: Callable[..., World]) -> None:
    """Who stops it has two seconds to end its jobs; then whoever follows does, and nothing is started any more."""
    slurm = world(shards=2, retries=3)
    slurm.exits[0], slurm.takes = [1, 1, 1], 5.0
    begin(slurm, 0)
    slurm.clock.later(5.05, lambda: events.stop(slurm.dir, "max_failed_indexes", "1 shards have failed for good"))
    status = slurm.followed()[-1]
    assert status.state == "cancelled"
    assert slurm.called("cancel") == [(JOB,)]
    assert slurm.starts(0) == slurm.starts(0)[:1]
    assert status.stopped == "1 shards have failed for good"


def test_a_run_that_has_ended_is_left_alone(world: Callable[..., World]) -> None:
    """Also long after its time was up."""
    slurm = world(run_timeout="30s")
    begin(slurm)
    slurm.clock.sleep(100)
    assert slurm.followed()[-1].state == "succeeded"
    assert events.stopped(slurm.dir) is None
    assert slurm.called("cancel") == []
