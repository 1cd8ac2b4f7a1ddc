"""One attempt of one shard: who it is, its record, its program, its end."""

from __future__ import annotations

import os
import time

from hpcrun import environ as dialects
from hpcrun import events, ledger, retry
from hpcrun.node import memory, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

_INSIST = 60.0
"""Seconds for which the end of an attempt is tried to be written."""
_LOOK_UP = 1.0
"""Seconds after which a shard that waits for its next attempt sees whether it is still to start."""
_SAID = 1 << 16
"""Bytes at the end of Slurm's output in which its last words are looked for."""
_REQUEUED = b"DUE TO JOB REQUEUE"
# What slurmstepd writes into a job's own output when somebody ends it; without slurmdbd there is no other witness.
_WITNESSES: tuple[tuple[bytes, Cause], ...] = (
    (b"exceeded memory limit", "out_of_memory"),
    (b"oom_kill event", "out_of_memory"),
    (b"oom-kill event", "out_of_memory"),
    (b"DUE TO TIME LIMIT", "timed_out"),
    (b"DUE TO PREEMPTION", "preempted"),
    (_REQUEUED, "preempted"),
    (b"DUE TO NODE FAILURE", "node_failed"),
)


def carried_through(
    plan: Plan, run: RunDir, allocation: Allocation, shard: int, lifeline: int | None, *, in_place: bool
) -> tuple[program.Ended, bool]:
    """Run the program of `shard`, again where its budgets allow and it is to be done `in_place`.

    How it ended, and whether another attempt is due that Slurm has to start.
    """
    while True:
        begun = begin(plan, run, allocation, range(shard, shard + 1), lifeline)
        if isinstance(begun, program.Ended):
            return begun, False
        ended, again = _attempt(plan, run, allocation, shard, begun, lifeline)
        if not again or not in_place:
            return ended, again


def _attempt(
    plan: Plan, run: RunDir, allocation: Allocation, shard: int, begun: Begun, lifeline: int | None
) -> tuple[program.Ended, bool]:
    """Run the program of `shard` once, between the two lines of its record; and whether to try again."""
    before = memory.kills()
    ended = begun.stopped()
    if ended is None:
        carried = (_workflow if plan.tasks else carry_out)(plan, run, allocation, shard, begun.number, lifeline)
        ended = kept(plan, run, shard, begun.number, carried)
    settle(plan, run, allocation, (), None, again=False)  # nothing is tried again when the time of the run is up
    cause = cause_of(ended, run, allocation, before)
    by_itself = cause is None and plan.batch_script is not None and _is_sent_back(run, allocation)
    if by_itself:
        ended.why, cause = "told", "preempted"
    again = again_after(plan, run, begun, ended, cause)
    more = why_stopped(run, cause)
    if by_itself or (cause == "preempted" and _REQUEUED in _said(allocation.said)):
        more["detail"] = "requeued from outside"
    write_end(plan, run, shard, begun, ended, cause, time.time(), again=again, **more)
    settle(plan, run, allocation, (shard,), cause, again=again)
    return ended, again and ended.why != "told"


def _is_sent_back(run: RunDir, allocation: Allocation) -> bool:
    from hpcrun.node import requeue  # which no shard needs that is no script

    return requeue.by_itself(run, allocation)


class Begun:
    """An attempt whose record has begun: its `number`, and why those before it ended, in this round."""

    __slots__ = ("_run", "history", "number")

    def __init__(self, number: int, history: list[Cause | None], run: RunDir) -> None:
        self.number, self.history, self._run = number, history, run

    def stopped(self) -> program.Ended | None:
        """Its end where no program of it may start any more, else None."""
        if not os.path.exists(self._run.cancelled):
            return None
        nothing = program.Ended(0, "told")
        nothing.code = -1  # no program has run
        return nothing


