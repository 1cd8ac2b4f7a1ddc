"""Where the processes of a gang find their supervisor: a file in the run folder, for this user's eyes only, with its
addresses and the attempt's secret.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from hpcrun.node import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

_FIND = 30.0
"""Seconds in which the supervisor must be found: a file system may be slow to show its address."""
_CONNECT = 10.0
_PAUSE = 0.02


class Meeting:
    """One attempt's: the supervisor's names and port, the secret, the first shard and the attempt's number."""

    __slots__ = ("attempt", "first", "hosts", "path", "port", "secret")

    def __init__(self, path: str, hosts: Sequence[str], port: int, secret: str, first: int, attempt: int) -> None:
        self.path, self.hosts, self.port, self.secret = path, list(hosts), port, secret
        self.first, self.attempt = first, attempt

    def announce(self) -> None:
        """Write the file; it appears whole."""
        facts = {name: getattr(self, name) for name in ("hosts", "port", "secret", "first", "attempt")}
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        descriptor = os.open(f"{self.path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(facts, file)
        os.replace(f"{self.path}.new", self.path)

    def end(self) -> None:
        """Remove the file: nobody is to come any more."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def find(self, own: Mapping[str, Any]) -> wire.Wire:
        """A proven connection to the supervisor, by whichever of its names works; `own` is who calls.

        Ends this process where there is none.
        """
        until, problem = time.monotonic() + _FIND, ""
        while time.monotonic() < until and os.path.exists(self.path):  # who has gone takes it along
            for host in self.hosts:
                try:
                    return _proven(socket.create_connection((host, self.port), timeout=_CONNECT), self.secret, own)
                except OSError as error:
                    problem = f"{host}:{self.port}: {error}"
            time.sleep(_PAUSE)
        return leave(f"cannot reach the supervisor of its gang at {problem}" if os.path.exists(self.path) else "")


def read(path: str) -> Meeting:
    """The meeting that the file `path` tells of; ends this process where it is over."""
    try:
        with open(path, encoding="utf-8") as file:
            return Meeting(path, **json.load(file))
    except FileNotFoundError:
        return leave(f"comes too late for its gang: there is no {path}")


def leave(problem: str) -> NoReturn:
    """End this process, saying what was wrong if anything was."""
    if problem:
        sys.stderr.write(f"hpcrun: {os.uname().nodename} {problem}\n")
        sys.stderr.flush()
    os._exit(1)


def _proven(connection: socket.socket, secret: str, own: Mapping[str, Any]) -> wire.Wire:
    stream, number = connection.makefile("rb", buffering=0), wire.nonce()  # what follows must stay in the socket
    try:
        challenge = str(json.loads(stream.readline(4096))["nonce"])
        hello = {**own, "nonce": number, "proof": wire.proof(secret, "agent", challenge, number)}
        connection.sendall(wire.line(hello))
        proof = json.loads(stream.readline(4096))["proof"]
    except (ValueError, KeyError, TypeError) as error:
        raise OSError("it does not answer as a supervisor does") from error
    if not wire.proves(proof, secret, "hub", number, challenge):
        raise OSError("it does not know the gang's secret")
    stream.close()
    connection.settimeout(None)
    found = wire.Wire(connection)
    found.proven = True
    return found
