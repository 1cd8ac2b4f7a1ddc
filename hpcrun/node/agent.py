"""The agent of one process of a gang: it finds the gang's supervisor, starts its program when told, says when it is
ready and how it ended, and ends it when the supervisor says so or is gone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from hpcrun import environ as dialects
from hpcrun import events
from hpcrun.allocation import from_slurm, on_this_machine
from hpcrun.node import ports, program, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn

    from hpcrun.node.probe import Prober
    from hpcrun.plan import Plan, Role
    from hpcrun.rundir import RunDir
else:
    import _signal as signal

_BEAT = 1.0
_FIND = 30.0
"""Seconds in which the supervisor must be found: a file system may be slow to show its address."""
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.05
"""Seconds between two looks at whether the program listens."""
_OTHER_PORTS = 5
"""How often another port is tried where the program could not have the one that was chosen."""
_RESTART_PAUSE = 1.0
_FAREWELL = 10.0


def serve(plan: Plan, run: RunDir, meeting: str, role: str, rank: int) -> NoReturn:
    """Be the agent of process `rank` of `role`, for the supervisor whose address is in the file `meeting`."""
    program.watch()
    with open(meeting, encoding="utf-8") as file:
        where = json.load(file)
    agent = _Agent(plan, run, where, role, rank)
    try:
        agent.carry_out()
    except program.Interrupted:  # the supervisor is gone, or wants nothing of this process
        pass
    os._exit(0)


class _Agent:
    """What `program.supervise` calls a crew, at the end of a program of a gang."""

    def __init__(self, plan: Plan, run: RunDir, where: dict[str, Any], role: str, rank: int) -> None:
        self._plan, self._run = plan, run
        self._role: Role = plan.worker if role == "worker" else plan.job  # type: ignore[assignment]
        copies = self._role.replicas if role == "worker" else 1
        self._shard, self._replica = where["first"] + rank // copies, rank % copies
        self._attempt: int = where["attempt"]
        self._local = plan.cluster == "local"
        self._node: str = os.environ.get("SLURMD_NODENAME") or where["hosts"][0]
        self._host: str = where["hosts"][0]
        self._held: dict[str, ports.Reservation] = {}
        self._meeting = ports.reserve(0) if role == "job" and rank == 0 else None
        self._wire = _found(where, self._hello(where["secret"]))
        self._heard = self._next_beat = time.monotonic()
        self._orders: list[dict[str, Any]] = []
        self._child = 0
        self._ready = True
        self._prober: Prober | None = None
        self._probed = False
        self._next_look, self._pause = 0.0, _FIRST_LOOK
        self._tried = ""

    def _hello(self, secret: str) -> _Hello:
        own: dict[str, Any] = {
            "role": self._role.name, "shard": self._shard, "replica": self._replica, "node": self._node,
            "port": self._meeting.port if self._meeting else 0,
        }  # fmt: skip
        return _Hello(secret, own)

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
            self._rest()
            ended = self._run_once(order)
        if ended is not None:
            self._wire.send({"event": "ended", "code": ended.code, "signal": ended.signal, "why": ended.why})

    def _await_start(self) -> dict[str, Any]:
        while True:
            number, stop = program.next_signal(None, self)
            if self._orders:
                return self._orders.pop()
            if stop is not None:
                raise program.Interrupted(stop)
            if number in (signal.SIGTERM, signal.SIGINT):
                self._wire.send({"event": "ended", "code": -1, "signal": number, "why": "told"})
                raise program.Interrupted("told")

    def _rest(self) -> None:
        until = time.monotonic() + _RESTART_PAUSE
        while time.monotonic() < until:
            _, stop = program.next_signal(until, self)
            if stop is not None:
                raise program.Interrupted(stop)

    def _run_once(self, order: dict[str, Any]) -> program.Ended | None:
        """Start the program and wait for its end; None where it could not be started, which has been said."""
        try:
            self._hold_ports()
        except ports.PortTaken as error:
            self._fail(str(error), "launch_failed")
            return None
        given = self._environ(order)
        role = self._role
        words = [dialects.expanded(word, given) for word in role.command] if role.expand else list(role.command)
        out, err = self._logs()
        try:
            self._child = program.start(words, given, role.cwd, out, err)
        except OSError as error:
            text = program.not_started(error, words[0], role.cwd, err)
            if role.name == "job":
                return program.Ended(program.start_code(role.cwd) << 8)
            self._fail(text, "failed")
            return None
        finally:
            for descriptor in {out, err}:
                os.close(descriptor)
        self._await_ready(given)
        return program.supervise(
            self._child, timeout=self._plan.timeout if role.name == "job" else None, grace=self._plan.grace,
            insist=self._local, lifeline=None, marker=self._run.cancelled, crew=self,
        )  # fmt: skip

    def _fail(self, text: str, cause: str) -> None:
        self._wire.send({"event": "failed", "text": text, "cause": cause})
        until = time.monotonic() + _FAREWELL
        try:
            while time.monotonic() < until:  # until it has been heard, or the supervisor hangs up
                program.next_signal(until, self)
                if self._wire.closed:
                    return
        except program.Interrupted:
            return

    def _environ(self, order: dict[str, Any]) -> dict[str, str]:
        plan, role = self._plan, self._role
        who = dialects.Who(
            run_id=plan.run_id, run_dir=self._run.path, results=self._run.results, name=plan.name, shard=self._shard,
            shards=plan.shards, sharded=plan.sharded, attempt=self._attempt, role=role.name, replica=self._replica,
            replicas=role.replicas,
        )  # fmt: skip
        here = (
            on_this_machine(self._node, str(order.get("job")), self._shard) if self._local else from_slurm(os.environ)
        )
        peers = dialects.Peers(order["peers"], order["port"]) if order.get("peers") else None
        own = {
            **dialects.variables(who, here, workspace=role.cwd, peers=peers),
            **dialects.own_ports({name: held.port for name, held in self._held.items()}),
            **order.get("environ", {}),
        }
        inherited = dict(os.environ)
        if "devices" in order:
            inherited["CUDA_VISIBLE_DEVICES"] = order["devices"]
        return dialects.for_program(dialects.passed_on(inherited, plan.export), own, role.env, expand=role.expand)

    def _logs(self) -> tuple[int, int]:
        def opened(stream: str) -> int:
            path = self._run.log(self._shard, self._attempt, stream, role=self._role.name, replica=self._replica)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

        if self._plan.separate_stderr:
            return opened("out"), opened("err")
        both = opened("log")
        return both, both

    # Ports and readiness.

    def _hold_ports(self) -> None:
        for name, wanted in self._role.endpoints.items():
            if name not in self._held:
                self._held[name] = ports.reserve(wanted)

    def _port_was_taken(self, ended: program.Ended) -> bool:
        """Whether the program ended because somebody else has one of the ports chosen for it; those are given up."""
        if ended.why is not None or self._ready:
            return False
        taken = [
            name
            for name, wanted in self._role.endpoints.items()
            if not wanted and ports.listening(self._held[name].port)
        ]
        for name in taken:
            self._held.pop(name).release()
        return bool(taken)

    def _await_ready(self, given: dict[str, str]) -> None:
        if self._role.name == "job":
            return
        log = self._run.log(
            self._shard, self._attempt, "out" if self._plan.separate_stderr else "log", role=self._role.name,
            replica=self._replica,
        )  # fmt: skip
        now = time.monotonic()
        self._prober = None
        if self._role.readiness is not None:
            from hpcrun.node.probe import Prober  # most workers have none

            self._prober = Prober(self._role.readiness, given, self._role.cwd, log, now)
        self._probed = self._ready = False
        self._next_look, self._pause = now, _FIRST_LOOK

    def _look(self, now: float) -> None:
        """See whether the program is ready, and say so."""
        if self._prober is not None and not self._probed and now >= self._prober.due:
            self._probed = self._prober.turn(now)
            self._try(f"readiness: {self._prober.tried}" if self._prober.tried else "")
            if not self._probed and self._prober.expired(now):
                text = f"its readiness probe did not pass in {self._role.readiness.timeout:g} s: {self._prober.tried}"  # type: ignore[union-attr]
                self._wire.send({"event": "failed", "text": text, "cause": "failed"})
                self._prober.close()
                self._prober, self._next_look = None, now + 3600
                return
        if self._prober is not None and not self._probed:
            self._next_look = max(self._prober.due, now + 0.005)
            return
        waiting = self._unheard_ports()
        if not waiting:
            self._ready = True
            if self._prober is not None:
                self._prober.close()
            self._wire.send({"event": "listening", "ports": {name: held.port for name, held in self._held.items()}})
            return
        self._try(waiting)
        self._pause = min(self._pause * 1.05, _LAST_LOOK)
        self._next_look = now + self._pause

    def _unheard_ports(self) -> str:
        """What the first endpoint lacks that does not listen yet; empty where all do."""
        marker = {"HPCRUN_RUN_ID": self._plan.run_id, "HPCRUN_ROLE": self._role.name,
                  "HPCRUN_SHARD_INDEX": str(self._shard), "HPCRUN_REPLICA_INDEX": str(self._replica)}  # fmt: skip
        for name, held in self._held.items():
            state = ports.state(held.port, self._child, marker)
            if state == "open" or (state == "loopback" and self._local):
                continue
            said = {
                "closed": f"nothing listens on port {held.port}",
                "loopback": f"it listens on port {held.port} for its own node only; wanted 0.0.0.0 as its address",
                "stranger": f"port {held.port} belongs to a process that is not this worker's",
            }
            return f"endpoint {name}: {said[state]}"
        return ""

    def _try(self, text: str) -> None:
        if text and text != self._tried:
            self._tried = text
            self._wire.send({"event": "trying", "text": text})

    # What program.supervise asks of a crew.

    def due(self) -> float:
        """When the next turn is to be."""
        return self._next_beat if self._ready else min(self._next_beat, self._next_look)

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
        if self._wire.closed:
            raise program.Interrupted("abandoned")
        if now >= self._next_beat:
            self._next_beat = now + _BEAT
            self._wire.alive()
        if not self._ready and (now >= self._next_look or (self._prober is not None and not self._probed)):
            self._look(now)

    def _tell_of_silence(self) -> None:
        """Leave word that the supervisor's node is silent, for it may never say so itself."""
        path = self._run.silence(self._shard, self._attempt)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError:  # another one of the gang has said it
            return
        text = f"the node of its supervisor, {self._host}, is silent (no sign of life for {self._plan.lost_after:g} s)"
        at = time.time()
        events.add(path, "end", {"at": at, "exit_code": -1, "signal": 0, "cause": "node_failed", "detail": text})

    def _obey(self, message: dict[str, Any]) -> None:
        order = message.get("do")
        if order == "start":
            self._orders.append(message)
        elif order == "stop":
            raise program.Interrupted("stopped")
        elif order == "signal" and self._child:
            try:
                os.kill(self._child, int(message["number"]))
            except ProcessLookupError:
                pass

    def passed_on(self, number: int) -> None:
        """A signal from outside; the supervisor gets its own."""

    def farewell(self) -> tuple[int, bytes]:
        """What the supervisor is told when this agent was killed."""
        return self._wire.fileno(), wire.line({"event": "orphaned"})


