"""The agent of one process of a gang: it finds the gang's supervisor, starts its program when told, says when it is
ready and how it ended, and ends it when the supervisor says so or is gone.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from hpcrun import environ as dialects
from hpcrun import events, later
from hpcrun.allocation import from_slurm, on_this_machine
from hpcrun.node import meeting as meetings
from hpcrun.node import memory, place, ports, program, wire
from hpcrun.node.readiness import Readiness
from hpcrun.node.shard import logs, open_log, results_folder, time_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from hpcrun.jsonline import Value
    from hpcrun.node.meeting import Meeting
    from hpcrun.node.probe import Prober
    from hpcrun.plan import Plan, Probe, Role, Task
    from hpcrun.rundir import RunDir
else:
    import _signal as signal

_BEAT = 1.0
_OTHER_PORTS = 5
"""How often another port is tried where the program could not have the one that was chosen."""
_RESTART_PAUSE = 1.0
_TEXTS = ("port", "host", "url", "pattern", "body")
"""Fields of a probe that are texts of its author's."""
_FAREWELL = 10.0


def serve(plan: Plan, run: RunDir, path: str, role: str, rank: int) -> NoReturn:
    """Be the agent of process `rank` of `role`, for the supervisor whose address is in the file `path`."""
    program.watch()
    agent = _Agent(plan, run, meetings.read(path), role, rank)
    try:
        agent.carry_out()
    except OSError as error:  # a full disk, no more processes: none of it is the node's death
        agent.fail(f"its agent cannot go on: {error}", "launch_failed")
    except program.Interrupted:  # the supervisor is gone, or wants nothing of this process
        pass
    os._exit(0)


