"""One attempt of one shard: who it is, its record, its program, its end."""

from __future__ import annotations

import os
import time

from hpcrun import environ as dialects
from hpcrun import events
from hpcrun.node import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

# What slurmstepd writes into a job's own output when somebody ends it; without slurmdbd there is no other witness.
_WITNESSES: tuple[tuple[bytes, Cause], ...] = (
    (b"DUE TO TIME LIMIT", "timed_out"),
    (b"DUE TO PREEMPTION", "preempted"),
    (b"DUE TO JOB REQUEUE", "preempted"),
    (b"DUE TO NODE FAILURE", "node_failed"),
)


def attempt(plan: Plan, run: RunDir, allocation: Allocation, shard: int, lifeline: int | None) -> program.Ended:
    """Run the program of `shard` once, between the two lines of its record."""
    number, record = next_attempt(run, shard)
    write_start(record, allocation, shard, number)
    if os.path.exists(run.cancelled):
        ended = program.Ended(0, "told")
    else:
        ended = carry_out(plan, run, allocation, shard, number, lifeline)
    write_end(run, shard, number, ended, cause_of(ended, allocation), time.time())
    return ended


def write_start(record: int, allocation: Allocation, shard: int, number: int, **more: Value) -> None:
    """Begin the record of an attempt, in the open file `record`, which is closed."""
    start: dict[str, Value] = {
        "at": time.time(),
        "shard": shard,
        "attempt": number,
        "node": allocation.node,
        "job": allocation.job,
        "task": allocation.task,
        **more,
    }
    events.write(record, "start", start)
    os.close(record)


def write_end(
    run: RunDir, shard: int, number: int, ended: program.Ended, cause: Cause | None, at: float, **more: Value
) -> None:
    """End the record of an attempt, which ended at the time `at`."""
    facts: dict[str, Value] = {"at": at, "exit_code": ended.code, "signal": ended.signal, "cause": cause, **more}
    events.add(run.record(shard, number), "end", facts)


def next_attempt(run: RunDir, shard: int) -> tuple[int, int]:
    """The first attempt number that has no record yet, and its record, created by nobody but this process."""
    number = 0
    while True:
        path = run.record(shard, number)
        try:
            return number, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            number += 1
        except FileNotFoundError:
            if number == 0:
                raise
            for missing in (path, run.log(shard, number)):
                os.makedirs(os.path.dirname(missing), 0o700, exist_ok=True)


def carry_out(
    plan: Plan,
    run: RunDir,
    allocation: Allocation,
    shard: int,
    number: int,
    lifeline: int | None,
    crew: program.Crew | None = None,
    more: Mapping[str, str] | None = None,
) -> program.Ended:
    """Run the job of `shard`, as part of `crew` where it has one, with the variables `more`; how it ended."""
    role = plan.job
    who = dialects.Who(
        run_id=plan.run_id,
        run_dir=run.path,
        results=run.results,
        name=plan.name,
        shard=shard,
        shards=plan.shards,
        sharded=plan.sharded,
        attempt=number,
    )
    own = {**dialects.variables(who, allocation, workspace=role.cwd), **(more or {})}
    given = dialects.for_program(dialects.passed_on(os.environ, plan.export), own, role.env, expand=role.expand)
    command = [dialects.expanded(word, given) for word in role.command] if role.expand else list(role.command)
    if role.tasks > 1:
        from hpcrun.node.steps import ranks, without_shape

        command, given = ranks(role, plan, command), without_shape(given)
    out, err = logs(plan, run, who)
    try:
        child = program.start(command, given, role.cwd, out, err)
    except OSError as error:
        program.not_started(error, command[0], role.cwd, err)
        return program.Ended(program.start_code(role.cwd) << 8)
    return program.supervise(
        child,
        timeout=plan.timeout,
        grace=plan.grace,
        insist=allocation.cluster == "local",
        lifeline=lifeline,
        marker=run.cancelled,
        crew=crew,
    )


def logs(plan: Plan, run: RunDir, who: dialects.Who) -> tuple[int, int]:
    """The open logs of a process, of its standard output and its standard error: one, where they are not kept apart."""

    def opened(stream: str) -> int:
        return open_log(run.log(who.shard, who.attempt, stream, role=who.role, replica=who.replica))

    if plan.separate_stderr:
        return opened("out"), opened("err")
    both = opened("log")
    return both, both


def open_log(path: str) -> int:
    """The log `path`, opened to be written at its end."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def cause_of(ended: program.Ended, allocation: Allocation) -> Cause | None:
    """Why an attempt that ended so was no success; None where it was."""
    if ended.why is None:
        return None if ended.code == 0 else "failed"
    if ended.why == "told":
        return told_by(allocation)
    return "timed_out" if ended.why == "timed_out" else "lost"


def told_by(allocation: Allocation) -> Cause:
    """What a signal from outside that asks for an end means here."""
    return _told_by_slurm(allocation.said) if allocation.cluster == "slurm" else "cancelled"


def _told_by_slurm(since: int) -> Cause:
    try:
        with open("/proc/self/fd/1", "rb") as file:
            file.seek(since)
            said = file.read()
    except OSError:
        said = b""
    return next((cause for words, cause in _WITNESSES if words in said), "cancelled")


def leave(ended: program.Ended) -> NoReturn:
    """End this process as the program ended, by the same signal where it was one."""
    if ended.signal:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core to look at is the program's
        if ended.signal not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(ended.signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (ended.signal,))
        os.kill(os.getpid(), ended.signal)
    os._exit(ended.code if not ended.signal else 128 + ended.signal)
