"""What is tried again on this machine: how often, when, why not, and what is left of each attempt."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import HPCRUN, Machine, ended, gone, number_in, text_of
from waiting import until

from hpcrun import Run, ledger

FLAKY = 'echo "attempt $HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT < 2 ? 3 : 0))'
STAYS = 'echo "$PPID" >"$HPCRUN_RESULTS_DIR/supervisor.$HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT"; exec sleep 1000'


def causes(run: Run, shard: int = 0) -> list[str | None]:
    """How each attempt of a shard ended."""
    return [entry.cause for entry in ledger.read(run.dir, shard)]


def pauses(run: Run, shard: int = 0) -> list[float]:
    """Seconds between the end of each attempt of a shard and the start of the next one."""
    entries = ledger.read(run.dir, shard)
    return [
        later.start["at"] - earlier.end["at"]
        for earlier, later in itertools.pairwise(entries)
        if later.start is not None and earlier.end is not None
    ]


def test_a_program_that_succeeds_in_the_end(machine: Machine) -> None:
    """It fails twice, is told which attempt it is, and succeeds; the output of each attempt is kept."""
    run = machine.run("--retries", "2", "--", "bash", "-c", FLAKY)
    (shard,) = run.shards()
    assert (shard.state, shard.cause, shard.attempts, shard.exit_code) == ("succeeded", None, 3, 0)
    assert causes(run) == ["failed", "failed", None]
    for attempt in range(3):
        shown = machine.hpcrun("logs", run.id, "--attempt", str(attempt))
        assert shown.stdout.decode() == f"attempt {attempt}\n"
    assert machine.hpcrun("logs", run.id).stdout.decode() == "attempt 2\n", "the last one where none is named"
    beyond = machine.hpcrun("logs", run.id, "--attempt", "3")
    assert (beyond.returncode, beyond.stderr.decode()) == (
        2, "hpcrun: error: found attempt 3 of shard 0, wanted 0 to 2\n"
    )  # fmt: skip


def test_a_program_that_never_succeeds(machine: Machine) -> None:
    """When its budget is used up it has failed, with the code of its last attempt."""
    script = 'echo "attempt $HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT + 7))'
    run = machine.run("--retries", "2", "--", "bash", "-c", script, code=9)
    (shard,) = run.shards()
    assert (shard.state, shard.cause, shard.attempts, shard.exit_code) == ("failed", "failed", 3, 9)
    assert [run.logs(0, attempt) for attempt in range(3)] == [f"attempt {attempt}\n" for attempt in range(3)]


def test_by_default_nothing_is_tried_again(machine: Machine) -> None:
    """One failure is one."""
    assert machine.run("bash", "-c", FLAKY, code=3).shards()[0].attempts == 1


def test_each_shard_has_its_own_budget(machine: Machine) -> None:
    """One that always fails takes nothing from the others."""
    script = "exit $((HPCRUN_SHARD_INDEX == 1 || HPCRUN_SHARD_INDEX > HPCRUN_ATTEMPT))"
    run = machine.run("-N", "4", "--retries", "3", "--", "bash", "-c", script, code=3)
    assert [(shard.state, shard.attempts) for shard in run.shards()] == [
        ("succeeded", 1), ("failed", 4), ("succeeded", 3), ("succeeded", 4)
    ]  # fmt: skip


def test_a_signal_is_a_failure(machine: Machine) -> None:
    """A program that a signal killed is tried again as one that failed."""
    run = machine.run("--retries", "1", "--", "bash", "-c", "[ $HPCRUN_ATTEMPT = 1 ] || kill -KILL $$")
    assert causes(run) == ["failed", None]


def test_output_kept_apart(machine: Machine) -> None:
    """Also where standard error has a file of its own, each attempt does."""
    script = 'echo "out $HPCRUN_ATTEMPT"; echo "err $HPCRUN_ATTEMPT" >&2; exit $((1 - HPCRUN_ATTEMPT))'
    run = machine.run("--retries", "1", "--stderr", "separate", "--", "bash", "-c", script)
    assert [run.logs(0, attempt) for attempt in range(2)] == ["out 0\nerr 0\n", "out 1\nerr 1\n"]


# What is not tried again.


@pytest.mark.parametrize("how", ["cancelled", "told"])
def test_whoever_is_told_to_end_is_not_tried_again(machine: Machine, how: str) -> None:
    """A program that exits badly on SIGTERM stays cancelled, after one attempt, whatever its budget."""
    script = 'trap "exit 3" TERM; echo $PPID >"$HPCRUN_RESULTS_DIR/up"; while :; do sleep 0.02; done'
    run = machine.submit("--retries", "9", "--", "bash", "-c", script)
    supervisor = number_in(run, "up")
    if how == "cancelled":
        machine.hpcrun("cancel", run.id)
    else:
        os.kill(supervisor, signal.SIGTERM)
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause, shard.attempts, shard.exit_code) == ("cancelled", "cancelled", 1, 3)
    assert machine.hpcrun("wait", run.id).returncode == 130
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_time_that_is_up_has_a_budget_of_its_own(machine: Machine) -> None:
    """By default an attempt that took too long is the last; retries are for failures."""
    run = machine.run("--retries", "9", "--timeout", "0.3s", "--", "sleep", "1000", code=124)
    assert causes(run) == ["timed_out"]


def test_time_that_is_up_is_tried_again(machine: Machine) -> None:
    """Where a budget says so, with all of the time for the next attempt."""
    script = "if [ $HPCRUN_ATTEMPT = 0 ]; then exec sleep 1000; fi"
    run = machine.run("--set", "spec.retries.timed_out=1", "--timeout", "0.5s", "--", "bash", "-c", script)
    assert causes(run) == ["timed_out", None]
    again = machine.run(
        "--set", "spec.retries.timed_out=1", "--timeout", "0.3s", "--", "sleep", "1000", code=124
    )  # fmt: skip
    assert causes(again) == ["timed_out", "timed_out"]


# Pauses.


def test_back_off(machine: Machine) -> None:
    """The next attempt starts no sooner than that after the end of the last, and the pauses double."""
    run = machine.run("--retries", "2", "--backoff", "0.4s", "--", "bash", "-c", FLAKY)
    first, second = pauses(run)
    assert first >= 0.4
    assert second >= 0.8


def test_without_back_off_the_next_attempt_starts_at_once(machine: Machine) -> None:
    """There is no pause that nobody asked for."""
    run = machine.run("--retries", "2", "--", "bash", "-c", FLAKY)
    assert all(0 <= pause < 5 for pause in pauses(run))


def _in_pause(machine: Machine, *more: str) -> Run:
    """A run whose only attempt so far has failed, and whose next one is five minutes away."""
    run = machine.submit("--retries", "2", "--backoff", "5m", *more, "--", "bash", "-c", FLAKY)
    until(lambda: causes(run)[:1] == ["failed"], what="the end of the first attempt")
    return run


def test_a_shard_in_a_pause_waits(machine: Machine) -> None:
    """It is shown as pending, with why; it does not run."""
    run = _in_pause(machine)
    (shard,) = until(lambda: shards if (shards := run.shards())[0].state == "pending" else None)
    assert (shard.attempts, shard.cause) == (1, "failed")
    assert shard.detail == "attempt 0: failed with exit code 3; tried again"
    assert not run.status().done
    assert "failed with exit code 3; tried again" in machine.hpcrun("status", run.id).stdout.decode()


def test_cancelling_in_a_pause(machine: Machine) -> None:
    """Nobody waits for the end of the pause: the run is cancelled, and no other attempt has begun."""
    run = _in_pause(machine)
    machine.hpcrun("cancel", run.id)
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause, shard.attempts) == ("cancelled", "cancelled", 1)
    until(lambda: not machine.processes(), what="the end of every process of the run")
    assert run.logs() == "attempt 0\n"


def test_the_supervisor_of_a_run_is_killed_in_a_pause(machine: Machine) -> None:
    """Nobody is left to wait, no other attempt begins, and it is said that one was to."""
    run = _in_pause(machine)
    os.kill(int(Path(run.dir.local_lock).read_text().split()[0]), signal.SIGKILL)
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause, shard.attempts) == ("failed", "failed", 1)
    assert shard.detail.endswith("it was to be tried again, and has left the queue")
    until(lambda: not machine.processes(), what="the end of every process of the run")


# Runs that stop themselves.


def test_too_many_failures_stop_a_run(machine: Machine) -> None:
    """With one more than allowed, what runs is ended and what waits never starts, and both say why."""
    script = """
        echo $$ >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"
        [ $HPCRUN_SHARD_INDEX = 0 ] && exit 0
        [ $HPCRUN_SHARD_INDEX = 1 ] && exec sleep 1000
        while [ ! -s "$HPCRUN_RESULTS_DIR/1" ]; do sleep 0.02; done
        exit 4
    """
    options = ("-N", "9", "--max-parallel", "2", "--max-failed-indexes", "1")
    run = machine.run(*options, "--", "bash", "-c", script, code=3)
    status = run.status()
    assert [shard.state for shard in status.shards] == ["succeeded", "cancelled", *["failed"] * 2, *["cancelled"] * 5]
    why = "2 shards have failed for good, and max_failed_indexes is 1"
    assert status.stopped == why
    assert {shard.detail for shard in status.shards if shard.state == "cancelled"} == {why}
    assert {shard.detail for shard in status.shards if shard.state != "cancelled"} == {""}
    assert status.shards[1].signal == signal.SIGTERM
    assert sorted(os.listdir(run.dir.results)) == ["0", "1", "2", "3"], "the others have never started"
    gone(number_in(run, "1"))
    until(lambda: not machine.processes(), what="the end of every process of the run")
    assert why in machine.hpcrun("status", run.id).stdout.decode()


def test_failures_that_are_tried_again_do_not_count(machine: Machine) -> None:
    """Only what has failed for good does."""
    options = ("-N", "3", "--retries", "2", "--max-failed-indexes", "0")
    run = machine.run(*options, "--", "bash", "-c", FLAKY)
    assert [shard.attempts for shard in run.shards()] == [3, 3, 3]


def test_as_many_failures_as_allowed_stop_nothing(machine: Machine) -> None:
    """The run goes on to its end."""
    script = "exit $((HPCRUN_SHARD_INDEX < 2))"
    options = ("-N", "4", "--max-parallel", "1", "--max-failed-indexes", "2")
    run = machine.run(*options, "--", "bash", "-c", script, code=3)
    assert [shard.state for shard in run.shards()] == ["failed"] * 2 + ["succeeded"] * 2
    assert run.status().stopped == ""


def test_no_failure_allowed(machine: Machine) -> None:
    """With 0 the first one stops the run, which has failed: its user has not cancelled it."""
    options = ("-N", "3", "--max-parallel", "1", "--max-failed-indexes", "0")
    run = machine.run(*options, "--", "bash", "-c", "exit 5", code=1)
    status = run.status()
    assert (status.state, [shard.state for shard in status.shards]) == ("failed", ["failed", "cancelled", "cancelled"])
    assert status.stopped == "1 shards have failed for good, and max_failed_indexes is 0"


def test_the_time_of_a_run_is_up(machine: Machine) -> None:
    """What is done stays done; what runs is told and then killed, what waits never starts: all of that timed out."""
    script = """
        [ $HPCRUN_SHARD_INDEX = 0 ] && exit 0
        trap 'echo told' TERM
        echo $$ >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"
        while :; do sleep 0.02; done
    """
    options = ("-N", "5", "--max-parallel", "2", "--run-timeout", "1.5s")
    run = machine.run(*options, "--", "bash", "-c", script, code=3)
    status = run.status()
    assert [(shard.state, shard.cause) for shard in status.shards] == [
        ("succeeded", None), *[("timed_out", "timed_out")] * 4
    ]  # fmt: skip
    assert status.stopped == "its time is up: run_timeout is 1.5 s"
    assert {shard.detail for shard in status.shards[1:]} == {status.stopped}
    assert [shard.signal for shard in status.shards[1:3]] == [signal.SIGKILL] * 2
    assert all("told\n" in run.logs(shard) for shard in (1, 2))
    assert sorted(os.listdir(run.dir.results)) == ["1", "2"]
    gone(number_in(run, "1"), number_in(run, "2"))
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_nothing_is_tried_again_when_the_time_of_the_run_is_up(machine: Machine) -> None:
    """Whatever budget is left; exit code 124 where nothing was done."""
    options = ("--set", "spec.retries.timed_out=9", "--run-timeout", "0.8s")
    run = machine.run(*options, "--", "sleep", "1000", code=124)
    (shard,) = run.shards()
    assert (shard.state, shard.attempts) == ("timed_out", 1)
    assert shard.detail == "its time is up: run_timeout is 0.8 s"


def test_the_time_of_a_run_is_up_in_a_pause(machine: Machine) -> None:
    """Nobody waits for the end of a pause that lies beyond it."""
    run = _in_pause(machine, "--run-timeout", "1.5s")
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause, shard.attempts) == ("timed_out", "timed_out", 1)
    assert shard.detail == "its time is up: run_timeout is 1.5 s"
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_a_run_that_is_done_in_time(machine: Machine) -> None:
    """Its limits leave no trace."""
    run = machine.run("-N", "2", "--run-timeout", "10m", "--max-failed-indexes", "0", "--", "true")
    assert (run.status().state, run.status().stopped) == ("succeeded", "")


# Supervisors that die.


def test_a_supervisor_that_is_killed(machine: Machine) -> None:
    """Its shard is tried again, at once and not from the program's own budget, and the others go on."""
    script = 'if [ "$HPCRUN_SHARD_INDEX$HPCRUN_ATTEMPT" != 00 ]; then exit 0; fi; ' + STAYS
    run = machine.submit("-N", "2", "--backoff", "5m", "--", "bash", "-c", script)
    os.kill(number_in(run, "supervisor.0.0"), signal.SIGKILL)
    shards = ended(run).shards
    assert [(shard.state, shard.attempts) for shard in shards] == [("succeeded", 2), ("succeeded", 1)]
    assert causes(run) == ["lost", None]


