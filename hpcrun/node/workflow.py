"""A workflow: the tasks of a graph, each started when all that it needs has succeeded or is ready.

The supervisor starts an agent for each process of a task, as a gang's does for its workers, and sees what is next each
time that one of them says something. Nothing is polled: a task that is ready, or has ended, lets the next start at
once, and the agents of those may come while what they need still runs, where that takes nothing from it.
"""

from __future__ import annotations

import os
import time

from hpcrun import events
from hpcrun.node import program
from hpcrun.node.hub import Hub, Seat, Trouble
from hpcrun.node.meeting import Meeting
from hpcrun.node.shard import time_left
from hpcrun.node.steps import AFTER_GRACE, Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
    from typing import Any

    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value
    from hpcrun.plan import Plan, Task
    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause
else:
    import _signal as signal

_HERE = "127.0.0.1"
_FILES = 512
"""Open files beside the connections to the agents, as for a gang."""
_EARLY = 16
"""Agents that may be there before it is their turn: each is a process, and on Slurm a step."""
_LATEST = 86400.0
"""Seconds at most between two tries."""
_FIRST_NOTE, _NOTE_EVERY = 0.5, 2.0
"""Seconds after which it is noted what a task's probes have tried, and between two such notes."""
_LATE = 0.1
"""Seconds for which the end of a task by a signal from outside may be ahead of the same signal to the supervisor."""
_BAD = ("failed", "timed_out", "cancelled")
_OVER = ("succeeded", *_BAD)


class _Seat(Seat):
    """The place of one process of a try of a task: its `role` is ``NAME:TRY``, its `replica` the process's rank."""

    __slots__ = ("is_ready", "part")

    def __init__(self, part: _Part, rank: int) -> None:
        super().__init__(f"{part.task.name}:{part.tries}", 0, rank)
        self.part, self.is_ready = part, False

    def called(self, _alone: bool) -> str:
        """The process as messages name it."""
        rank = f", process {self.replica}" if len(self.part.task.nodes) > 1 else ""
        return f"task {self.part.task.name}{rank}" + (f" on {self.node}" if self.node else "")


class _End:
    """How a try of a task ends, or is to end: its state, what there is to say of it, and whether to try again.

    `late` is how many seconds at least there are to be before the next try.
    """

    __slots__ = ("again", "detail", "late", "state")

    def __init__(self, state: str, detail: str, *, again: bool = False, late: float = 0.0) -> None:
        self.state, self.detail, self.again, self.late = state, detail, again, late


class _Part:
    """A task in its course: its `state`, how often it was tried before, and the processes of the try under way."""

    __slots__ = (
        "deadline", "due", "end", "is_called", "is_started", "next_note", "noted", "process", "seats", "state", "task",
        "told", "tries",
    )  # fmt: skip

    def __init__(self, task: Task) -> None:
        self.task, self.state, self.tries = task, "pending", 0
        self.seats: list[_Seat] = []
        self.is_called = self.is_started = False  # whether its agents were called, and told to start their programs
        self.told = 0  # how often they were told to end them, each time harder
        self.process = 0  # what has started its agents, for as long as that runs
        self.end: _End | None = None  # what it is being ended for
        self.due = self.deadline = self.next_note = 0.0
        self.noted = ""

    @property
    def is_met(self) -> bool:
        """Whether those that need it may start."""
        return self.state == "succeeded" or (self.state == "ready" and self.end is None)


class _Hub(Hub):
    """A hub of tasks: what befalls one of their processes is a matter for its task, unless a node is lost."""

    grace = 0.0

    def _heed(self, seat: Seat, message: dict[str, Any], now: float) -> None:
        if message.get("event") == "listening":
            seat.state = "ready"
            seat.is_ready = True  # type: ignore[attr-defined]
        else:
            super()._heed(seat, message, now)

    def _judge(self, seat: Seat) -> None:
        pass

    def _blame(self, seat: Seat, trouble: Trouble) -> None:
        part: _Part = seat.part  # type: ignore[attr-defined]
        if trouble.cause == "node_failed" and not self.stopping and part.end is None and part.process:
            super()._blame(seat, trouble)
            return
        if seat.state != "ended":
            seat.state = "lost"
        if part.end is None:
            lost = trouble.cause == "lost"  # its guard ends the program that the agent has left, within the grace
            part.end = _End("failed", trouble.text.partition(": ")[2], again=lost, late=self.grace if lost else 0.0)
        if trouble.cause != "failed" and seat.wire is not None:
            seat.wire.close()


