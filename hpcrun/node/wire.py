"""The connection between a gang's supervisor and the agents of its processes: lines of JSON over TCP.

Both ends prove that they know the attempt's secret before anything else is heard (HMAC-SHA256 over both ends' random
numbers), so nobody else on the network can pose as a worker or as the supervisor, and the secret itself never travels.
Every descriptor here sends SIGIO when something can be read, so that one wait for signals covers connections too.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LONGEST = 1 << 20
_LONGEST_UNPROVEN = 4096
_CHUNK = 1 << 16


def call(descriptor: int) -> None:
    """Let `descriptor` not block, and send this process SIGIO when there is news on it."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_ASYNC)


class Wire:
    """One connection.

    `closed` once the other end is gone, `proven` once it has shown that it knows the secret, `noise` once a line came
    that is no message; from who is proven that is a sign of life.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._in, self._out = b"", b""
        self.closed, self.proven, self.noise = False, False, False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        call(connection.fileno())

    def fileno(self) -> int:
        """The descriptor, for whoever must keep or close it."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send `message`, or what of it goes; the rest goes with the next call."""
        self._out += line(message)
        self.flush()

    def alive(self) -> None:
        """Send a sign of life."""
        self._out += b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what has not gone yet."""
        while self._out and not self.closed:
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except BlockingIOError:
                if len(self._out) > _LONGEST:  # the other end reads nothing: it has stopped
                    self.close()
                return
            except OSError:
                self.close()

    def receive(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether anything has come since the last call, and the messages."""
        heard = False
        while not self.closed:
            try:
                found = self._socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                found = b""
            if not found:
                self.close()
                break
            heard = True
            self._in += found
            if len(self._in) > (_LONGEST if self.proven else _LONGEST_UNPROVEN):
                self.close()
        *whole, self._in = self._in.split(b"\n")
        messages = [message for message in map(_message, whole) if message is not None]
        self.noise = self.noise or len(messages) < len(whole)
        return heard, messages

    def close(self) -> None:
        """End the connection."""
        if not self.closed:
            self.closed = True
            try:
                self._socket.shutdown(socket.SHUT_RDWR)  # a guard may hold it open still
            except OSError:
                pass
            self._socket.close()


def line(message: Mapping[str, Any]) -> bytes:
    """A message as it goes over the wire."""
    return json.dumps(message).encode() + b"\n"


def _message(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def nonce() -> str:
    """A random number that was never used before."""
    return os.urandom(16).hex()


def proof(secret: str, who: str, first: str, second: str) -> str:
    """What only somebody who knows `secret` can say; `who` keeps an answer from being turned around."""
    said = f"{who} {first} {second}".encode("utf-8", "backslashreplace")  # strangers may send what is no text
    return hmac.new(bytes.fromhex(secret), said, hashlib.sha256).hexdigest()


def proves(said: object, secret: str, who: str, first: str, second: str) -> bool:
    """Whether `said` is that proof."""
    if not isinstance(said, str) or not said.isascii():
        return False
    return hmac.compare_digest(said, proof(secret, who, first, second))