def test_supervisors_that_are_killed_again_and_again(machine: Machine) -> None:
    """When the budget of launch_failed is used up the shard is lost."""
    run = machine.submit("--set", "spec.retries.launch_failed=2", "--", "bash", "-c", STAYS)
    for attempt in range(3):
        os.kill(number_in(run, f"supervisor.0.{attempt}"), signal.SIGKILL)
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause, shard.attempts) == ("failed", "lost", 3)
    assert machine.hpcrun("wait", run.id).returncode == 137


def test_a_supervisor_that_is_killed_in_a_cancelled_run(machine: Machine) -> None:
    """Nothing starts again."""
    machine.configure(grace="60s")
    script = "trap '' TERM; " + STAYS.replace("exec sleep 1000", "while :; do sleep 0.02; done")
    run = machine.submit("bash", "-c", script)
    supervisor = number_in(run, "supervisor.0.0")
    machine.hpcrun("cancel", run.id)
    os.kill(supervisor, signal.SIGKILL)
    (shard,) = ended(run).shards
    assert shard.attempts == 1


def test_no_two_attempts_at_once(machine: Machine) -> None:
    """The next attempt does not start while the program of the last one, told to end, still tidies up."""
    machine.configure(grace="20s")
    script = """
        if [ $HPCRUN_ATTEMPT = 1 ]; then
            [ -e "$HPCRUN_RESULTS_DIR/tidied" ] && echo alone
            exit 0
        fi
        trap 'sleep 1; touch "$HPCRUN_RESULTS_DIR/tidied"; exit 1' TERM
        echo "$PPID" >"$HPCRUN_RESULTS_DIR/supervisor"
        while :; do sleep 0.02; done
    """
    run = machine.submit("bash", "-c", script)
    os.kill(number_in(run, "supervisor"), signal.SIGKILL)
    assert ended(run).shards[0].attempts == 2
    assert run.logs() == "alone\n"