class Workflow:
    """The tasks of one attempt of a workflow, which is shard 0 of its run."""

    def __init__(self, plan: Plan, run: RunDir, allocation: Allocation, attempt: int, lifeline: int | None) -> None:
        self._plan, self._run, self._allocation, self._lifeline = plan, run, allocation, lifeline
        self._attempt = attempt
        self._local = plan.cluster == "local"
        self._parts = {task.name: _Part(task) for task in plan.tasks}
        program.allow_files(_FILES + 2 * sum(len(task.nodes) for task in plan.tasks))
        self._hub = _Hub((), plan.lost_after, alone=True, fail_fast=False, host=_HERE if self._local else "")
        self._hub.grace = plan.grace + AFTER_GRACE
        hosts = [_HERE] if self._local else list(dict.fromkeys((allocation.node, os.uname().nodename)))
        path = run.rendezvous(0, attempt)
        self._meeting = Meeting(path, hosts, self._hub.port, self._hub.secret, 0, attempt)
        self._steps = Steps(plan, run, allocation, path)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if self._local and plan.devices else ""
        self._devices = visible.split(",") if visible else []
        self._nodes = list(allocation.nodes)
        self._stopped = ""  # why nothing more is to start
        self._failed: list[str] = []  # which tasks, and how, in that order
        self._changed = True

    # What program.next_signal asks of a crew.

    def due(self) -> float:
        """When the next turn is to be."""
        times = (time for part in self._parts.values() for time in (part.due, part.deadline) if time)
        return min(self._hub.due(), *times, float("inf"))

    def turn(self) -> None:
        """Hear everybody and do what follows. Raises Interrupted where the workflow is to end."""
        self._reap()
        self._hub.turn()
        now = time.monotonic()
        for part in self._parts.values():
            if part.is_called:
                self._look_at(part, now)
            elif part.due and now >= part.due:
                part.due, self._changed = 0.0, True
        while self._changed:
            self._go_on()
        if self._lifeline is not None and program.is_closed(self._lifeline):
            raise program.Interrupted("abandoned")

    def passed_on(self, number: int) -> None:
        """Let every program have a signal that came from outside; those that ask for an end are the supervisor's."""
        if number not in program.ENDING:
            self._hub.tell_all(do="signal", number=number)

    def farewell(self) -> tuple[int, bytes]:
        """Nobody is told: closed connections say enough."""
        return -1, b""

    # From the first start to the last end.

    def carry_out(self) -> program.Ended:
        """Carry the tasks through; how the workflow has ended: with 0 or 1, or as it was told."""
        self._meeting.announce()
        for path in (self._run.task_log(self._attempt, "any"), self._run.tasks(self._attempt)):
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        left = time_left(self._plan)
        try:
            ended = self._until_done(None if left is None else time.monotonic() + left)
        except Trouble as trouble:
            ended = _ended(trouble.cause, trouble.text)
        self._disband(ended.detail or _WHY.get(ended.why or "", ""))
        return ended if ended.why is not None else self._outcome()

    def _until_done(self, end_by: float | None) -> program.Ended:
        """Let everything take its course; how that was ended from outside, if it was."""
        notice = program.notice_of(0, self._plan.warning, end_by)
        while self._changed:
            self._go_on()
        while any(part.state not in (*_OVER, "ready") for part in self._parts.values()):
            number, stop = program.next_word(end_by, self, notice)
            if self._hub.trouble is not None:
                raise self._hub.trouble
            if stop is not None:
                return _ended(stop, "")
            if number in program.ENDING:
                return program.Ended(number or 0, "told")
            if number is None and end_by is not None and time.monotonic() >= end_by:
                return _ended("timed_out", "")
            old = notice is not None and number == notice.number and not notice.is_new()
            if number not in (None, signal.SIGCHLD, signal.SIGIO) and not old:
                self.passed_on(int(number))
        return program.Ended(0)

    def _outcome(self) -> program.Ended:
        """How the workflow has ended by itself."""
        if self._failed:
            first, *others = self._failed
            ended = _ended(None, first + (f"; and {len(others)} more have failed" if others else ""))
        elif any(part.state == "cancelled" for part in self._parts.values()):
            # Nothing has failed: somebody else has told a task to end, and then most likely this process too.
            number, _ = program.next_signal(time.monotonic() + _LATE, None)
            ended = program.Ended(number if number in program.ENDING else int(signal.SIGTERM), "told")
        else:
            ended = program.Ended(0)
        return ended

    def _disband(self, why: str) -> None:
        """End every task that still lives; nobody is left when this returns, on nodes that answer."""
        self._hub.stopping = True
        for part in self._parts.values():
            if part.state == "ready":
                self._to_end(part, _End("succeeded", "ended with the workflow"))
            elif part.state not in _OVER:
                self._to_end(part, _End("cancelled", why))
        self._wait(lambda: not any(part.is_called for part in self._parts.values()), self._plan.grace + AFTER_GRACE)
        self._hub.close()
        self._meeting.end()
        self._steps.end(self._wait)
        for part in self._parts.values():
            if part.state not in _OVER:  # its processes do not answer
                end = part.end or _End("cancelled", why)
                self._set(part, end.state, detail=end.detail)

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            program.next_signal(min(until, time.monotonic() + 0.2), None if self._hub.closed else self)
            self._reap()

    # What is next.

    def _go_on(self) -> None:
        """Start what can start, and give up what cannot any more."""
        self._changed = False
        for part in self._parts.values():  # each after all that it needs
            if part.state != "pending":
                continue
            needed = [self._parts[name] for name in part.task.needs]
            lost = next((one for one in needed if one.state in _BAD), None)
            if self._stopped or lost is not None:
                why = self._stopped or f"needs {lost.task.name if lost else ''}, which did not succeed"
                self._to_end(part, _End("cancelled", why))
            elif self._hub.stopping or part.due:
                continue
            elif all(one.is_met for one in needed) and self._has_room(part):
                self._start(part)
            elif not part.is_called and self._may_come_early(part, needed):
                self._call(part)

    def _has_room(self, part: _Part) -> bool:
        """Whether what it is to have alone is free again: the step that had it may still be on its way out."""
        if part.task.overlaps or self._local:
            return True
        return not any(one.process and not one.is_called and not one.task.overlaps for one in self._parts.values())

    def _may_come_early(self, part: _Part, needed: Iterable[_Part]) -> bool:
        """Whether its agents may come before it is its turn: what it needs has started, and they take nothing from it.

        So it is with tasks that share what there is, and with those that wait for services alone: what has ended
        before these has left its CPUs and GPUs, and the allocation has room for services and what needs them.
        """
        beside = all(one.task.readiness for one in needed) and self._has_room(part)
        if not (part.task.overlaps or beside or self._local):
            return False
        if not all(one.is_started or one.is_met for one in needed):
            return False
        return sum(one.is_called and not one.is_started for one in self._parts.values()) < _EARLY

    def _call(self, part: _Part) -> None:
        """Start the agents of a task's next try. Raises Trouble where there is nothing to start them with."""
        task = part.task
        part.is_called, part.is_started, part.told, part.end, part.noted = True, False, 0, None, ""
        part.seats = [_Seat(part, rank) for rank in range(len(task.nodes))]
        self._hub.seats.update({(seat.role, seat.shard, seat.replica): seat for seat in part.seats})
        nodes = [self._nodes[node] for node in task.nodes]
        log = self._run.task_log(self._attempt, task.name)
        try:
            part.process = self._steps.start_task(task, part.seats[0].role, nodes, log)
        except OSError as error:
            text = f"cannot start {error.filename or 'srun'}: {error.strerror}"
            self._hub.trouble = Trouble(text, "launch_failed")
            raise self._hub.trouble from error

    def _start(self, part: _Part) -> None:
        """It is a task's turn: its programs start, or will as soon as their agents have come."""
        if not part.is_called:
            self._call(part)
        part.is_started, self._changed = True, True
        part.deadline = time.monotonic() + self._plan.start_timeout
        self._set(part, "starting")
        self._start_programs(part)

    def _start_programs(self, part: _Part) -> None:
        for seat in part.seats:
            if seat.state == "here":
                seat.state = "starting"
                order = {"do": "start", "job": self._allocation.job, "names": self._nodes}
                self._hub.tell(seat, **order, **self._gpus(part.task))
        if part.state == "starting" and all(seat.state not in ("absent", "here") for seat in part.seats):
            part.deadline, part.next_note = 0.0, time.monotonic() + _FIRST_NOTE
            self._set(part, "running", node=self._nodes_of(part))

    def _nodes_of(self, part: _Part) -> str:
        return ",".join(self._nodes[node] for node in part.task.nodes)

    def _gpus(self, task: Task) -> dict[str, str]:
        """The GPUs of a task, where no resource manager hands them out."""
        if not self._local or not self._devices:
            return {}
        return {"devices": ",".join(self._devices[device] for device in task.devices)}

    # What its processes have said.

    def _look_at(self, part: _Part, now: float) -> None:
        if part.end is None:
            part.end = self._trouble_of(part, now)
            if part.is_started:
                self._start_programs(part)
        if part.end is not None:
            self._tell_to_end(part)
            self._insist(part, now)
            if part.is_started:
                self._heed_failure(part, part.end)
        elif part.state == "running" and part.task.readiness and all(seat.is_ready for seat in part.seats):
            self._set(part, "ready", node=self._nodes_of(part))
            self._changed = True
        self._note(part, now)
        if all(seat.state == "ended" or _has_gone(part, seat) for seat in part.seats):
            self._over(part)

    def _trouble_of(self, part: _Part, now: float) -> _End | None:
        """What has gone wrong with a task, so that all of it is to end."""
        bad = next((s for s in part.seats if s.state == "ended" and (s.code or s.signal or s.why)), None)
        if bad is not None:
            return _end_of(bad, several=len(part.seats) > 1)
        if part.deadline and now >= part.deadline:
            return _End("failed", f"did not come up in {self._plan.start_timeout:g} s")
        if any(_has_gone(part, seat) for seat in part.seats):
            if any(seat.state == "absent" for seat in part.seats):
                return _End("failed", f"was not started: its {'agent' if self._local else 'srun'} failed", again=True)
            return _End("failed", "was killed, with all of its step", again=True)
        return None

    def _over(self, part: _Part) -> None:
        """All processes of a try have ended: the task is over, or is tried again."""
        if part.end is None and part.task.readiness and part.state != "ready":
            part.end = _End("failed", "exited before it was ready", again=True)
        end = part.end = part.end or _End("succeeded", "")
        number, code = max(seat.signal for seat in part.seats), max(seat.code for seat in part.seats)
        facts: dict[str, Value] = {"exit_code": -1 if number else code, "signal": number}
        if end.state == "succeeded" and number:  # a service that was ended because it was needed no more
            facts = {}
        for seat in part.seats:
            self._hub.seats.pop((seat.role, seat.shard, seat.replica), None)
            if seat.wire is not None:
                seat.wire.close()
        part.is_called, part.is_started, part.deadline, self._changed = False, False, 0.0, True
        if part.state in _OVER:  # it was given up before it had begun
            return
        if self._is_tried_again(part, end):
            late = max(min(part.task.interval * part.task.backoff ** min(part.tries, 30), _LATEST), end.late)
            self._set(part, "pending", detail=f"{end.detail}; tried again", due=time.time() + late, **facts)
            part.due, part.tries = time.monotonic() + late, part.tries + 1
            return
        self._set(part, end.state, detail=end.detail, **facts)
        if end.state in ("failed", "timed_out"):
            self._failed.append(_told(part, end))
        self._heed_failure(part, end)

    def _is_tried_again(self, part: _Part, end: _End) -> bool:
        """Whether a task whose try ends so has another one."""
        return end.again and part.tries < part.task.retries and not self._stopped and not self._hub.stopping

    def _heed_failure(self, part: _Part, end: _End) -> None:
        """End everything for a task that ends so, where that is to be."""
        if end.state not in _BAD or not part.task.fail_fast or self._stopped or self._hub.stopping:
            return
        if not self._is_tried_again(part, end):
            self._stop_all(_told(part, end))

    def _stop_all(self, why: str) -> None:
        """Let nothing more start, and end all that runs; services have done what they were there for."""
        self._stopped = why
        for part in self._parts.values():
            if part.state not in (*_OVER, "pending"):
                end = _End("succeeded", f"ended: {why}") if part.state == "ready" else _End("cancelled", why)
                self._to_end(part, end)

    def _to_end(self, part: _Part, end: _End) -> None:
        """Let a task end so; at once where its programs have not begun."""
        if part.end is None:
            part.end = end
        if part.is_called:
            self._tell_to_end(part)
        if not part.is_started:
            self._set(part, end.state, detail=end.detail)
            self._changed = True

    def _tell_to_end(self, part: _Part) -> None:
        """Tell the processes of a task that are there and have not been told."""
        if not part.told:
            part.told, part.deadline = 1, time.monotonic() + self._plan.grace + AFTER_GRACE
        for seat in part.seats:
            if seat.wire is not None and not seat.wire.closed and seat.state not in ("told", "ended"):
                seat.state = "told"
                self._hub.tell(seat, do="stop")
        if part.process and any(seat.state == "absent" for seat in part.seats):
            os.killpg(part.process, signal.SIGTERM)  # nobody is there who could be told

    def _insist(self, part: _Part, now: float) -> None:
        """End the agents of a task that do not answer, or the step that they are in."""
        if not part.process or now < part.deadline:
            return
        # An agent that stands still heeds nothing else; srun first ends its step.
        os.killpg(part.process, signal.SIGKILL if self._local or part.told > 1 else signal.SIGTERM)
        part.told, part.deadline = part.told + 1, now + AFTER_GRACE

    def _reap(self) -> None:
        """Take note of agents, or of the steps that they are in, which have ended."""
        for process in list(self._steps.processes):
            if os.waitpid(process, os.WNOHANG)[0]:
                del self._steps.processes[process]
                for part in self._parts.values():
                    if part.process == process:
                        part.process, self._changed = 0, True

    # The record.

    def _note(self, part: _Part, now: float) -> None:
        """Write down what a task's probes have tried, now and again."""
        tried = next((seat.tried for seat in part.seats if seat.tried), "")
        if part.state == "running" and tried != part.noted and now >= part.next_note:
            part.next_note, part.noted = now + _NOTE_EVERY, tried
            self._set(part, "running", probe=tried, node=self._nodes_of(part))

    def _set(self, part: _Part, state: str, **more: Value) -> None:
        """A task is in another state, which its record tells."""
        part.state = state
        facts = {name: value for name, value in more.items() if value != ""}
        facts = {"at": time.time(), "task": part.task.name, "state": state, "try": part.tries, **facts}
        try:
            events.add(self._run.tasks(self._attempt), "task", facts)
        except OSError as error:  # the work is to go on
            os.write(2, f"hpcrun: cannot write down what task {part.task.name} does: {error.strerror}\n".encode())


