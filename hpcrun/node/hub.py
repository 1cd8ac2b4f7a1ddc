"""The supervisor's end of a gang: who has come, who is ready, who is lost.

The hub never waits. Its `turn` does what can be done now; `due` says when the next turn is, if no signal comes before.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from hpcrun.node import wire
from hpcrun.node.program import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hpcrun.states import Cause

_BEAT = 1.0
"""Seconds between two signs of life."""
_HANDSHAKE = 10.0
"""Seconds that a caller has to prove that it belongs here."""
_FIRST_RETRY, _LAST_RETRY = 0.02, 0.5
"""Seconds between two tries to reach an endpoint."""
_VERDICT = 1.5
"""Seconds for which the end of its step may explain why a process has hung up, before its node is given up."""
_ASK_AGAIN = 5.0
"""Seconds until a name that could not be resolved is asked for again: that may take as long as to look like silence."""
_CALLERS, _PATIENCE = 256, 1.0
"""Unproven connections at once, for strangers must not use up the files that this process may open; where there are
as many, one that has said nothing for these seconds gives way."""


class Trouble(Interrupted):
    """Why the gang cannot go on: a text for people, the cause of the attempt's end, and whose fault it was."""

    def __init__(self, text: str, cause: Cause, seat: Seat | None = None) -> None:
        super().__init__("trouble")
        self.text, self.cause, self.seat = text, cause, seat


class Seat:
    """The place of one process of the gang.

    `state` is absent, here, listening (it is up, and its endpoints are being tried from here), ready, ended or lost.
    """

    __slots__ = (
        "code",
        "gone",
        "heard",
        "hello",
        "next_try",
        "node",
        "pause",
        "ports",
        "reaching",
        "replica",
        "role",
        "shard",
        "signal",
        "state",
        "tried",
        "why",
        "wire",
    )  # fmt: skip

    def __init__(self, role: str, shard: int, replica: int) -> None:
        self.role, self.shard, self.replica = role, shard, replica
        self.state, self.node, self.tried = "absent", "", ""
        self.wire: wire.Wire | None = None
        self.hello: dict[str, Any] = {}
        self.ports: dict[str, int] = {}
        self.reaching: dict[str, socket.socket | None] = {}
        self.heard = self.next_try = self.gone = 0.0
        self.pause = _FIRST_RETRY
        self.code, self.signal, self.why = -1, 0, ""

    def called(self, alone: bool) -> str:
        """The process as messages name it; `alone` where there is one shard."""
        number = self.replica if self.role == "worker" else self.shard
        what = f"{self.role} {number}" if self.role == "worker" else f"shard {number}"
        of = "" if alone or self.role == "job" else f" of shard {self.shard}"
        return f"{what}{of}" + (f" on {self.node}" if self.node else "")