# Gangs.

GANG = """
echo "shard $HPCRUN_SHARD_INDEX attempt $HPCRUN_ATTEMPT"
echo $PPID >"$HPCRUN_RESULTS_DIR/agent.$HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT"
[ $HPCRUN_ATTEMPT = 0 ] || exit 0
[ $HPCRUN_SHARD_INDEX = 1 ] && exit 3
exec sleep 1000
"""


def test_a_gang_is_tried_again_whole(machine: Machine) -> None:
    """One of its shards fails: all are ended, and start again together as the next attempt."""
    run = machine.run("-N", "3", "--gang", "--retries", "1", "--", "bash", "-c", GANG)
    assert [(shard.state, shard.attempts) for shard in run.shards()] == [("succeeded", 2)] * 3
    for shard in range(3):
        said = [run.logs(shard, attempt).splitlines()[0] for attempt in range(2)]
        assert said == [f"shard {shard} attempt {attempt}" for attempt in range(2)]
    assert [entry.cause for entry in ledger.read(run.dir, 0)] == ["failed", None], "one budget for the gang"


def test_a_gang_that_is_not_to_be_tried_again(machine: Machine) -> None:
    """By default there is one attempt."""
    run = machine.run("-N", "3", "--gang", "--", "bash", "-c", GANG, code=1)
    assert [(shard.cause, shard.attempts) for shard in run.shards()] == [
        ("cancelled", 1), ("failed", 1), ("cancelled", 1)
    ]  # fmt: skip