def _has_gone(part: _Part, seat: Seat) -> bool:
    """Whether a process is there no more that has not said how it ended; its last words may be on their way."""
    if part.process or seat.state == "ended":
        return False
    return seat.wire is None or seat.wire.closed or seat.state == "lost"


def _end_of(seat: Seat, *, several: bool) -> _End:
    """The end of a task of which one process has ended badly."""
    on = f" on {seat.node}" if several else ""
    if seat.why == "timed_out":
        return _End("timed_out", f"took longer than its timeout{on}", again=True)
    if seat.why == "told":
        return _End("cancelled", f"was told to end by signal {seat.signal or 15}{on}")
    how = f"was killed by signal {seat.signal}" if seat.signal else f"failed with exit code {seat.code}"
    memory = ": it ran out of memory" if seat.why == "out_of_memory" else ""
    return _End("failed", f"{how}{on}{memory}", again=True)


def _told(part: _Part, end: _End) -> str:
    """How a task has ended, for whom it concerns."""
    return f"task {part.task.name}: {end.detail}"


def _ended(why: Cause | str | None, detail: str) -> program.Ended:
    ended = program.Ended(1 << 8 if why is None else int(signal.SIGTERM), why)
    ended.detail = detail
    return ended


_WHY = {
    "told": "the workflow was told to end",
    "timed_out": "the workflow has used up its time",
    "abandoned": "the run's supervisor is gone",
}
