"""Ports of replicas: reserved against every other replica, and who listens on them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from waiting import until

from hpcrun.node import ports

MARKER = {"HPCRUN_RUN_ID": "ports-test", "HPCRUN_REPLICA_INDEX": "3"}
NOBODY = 2**22 + 1
"""No process id: Linux's own limit is below it."""

# Each says `PID PORT` when it listens, and does so until it is killed.
LISTEN = """
import os, socket, sys, time
def listen(host="0.0.0.0", port=PORT, shared=False):
    end = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if shared:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    end.bind((host, port))
    end.listen()
    print(os.getpid(), end.getsockname()[1], flush=True)
    time.sleep(600)
"""
GRANDCHILD = "os.fork() or os.fork() or listen()\nos.wait()"
OTHER_SESSION = "os.fork() or (os.setsid(), listen())\nos.wait()"
DAEMON = "os.fork() and os._exit(0)\nos.setsid()\nos.fork() and os._exit(0)\nlisten()"


class Program:
    """A process in a session of its own, which has said where it listens."""

    def __init__(self, code: str, port: int, environ: dict[str, str]) -> None:
        self.started = subprocess.Popen(
            [sys.executable, "-S", "-c", f"PORT = {port}\n{LISTEN}{code}"],
            stdout=subprocess.PIPE, env=environ, start_new_session=True, text=True,
        )  # fmt: skip
        assert self.started.stdout
        said = self.started.stdout.readline().split()
        self.session, self.listener, self.port = self.started.pid, int(said[0]), int(said[1])

    def end(self) -> None:
        for kill, process in ((os.killpg, self.session), (os.kill, self.listener)):
            try:
                kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.started.wait()
        assert self.started.stdout
        self.started.stdout.close()


Start = Callable[..., Program]
Reserve = Callable[[int], ports.Reservation]


@pytest.fixture(params=["asked", "looked up"])
def listening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to learn who listens: of the kernel, and where it does not answer."""

    def refused(_port: int) -> list[ports.Listener]:
        raise PermissionError

    def unwanted(_port: int) -> list[ports.Listener]:
        raise AssertionError("the kernel did not answer")

    if request.param == "asked":
        monkeypatch.setattr(ports, "_looked_up", unwanted)
    else:
        monkeypatch.setattr(ports, "_asked", refused)


@pytest.fixture
def reserve() -> Iterator[Reserve]:
    with ExitStack() as stack:

        def reserved(port: int) -> ports.Reservation:
            found = ports.reserve(port)
            stack.callback(found.release)
            return found

        yield reserved


@pytest.fixture
def start(reserve: Reserve) -> Iterator[Start]:
    """Starts programs, each of which has a port that no other test gets."""
    with ExitStack() as stack:

        def started(code: str, **environ: str) -> Program:
            program = Program(code, reserve(0).port, environ)
            stack.callback(program.end)
            return program

        yield started


def test_free_ports_of_many_processes() -> None:
    """200 reservations by 8 processes at once are 200 ports, none of which the kernel gives to connections."""
    code = (
        "import sys; from hpcrun.node.ports import reserve; sys.stdin.readline()\n"
        "held = [reserve(0) for _ in range(25)]; print(*(one.port for one in held), flush=True); sys.stdin.readline()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    found: list[int] = []
    for word in ("go\n", "end\n"):
        for process in started:
            assert process.stdin
            process.stdin.write(word)
            process.stdin.flush()
        if word == "go\n":
            for process in started:
                assert process.stdout
                found += map(int, process.stdout.readline().split())
    for process in started:
        process.communicate(timeout=60)
    assert len(found) == len(set(found)) == 200
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())
    assert high - low > 50000 or not [port for port in found if low <= port <= high]
    assert all(1024 < port < 65536 for port in found)


def test_fixed_port_twice(reserve: Reserve) -> None:
    """A fixed port is held until it is released, and once more after that; a second release does nothing."""
    first = reserve(0)
    with pytest.raises(ports.PortTaken, match=f"^port {first.port} is held by another hpcrun worker on this node$"):
        ports.reserve(first.port)
    first.release()
    again = reserve(first.port)
    first.release()
    assert again.port == first.port
    with pytest.raises(ports.PortTaken):
        ports.reserve(first.port)


def test_a_dead_holder_holds_nothing(reserve: Reserve) -> None:
    """The port of a killed process is free at once, and a program that its holder executed keeps nothing."""
    port = reserve(0)
    port.release()
    code = (
        f"import subprocess, sys; from hpcrun.node.ports import reserve; held = reserve({port.port})\n"
        "subprocess.Popen(['sleep', '600'], close_fds=False, stdout=2); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert holder.stdout
    holder.stdout.readline()
    try:
        with pytest.raises(ports.PortTaken):
            ports.reserve(port.port)
        holder.kill()
        holder.wait()
        reserve(port.port)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.communicate()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::", "::1"])
def test_port_of_a_stranger(start: Start, host: str) -> None:
    """A port that any process listens on is taken, and the message says whose it is."""
    port = start(f"listen({host!r}, 0)").port
    with pytest.raises(
        ports.PortTaken, match=f"^port {port} is in use on this node, by a process of uid {os.getuid()}$"
    ):
        ports.reserve(port)


def test_port_that_is_bound_only(reserve: Reserve) -> None:
    """A port that a process has bound and does not listen on is taken too, although nobody can tell by whom."""
    port = reserve(0).port
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        taken = bound.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=f"^port {taken} is in use on this node$"):
            ports.reserve(taken)
    assert taken != port


@pytest.mark.parametrize("reuse", [True, False])
def test_port_of_connections_that_linger(reserve: Reserve, monkeypatch: pytest.MonkeyPatch, reuse: bool) -> None:
    """TIME_WAIT keeps nobody from a fixed port, but after servers without SO_REUSEADDR; no free port has it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            listener.accept()[0].close()
            assert client.recv(1) == b""
    monkeypatch.setattr(ports, "_candidates", lambda: [address[1]])
    with pytest.raises(ports.PortTaken, match="no free port"):
        reserve(0)
    if reuse:
        reserve(address[1])
    else:
        with pytest.raises(ports.PortTaken, match=r"TIME_WAIT"):
            reserve(address[1])


