"""The connection of a gang: whole messages in order, whatever else comes down the line, and who is believed."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from waiting import until

from hpcrun.node import wire

SECRET = "ab" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(autouse=True, scope="module")
def no_sigio() -> Iterator[None]:
    """A wire sends SIGIO to its process, which ends one that does not wait for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    yield
    while signal.sigtimedwait({signal.SIGIO}, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def line() -> Iterator[tuple[wire.Wire, socket.socket]]:
    """A wire and, at the other end, a plain socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
    here = wire.Wire(connection)
    try:
        with other:
            yield here, other
    finally:
        here.close()


def received(here: wire.Wire, count: int) -> list[dict[str, Any]]:
    """The next `count` messages, or as many as come before the line is closed."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(here.receive()[1])
        return len(found) >= count or here.closed

    until(enough, what="messages")
    return found


@how(max_examples=30)
@given(st.lists(st.dictionaries(st.text(st.characters()), JSON), min_size=1, max_size=5))
def test_there_and_back(messages: list[dict[str, Any]]) -> None:
    """Whatever a message holds, newlines and lone surrogates too, it arrives as it was, and in order."""
    with line() as (here, other):
        there = wire.Wire(other.dup())
        there.proven = True
        for message in messages:
            here.send(message)
        assert received(there, len(messages)) == messages
        there.close()


def test_in_pieces() -> None:
    """A message that arrives byte by byte is one message, and half of one is none."""
    with line() as (here, other):
        for byte in wire.line({"a": "é\n"}):
            assert here.receive()[1] == []
            other.sendall(bytes((byte,)))
        assert received(here, 1) == [{"a": "é\n"}]


NOISE = [
    b"", b"x", b"{", b'{"a": 1', b"[1]", b"3", b'"x"', b"null", b"\xff\xfe\xfd", b"\x00\x01", b'{"a": \xff}',
    b"[" * 4000, b'{"a": ' * 600, b"GET / HTTP/1.1\r", b"\xef\xbb\xbf{}x", b"\r",
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISE)
def test_noise(noise: bytes) -> None:
    """What is no message is passed over; those around it are heard."""
    with line() as (here, other):
        here.proven = True
        other.sendall(wire.line({"first": 1}) + noise + b"\n" + wire.line({"last": 1}))
        assert received(here, 2) == [{"first": 1}, {"last": 1}]
        assert not here.closed


def test_lone_surrogates() -> None:
    """A message may hold what is no text; it is the receiver who must not choke on it."""
    with line() as (here, other):
        other.sendall(b'{"a": "\\ud800"}\n')
        assert received(here, 1) == [{"a": "\ud800"}]


def test_sign_of_life() -> None:
    """An empty line says that somebody is there, and nothing else."""
    with line() as (here, other):
        assert here.receive() == (False, [])
        there = wire.Wire(other.dup())
        here.alive()
        assert until(lambda: there.receive()[0])
        there.close()


def test_heard() -> None:
    """Whether anything has come is told apart from what has come: half a message is a sign of life too."""
    with line() as (here, other):
        other.sendall(b'{"a')
        assert until(lambda: here.receive()[0])
        assert here.receive() == (False, [])


def test_last_words() -> None:
    """What was said before the other end hung up is heard."""
    with line() as (here, other):
        other.sendall(wire.line({"event": "ended"}))
        other.shutdown(socket.SHUT_RDWR)
        found: list[dict[str, Any]] = []
        until(lambda: found.extend(here.receive()[1]) or here.closed)
        assert found == [{"event": "ended"}]


@pytest.mark.parametrize(("proven", "most"), [(False, 4096), (True, 1 << 20)])
def test_endless_line(proven: bool, most: int) -> None:
    """Who sends a line without an end is hung up on, a stranger at 4 KiB and one of the gang at 1 MiB."""
    with line() as (here, other):
        here.proven = proven
        for sent in range(0, most, 4096):
            other.sendall(b"x" * 4096)
            assert (here.receive()[1], here.closed) == ([], False), sent
        other.sendall(b"x")
        until(lambda: here.receive() and here.closed)


def test_long_message() -> None:
    """A message of half a megabyte, such as the addresses of a thousand workers, arrives whole though it is slow."""
    message = {"environ": {"A": "x" * 500_000}}
    with line() as (here, other):
        there = wire.Wire(other.dup())
        there.proven = True
        here.send(message)
        found: list[dict[str, Any]] = []

        def arrived() -> list[dict[str, Any]]:
            here.flush()
            found.extend(there.receive()[1])
            return found

        assert until(arrived) == [message]
        there.close()


def test_who_does_not_read() -> None:
    """To send never waits: who reads nothing is hung up on once a megabyte is waiting for it."""
    with line() as (here, _):
        for _ in range(200):
            here.send({"a": "x" * 65536})
        assert here.closed
        here.send({"a": 1})
        here.alive()
        here.flush()
        assert here.receive() == (False, [])


def test_reset() -> None:
    """A connection that is reset is closed, not an error."""
    with line() as (here, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
        until(lambda: here.receive() and here.closed)
        here.send({"a": 1})


def test_call() -> None:
    """News on a wire is told by a signal, so that one wait for signals covers connections too."""
    with line() as (here, other):
        while signal.sigtimedwait({signal.SIGIO}, 0):
            pass
        other.sendall(b"\n")
        assert signal.sigtimedwait({signal.SIGIO}, 60) is not None
        assert here.receive() == (True, [])


def test_nonce() -> None:
    """No random number is ever used again."""
    assert len({wire.nonce() for _ in range(100)}) == 100


def test_proof() -> None:
    """Only who knows the secret has the proof; another's, another end's and another conversation's are none."""
    said = wire.proof(SECRET, "agent", "a", "b")
    assert wire.proves(said, SECRET, "agent", "a", "b")
    assert SECRET not in said
    others = [("cd" * 32, "agent", "a", "b"), (SECRET, "hub", "a", "b"), (SECRET, "agent", "b", "a"),
              (SECRET, "agent", "a", "c"), (SECRET, "agent", "c", "b")]  # fmt: skip
    assert [wire.proves(said, *other) for other in others] == [False] * len(others)


@pytest.mark.parametrize("said", [None, 3, "", "é", "\ud800", [], {}, b"x", True, "0" * 64])
def test_no_proof(said: object) -> None:
    """What is no proof is not one, whatever its type."""
    assert not wire.proves(said, SECRET, "agent", "a", "b")


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_nonce(first: str, second: str) -> None:
    """A stranger's number may be any text, and the answer is still a proof or none."""
    assert wire.proves(wire.proof(SECRET, "hub", first, second), SECRET, "hub", first, second)


def test_line_is_ascii() -> None:
    """What goes over the wire is one line of ASCII, which no locale changes."""
    raw = wire.line({"a": "é\n\ud800"})
    assert (raw.isascii(), raw.count(b"\n"), json.loads(raw)) == (True, 1, {"a": "é\n\ud800"})
