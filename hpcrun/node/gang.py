"""A gang: processes that start together or not at all, and end together, around one supervisor.

The supervisor starts an agent for each worker (and, in a gang of several shards, for each shard), waits until all are
there and every worker is ready, starts the job, and ends everything when the job has ended or anything of it is lost.
"""

from __future__ import annotations

import json
import os
import time

from hpcrun import environ as dialects
from hpcrun import events
from hpcrun.node import program
from hpcrun.node.hub import Hub, Seat, Trouble
from hpcrun.node.meeting import Meeting
from hpcrun.node.shard import time_left
from hpcrun.node.steps import AFTER_GRACE, Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from hpcrun.allocation import Allocation
    from hpcrun.plan import Plan, Role
    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause
else:
    import _signal as signal

_HERE = "127.0.0.1"
_NAMED = 3
"""How many of the processes that are late a message names."""
_AFTERMATH, _VERDICT = 0.3, 2.0
"""Seconds for which a bad end of the job may be explained by that of a worker, or by the loss of its node."""
_FILES = 512
"""Open files of a supervisor beside the connections to its gang: callers that have not proven who they are, mostly."""
_FIRST_NOTE, _NOTE_EVERY = 2.0, 10.0
"""Seconds after which a start that takes long is noted in the record, and between two such notes."""