class _Hello:
    """What an agent says of itself once the supervisor has given its random number."""

    def __init__(self, secret: str, own: dict[str, Any]) -> None:
        self.secret, self.own = secret, own

    def answer(self, challenge: str, number: str) -> dict[str, Any]:
        """The answer to `challenge`."""
        return {**self.own, "nonce": number, "proof": wire.proof(self.secret, "agent", challenge, number)}


def _found(where: dict[str, Any], hello: _Hello) -> wire.Wire:
    """A proven connection to the supervisor, by whichever of its names works."""
    until, problem = time.monotonic() + _FIND, ""
    while time.monotonic() < until:
        for host in where["hosts"]:
            try:
                connection = socket.create_connection((host, where["port"]), timeout=_FAREWELL)
                return _proven(connection, hello)
            except OSError as error:
                problem = f"{host}:{where['port']}: {error}"
        time.sleep(_FIRST_LOOK)
    sys.stderr.write(f"hpcrun: {os.uname().nodename} cannot reach the supervisor of its gang at {problem}\n")
    sys.stderr.flush()
    os._exit(1)


def _proven(connection: socket.socket, hello: _Hello) -> wire.Wire:
    stream, number = connection.makefile("rb", buffering=0), wire.nonce()  # what follows must stay in the socket
    try:
        challenge = str(json.loads(stream.readline(4096))["nonce"])
        connection.sendall(wire.line(hello.answer(challenge, number)))
        proof = json.loads(stream.readline(4096))["proof"]
    except (ValueError, KeyError, TypeError) as error:
        raise OSError("it does not answer as a supervisor does") from error
    if not wire.proves(proof, hello.secret, "hub", number, challenge):
        raise OSError("it does not know the gang's secret")
    stream.close()
    connection.settimeout(None)
    found = wire.Wire(connection)
    found.proven = True
    return found