def test_a_gang_whose_budget_is_used_up(machine: Machine) -> None:
    """It has as many attempts as any shard of it could have, not as many as all of them."""
    script = "[ $HPCRUN_SHARD_INDEX = $HPCRUN_ATTEMPT ] && exit 3; exec sleep 1000"
    run = machine.run("-N", "3", "--gang", "--retries", "1", "--", "bash", "-c", script, code=1)
    assert [(shard.cause, shard.attempts) for shard in run.shards()] == [
        ("cancelled", 2), ("failed", 2), ("cancelled", 2)
    ]  # fmt: skip


def test_a_gang_that_has_lost_an_agent(machine: Machine) -> None:
    """It is tried again whole, without a budget of the program's."""
    script = (
        'if [ $HPCRUN_ATTEMPT = 0 ]; then echo $PPID >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"; exec sleep 1000; fi'
    )
    run = machine.submit("-N", "2", "--gang", "--", "bash", "-c", script)
    agents = [number_in(run, str(shard)) for shard in range(2)]
    os.kill(agents[1], signal.SIGKILL)
    assert [(shard.state, shard.attempts) for shard in ended(run).shards] == [("succeeded", 2)] * 2
    assert causes(run, 1) == ["lost", None]


def test_a_gang_that_is_cancelled(machine: Machine) -> None:
    """Its shards exit badly when they are told, and that is all."""
    script = """trap 'exit 3' TERM; echo $$ >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"; while :; do sleep 0.02; done"""
    run = machine.submit("-N", "2", "--gang", "--retries", "5", "--", "bash", "-c", script)
    programs = [number_in(run, str(shard)) for shard in range(2)]
    machine.hpcrun("cancel", run.id)
    assert [(shard.state, shard.attempts) for shard in ended(run).shards] == [("cancelled", 1)] * 2
    gone(*programs)
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_the_time_of_a_gang_is_up(machine: Machine) -> None:
    """run_timeout holds for a gang of shards as for any run."""
    options = ("-N", "2", "--gang", "--set", "spec.retries.timed_out=5", "--run-timeout", "1.5s")
    run = machine.run(*options, "--", "sleep", "1000", code=124)
    assert [(shard.state, shard.attempts) for shard in run.shards()] == [("timed_out", 1)] * 2
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_back_off_of_a_gang(machine: Machine) -> None:
    """All of it waits for the next attempt."""
    run = machine.run("-N", "2", "--gang", "--retries", "1", "--backoff", "0.4s", "--", "bash", "-c", GANG)
    assert all(pauses(run, shard)[0] >= 0.4 for shard in range(2))


