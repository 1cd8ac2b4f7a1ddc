"""The supervisor's end of a gang: who is let in, what counts as trouble, and whom it can reach. Over real sockets."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from waiting import until

from hpcrun.node import hub as hubs
from hpcrun.node import wire
from hpcrun.node.hub import Hub, Seat, Trouble

HERE = "127.0.0.1"


@pytest.fixture(autouse=True, scope="module")
def no_sigio() -> Iterator[None]:
    """A hub sends SIGIO to its process, which ends one that does not wait for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    yield
    while signal.sigtimedwait({signal.SIGIO}, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture(autouse=True)
def agents() -> Iterator[list[Agent]]:
    """The callers of a test, none of which is left."""
    yield Agent.all
    for agent in Agent.all:
        agent.close()
    Agent.all.clear()


Make = Callable[..., Hub]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes hubs, of two workers of one shard if nobody says otherwise, and closes them with all their wires."""
    made: list[Hub] = []
    wires: list[wire.Wire] = []

    class Kept(wire.Wire):
        def __init__(self, connection: socket.socket) -> None:
            super().__init__(connection)
            wires.append(self)

    monkeypatch.setattr(wire, "Wire", Kept)

    def hub(seats: list[Seat] | None = None, lost_after: float = 60.0, **more: Any) -> Hub:
        given = seats if seats is not None else [Seat("worker", 0, 0), Seat("worker", 0, 1)]
        made.append(Hub(given, lost_after, **{"alone": True, "fail_fast": True, "host": HERE, **more}))
        return made[-1]

    yield hub
    for one in made:
        one.close()
    for kept in wires:
        kept.close()


class Agent:
    """The other end, as far as the hub can see it."""

    all: ClassVar[list[Agent]] = []

    def __init__(self, hub: Hub) -> None:
        Agent.all.append(self)
        self._hub = hub
        self.socket = socket.create_connection((HERE, hub.port))
        self._lines = self.socket.makefile("rb")
        self.challenge = ""
        self.own = ""

    def hello(self, role: Any = "worker", shard: Any = 0, replica: Any = 0, **more: Any) -> dict[str, Any]:
        """What one of the gang says to the hub's challenge."""
        until(lambda: self._hub.turn() or select.select([self.socket], [], [], 0)[0])
        self.challenge, self.own = json.loads(self._lines.readline())["nonce"], wire.nonce()
        proof = wire.proof(self._hub.secret, "agent", self.challenge, self.own)
        about = {"role": role, "shard": shard, "replica": replica, "node": HERE, "port": 7}
        return {**about, "nonce": self.own, "proof": proof, **more}

    def say(self, **message: Any) -> None:
        self.socket.sendall(wire.line(message))

    def next(self) -> dict[str, Any]:
        """The next message; an empty line is only a sign of life."""
        raw = b"\n"
        while raw == b"\n":
            raw = self._lines.readline()
        found: dict[str, Any] = json.loads(raw)
        return found

    def hang_up(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()

    def is_hung_up(self) -> bool:
        """Whether the hub has closed the connection."""
        self._hub.turn()
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True


def seated(hub: Hub, role: str = "worker", shard: int = 0, replica: int = 0, **more: Any) -> tuple[Agent, Seat]:
    """One of the gang, which has taken its seat."""
    agent, seat = Agent(hub), hub.seats[role, shard, replica]
    agent.say(**agent.hello(role, shard, replica, **more))
    until(lambda: hub.turn() or seat.state == "here")
    assert wire.proves(agent.next()["proof"], hub.secret, "hub", agent.own, agent.challenge)
    return agent, seat


def trouble(hub: Hub) -> Trouble:
    """The trouble that a hub has; it is said once only."""
    found: list[Trouble] = []

    def turn() -> list[Trouble]:
        try:
            hub.turn()
        except Trouble as error:
            found.append(error)
        return found

    until(turn, what="trouble")
    for _ in range(3):
        hub.turn()
    assert hub.trouble is found[0]
    return found[0]


def said(found: Trouble) -> tuple[str, str, str]:
    """Text, cause and why of a trouble."""
    return found.text, found.cause, found.why


# Who is let in.


def test_handshake(make: Make) -> None:
    """One of the gang proves itself, is proven to, and has its seat with its node."""
    hub = make()
    agent, seat = seated(hub, replica=1, node="n7")
    assert (seat.state, seat.node, seat.hello["port"]) == ("here", "n7", 7)
    assert [one.state for one in hub.of("worker")] == ["absent", "here"]
    hub.tell(seat, do="start", job="12")
    assert agent.next() == {"do": "start", "job": "12"}
    hub.tell_all(do="stop")
    assert agent.next() == {"do": "stop"}


def test_secrets(make: Make) -> None:
    """Each attempt has a secret of its own, which never travels."""
    hub = make()
    agent = Agent(hub)
    hello = agent.hello()
    assert hub.secret != make().secret
    assert hub.secret not in json.dumps(hello)


def test_every_address() -> None:
    """Without a host the hub is reached by any of its node's addresses."""
    hub = Hub([Seat("worker", 0, 0)], 60, alone=True, fail_fast=True)
    seated(hub)
    hub.close()


UNPROVEN: list[tuple[str, dict[str, Any]]] = [
    ("no proof", {"proof": None}),
    ("a proof of another type", {"proof": 3}),
    ("a proof that is no ASCII", {"proof": "é"}),
    ("a proof that is no text", {"proof": "\ud800"}),
    ("a wrong proof", {"proof": "0" * 64}),
    ("an empty proof", {"proof": ""}),
    ("another number than it proved", {"nonce": "0" * 32}),
    ("a number that is no text", {"nonce": "\ud800\udfff"}),
    ("a number that is none", {"nonce": None}),
    ("a number that is a list", {"nonce": [1]}),
    ("an unhashable role", {"proof": "x", "role": ["worker"]}),
    ("an unhashable shard", {"proof": "x", "shard": {}}),
]
NOISE = [
    b"\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"\x16\x03\x01\x02\x00\x01\n", b"{}\n", b"[]\n", b"null\n",
    b'{"proof": "\\ud800", "nonce": "\\ud800"}\n', b'{"proof": "\xff"}\n', b"[" * 3000 + b"\n", b"3\n", b"{\n",
    b"x" * 1_000_000, b"\0" * 1_000_000, b"\n" * 1_000_000,
]  # fmt: skip


def undisturbed(hub: Hub, agent: Agent, seat: Seat) -> None:
    """The gang goes on as if nothing had happened."""
    for _ in range(3):
        hub.turn()
    assert (seat.state, hub.trouble) == ("here", None)
    hub.tell(seat, do="signal", number=10)
    assert agent.next() == {"do": "signal", "number": 10}
    seated(hub, replica=1)


@pytest.mark.parametrize("change", [change for _, change in UNPROVEN], ids=[name for name, _ in UNPROVEN])
def test_who_does_not_know_the_secret(make: Make, change: dict[str, Any]) -> None:
    """Who cannot prove itself is hung up on, whatever it says, and nobody else notices."""
    hub = make()
    agent, seat = seated(hub)
    caller = Agent(hub)
    caller.say(**{**caller.hello(replica=1), **change})
    until(caller.is_hung_up)
    assert hub.seats["worker", 0, 1].state == "absent"
    undisturbed(hub, agent, seat)


@pytest.mark.parametrize("noise", NOISE)
def test_noise(monkeypatch: pytest.MonkeyPatch, make: Make, noise: bytes) -> None:
    """Whoever calls by mistake, a port scanner or a browser, is hung up on, and nobody else notices."""
    hub = make()
    agent, seat = seated(hub)
    monkeypatch.setattr(hubs, "_HANDSHAKE", 0.2)
    caller = Agent(hub)
    caller.socket.setblocking(False)
    try:
        while noise:
            noise = noise[caller.socket.send(noise) :]
            hub.turn()
    except OSError:  # it has hung up already, or does not read so much at once
        pass
    until(caller.is_hung_up)
    monkeypatch.setattr(hubs, "_HANDSHAKE", 60.0)
    undisturbed(hub, agent, seat)


def test_replayed_proof(make: Make) -> None:
    """What one of the gang said once, overheard and said again, lets nobody in."""
    hub = make()
    first = Agent(hub)
    overheard = first.hello(replica=1)
    caller = Agent(hub)
    caller.hello(replica=1)
    caller.say(**overheard)
    until(caller.is_hung_up)
    assert hub.seats["worker", 0, 1].state == "absent"
    undisturbed(hub, *seated(hub))


def test_proof_of_the_other_end(make: Make) -> None:
    """The hub's own proof, turned around, is none."""
    hub = make()
    caller = Agent(hub)
    hello = caller.hello()
    caller.say(**{**hello, "proof": wire.proof(hub.secret, "hub", caller.challenge, caller.own)})
    until(caller.is_hung_up)
    undisturbed(hub, *seated(hub))


def test_another_attempts_secret(make: Make) -> None:
    """An agent of an earlier attempt, which is late, does not get into this one."""
    hub, earlier = make(), make()
    caller = Agent(hub)
    hello = caller.hello()
    caller.say(**{**hello, "proof": wire.proof(earlier.secret, "agent", caller.challenge, caller.own)})
    until(caller.is_hung_up)
    undisturbed(hub, *seated(hub))


def test_who_says_nothing(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A caller that says nothing, or half of something, is hung up on when its time is over, and not before."""
    hub = make()
    silent, half = Agent(hub), Agent(hub)
    silent.hello()
    half.hello()
    half.socket.sendall(b'{"proof": ')
    assert not silent.is_hung_up()
    assert not half.is_hung_up()
    monkeypatch.setattr(hubs, "_HANDSHAKE", 0.1)
    late = Agent(hub)
    until(late.is_hung_up)
    monkeypatch.setattr(hubs, "_HANDSHAKE", 60.0)
    assert not silent.is_hung_up()
    undisturbed(hub, *seated(hub))


def test_who_hangs_up_at_once(make: Make) -> None:
    """A caller that is gone before it was greeted is forgotten."""
    hub = make()
    for _ in range(20):
        Agent(hub).hang_up()
    undisturbed(hub, *seated(hub))


def test_many_callers(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A crowd of callers that say nothing keeps none of the gang out: the ones that are silent longest give way."""
    monkeypatch.setattr(hubs, "_CALLERS", 3)
    monkeypatch.setattr(hubs, "_PATIENCE", 0.05)
    hub = make()
    crowd = [Agent(hub) for _ in range(10)]
    undisturbed(hub, *seated(hub))
    assert crowd[0].is_hung_up()


def test_crowd_in_a_hurry(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """Nor does one that is soon hung up on, whatever the patience; there are never more of them than that."""
    monkeypatch.setattr(hubs, "_CALLERS", 3)
    monkeypatch.setattr(hubs, "_HANDSHAKE", 0.1)
    hub = make()
    crowd = [Agent(hub) for _ in range(10)]
    before = len(os.listdir("/proc/self/fd"))
    hub.turn()
    assert len(os.listdir("/proc/self/fd")) == before + 3
    until(lambda: all(caller.is_hung_up() for caller in crowd))
    monkeypatch.setattr(hubs, "_HANDSHAKE", 60.0)
    undisturbed(hub, *seated(hub))


def test_second_claim(make: Make) -> None:
    """Who claims a seat that is taken is hung up on, though it knows the secret; the first one keeps it."""
    hub = make()
    agent, seat = seated(hub)
    second = Agent(hub)
    second.say(**second.hello(node="elsewhere"))
    until(second.is_hung_up)
    assert seat.node == HERE
    undisturbed(hub, agent, seat)


@pytest.mark.parametrize(
    "claim", [{"replica": 2}, {"shard": 1}, {"role": "job"}, {"role": "x"}, {"replica": "0"}, {"replica": None}]
)
def test_no_such_seat(make: Make, claim: dict[str, Any]) -> None:
    """Who claims a seat that there is not is hung up on."""
    hub = make()
    agent, seat = seated(hub)
    caller = Agent(hub)
    caller.say(**caller.hello(**claim))
    until(caller.is_hung_up)
    undisturbed(hub, agent, seat)


@pytest.mark.parametrize("claim", [{"role": ["worker"]}, {"shard": {}}, {"replica": [0]}])
def test_unhashable_claim(make: Make, claim: dict[str, Any]) -> None:
    """A claim of what cannot be a seat ends nothing, though who makes it knows the secret."""
    hub = make()
    agent, seat = seated(hub)
    caller = Agent(hub)
    caller.say(**caller.hello(**claim))
    until(caller.is_hung_up)
    undisturbed(hub, agent, seat)


@pytest.mark.parametrize("missing", ["role", "shard", "replica"])
def test_claim_of_nothing(make: Make, missing: str) -> None:
    """Nor does one that claims no seat."""
    hub = make()
    agent, seat = seated(hub)
    caller = Agent(hub)
    hello = caller.hello()
    del hello[missing]
    caller.say(**hello)
    until(caller.is_hung_up)
    undisturbed(hub, agent, seat)


def test_who_comes_too_late(make: Make) -> None:
    """Who takes its seat when all is over is told to stop, and is waited for by nobody."""
    hub = make()
    hub.stopping = True
    agent = Agent(hub)
    agent.say(**agent.hello())
    until(lambda: hub.turn() or hub.seats["worker", 0, 0].state == "lost")
    assert wire.proves(agent.next()["proof"], hub.secret, "hub", agent.own, agent.challenge)
    assert agent.next() == {"do": "stop"}


# What is trouble.


def test_silent(make: Make) -> None:
    """A node that gives no sign of life for that long is dead."""
    hub = make(lost_after=0.3)
    _agent, seat = seated(hub, replica=1, node="n7")
    found = trouble(hub)
    assert said(found) == (
        "worker 1 on n7: its node is silent (no sign of life for 0.3 s)", "node_failed", "trouble"
    )  # fmt: skip
    assert (found.seat, seat.state) == (seat, "lost")


def test_signs_of_life(make: Make) -> None:
    """A node that gives signs of life is not, nor is one that has not come yet."""
    hub = make(lost_after=1.0)
    agent, seat = seated(hub)
    until_then = time.monotonic() + 2.5

    def alive() -> bool:
        agent.socket.sendall(b"\n")
        hub.turn()
        return time.monotonic() > until_then

    until(alive)
    assert (seat.state, hub.seats["worker", 0, 1].state, hub.trouble) == ("here", "absent", None)


def test_the_hubs_own_signs_of_life(make: Make) -> None:
    """The hub gives signs of life, too, so that an agent whose supervisor is gone can tell."""
    hub = make()
    agent, _ = seated(hub)
    agent.socket.setblocking(False)

    def heard() -> bytes:
        hub.turn()
        try:
            return agent.socket.recv(1)
        except BlockingIOError:
            return b""

    assert until(heard) == b"\n"


def test_hung_up(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A connection that is closed without a word means a lost node, once nobody else explains it."""
    monkeypatch.setattr(hubs, "_VERDICT", 0.1)
    hub = make()
    agent, seat = seated(hub, node="n7")
    agent.hang_up()
    found = trouble(hub)
    assert said(found) == (
        "worker 0 on n7: its node is lost (the connection to it was closed)", "node_failed", "trouble"
    )  # fmt: skip
    assert (found.seat, seat.state) == (seat, "lost")


def test_hung_up_and_explained(make: Make) -> None:
    """Before that there is time for another explanation, which then is the trouble."""
    hub = make()
    agent, seat = seated(hub)
    agent.hang_up()
    until(lambda: hub.turn() or seat.gone)
    assert (hub.trouble, seat.state) == (None, "here")


def test_orphaned(make: Make) -> None:
    """When a program's own supervisor was killed, its guard says so before it hangs up, and the node is not lost."""
    hub = make()
    agent, seat = seated(hub, node="n7")
    agent.say(event="orphaned")
    agent.hang_up()
    assert said(trouble(hub)) == ("worker 0 on n7: its supervisor was killed", "lost", "trouble")
    assert seat.state == "lost"


def test_failed(make: Make) -> None:
    """What an agent could not do is said with its own words and cause."""
    hub = make()
    agent, _ = seated(hub, node="n7")
    agent.say(event="failed", text="port 80 is in use on this node", cause="launch_failed")
    assert said(trouble(hub)) == ("worker 0 on n7: port 80 is in use on this node", "launch_failed", "trouble")


def ended(code: int = 0, signal: int = 0, why: str | None = None) -> dict[str, Any]:
    return {"event": "ended", "code": code, "signal": signal, "why": why}


@pytest.mark.parametrize(
    ("end", "words", "cause"),
    [
        (ended(0), "exited with code 0 before its job had ended", "failed"),
        (ended(3), "exited with code 3 before its job had ended", "failed"),
        (ended(-1, 9), "was killed by signal 9 before its job had ended", "failed"),
        (ended(-1, 9, "out_of_memory"), "was killed by signal 9 before its job had ended: it ran out of memory",
         "out_of_memory"),
        (ended(0, 0, "told"), "was told to end by signal 15", "cancelled"),
        (ended(-1, 2, "told"), "was told to end by signal 2", "cancelled"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("alone", "who"), [(True, "worker 1 on n7"), (False, "worker 1 of shard 4 on n7")])
def test_worker_ends_first(
    make: Make, end: dict[str, Any], words: str, cause: str, alone: bool, who: str
) -> None:  # fmt: skip
    """A worker that ends before its job has fails the attempt at once, however it ended."""
    hub = make([Seat("worker", 4, 0), Seat("worker", 4, 1)], alone=alone)
    agent, seat = seated(hub, shard=4, replica=1, node="n7")
    agent.say(**end)
    found = trouble(hub)
    assert said(found) == (f"{who} {words}", cause, "trouble")
    assert (found.seat, seat.state, seat.code, seat.signal) == (seat, "ended", end["code"], end["signal"])


def test_worker_ends_while_it_is_tried(make: Make) -> None:
    """So does one that ends while its endpoints are being tried; they are not tried any more."""
    hub = make()
    agent, seat = seated(hub)
    agent.say(event="listening", ports={"http": closed_port()})
    until(lambda: hub.turn() or seat.tried)
    agent.say(**ended(1))
    assert trouble(hub).text == f"worker 0 on {HERE} exited with code 1 before its job had ended"
    assert seat.state == "ended"


@pytest.mark.parametrize(
    ("end", "words", "cause"),
    [
        (ended(3), "exited with code 3", "failed"),
        (ended(-1, 9), "was killed by signal 9", "failed"),
        (ended(1, 0, "out_of_memory"), "exited with code 1: it ran out of memory", "out_of_memory"),
        (ended(143, 0, "told"), "was told to end by signal 15", "cancelled"),
        (ended(-1, 15, "timed_out"), "has used up the run's timeout", "timed_out"),
    ],
)
def test_shard_ends_badly(make: Make, end: dict[str, Any], words: str, cause: str) -> None:
    """A shard of a gang that ends badly ends the others, and its own end is kept."""
    hub = make([Seat("job", 0, 0), Seat("job", 1, 0)], alone=False)
    agent, seat = seated(hub, "job", 1, node="n7")
    agent.say(**end)
    found = trouble(hub)
    assert said(found) == (f"shard 1 on n7 {words}", cause, "trouble")
    assert (seat.state, seat.code, seat.signal, seat.why) == ("ended", end["code"], end["signal"], end["why"] or "")


def test_shard_ends_well(make: Make) -> None:
    """A shard that ends well is no trouble, and that its connection then closes is none."""
    hub = make([Seat("job", 0, 0), Seat("job", 1, 0)], alone=False, lost_after=0.2)
    agent, seat = seated(hub, "job", 1)
    agent.say(**ended(0))
    agent.hang_up()
    until(lambda: hub.turn() or seat.state == "ended")
    then = time.monotonic() + 0.5
    until(lambda: hub.turn() or time.monotonic() > then)
    assert (seat.state, seat.code, hub.trouble) == ("ended", 0, None)


def test_without_fail_fast(make: Make) -> None:
    """Without fail_fast the others go on."""
    hub = make([Seat("job", 0, 0), Seat("job", 1, 0)], alone=False, fail_fast=False)
    agent, seat = seated(hub, "job", 1)
    agent.say(**ended(3))
    until(lambda: hub.turn() or seat.state == "ended")
    assert (seat.code, hub.trouble) == (3, None)


@pytest.mark.parametrize("end", [ended(0), ended(3), ended(-1, 15), ended(-1, 15, "told"), ended(0, 0, "stopped")])
def test_stopping(make: Make, end: dict[str, Any]) -> None:
    """Once the gang is told to stop, no end of anybody is trouble."""
    hub = make()
    agent, seat = seated(hub)
    hub.stopping = True
    agent.say(**end)
    agent.hang_up()
    until(lambda: hub.turn() or seat.state == "ended")
    assert hub.trouble is None


def test_first_trouble(make: Make) -> None:
    """Where several end at once, the first one is the trouble, and it is said once."""
    hub = make()
    agents = [seated(hub, replica=replica)[0] for replica in (0, 1)]
    for code, agent in enumerate(agents):
        agent.say(**ended(code + 1))
    found = trouble(hub)
    assert found.text.startswith(("worker 0", "worker 1"))
    until(lambda: hub.turn() or all(seat.state == "ended" for seat in hub.of("worker")))
    assert hub.trouble is found


def test_noise_of_the_gangs_own(make: Make) -> None:
    """Words that the hub does not know, of a newer agent's say, are passed over."""
    hub = make()
    agent, seat = seated(hub)
    agent.say(event="dancing", text=[1])
    agent.say(text=3)
    agent.say(event="trying", text="endpoint http: nothing listens on port 80")
    until(lambda: hub.turn() or seat.tried)
    assert (seat.tried, seat.state) == ("endpoint http: nothing listens on port 80", "here")


# Whom the hub can reach.


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as found:
        found.bind((HERE, 0))
        return int(found.getsockname()[1])


def listening(hub: Hub, ports: dict[str, int], node: str = HERE) -> Seat:
    """A worker that says that it is up."""
    agent, seat = seated(hub, node=node)
    agent.say(event="listening", ports=ports)
    until(lambda: hub.turn() or seat.ports == ports)
    return seat


def test_no_endpoints(make: Make) -> None:
    """A worker without endpoints is ready when it says that it is up."""
    assert listening(make(), {}).state == "ready"


def test_reached(make: Make) -> None:
    """A worker is ready once each of its endpoints has accepted a connection from here."""
    hub = make()
    with socket.create_server((HERE, 0)) as first, socket.create_server((HERE, 0)) as second:
        seat = listening(hub, {"a": first.getsockname()[1], "b": second.getsockname()[1]})
        until(lambda: hub.turn() or seat.state == "ready")
        for server in (first, second):
            with server.accept()[0] as look:
                assert look.recv(1) == b""


def test_refused_then_accepted(make: Make) -> None:
    """An endpoint that refuses is tried again, and what was tried is there to be told."""
    hub = make()
    with socket.socket() as server:
        server.bind((HERE, 0))
        port = server.getsockname()[1]
        seat = listening(hub, {"http": port})
        until(lambda: hub.turn() or seat.tried)
        assert seat.tried == f"endpoint http: {HERE}:{port}: {os.strerror(111)}"
        assert seat.state == "listening"
        server.listen()
        until(lambda: hub.turn() or seat.state == "ready")


def test_one_of_two_endpoints(make: Make) -> None:
    """While one endpoint of two refuses, the worker is not ready, and that one is named."""
    hub = make()
    with socket.create_server((HERE, 0)) as server:
        refusing = closed_port()
        seat = listening(hub, {"good": server.getsockname()[1], "bad": refusing})
        until(lambda: hub.turn() or (seat.tried and list(seat.reaching) == ["bad"]))
        assert (seat.state, seat.tried) == ("listening", f"endpoint bad: {HERE}:{refusing}: {os.strerror(111)}")


def test_restarted(make: Make) -> None:
    """A worker that was started again is reached again, on whatever ports it has now."""
    hub = make()
    agent, seat = seated(hub)
    with socket.create_server((HERE, 0)) as first, socket.create_server((HERE, 0)) as second:
        for server in (first, second):
            agent.say(event="listening", ports={"http": server.getsockname()[1]})
            until(lambda server=server: hub.turn() or seat.ports == {"http": server.getsockname()[1]})
            until(lambda: hub.turn() or seat.state == "ready")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A node whose name nobody knows is said so, and reached once somebody does."""
    asked: list[str] = []

    def nobody(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    known = socket.getaddrinfo
    monkeypatch.setattr(hubs.socket, "getaddrinfo", nobody)
    hub = make()
    with socket.create_server((HERE, 0)) as server:
        agent, seat = seated_without_names(monkeypatch, hub, known, nobody, "n7")
        agent.say(event="listening", ports={"http": server.getsockname()[1]})
        until(lambda: hub.turn() or seat.tried)
        assert seat.tried == "endpoint http: the name n7 cannot be resolved: Name or service not known"
        assert set(asked) == {"n7"}
        monkeypatch.setattr(hubs.socket, "getaddrinfo", lambda host, *args, **more: known(HERE, *args, **more))
        until(lambda: hub.turn() or seat.state == "ready")


def seated_without_names(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, known: Any, nobody: Any, node: str
) -> tuple[Agent, Seat]:
    """A worker's seat, taken while names are known to its agent, who shares this process."""
    monkeypatch.setattr(hubs.socket, "getaddrinfo", known)
    found = seated(hub, node=node)
    monkeypatch.setattr(hubs.socket, "getaddrinfo", nobody)
    return found


def test_impossible_name(make: Make) -> None:
    """A node's name that can be no host's is one that is not reached, and nothing worse."""
    hub = make()
    seat = listening(hub, {"http": 80}, node="n" * 64)
    until(lambda: hub.turn() or seat.tried)
    assert seat.tried.startswith(f"endpoint http: the name {'n' * 64} cannot be resolved")


def test_node_of_two_families(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A node whose name stands for two addresses is reached by the one on which its worker listens."""
    hub = make()
    with socket.create_server((HERE, 0)) as server:
        agent, seat = seated(hub, node="n7")
        both = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HERE, 0)),
        ]
        monkeypatch.setattr(hubs.socket, "getaddrinfo", lambda *args, **more: both)
        agent.say(event="listening", ports={"http": server.getsockname()[1]})
        until(lambda: hub.turn() or seat.state == "ready")


# No waiting, and no turning in circles.


def turns(hub: Hub, seconds: float = 0.5) -> int:
    """How often the hub has its turn in that time, when it has one whenever it is due or something comes in."""
    end_by, count = time.monotonic() + seconds, 0
    while time.monotonic() < end_by:
        signal.sigtimedwait({signal.SIGIO}, max(0.0, min(hub.due(), end_by) - time.monotonic()))
        hub.turn()
        count += 1
    return count


def test_idle(make: Make) -> None:
    """While nothing happens the hub has nothing to do."""
    hub = make()
    seated(hub)
    turns(hub, 0.05)
    assert turns(hub) < 5


def test_refusing(make: Make) -> None:
    """An endpoint that refuses is tried ever less often."""
    hub = make()
    listening(hub, {"a": closed_port(), "b": closed_port()})
    assert turns(hub) < 40


def test_unresolved(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """Nor is a name that nobody knows asked for without end."""
    hub = make()
    agent, seat = seated(hub, node="n7")

    def nobody(*args: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(hubs.socket, "getaddrinfo", nobody)
    agent.say(event="listening", ports={"http": 80})
    until(lambda: hub.turn() or seat.tried)
    assert turns(hub) < 40


def test_no_answer(make: Make) -> None:
    """Nor does an endpoint that does not answer at all keep the hub busy."""
    hub = make()
    with socket.create_server((HERE, 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(4)]  # more than the server has room for: the next get no answer
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        seat = listening(hub, {"http": server.getsockname()[1]})
        assert seat.state == "listening"
        assert turns(hub) < 40
        for one in waiting:
            one.close()


def test_closed_line(make: Make) -> None:
    """Nor a process that has hung up."""
    hub = make()
    agent, seat = seated(hub)
    agent.hang_up()
    until(lambda: hub.turn() or seat.gone)
    assert turns(hub) < 5


def test_after_trouble(make: Make) -> None:
    """Nor what is left of a gang after trouble."""
    hub = make()
    agent, _ = seated(hub)
    listening_agent, other = seated(hub, replica=1)
    listening_agent.say(event="listening", ports={"http": closed_port()})
    until(lambda: hub.turn() or other.tried)
    agent.say(**ended(1))
    trouble(hub)
    listening_agent.say(**ended(-1, 15, "stopped"))
    until(lambda: hub.turn() or other.state == "ended")
    turns(hub, 0.05)
    assert turns(hub) < 5


def test_closed(make: Make) -> None:
    """A closed hub has hung up on everybody, and holds no descriptor of theirs."""
    before = len(os.listdir("/proc/self/fd"))
    hub = make()
    agent, _ = seated(hub)
    caller = Agent(hub)
    caller.hello()
    hub.close()
    assert agent.socket.recv(65536) == b""
    assert caller.socket.recv(65536) == b""
    agent.close()
    caller.close()
    assert (hub.closed, len(os.listdir("/proc/self/fd"))) == (True, before)