def begin(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, lifeline: int | None
) -> Begun | program.Ended:
    """Begin the records of the next attempt of `shards`, which are one or a gang.

    Where there is to be none, how this start of the job ends: well if the work is done, by whomever.
    """
    first = shards.start
    if plan.deadline is not None and time.time() >= plan.deadline:
        settle(plan, run, allocation, (), None, again=False)
    while True:
        entries = _known(run, allocation, first) if _has_past(run, allocation, first) else []
        if entries and _is_outlived(entries[-1], allocation):
            _say(f"shard {first} has been given to a later start of this job, or to a retry; nothing is run")
            return program.Ended(int(signal.SIGTERM), "told")
        if _is_done(run, shards, entries):
            _say(f"shard {first} has succeeded already; nothing is run")
            return program.Ended(0)
        history = ledger.history(entries, allocation.round)
        if history and not _to_go_on(plan, entries[-1], history):
            _say(f"shard {first} has ended for good ({history[-1]}); `hpcrun retry` starts it again")
            settle(plan, run, allocation, (first,), history[-1], again=False)
            return program.Ended(1 << 8)
        last = entries[-1].end if history else None
        if last and last.get("due"):
            # Clocks of nodes differ; nobody waits for longer than the back-off itself.
            due = min(float(last["due"]), time.time() + retry.delay(plan.backoff, history, plan.backoff_factor))
            told = _await(plan, run, allocation, due, lifeline)
            if told is not None:
                return told
        number = len(entries)
        try:
            _patiently("begin the record of an attempt", _open_records, plan, run, allocation, shards, number)
        except FileExistsError:
            continue  # another start of this shard was faster
        return Begun(number, history, run)


def _has_past(run: RunDir, allocation: Allocation, shard: int) -> bool:
    """Whether there may have been attempts before; the first start of a run is not to look far for them."""
    first = run.record(shard, 0), run.silence(shard, 0)
    return bool(allocation.restarts or allocation.round) or any(map(os.path.exists, first))


def _is_outlived(last: ledger.Entry, allocation: Allocation) -> bool:
    """Whether somebody else has gone on with this shard: its job was started again, or it was tried again by hand.

    So it is where a node comes back whose work was given to another, and where Slurm revives a job of an old round.
    """
    if last.round != allocation.round:
        return last.round > allocation.round
    start = last.start or {}
    return start.get("job") == allocation.job and int(start.get("restarts", 0)) > allocation.restarts


def _is_done(run: RunDir, shards: range, entries: Sequence[ledger.Entry]) -> bool:
    """Whether the first of `shards`, which has these `entries`, has succeeded, and with it all of its gang."""
    if not any(entry.succeeded for entry in entries):
        return False
    return all(any(entry.succeeded for entry in ledger.read(run, shard)) for shard in shards[1:])


def _await(plan: Plan, run: RunDir, allocation: Allocation, due: float, lifeline: int | None) -> program.Ended | None:
    """Wait until the next attempt may start: None then, or the end where there is to be none any more.

    The attempt has not begun: whoever asks meanwhile is told that the last one is to be tried again.
    """
    while time.time() < due and not os.path.exists(run.cancelled):
        until = min(due, time.time() + _LOOK_UP, *(() if plan.deadline is None else (plan.deadline,)))
        number, _ = program.next_signal(time.monotonic() + until - time.time(), None)
        if number in program.ENDING:
            return program.Ended(number or 0, "told")
        if lifeline is not None and program.is_closed(lifeline):
            return program.Ended(1 << 8, "abandoned")
        settle(plan, run, allocation, (), None, again=False)
    return program.Ended(int(signal.SIGTERM), "told") if os.path.exists(run.cancelled) else None


def _to_go_on(plan: Plan, last: ledger.Entry, history: list[Cause | None]) -> bool:
    """Whether the last attempt's end allows another one: as whoever wrote it has decided."""
    said = None if last.end is None else last.end.get("again")
    return bool(said) if said is not None else retry.again(plan.budgets, history)