def _with_workers(machine: Machine, job: str, worker: str, **fields: object) -> str:
    workers = {"command": ["bash", "-c", worker], "replicas": 2}
    return machine.write(
        "spec.yaml", json.dumps({"command": ["bash", "-c", job], "worker": workers, "start_timeout": "30s", **fields})
    )


def test_a_job_with_workers_is_tried_again_with_them(machine: Machine) -> None:
    """Every attempt has workers of its own, and their output is kept by attempt."""
    worker = 'echo "worker $HPCRUN_REPLICA_INDEX attempt $HPCRUN_ATTEMPT"; exec sleep 1000'
    both = '[ "$(cat "$HPCRUN_RUN_DIR"/logs/$HPCRUN_ATTEMPT/000/0.worker/*/*.log | wc -l)" = 2 ]'
    job = f"until {both}; do sleep 0.02; done; "
    run = machine.run(_with_workers(machine, job + FLAKY, worker, retries=2))
    assert causes(run) == ["failed", "failed", None]
    for attempt in range(3):
        assert run.logs(0, attempt) == f"attempt {attempt}\n"
        shown = machine.hpcrun("logs", run.id, "--role", "worker", "--attempt", str(attempt)).stdout.decode()
        assert shown == "".join(f"[worker-{replica}] worker {replica} attempt {attempt}\n" for replica in range(2))
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_a_worker_that_fails_is_a_failure_of_the_attempt(machine: Machine) -> None:
    """From the budget for failures; the log of the attempt says which worker it was."""
    worker = '[ "$HPCRUN_REPLICA_INDEX$HPCRUN_ATTEMPT" = 10 ] && exit 4; exec sleep 1000'
    job = "if [ $HPCRUN_ATTEMPT = 0 ]; then exec sleep 1000; fi"
    run = machine.run(_with_workers(machine, job, worker, retries=1))
    assert causes(run) == ["failed", None]
    assert "worker 1 on 127.0.0.1 exited with code 4" in run.logs(0, 0)
    assert run.logs(0, 1) == ""