class _Agent:
    """What `program.supervise` calls a crew, at the end of a program of a gang."""

    def __init__(self, plan: Plan, run: RunDir, meeting: Meeting, role: str, rank: int) -> None:
        self._plan, self._run = plan, run
        # The processes of a task are told apart by their rank, and the tries of a task by their number: NAME:TRY.
        self._task: Task | None = None
        if ":" in role:
            self._task = next(task for task in plan.tasks if task.name == role.partition(":")[0])
        task = self._task
        self._role: Role = task.role if task else plan.worker if role == "worker" else plan.job  # type: ignore[assignment]
        copies = self._role.replicas if role == "worker" else 1
        self._shard, self._replica = (meeting.first, rank) if task else (meeting.first + rank // copies, rank % copies)
        self._attempt, self._host = meeting.attempt, meeting.hosts[0]
        self._who = dialects.Who(
            run_id=plan.run_id, run_dir=run.path, results=run.results, name=plan.name, shard=self._shard,
            shards=plan.shards, sharded=plan.sharded, attempt=self._attempt, role=task.of if task else role,
            replica=task.replica if task else self._replica,
            replicas=task.replicas if task else self._role.replicas, indexed=plan.indexed,
        )  # fmt: skip
        self._local = plan.cluster == "local"
        self._node: str = os.environ.get("SLURMD_NODENAME") or self._host
        self._held: dict[str, ports.Reservation] = {}
        # Where the shards of a gang meet each other.
        self._square = ports.reserve(0) if role == "job" and rank == 0 else None
        own = {
            "role": role, "shard": self._shard, "replica": self._replica, "node": self._node,
            "port": self._square.port if self._square else 0,
        }  # fmt: skip
        self._wire = meeting.find(own)
        self._heard = self._next_beat = time.monotonic()
        self._orders: list[dict[str, Any]] = []
        self._child = 0
        self._cwd = self._role.cwd
        self._readiness: Readiness | None = None
        self._alarms: list[Prober] = []
        self._tried = self._lives = ""
        self._ends = self._kills = 0

    def carry_out(self) -> None:
        """Wait for the start, run the program, and say how it ended."""
        order = self._await_start()
        for _ in range(_OTHER_PORTS):
            ended = self._run_once(order)
            if ended is None:
                return
            if not self._port_was_taken(ended):
                break
        while ended is not None and ended.why is None and self._role.restart == "always":
            self._ends += 1
            how = f"signal {ended.signal}" if ended.signal else f"code {ended.code}"
            self._lives = f" (it has ended {self._ends} times and was started again, last after {how})"
            self._rest()
            ended = self._run_once(order)
        if ended is not None:
            starved = ended.why is None and bool(ended.code or ended.signal) and memory.kills() > self._kills
            why = "out_of_memory" if starved else ended.why
            self._wire.send({"event": "ended", "code": ended.code, "signal": ended.signal, "why": why})

    def _await_start(self) -> dict[str, Any]:
        while True:
            number, stop = program.next_signal(None, self)
            if self._orders and stop is None:  # both may have come at once
                return self._orders.pop()
            self._heed(number, stop)

    def _rest(self) -> None:
        until = time.monotonic() + _RESTART_PAUSE
        while time.monotonic() < until:
            number, stop = program.next_signal(until, self)
            self._heed(number, stop)

    def _heed(self, number: int | None, stop: str | None) -> None:
        """Leave where this process is to end and no program runs that could be told."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self._wire.send({"event": "ended", "code": -1, "signal": number, "why": "told"})
            stop = "told"
        if stop is not None:
            raise program.Interrupted(stop)

    def _run_once(self, order: dict[str, Any]) -> program.Ended | None:
        """Start the program and wait for its end; None where it could not be started, which has been said."""
        self._who.results = results_folder(self._plan, self._run, self._shard, self._attempt)
        try:
            self._hold_ports()
        except ports.PortTaken as error:
            self.fail(str(error), "launch_failed")
            return None
        self._cwd = self._filled(self._role.cwd, order)
        given = self._environ(order)
        role, self._kills = self._role, memory.kills()
        words = [self._filled(word, order) for word in role.command]
        words = [dialects.expanded(word, given) for word in words] if role.expand else words
        os.makedirs(os.path.dirname(self._log()), 0o700, exist_ok=True)
        out, err = self._logs()
        since = os.fstat(out).st_size
        guard = program.Guard(given, self._plan.grace, None, self)
        try:
            self._child = program.start(words, given, self._cwd, out, err)
        except OSError as error:
            guard.dismiss()
            text = program.not_started(error, words[0], self._cwd, err)
            if role.name == "job" and self._task is None:
                return program.Ended(program.start_code(self._cwd) << 8)
            self.fail(text, "failed")
            return None
        finally:
            for descriptor in {out, err}:
                os.close(descriptor)
        guard.keep(self._child)
        try:
            self._await_ready(given, since, order)
        except BaseException:
            program.end_session(self._child, 0.0)
            guard.dismiss()
            raise
        return self._supervised(guard)

    def _supervised(self, guard: program.Guard) -> program.Ended:
        timeout = self._task.timeout if self._task else time_left(self._plan) if self._role.name == "job" else None
        try:
            ended = program.supervise(
                self._child, guard, timeout=timeout, grace=self._plan.grace, insist=self._local, lifeline=None,
                marker=self._run.cancelled, crew=self,
            )  # fmt: skip
            if self._was_ready_after_all(ended):
                self._wire.send({"event": "listening", "ports": {}})
            return ended
        finally:
            self._child = 0
            for prober in self._alarms:
                prober.close()
            self._alarms = []
            if self._readiness is not None:
                self._readiness.close()

    def _was_ready_after_all(self, ended: program.Ended) -> bool:
        """Whether a task that has ended well was ready before, and nobody had seen it."""
        good = self._task is not None and ended.why is None and not ended.code and not ended.signal
        return good and self._readiness is not None and self._readiness.was_ready(time.monotonic())

    def fail(self, text: str, cause: str) -> None:
        """Tell the supervisor why this process is not to be, and stay until it has heard."""
        self._wire.send({"event": "failed", "text": text, "cause": cause})
        until = time.monotonic() + _FAREWELL
        try:
            while time.monotonic() < until:  # until it has been heard, or the supervisor hangs up
                _, stop = program.next_signal(until, self)
                if self._wire.closed or stop is not None:
                    return
        except program.Interrupted:
            return

    def _environ(self, order: dict[str, Any]) -> dict[str, str]:
        plan, role = self._plan, self._role
        node = order["names"][0] if self._task is not None else self._node
        here = on_this_machine(node, str(order.get("job")), self._shard) if self._local else from_slurm(os.environ)
        if self._task is not None:
            nodes = [order["names"][node] for node in self._task.nodes]
            own = dialects.task(
                self._who, here, workspace=self._cwd, name=self._task.name, nodes=nodes, rank=self._replica,
                addresses=[self._address(node) for node in nodes],
            )  # fmt: skip
            place.make_folder(own)
        else:
            peers = dialects.Peers(order["peers"], order["port"]) if order.get("peers") else None
            own = {
                **dialects.variables(self._who, here, workspace=self._cwd, peers=peers),
                **dialects.own_ports({name: held.port for name, held in self._held.items()}),
                **order.get("environ", {}),
            }
        inherited = dict(os.environ)
        if "devices" in order:
            inherited["CUDA_VISIBLE_DEVICES"] = order["devices"]
        env = {name: self._filled(value, order) for name, value in dialects.not_slurms(role.env, inherited).items()}
        return dialects.for_program(dialects.passed_on(inherited, plan.export), own, env, expand=role.expand)

    def _filled(self, text: str, order: dict[str, Any]) -> str:
        """A text of a task's with what is known in its allocation only."""
        return later.filled(text, order["names"], self._address) if self._task is not None else text

    def _address(self, node: str) -> str:
        """The address of a node of the allocation; its name where that cannot be resolved here."""
        return self._host if self._local else place.address(node)

    # Ports and readiness.

    def _hold_ports(self) -> None:
        for name, wanted in self._role.endpoints.items():
            if name not in self._held:
                self._held[name] = ports.reserve(wanted)

    def _port_was_taken(self, ended: program.Ended) -> bool:
        """Whether the program ended because somebody else has one of the ports chosen for it; those are given up."""
        if ended.why is not None or self._readiness is None or self._readiness.ready:
            return False
        taken = [
            name
            for name, wanted in self._role.endpoints.items()
            if not wanted and ports.listening(self._held[name].port)
        ]
        for name in taken:
            self._held.pop(name).release()
        return bool(taken)

    def _await_ready(self, given: dict[str, str], since: int, order: dict[str, Any]) -> None:
        """Begin to look whether the program is ready, where somebody waits for that, and whether it has failed."""
        if self._task is not None:
            self._alarms = self._probers(self._task.failure, given, since, order)
            if not self._task.readiness:
                return
            probers = self._probers(self._task.readiness, given, since, order)
            self._readiness = Readiness({}, self._child, {}, probers, near=True)
        elif self._role.name != "job":
            marker = {"HPCRUN_RUN_ID": self._plan.run_id, "HPCRUN_ROLE": self._role.name,
                      "HPCRUN_SHARD_INDEX": str(self._shard), "HPCRUN_REPLICA_INDEX": str(self._replica)}  # fmt: skip
            asked = [self._role.readiness] if self._role.readiness is not None else []
            listens = {name: held.port for name, held in self._held.items()}
            probers = self._probers(asked, given, since, order)
            self._readiness = Readiness(listens, self._child, marker, probers, near=self._local)

    def _probers(
        self, probes: Sequence[Probe], given: dict[str, str], since: int, order: dict[str, Any]
    ) -> list[Prober]:
        """What makes those of `probes` that are this process's: of a task on several nodes most are its first's."""
        mine = [probe for probe in probes if probe.each or not self._task or not self._replica]
        if not mine:
            return []
        from hpcrun.node.probe import Prober  # most programs have none

        now, found = time.monotonic(), []
        for probe in mine:
            own = not probe.watched or (self._task is not None and probe.watched == self._task.name)
            log = self._log() if own else self._run.task_log(self._attempt, probe.watched)
            looks = self._filled_probe(probe, order)
            found.append(Prober(looks, given, self._cwd, log, now, since=since if own else 0))
        return found

    def _filled_probe(self, probe: Probe, order: dict[str, Any]) -> Probe:
        """A probe of a task's with what is known in its allocation only."""
        if self._task is None:
            return probe
        made = SimpleNamespace(**vars(probe))
        for name in _TEXTS:
            setattr(made, name, self._filled(getattr(probe, name), order))
        made.command = [self._filled(word, order) for word in probe.command]
        made.headers = {name: self._filled(value, order) for name, value in probe.headers.items()}
        return made  # type: ignore[return-value]

    def _logs(self) -> tuple[int, int]:
        """The open logs of the program, of its standard output and its standard error."""
        if self._task is None:
            return logs(self._plan, self._run, self._who)
        both = open_log(self._log())
        return both, both

    def _log(self) -> str:
        if self._task is not None:
            return self._run.task_log(self._attempt, self._task.name, self._replica)
        stream = "out" if self._plan.separate_stderr else "log"
        return self._run.log(self._shard, self._attempt, stream, role=self._role.name, replica=self._replica)

    def _look(self, readiness: Readiness, now: float) -> None:
        """See whether the program is ready, and say so."""
        problem = readiness.look(now)
        if problem:
            self._wire.send({"event": "failed", "text": problem, "cause": "failed"})
        elif readiness.ready:
            self._wire.send({"event": "listening", "ports": readiness.ports})
        elif readiness.tried + self._lives != self._tried:
            self._tried = readiness.tried + self._lives
            self._wire.send({"event": "trying", "text": self._tried})

    # What program.supervise asks of a crew.

    def due(self) -> float:
        """When the next turn is to be."""
        looks = [prober.due for prober in self._alarms]
        if self._readiness is not None:
            looks.append(self._readiness.due)
        return min([self._next_beat, *looks])

    def turn(self) -> None:
        """Hear the supervisor, give it a sign of life, and see whether the program is ready."""
        now = time.monotonic()
        heard, messages = self._wire.receive()
        if heard:
            self._heard = now
        for message in messages:
            self._obey(message)
        if now - self._heard > self._plan.lost_after and not self._wire.closed:
            self._tell_of_silence()
            self._wire.close()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT
            self._wire.alive()
        if self._wire.closed:
            raise program.Interrupted("abandoned")
        if self._readiness is not None and self._readiness.is_due(now):
            self._look(self._readiness, now)
        hit = next((prober for prober in self._alarms if prober.turn(now)), None)
        if hit is not None:
            for prober in self._alarms:
                prober.close()
            self._alarms = []
            self._wire.send({"event": "failed", "text": f"its failure probe has hit: {hit.tried}", "cause": "failed"})

    def _tell_of_silence(self) -> None:
        """Leave word that the supervisor's node is silent, for it may never say so itself."""
        text = f"the node of its supervisor, {self._host}, is silent (no sign of life for {self._plan.lost_after:g} s)"
        facts: dict[str, Value] = {
            "at": time.time(),
            "exit_code": -1,
            "signal": 0,
            "cause": "node_failed",
            "detail": text,
        }
        try:
            events.claim(self._run.silence(self._shard, self._attempt), events.line("end", facts))
        except OSError:  # then it is for the next start to find out
            pass

    def _obey(self, message: dict[str, Any]) -> None:
        order = message.get("do")
        if order == "start":
            self._orders.append(message)
        elif order == "stop":
            raise program.Interrupted("stopped")
        elif order == "signal" and self._child:
            self._signal(int(message["number"]))

    def _signal(self, number: int) -> None:
        if self._plan.warning is not None and number == self._plan.warning[0]:
            from hpcrun.node.notice import warn  # most programs ask for none

            warn(self._child, number)
            return
        try:
            os.kill(self._child, number)
        except ProcessLookupError:
            pass

    def passed_on(self, number: int) -> None:
        """A signal from outside; the supervisor gets its own."""

    def farewell(self) -> tuple[int, bytes]:
        """What the supervisor is told when this agent was killed."""
        return self._wire.fileno(), wire.line({"event": "orphaned"})