def _known(run: RunDir, allocation: Allocation, shard: int) -> list[ledger.Entry]:
    """The attempts so far. One that was left without an end, because its node is lost, gets one here."""
    entries = ledger.read(run, shard)
    if not entries or entries[-1].end is not None or allocation.cluster != "slurm":
        return entries
    if _is_outlived(entries[-1], allocation):
        return entries
    last = entries[-1]
    since = int(last.start.get("said", 0)) if last.start is not None and last.start.get("job") == allocation.job else 0
    cause = _witnessed(since, allocation.said) or "node_failed"
    facts: dict[str, Value] = {"at": time.time(), "exit_code": -1, "signal": 0, "cause": cause, "round": last.round}
    events.claim(run.silence(shard, last.number), events.line("end", facts))
    return ledger.read(run, shard)


def _say(text: str) -> None:
    """Tell whoever reads Slurm's own output, or the local cluster's messages."""
    os.write(2, f"hpcrun: {text}\n".encode())


def _open_records(plan: Plan, run: RunDir, allocation: Allocation, shards: range, number: int) -> None:
    """Begin the record of one attempt of each of `shards`; raises FileExistsError where the first one's is there."""
    for shard in shards:
        path = run.record(shard, number)
        if number or shard != shards.start:
            for missing in (path, run.log(shard, number)):
                os.makedirs(os.path.dirname(missing), 0o700, exist_ok=True)
        exclusive = os.O_EXCL if shard == shards.start else 0
        record = os.open(path, os.O_WRONLY | os.O_CREAT | exclusive | os.O_CLOEXEC, 0o600)
        try:
            write_start(record, allocation, shard, number, gang=plan.gang or plan.worker is not None)
        except OSError:
            os.unlink(path)  # there was no room: an empty record would be an attempt
            raise


def write_start(record: int, allocation: Allocation, shard: int, number: int, *, gang: bool) -> None:
    """Begin the record of an attempt, in the open file `record`, which is closed."""
    start: dict[str, Value] = {
        "at": time.time(),
        "shard": shard,
        "attempt": number,
        "node": allocation.node,
        "job": allocation.job,
        "task": allocation.task,
        "round": allocation.round,
        "restarts": allocation.restarts,
        "said": allocation.said,
    }
    events.write(record, "start", {**start, "gang": True} if gang else start)
    os.close(record)


def write_end(
    plan: Plan,
    run: RunDir,
    shard: int,
    begun: Begun,
    ended: program.Ended,
    cause: Cause | None,
    at: float,
    *,
    again: bool,
    **more: Value,
) -> None:
    """End the record of an attempt, which ended at the time `at`; `again` says that it is not the last."""
    if ended.detail:
        more["detail"] = ended.detail
    facts: dict[str, Value] = {
        "at": at, "exit_code": ended.code, "signal": ended.signal, "cause": cause, "again": again, **more,
    }  # fmt: skip
    # What is tried again, and when, is one thing for all of a gang.
    history = [*begun.history, more.get("gang", cause)]
    late = retry.delay(plan.backoff, history, plan.backoff_factor) if again else 0.0  # type: ignore[arg-type]
    whole = {**facts, "due": at + late} if late else facts
    # Without it the work would be done twice.
    _patiently("record the end of an attempt", events.add, run.record(shard, begun.number), "end", whole)


def _patiently(what: str, action: Callable[..., None], *of: Any) -> None:
    """Do what needs room on a disk, for a while again and again where there is none.

    Raises OSError when that comes to nothing.
    """
    until = time.monotonic() + _INSIST
    while True:
        try:
            return action(*of)
        except (FileNotFoundError, FileExistsError):  # no room is not what is wrong
            raise
        except OSError as error:
            number, _ = program.next_signal(time.monotonic() + _LOOK_UP, None)
            if number in program.ENDING or time.monotonic() > until:
                _say(f"cannot {what}: {error.strerror}")
                raise