class Hub:
    """Listens for the agents of `seats`; `secret` is the attempt's, `stopping` is set once they are told to end.

    With `fail_fast` a shard that ends badly is trouble for all.
    """

    def __init__(
        self, seats: Iterable[Seat], lost_after: float, *, alone: bool, fail_fast: bool, host: str = ""
    ) -> None:
        self.seats = {(seat.role, seat.shard, seat.replica): seat for seat in seats}
        self.secret = os.urandom(32).hex()
        self._lost_after, self._alone, self._fail_fast = lost_after, alone, fail_fast
        self.stopping = self.closed = False
        self._listener = _listener(host)
        self.port = int(self._listener.getsockname()[1])
        self._callers: dict[wire.Wire, tuple[float, str]] = {}
        self._next_beat = time.monotonic() + _BEAT
        self._addresses: dict[str, list[tuple[Any, ...]]] = {}
        self._unknown: dict[str, float] = {}
        self.trouble: Trouble | None = None
        self._told = False

    def of(self, role: str) -> list[Seat]:
        """The seats of a role, in order."""
        return [seat for seat in self.seats.values() if seat.role == role]

    def due(self) -> float:
        """When the next turn is to be, by time.monotonic()."""
        tries = [seat.next_try for seat in self.seats.values() if seat.state == "listening"]
        verdicts = [seat.gone + _VERDICT for seat in self.seats.values() if seat.gone and seat.state != "lost"]
        return min([self._next_beat, *tries, *verdicts])

    def turn(self) -> None:
        """Do what can be done now.

        Raises Trouble, once, when a process of the gang has ended badly or is lost.
        """
        now = time.monotonic()
        self._accept(now)
        for caller in list(self._callers):
            self._listen_to(caller, now)
        for seat in self.seats.values():
            try:
                self._attend(seat, now)
            except Trouble as trouble:
                self._blame(seat, trouble)
        if now >= self._next_beat:
            self._next_beat = now + _BEAT
            for seat in self.seats.values():
                if seat.wire is not None:
                    seat.wire.alive()
        if self.trouble is not None and not self._told:
            self._told = True
            raise self.trouble

    def _blame(self, seat: Seat, trouble: Trouble) -> None:
        """Give up a process that has made trouble, which is trouble for the whole gang."""
        if seat.state != "ended":
            seat.state = "lost"
        if seat.wire is not None:
            seat.wire.close()
        self.trouble = self.trouble or trouble

    def _attend(self, seat: Seat, now: float) -> None:
        if seat.wire is not None and seat.state not in ("ended", "lost"):
            self._hear(seat, now)
        if seat.state == "listening":
            self._reach(seat, now)

    def tell(self, seat: Seat, **message: Any) -> None:
        """Send a message to one process of the gang."""
        if seat.wire is not None:
            seat.wire.send(message)

    def tell_all(self, **message: Any) -> None:
        """Send a message to every process of the gang that is there."""
        for seat in self.seats.values():
            self.tell(seat, **message)

    def close(self) -> None:
        """Hang up on everybody."""
        for caller in self._callers:
            caller.close()
        for seat in self.seats.values():
            _forget(seat)
            if seat.wire is not None:
                seat.wire.close()
        self._listener.close()
        self.closed = True

    # Callers, until they have proven who they are.

    def _accept(self, now: float) -> None:
        for caller, (until, _) in list(self._callers.items()) if len(self._callers) == _CALLERS else ():
            if now > until - _HANDSHAKE + _PATIENCE:
                caller.close()
                del self._callers[caller]
        while len(self._callers) < _CALLERS:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            caller, number = wire.Wire(connection), wire.nonce()
            caller.send({"nonce": number})
            self._callers[caller] = (now + _HANDSHAKE, number)

    def _listen_to(self, caller: wire.Wire, now: float) -> None:
        until, number = self._callers[caller]
        _, messages = caller.receive()
        if caller.closed or now > until or (caller.noise and not messages):
            caller.close()
            del self._callers[caller]
        elif messages:
            del self._callers[caller]
            self._greet(caller, number, messages[0], now)

    def _greet(self, caller: wire.Wire, number: str, hello: dict[str, Any], now: float) -> None:
        theirs = str(hello.get("nonce"))
        if not wire.proves(hello.get("proof"), self.secret, "agent", number, theirs):
            caller.close()
            return
        claim = hello.get("role"), hello.get("shard"), hello.get("replica")
        seat = next((seat for place, seat in self.seats.items() if place == claim), None)
        if seat is None or seat.wire is not None:
            caller.close()
            return
        caller.proven = True
        seat.wire, seat.hello, seat.heard, seat.state = caller, hello, now, "here"
        seat.node = str(hello.get("node"))
        caller.send({"proof": wire.proof(self.secret, "hub", theirs, number)})
        if self.stopping:  # it comes too late, and nobody waits for it
            seat.state = "lost"
            caller.send({"do": "stop"})

    # The gang's own processes.

    def _hear(self, seat: Seat, now: float) -> None:
        assert seat.wire is not None
        heard, messages = seat.wire.receive()
        if heard:
            seat.heard = now
        for message in messages:
            self._heed(seat, message, now)
        if seat.state == "ended":
            return
        if seat.wire.closed and not seat.gone:
            seat.gone = now
        if seat.gone:
            if now > seat.gone + _VERDICT:
                text = f"{seat.called(self._alone)}: its node is lost (the connection to it was closed)"
                raise Trouble(text, "node_failed", seat)
            return
        if now - seat.heard > self._lost_after:
            text = f"{seat.called(self._alone)}: its node is silent (no sign of life for {self._lost_after:g} s)"
            raise Trouble(text, "node_failed", seat)

    def _heed(self, seat: Seat, message: dict[str, Any], now: float) -> None:
        event = message.get("event")
        if event == "trying":
            seat.tried = str(message.get("text"))
        elif event == "listening":
            seat.ports = {str(name): int(port) for name, port in message["ports"].items()}
            seat.state, seat.next_try = "listening", now
            seat.reaching = dict.fromkeys(seat.ports)
        elif event == "failed":
            raise Trouble(f"{seat.called(self._alone)}: {message['text']}", message["cause"], seat)
        elif event == "orphaned":
            raise Trouble(f"{seat.called(self._alone)}: its supervisor was killed", "lost", seat)
        elif event == "ended":
            seat.state, seat.why = "ended", str(message.get("why") or "")
            seat.code, seat.signal = int(message["code"]), int(message["signal"])
            self._judge(seat)

    def _judge(self, seat: Seat) -> None:
        """Whether a process of the gang may have ended: a worker may not before its job has, nor a shard badly."""
        if self.stopping or (seat.role == "job" and (not self._fail_fast or seat.code == 0)):
            return
        if seat.why == "told":
            raise Trouble(
                f"{seat.called(self._alone)} was told to end by signal {seat.signal or 15}", "cancelled", seat
            )
        if seat.why == "timed_out":
            raise Trouble(f"{seat.called(self._alone)} has used up the run's timeout", "timed_out", seat)
        how = f"was killed by signal {seat.signal}" if seat.signal else f"exited with code {seat.code}"
        before = " before its job had ended" if seat.role == "worker" else ""
        text = f"{seat.called(self._alone)} {how}{before}"
        if seat.why == "out_of_memory":
            raise Trouble(f"{text}: it ran out of memory", "out_of_memory", seat)
        raise Trouble(text, "failed", seat)

    # Whether its endpoints can be reached from here.

    def _reach(self, seat: Seat, now: float) -> None:
        for name, pending in list(seat.reaching.items()):
            if pending is not None:
                self._look_at(seat, name, pending)
            elif now >= seat.next_try and now >= self._unknown.get(seat.node, 0.0):
                self._call_endpoint(seat, name, now)
        if not seat.reaching:
            seat.state = "ready"
        elif now >= seat.next_try:
            seat.next_try = now + seat.pause
            seat.pause = min(seat.pause * 1.3, _LAST_RETRY)

    def _call_endpoint(self, seat: Seat, name: str, now: float) -> None:
        try:
            family, address = self._address(seat.node, seat.ports[name])
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            self._unknown[seat.node] = now + _ASK_AGAIN
            seat.tried = f"endpoint {name}: the name {seat.node} cannot be resolved: {reason}"
            return
        try:
            pending = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # too many open files: when others have been reached there will be fewer
            seat.tried = f"endpoint {name}: not tried yet: {error.strerror}"
            return
        wire.call(pending.fileno())
        outcome = pending.connect_ex(address)
        if outcome == errno.EINPROGRESS:
            seat.reaching[name] = pending
        else:
            self._reached(seat, name, pending, outcome)

    def _look_at(self, seat: Seat, name: str, pending: socket.socket) -> None:
        poll = select.poll()
        poll.register(pending, select.POLLOUT)
        if poll.poll(0):
            self._reached(seat, name, pending, pending.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _reached(self, seat: Seat, name: str, pending: socket.socket, outcome: int) -> None:
        pending.close()
        if outcome:
            seat.reaching[name] = None
            seat.tried = f"endpoint {name}: {seat.node}:{seat.ports[name]}: {os.strerror(outcome)}"
        else:
            del seat.reaching[name]

    def _address(self, host: str, port: int) -> tuple[int, tuple[Any, ...]]:
        """An address of `host`, each time the next one: a name may stand for several, of two families."""
        if host not in self._addresses:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            self._addresses[host] = [(family, address) for family, _, _, _, address in found]
        known = self._addresses[host]
        known.append(known.pop(0))
        family, address = known[-1]
        return family, (address[0], port, *address[2:])


def _forget(seat: Seat) -> None:
    for pending in seat.reaching.values():
        if pending is not None:
            pending.close()
    seat.reaching = {}


def _listener(host: str) -> socket.socket:
    """A listening socket on a free port, of every address or of `host`."""
    try:
        found = socket.socket(socket.AF_INET6 if not host and socket.has_ipv6 else socket.AF_INET)
        if found.family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind((host, 0))
    except OSError:
        found = socket.socket(socket.AF_INET)
        found.bind((host, 0))
    found.listen(1024)
    wire.call(found.fileno())
    return found