class Gang:
    """The gang of one attempt of `shards`: one shard with its workers, or all shards of a gang."""

    def __init__(
        self, plan: Plan, run: RunDir, allocation: Allocation, shards: range, attempt: int, lifeline: int | None
    ) -> None:
        self._plan, self._run, self._allocation, self._lifeline = plan, run, allocation, lifeline
        self._shards, self._attempt = shards, attempt
        self._local = plan.cluster == "local"
        replicas = plan.worker.replicas if plan.worker else 0
        seats = [Seat("worker", shard, replica) for shard in shards for replica in range(replicas)]
        if len(shards) > 1:
            seats += [Seat("job", shard, 0) for shard in shards]
        endpoints = len(plan.worker.endpoints) if plan.worker else 0
        program.allow_files(_FILES + len(seats) * (1 + endpoints))
        self.hub = Hub(
            seats, plan.lost_after, alone=len(shards) == 1, fail_fast=plan.fail_fast, host=_HERE if self._local else ""
        )
        self.told = False  # by a signal from outside that asks for an end
        self._stepless: set[Seat] = set()
        self._next_note = time.monotonic() + _FIRST_NOTE
        hosts = [_HERE] if self._local else list(dict.fromkeys((allocation.node, os.uname().nodename)))
        path = run.rendezvous(shards.start, attempt)
        self._meeting = Meeting(path, hosts, self.hub.port, self.hub.secret, shards.start, attempt)
        self._steps = Steps(plan, run, allocation, path)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if self._local and plan.devices else ""
        self._devices = visible.split(",") if visible else []

    # What program.supervise asks of a crew.

    def due(self) -> float:
        """When the next turn is to be."""
        return self.hub.due()

    def turn(self) -> None:
        """Hear everybody, and let the workers that have come start. Raises Interrupted when the gang is to end."""
        self._reap()
        self.hub.turn()
        killed = next((seat for seat in self._stepless if seat.gone and seat.state != "lost"), None)
        if killed is not None and not self.hub.stopping and self.hub.trouble is None:
            text = f"{killed.called(len(self._shards) == 1)} was killed, with all of its step"
            self.hub.trouble = Trouble(text, "lost", killed)
            raise self.hub.trouble
        for seat in self.hub.of("worker"):
            if seat.state == "here":
                seat.state = "starting"
                self.hub.tell(seat, do="start", job=self._allocation.job, **self._gpus(seat))
        if self._lifeline is not None and program.is_closed(self._lifeline):
            raise program.Interrupted("abandoned")

    def passed_on(self, number: int) -> None:
        """Let the workers, and the shards that have agents, have a signal that came from outside."""
        if number in program.ENDING:
            self.told = True
        else:
            self.hub.tell_all(do="signal", number=number)

    def farewell(self) -> tuple[int, bytes]:
        """Nobody is told: closed connections say enough."""
        return -1, b""

    # From the start to the end.

    def assemble(self) -> program.Ended | None:
        """Start everybody and wait until all are ready: None then, else how the attempt has ended.

        Raises Trouble when somebody is lost on the way or the time is up.
        """
        self._meeting.announce()
        try:
            if self._plan.worker is not None:
                self._steps.start(self._plan.worker, self._plan.worker.replicas * len(self._shards))
            if len(self._shards) > 1:
                self._steps.start(self._plan.job, len(self._shards))
        except OSError as error:
            raise Trouble(f"cannot start {error.filename or 'srun'}: {error.strerror}", "launch_failed") from error
        until, deadline = time.monotonic() + self._plan.start_timeout, self._plan.deadline
        if deadline is not None:
            until = min(until, time.monotonic() + deadline - time.time())
        while not self._ready():
            number, stop = program.next_signal(until, self)
            self._note_delay()
            if stop is not None:
                return self._stopped(stop)
            if number in program.ENDING:
                return program.Ended(number or 0, "told")
            if number is None and not self._ready():
                if deadline is not None and time.time() >= deadline:
                    return program.Ended(signal.SIGTERM, "timed_out")
                raise self._too_late()
        return None

    def environ(self, shard: int) -> dict[str, str]:
        """What the job of `shard` learns of its workers, also in the file that HPCRUN_WORKERS_FILE names."""
        mine = [seat for seat in self.hub.of("worker") if seat.shard == shard]
        if not mine or self._plan.worker is None:
            return {}
        nodes = [seat.node for seat in mine]
        ports = {name: [seat.ports[name] for seat in mine] for name in self._plan.worker.endpoints}
        path = self._run.workers(shard, self._attempt)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump([{"node": seat.node, "endpoints": seat.ports} for seat in mine], file)
        return {**dialects.workers(nodes, ports), "HPCRUN_WORKERS_FILE": path}

    def nodes_of(self, role: str, shard: int) -> list[str]:
        """The node of each process of a role that belongs to `shard`, in order."""
        return [seat.node for seat in self.hub.of(role) if seat.shard == shard]

    def release(self) -> program.Ended | None:
        """Let all shards of the gang start, and wait until each has ended; their seats say how.

        The reason where the gang was told to end before. Raises Trouble when one fails or is lost.
        """
        jobs = self.hub.of("job")
        nodes, port = [seat.node for seat in jobs], jobs[0].hello["port"]
        for seat in jobs:
            self.hub.tell(
                seat, do="start", job=self._allocation.job, peers=nodes, port=port, environ=self.environ(seat.shard),
                **self._gpus(seat),
            )  # fmt: skip
        left = time_left(self._plan)
        notice = program.notice_of(0, self._plan.warning, None if left is None else time.monotonic() + left)
        while any(seat.state not in ("ended", "lost") for seat in jobs):
            number, stop = program.next_word(None, self, notice)
            if stop is not None:
                return self._stopped(stop)
            if number in program.ENDING:
                return program.Ended(number or 0, "told")
            old = notice is not None and number == notice.number and not notice.is_new()
            if number not in (None, signal.SIGCHLD, signal.SIGIO) and not old:
                self.passed_on(int(number))
        return None

    def aftermath(self) -> Trouble | None:
        """What befell a worker at the same time as the job ended badly: the cause of that, as often as not.

        A job notices a lost connection sooner than the worker's agent can tell of the worker's end.
        """
        began = time.monotonic()
        until = began + _AFTERMATH
        while self.hub.trouble is None and time.monotonic() < until:
            number, _ = program.next_signal(until, self)
            self.told = self.told or number in program.ENDING
            if any(seat.gone for seat in self.hub.of("worker")):
                until = began + _VERDICT
        return self.hub.trouble

    def disband(self) -> None:
        """End every process of the gang that still runs; nobody is left when this returns, on nodes that answer.

        After the loss of a node the steps are left to Slurm, for srun waits for that node.
        """
        self.hub.stopping = True
        self.hub.tell_all(do="stop")
        self._wait(lambda: all(seat.state in ("ended", "lost", "absent") or _hung_up(seat) for seat in self._seats()),
                   self._plan.grace + AFTER_GRACE)  # fmt: skip
        self.hub.close()
        self._meeting.end()
        if self._local or self.hub.trouble is None or self.hub.trouble.cause != "node_failed":
            self._steps.end(self._wait)

    def _seats(self) -> Sequence[Seat]:
        return list(self.hub.seats.values())

    def _wait(self, done: _Condition, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            number, _ = program.next_signal(min(until, time.monotonic() + 0.2), None if self.hub.closed else self)
            self.told = self.told or number in program.ENDING
            self._reap()

    def _ready(self) -> bool:
        return all(seat.state == ("ready" if seat.role == "worker" else "here") for seat in self._seats())

    def _stopped(self, why: str) -> program.Ended:
        if self.hub.trouble is not None:
            raise self.hub.trouble
        return program.Ended(signal.SIGTERM, why)

    def _reap(self) -> None:
        """Take note of steps that have ended. Raises Trouble where processes they were to start have not come."""
        for process, (role, first, count) in list(self._steps.processes.items()):
            found, status = os.waitpid(process, os.WNOHANG)
            if not found:
                continue
            del self._steps.processes[process]
            mine = self.hub.of(role)[first : first + count]
            self._stepless.update(mine)
            missing = [seat for seat in mine if seat.state == "absent"]
            if missing and not self.hub.stopping:
                what = "agent" if self._local else "srun"
                ended = program.Ended(status)
                how = f"was killed by signal {ended.signal}" if ended.signal else f"exited with code {ended.code}"
                alone = len(self._shards) == 1
                text = f"{missing[0].called(alone)} was not started: its {what} {how}"
                self.hub.trouble = self.hub.trouble or Trouble(text, "launch_failed", missing[0])
                raise self.hub.trouble

    def _note_delay(self) -> None:
        """Write into the record whom the start waits for, a while after it began and then now and again."""
        now = time.monotonic()
        if now < self._next_note:
            return
        self._next_note = now + _NOTE_EVERY
        late, text = self._late()
        if late:
            record = self._run.record(late[0].shard, self._attempt)
            events.add(record, "waiting", {"at": time.time(), "text": text})

    def _too_late(self) -> Trouble:
        late, text = self._late()
        cause: Cause = "launch_failed" if late and late[0].state == "absent" else "failed"
        return Trouble(f"not ready within {self._plan.start_timeout:g} s: {text}", cause, late[0] if late else None)

    def _late(self) -> tuple[list[Seat], str]:
        """Who is not up yet, and what to say of them: who, where, what was tried."""
        alone = len(self._shards) == 1
        late = [seat for seat in self._seats() if seat.state not in ("ready", "ended") and seat.role == "worker"]
        late = late or [seat for seat in self._seats() if seat.state == "absent"]
        said = [f"{seat.called(alone)}: {seat.tried or _NOT_YET[seat.state]}" for seat in late[:_NAMED]]
        return late, "; ".join(said) + (f"; and {len(late) - _NAMED} more" if len(late) > _NAMED else "")

    def _gpus(self, seat: Seat) -> dict[str, str]:
        role = self._plan.worker if seat.role == "worker" else self._plan.job
        return {} if role is None else self.devices(role)

    def devices(self, role: Role) -> dict[str, str]:
        """The GPUs of the next process of `role`, where no resource manager hands them out."""
        if not self._local or not self._plan.devices:
            return {}
        count = role.gpus * role.tasks
        mine, self._devices = self._devices[:count], self._devices[count:]
        return {"devices": ",".join(mine)}


if TYPE_CHECKING:
    from collections.abc import Callable

    _Condition = Callable[[], bool]

_NOT_YET = {
    "absent": "its process has not come up",
    "here": "it was not told to start",
    "starting": "it has started and is not ready",
    "listening": "it has not been reached",
    "lost": "it is lost",
}


def _hung_up(seat: Seat) -> bool:
    return seat.wire is None or seat.wire.closed