@pytest.mark.parametrize("which", ["agent", "supervisor"])
def test_a_job_with_workers_is_lost(machine: Machine, which: str) -> None:
    """Whether a worker's agent was killed or the shard's supervisor: another attempt, with nothing left of the last."""
    worker = 'echo $$ $PPID >"$HPCRUN_RESULTS_DIR/worker.$HPCRUN_REPLICA_INDEX.$HPCRUN_ATTEMPT"; exec sleep 1000'
    job = 'echo $$ $PPID >"$HPCRUN_RESULTS_DIR/job.$HPCRUN_ATTEMPT"; '
    job += "if [ $HPCRUN_ATTEMPT = 0 ]; then exec sleep 1000; fi"
    run = machine.submit(_with_workers(machine, job, worker))
    started, supervisor = map(int, until(lambda: text_of(run, "job.0")).split())
    program, agent = map(int, until(lambda: text_of(run, "worker.1.0")).split())
    os.kill(agent if which == "agent" else supervisor, signal.SIGKILL)
    (shard,) = ended(run).shards
    assert (shard.state, shard.attempts) == ("succeeded", 2)
    assert causes(run) == ["lost", None]
    gone(started, program, agent)
    until(lambda: not machine.processes(), what="the end of every process of the run")


# Memory.

LIMIT = 192 * 2**20
EATS = """
import os, sys
print("attempt", os.environ["HPCRUN_ATTEMPT"], flush=True)
if os.environ["HPCRUN_ATTEMPT"] < sys.argv[1]:
    held = [bytearray(2**20) for _ in range(1000)]
"""


@pytest.fixture
def confined() -> Iterator[Path]:
    """A memory cgroup of 192 MiB and no swap; whatever is in it is killed in the end."""
    v1 = Path("/sys/fs/cgroup/memory")
    folder = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"hpcrun-tests-{os.getpid()}"
    settings = (
        {"memory.limit_in_bytes": LIMIT, "memory.memsw.limit_in_bytes": LIMIT}
        if v1.is_dir()
        else {"memory.max": LIMIT, "memory.swap.max": 0}
    )
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        for name, value in settings.items():
            (folder / name).write_text(str(value))
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"the memory of a cgroup cannot be limited here: {error}")
    yield folder
    for process in (folder / "cgroup.procs").read_text().split():
        os.kill(int(process), signal.SIGKILL)
    until(lambda: not (folder / "cgroup.procs").read_text(), what="an empty cgroup")
    folder.rmdir()