def test_nothing_free(monkeypatch: pytest.MonkeyPatch, reserve: Reserve) -> None:
    """When no free port is found, that is said rather than looked for for ever."""
    port = reserve(0).port
    monkeypatch.setattr(ports, "_candidates", lambda: [port])
    with pytest.raises(ports.PortTaken, match="no free port on this node"):
        ports.reserve(0)


@pytest.mark.parametrize(
    ("settings", "first", "last", "count"),
    [
        ({"ip_local_port_range": "32768\t60999\n"}, 20000, 65535, 12768 + 4536),
        ({"ip_local_reserved_ports": "20000-29999,65535\n"}, 30000, 65534, 7303),
        ({"ip_local_port_range": "15000\t65535\n"}, 10000, 14999, 5000),
        ({"ip_local_port_range": "1024\t65535\n"}, 20000, 65535, 45536),
        ({"ip_local_port_range": "1024\t65535\n", "ip_local_reserved_ports": "1-65535\n"}, 20000, 65535, 45536),
        ({}, 20000, 65535, 12768 + 4536),
        ({"ip_local_port_range": "?", "ip_local_reserved_ports": "?"}, 20000, 65535, 12768 + 4536),
    ],
)  # fmt: skip
def test_candidates(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], first: int, last: int, count: int
) -> None:
    """Free ports are those that the kernel and the administrator leave, if they leave enough."""

    def setting(name: str) -> str:
        if name not in settings:
            raise FileNotFoundError(name)
        return settings[name]

    monkeypatch.setattr(ports, "_setting", setting)
    found = ports._candidates()
    assert (found[0], found[-1], len(found)) == (first, last, count)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("host", "seen", "loopback"),
    [
        ("0.0.0.0", "0.0.0.0", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.9.1", "127.8.9.1", True),
        ("::", "::", False),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:0.0.0.0", "0.0.0.0", False),
    ],
)
def test_listening(start: Start, host: str, seen: str, loopback: bool) -> None:
    """A listener's address is read from either table."""
    program = start(f"listen({host!r})")
    (listener,) = ports.listening(program.port)
    assert (listener.address, listener.uid, listener.loopback) == (seen, os.getuid(), loopback)
    assert f"socket:[{listener.inode}]" in [
        os.readlink(f"/proc/{program.listener}/fd/{name}") for name in os.listdir(f"/proc/{program.listener}/fd")
    ]