def again_after(plan: Plan, run: RunDir, begun: Begun, ended: program.Ended, cause: Cause | None) -> bool:
    """Whether there is to be another attempt after one that has ended so.

    After a signal from outside only where Slurm itself starts the job again. Else a run could not be cancelled.
    """
    if ended.why == "abandoned" or (ended.why == "told" and cause not in ("preempted", "node_failed")):
        return False
    return retry.again(plan.budgets, [*begun.history, cause]) and not os.path.exists(run.cancelled)


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
    try:
        who = _who(plan, run, shard, number)
        words, env, replica = _told(plan, who, allocation.node)
    except OSError as error:
        from hpcrun.node.results import lost

        return lost(plan, run, shard, number, error)
    own = {**dialects.variables(who, allocation, workspace=role.cwd), **replica, **(more or {})}
    given = dialects.for_program(dialects.passed_on(os.environ, plan.export), own, env, expand=role.expand)
    command = [dialects.expanded(word, given) for word in words] if role.expand else list(words)
    if role.tasks > 1:
        from hpcrun.node.steps import ranks, without_shape

        command, given = ranks(role, plan, command), without_shape(given)
    whole = plan.batch_script is not None
    out, err = linked(plan, run, who) if whole else logs(plan, run, who)
    cwd = os.getcwd() if whole else role.cwd  # a script starts where Slurm has put its job
    guard = program.Guard(given, plan.grace, lifeline, crew)  # first: it is to miss no start
    try:
        child = program.start(command, given, cwd, out, err, reads=whole)
    except OSError as error:
        guard.dismiss()
        program.not_started(error, command[0], cwd, err)
        return program.Ended(program.start_code(cwd) << 8)
    guard.keep(child)
    ended = program.supervise(
        child,
        guard,
        timeout=time_left(plan),
        grace=plan.grace,
        insist=allocation.cluster == "local",
        lifeline=lifeline,
        marker=run.cancelled,
        crew=crew,
        warning=plan.warning,
    )
    if not whole:
        _drop_empty({out, err})
    return ended