def _confined(machine: Machine, folder: Path, *argv: str) -> tuple[Run, int]:
    """`hpcrun run` from within a cgroup; its run and its exit code."""
    enter = f'echo $$ >"{folder}/cgroup.procs" && exec "$@"'
    done = machine.command("bash", "-c", enter, "bash", HPCRUN, "run", *argv)
    return machine.open("last"), done.returncode


def test_out_of_memory(machine: Machine, confined: Path) -> None:
    """What the kernel kills for want of memory is told from other deaths by SIGKILL, and tried again as a failure."""
    run, code = _confined(machine, confined, "--retries", "1", "--", "python3", "-c", EATS, "9")
    (shard,) = run.shards()
    assert (shard.state, shard.cause, shard.signal, shard.attempts) == ("failed", "out_of_memory", signal.SIGKILL, 2)
    assert code == 137
    assert causes(run) == ["out_of_memory"] * 2
    assert [run.logs(0, attempt) for attempt in range(2)] == ["attempt 0\n", "attempt 1\n"]


def test_another_death_where_memory_is_limited(machine: Machine, confined: Path) -> None:
    """A program that is killed otherwise in the same place, after one that ran out of memory, has failed."""
    script = 'if [ $HPCRUN_ATTEMPT = 0 ]; then exec python3 -c "$0" 9; fi; kill -KILL $$'
    run, _ = _confined(machine, confined, "--retries", "1", "--", "bash", "-c", script, EATS)
    assert causes(run) == ["out_of_memory", "failed"]


def test_a_child_that_runs_out_of_memory(machine: Machine, confined: Path) -> None:
    """A program that fails because a child of its was killed for want of memory has run out of it."""
    run, code = _confined(machine, confined, "--", "bash", "-c", 'python3 -c "$0" 9; exit 5', EATS)
    (shard,) = run.shards()
    assert (shard.cause, shard.exit_code, code) == ("out_of_memory", 5, 5)


def test_a_program_that_gets_over_it(machine: Machine, confined: Path) -> None:
    """One that succeeds although a child of its was killed has succeeded."""
    run, _ = _confined(machine, confined, "--", "bash", "-c", 'python3 -c "$0" 9; exit 0', EATS)
    assert run.shards()[0].state == "succeeded"


def test_a_gang_runs_out_of_memory(machine: Machine, confined: Path) -> None:
    """The shard that did is named as the one, and the next attempt is of the whole gang."""
    script = (
        'if [ "$HPCRUN_SHARD_INDEX" = 1 ]; then exec python3 -c "$0" 1; fi; [ $HPCRUN_ATTEMPT = 1 ] || exec sleep 1000'
    )
    run, code = _confined(machine, confined, "-N", "2", "--gang", "--retries", "1", "--", "bash", "-c", script, EATS)
    assert code == 0
    assert causes(run, 1) == ["out_of_memory", None]
    assert [shard.attempts for shard in run.shards()] == [2, 2]


def test_a_worker_runs_out_of_memory(machine: Machine, confined: Path) -> None:
    """It is named, with what it died of, and the attempt is tried again as any failure."""
    eats = machine.write("eats.py", EATS)
    worker = f"if [ $HPCRUN_REPLICA_INDEX = 1 ]; then python3 {eats} 1 && exec sleep 1000; exit 6; fi; exec sleep 1000"
    job = "if [ $HPCRUN_ATTEMPT = 0 ]; then exec sleep 1000; fi"
    run, code = _confined(machine, confined, _with_workers(machine, job, worker, retries=1))
    assert code == 0
    assert causes(run) == ["out_of_memory", None]
    assert "worker 1 on 127.0.0.1 exited with code 6 before its job had ended: it ran out of memory" in run.logs(0, 0)