@pytest.mark.usefixtures("listening")
def test_listening_among_connections() -> None:
    """Listeners are found among hundreds of others, and connections to and from a port are no listeners."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(200)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = listener.getsockname()
            client = stack.enter_context(socket.create_connection(address))
            stack.enter_context(listener.accept()[0])
            assert ports.listening(client.getsockname()[1]) == []
        for listener in listeners:
            (found,) = ports.listening(listener.getsockname()[1])
            assert found.inode == os.fstat(listener.fileno()).st_ino
        closed = listeners[0].getsockname()[1]
        listeners[0].close()
        assert ports.listening(closed) == []
        assert ports.state(closed, os.getsid(0), {}) == "closed"


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("listen()", "open"),
        ("listen('::')", "open"),
        ("listen('127.0.0.1')", "loopback"),
        ("listen('::1')", "loopback"),
        (GRANDCHILD, "open"),
        (OTHER_SESSION, "open"),
    ],
)
def test_state(start: Start, code: str, state: str) -> None:
    """The replica's listener is known as its own, whichever of its processes has it; to others it is a stranger."""
    program = start(code)
    inodes = {listener.inode for listener in ports.listening(program.port)}
    assert ports.state(program.port, program.session, MARKER) == state
    assert ports.owns(inodes, program.session, MARKER)
    other = start("listen()")
    assert ports.state(program.port, other.session, MARKER) == "stranger"
    assert not ports.owns(inodes, other.session, MARKER)


def test_state_of_a_closed_port(reserve: Reserve, start: Start) -> None:
    """A reserved port that nobody listens on is closed, and so is one whose listener is gone."""
    program = start("listen()")
    assert ports.state(reserve(0).port, program.session, MARKER) == "closed"
    program.end()
    assert ports.state(program.port, program.session, MARKER) == "closed"


def test_daemon_with_the_marker(start: Start) -> None:
    """A daemon that has left the session and its parents is known by its environment, by all of the marker."""
    program = start(DAEMON, PATH="/", **MARKER)
    program.started.wait()
    until(lambda: ports._parent(program.listener) not in (program.session, 0), what="the daemon has lost its parent")
    assert ports.state(program.port, NOBODY, MARKER) == "open"
    for marker in ({**MARKER, "HPCRUN_REPLICA_INDEX": "4"}, {"HPCRUN_RUN_ID": "ports-tes"}, {}):
        assert ports.state(program.port, NOBODY, marker) == "stranger"


@pytest.mark.usefixtures("listening")
def test_both_listen(start: Start) -> None:
    """Where a stranger shares the port, it is the stranger's, whoever came first."""
    own = start("listen(shared=True)")
    other = start(f"listen(port={own.port}, shared=True)")
    assert len(ports.listening(own.port)) == 2
    for program in (own, other):
        assert ports.state(own.port, program.session, MARKER) == "stranger"
    inodes = {listener.inode for listener in ports.listening(own.port)}
    assert ports.owns(inodes, own.session, MARKER)
    other.end()
    assert ports.state(own.port, own.session, MARKER) == "open"


@pytest.mark.usefixtures("listening")
def test_two_of_its_own(start: Start, reserve: Reserve) -> None:
    """A replica that listens on loopback and elsewhere can be reached."""
    port = reserve(0).port
    program = start(
        "end = socket.socket(socket.AF_INET6)\nend.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        f"end.bind(('::', {port}))\nend.listen()\nlisten('127.0.0.1', {port})"
    )
    assert {listener.address for listener in ports.listening(port)} == {"127.0.0.1", "::"}
    assert ports.state(port, program.session, MARKER) == "open"


def test_a_listener_that_goes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody has any more by the time its owner is looked for belongs to no stranger."""
    answers = iter([[ports.Listener("0.0.0.0", os.getuid(), 1)], []])
    monkeypatch.setattr(ports, "listening", lambda port: next(answers))
    assert ports.state(80, NOBODY, MARKER) == "closed"


def test_many_answers(reserve: Reserve) -> None:
    """More listeners on one port than one answer of the kernel holds, with and without it."""
    port = reserve(0).port
    with ExitStack() as stack:
        for number in range(1500):
            listener = stack.enter_context(socket.socket())
            listener.bind((f"127.1.{number // 250}.{number % 250 + 1}", port))
            listener.listen()
        for found in (ports._asked(port), ports._looked_up(port)):
            assert len({one.address for one in found}) == len({one.inode for one in found}) == 1500


def test_kernel_that_refuses() -> None:
    """An answer that is an error is one; whoever asked looks the listeners up then."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, ports._NETLINK_SOCK_DIAG) as kernel:
        question = ports._QUESTION.pack(255, 255, 0, 0, b"")
        length = ports._HEADER.size + len(question)
        kernel.send(ports._HEADER.pack(length, ports._SOCK_DIAG_BY_FAMILY, ports._REQUEST_DUMP, 0, 0) + question)
        with pytest.raises(OSError, match="Invalid argument"):
            list(ports._answers(kernel))