def _drop_empty(descriptors: set[int]) -> None:
    """Close the logs of a program that has ended, and remove those in which it has left nothing.

    A run may have 100,000 shards; of a function's, which leave what they return as well, most print nothing.
    """
    for descriptor in descriptors:
        try:
            if os.fstat(descriptor).st_size == 0:
                os.unlink(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # somebody was faster, or the folder cannot be written: an empty file may stay
            pass
        os.close(descriptor)


def _who(plan: Plan, run: RunDir, shard: int, number: int) -> dialects.Who:
    return dialects.Who(
        run_id=plan.run_id,
        run_dir=run.path,
        results=results_folder(plan, run, shard, number),
        name=plan.name,
        shard=shard,
        shards=plan.shards,
        sharded=plan.sharded,
        attempt=number,
        indexed=plan.indexed,
    )


def _told(plan: Plan, who: dialects.Who, node: str) -> tuple[Sequence[str], Mapping[str, str], Mapping[str, str]]:
    """The command of a shard, what its spec puts into its environment, and what it is told besides."""
    if plan.sweep is None:
        return plan.job.command, plan.job.env, {}
    from hpcrun.node.swept import as_replica  # most runs are no sweeps

    return as_replica(plan, who, node)


def _workflow(
    plan: Plan, run: RunDir, allocation: Allocation, _shard: int, number: int, lifeline: int | None
) -> program.Ended:
    """Carry out the tasks of a workflow, which is the only shard of its run; how it ended."""
    from hpcrun.node.workflow import Workflow  # what a plain shard need not load

    return Workflow(plan, run, allocation, number, lifeline).carry_out()


def results_folder(plan: Plan, run: RunDir, shard: int, number: int) -> str:
    """Where a program leaves its results: with all shards, or in a folder of its attempt's own. Raises OSError."""
    if not plan.committed:
        return run.results
    from hpcrun.node.results import prepare  # most runs have one folder

    return prepare(run, shard, number)


def kept(plan: Plan, run: RunDir, shard: int, number: int, ended: program.Ended) -> program.Ended:
    """How an attempt has ended, with what has become of its results."""
    if not plan.committed:
        return ended
    from hpcrun.node import results

    return results.kept(plan, run, shard, number, ended)


def logs(plan: Plan, run: RunDir, who: dialects.Who) -> tuple[int, int]:
    """The open logs of a process, of its standard output and its standard error: one, where they are not kept apart."""

    def opened(stream: str) -> int:
        return open_log(run.log(who.shard, who.attempt, stream, role=who.role, replica=who.replica))

    if plan.separate_stderr:
        return opened("out"), opened("err")
    both = opened("log")
    return both, both


def linked(plan: Plan, run: RunDir, who: dialects.Who) -> tuple[int, int]:
    """Standard output and standard error as Slurm has opened them, which the logs of this attempt then point to."""
    for descriptor, stream in ((1, "out"), (2, "err")) if plan.separate_stderr else ((1, "log"),):
        log = run.log(who.shard, who.attempt, stream)
        try:
            os.symlink(os.readlink(f"/proc/self/fd/{descriptor}"), log)
        except OSError as error:  # the script is not to be lost for it
            _say(f"cannot link {log} to its output: {error.strerror}")
    return 1, 2


def open_log(path: str) -> int:
    """The log `path`, opened to be written at its end."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def settle(
    plan: Plan, run: RunDir, allocation: Allocation, shards: Sequence[int], cause: Cause | None, *, again: bool
) -> None:
    """Draw the consequences for the whole run of ends that have been recorded, where it has limits."""
    if plan.deadline is None and plan.max_failed is None:
        return
    from hpcrun.node import stopping  # what most runs need not load

    try:
        stopping.stop_if_overdue(plan, run, allocation)
        for shard in shards if cause not in (None, "cancelled") and not again else ():
            stopping.count_failed(plan, run, allocation, shard)
    except OSError as error:  # a shard must not be lost for it
        _say(f"cannot stop the run: {error.strerror}")


def time_left(plan: Plan) -> float | None:
    """Seconds that an attempt may take from now on."""
    if plan.deadline is None:
        return plan.timeout
    left = max(0.0, plan.deadline - time.time())
    return left if plan.timeout is None else min(left, plan.timeout)


_CAUSES: dict[str, Cause] = {
    "timed_out": "timed_out", "node_failed": "node_failed", "launch_failed": "launch_failed",
}  # fmt: skip
"""What a program, or a workflow, was ended for, as a cause."""


def cause_of(ended: program.Ended, run: RunDir, allocation: Allocation, kills: int) -> Cause | None:
    """Why an attempt that ended so was no success; None where it was.

    `kills` is how many processes the kernel had killed for want of memory when it began.
    """
    if ended.why is None:
        if ended.code == 0:
            return None
        killed = memory.kills() > kills or _witnessed(allocation.said) == "out_of_memory"
        return "out_of_memory" if killed else "failed"
    if ended.why == "told":
        return told_by(run, allocation)
    return _CAUSES.get(ended.why, "lost")


def why_stopped(run: RunDir, cause: Cause | None) -> dict[str, Value]:
    """Why an attempt was ended, in words for its record, where its whole run was stopped."""
    stopped = events.stopped(run) if cause in ("cancelled", "timed_out") else None
    if stopped is None or not stopped[1] or (cause == "timed_out" and stopped[0] != "run_timeout"):
        return {}
    return {"detail": stopped[1]}


def told_by(run: RunDir, allocation: Allocation) -> Cause:
    """What a signal from outside that asks for an end means here."""
    stopped = events.stopped(run)
    if stopped is not None:
        return "timed_out" if stopped[0] == "run_timeout" else "cancelled"
    return _witnessed(allocation.said) or "cancelled" if allocation.cluster == "slurm" else "cancelled"


def _witnessed(since: int, until: int | None = None) -> Cause | None:
    """What Slurm itself wrote of an end into this process's output, between two places of it."""
    said = _said(since, until)
    return next((cause for words, cause in _WITNESSES if words in said), None)


def _said(since: int, until: int | None = None) -> bytes:
    """What Slurm has written between two places, the last of it: a script's own output, of any size, may be there."""
    try:
        with open("/proc/self/fd/2", "rb") as file:
            end = os.fstat(2).st_size if until is None else until
            file.seek(max(since, end - _SAID))
            return file.read(min(end - since, _SAID))
    except OSError:
        return b""


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
