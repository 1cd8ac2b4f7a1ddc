"""Probes: a check made again and again until it passes, beside a supervisor that must not wait for it.

A log is read where the supervisor is. Every other check is made by a fork of it, which can hang, or be killed, as it
likes: its exit code says whether the check passed, and what it writes to its standard error says why not.
"""

from __future__ import annotations

import errno
import os
import time

from hpcrun import address
from hpcrun.environ import OWN_NODE, expanded
from hpcrun.node.program import signal_session

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    import signal
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, Protocol

    from hpcrun.plan import Probe

    class Check(Protocol):
        """One kind of check, made one after another."""

        tried: str
        """What was tried last, and what came of it."""
        due: float
        """When `result` wants to be asked next, while a check is on its way."""

        def start(self, now: float) -> None:
            """Begin one check."""
            ...

        def result(self, now: float) -> bool | None:
            """Whether it passed; None as long as nobody knows."""
            ...

        def close(self) -> None:
            """Give up the check that is on its way, if there is one."""
            ...
else:
    import _signal as signal  # without the enums that `signal` wraps it in
    import _socket as socket

_FIRST_INTERVAL, _GROWTH, _LAST_INTERVAL = 0.02, 1.3, 0.1
_GLANCE = 0.05
"""Seconds after which a check on its way is looked at if no SIGCHLD came: a command that writes has to be read."""
_SPARE = 5.0
"""Seconds after its time at which a check ends itself, when nobody is left to kill it."""
_UNKILLABLE = 2.0
_TAIL = 4096
"""Bytes of what a check says that are kept."""
_SHOWN = 300
"""Characters of it that are passed on."""
_AT_ONCE = 1 << 20
"""Bytes of a log that are searched in one turn."""
_PIECE = 1 << 16
"""Bytes of a line without an end that are searched before the rest has come."""
_OVERLAP = 4096
"""Bytes of a piece that are searched again with the next, for what lies across both."""


class Prober:
    """Makes the checks of `probe` until it has passed. The program's `environ`, `cwd` and `log` are what it looks at.

    It counts from `now` (time.monotonic()), and reads the log from the byte `since`.
    """

    def __init__(
        self, probe: Probe, environ: Mapping[str, str], cwd: str, log: str, now: float, *, since: int = 0
    ) -> None:
        self.due = now + probe.delay
        self._probe = probe
        self._check: Check
        if probe.kind == "log_watch":
            self._check = _Log(probe, environ, log, since)
        else:
            self._check = _forked(probe, environ, cwd)
        self.within = probe.timeout or 0.0
        """The seconds that it has, where it has a timeout."""
        self._expires = None if probe.timeout is None else now + probe.timeout
        self._pause = _FIRST_INTERVAL
        self._in_a_row = 0
        self._checking = self._passed = False

    @property
    def tried(self) -> str:
        """What was tried last, and why it failed."""
        return self._check.tried

    def turn(self, now: float) -> bool:
        """Do what can be done now, without waiting; True once the probe has passed. `due` says when to come again."""
        if self._passed or not (self._checking or now >= self.due):
            return self._passed
        if not self._checking:
            self._check.start(now)
            self._checking = True
        passes = self._check.result(now)
        if passes is None:
            self.due = self._check.due
            return False
        self._checking = False
        self._in_a_row = self._in_a_row + 1 if passes else 0
        self._passed = self._in_a_row >= self._probe.success_threshold
        self.due = float("inf") if self._passed else now + self._next_pause()
        return self._passed

    def _next_pause(self) -> float:
        if self._probe.interval is not None:
            return self._probe.interval
        pause, self._pause = self._pause, min(self._pause * _GROWTH, _LAST_INTERVAL)
        return pause

    def expired(self, now: float) -> bool:
        """Whether the probe had a timeout of its own, and did not pass in it."""
        return not self._passed and self._expires is not None and now >= self._expires

    def has_passed_by_now(self, now: float) -> bool:
        """Whether it passes with what the log holds now, in which nothing more will be written."""
        if not self._passed and isinstance(self._check, _Log):
            self._check.start(now)
            while (passes := self._check.result(now)) is None:
                pass
            self._passed = passes
        return self._passed

    def close(self) -> None:
        """Kill the check that is on its way; no process and no descriptor is left. `turn` is not called again."""
        self._check.close()


class _Log:
    """Passes once the log holds enough lines that match."""

    def __init__(self, probe: Probe, environ: Mapping[str, str], log: str, since: int) -> None:
        import re

        self.due = 0.0
        self._log, self._at, self._wanted = log, since, probe.match_count
        self._line = b""
        self._inside = False  # whether a piece of the line was searched already
        self._counted = False  # whether it had a match
        self._found = 0
        self._pattern: re.Pattern[str] | None = None
        text = expanded(probe.pattern, environ)
        self.tried = f"log lines that match {text!r}: no result yet"
        try:
            self._pattern = re.compile(text)
        except re.error as error:
            self._trouble = f"{text!r} is no regular expression: {error}"

    def start(self, now: float) -> None:
        self.due = now

    def result(self, now: float) -> bool | None:
        if self._pattern is None:
            self.tried = self._trouble
            return False
        try:
            more = self._search(self._pattern)
        except OSError as error:
            self.tried = f"the log {self._log}: {_reason(error)}"
            return False
        self.tried = f"{self._found} of {self._wanted} wanted matches of {self._pattern.pattern!r} in the log"
        if self._found >= self._wanted:
            return True
        self.due = now
        return None if more else False

    def close(self) -> None:
        pass

    def _search(self, pattern: re.Pattern[str]) -> bool:
        """Search what is new; whether there is more to search."""
        file = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(file).st_size < self._at:  # somebody has emptied it
                self._at, self._line, self._inside, self._counted = 0, b"", False, False
            new = os.pread(file, _AT_ONCE, self._at)
        finally:
            os.close(file)
        self._at += len(new)
        first, *others = new.split(b"\n")
        self._line += first
        for other in others:
            self._count(pattern, self._line)
            self._line, self._inside, self._counted = other, False, False
        if len(self._line) > _PIECE:
            # What is there is not the end of the line, which $ must not take it for.
            self._count(pattern, self._line, after="\0")
            self._line, self._inside = self._line[-_OVERLAP:], True
        return len(new) == _AT_ONCE

    def _count(self, pattern: re.Pattern[str], line: bytes, after: str = "") -> None:
        text = line.decode("utf-8", "replace") + after
        # From its second character on, a piece has no beginning of a line that ^ could match.
        if self._inside or after:
            found = int(not self._counted and pattern.search(text, 1 if self._inside else 0) is not None)
        else:
            found = sum(1 for _ in pattern.finditer(text))
        self._counted = self._counted or bool(found)
        self._found += found


def _forked(probe: Probe, environ: Mapping[str, str], cwd: str) -> _Forked:
    """The check that `probe` asks for, with all references to variables resolved."""
    if probe.kind == "exec":
        command = [expanded(word, environ) for word in probe.command]
        return _Forked(command[0], probe.each_check_timeout, lambda: _execute(command, environ, cwd), runs=True)
    if probe.kind in ("http_get", "http_post"):
        url, body = expanded(probe.url, environ), expanded(probe.body, environ)
        headers = {name: expanded(value, environ) for name, value in probe.headers.items()}
        method = "GET" if probe.kind == "http_get" else "POST"
        work = lambda: _ask(method, url, headers, body, environ)  # noqa: E731
        return _Forked(f"{method} {url}", probe.each_check_timeout, work)
    host, port = expanded(probe.host, environ), expanded(probe.port, environ)
    shown = f"[{host}]" if ":" in host else host
    own = probe.host == OWN_NODE
    return _Forked(f"{shown}:{port}", probe.each_check_timeout, lambda: _reach(host, port, own))


class _Forked:
    """A check that a process of its own makes: `what` by `work`, which ends within `patience` seconds or is killed.

    `work` says what came of it and whether that is a pass, or it `runs` a program in its place.
    """

    def __init__(self, what: str, patience: float, work: Callable[[], tuple[bool, str]], *, runs: bool = False) -> None:
        self.tried = f"{what}: no result yet"
        self.due = 0.0
        self._what, self._patience, self._work, self._runs = what, patience, work, runs
        self._process = 0
        self._output = -1
        self._said = b""
        self._kill_at = 0.0
        self._killed = False

    def start(self, now: float) -> None:
        self._said, self._killed, self._kill_at = b"", False, now + self._patience
        try:
            self._output, telling = os.pipe()
            try:
                self._process = os.fork()
                if self._process == 0:
                    _make(self._work, telling, self._patience + _SPARE)
            finally:
                os.close(telling)
            os.set_blocking(self._output, False)
        except OSError as error:  # no process or descriptor to be had just now
            self._said = _reason(error).encode()
            self._forget()

    def result(self, now: float) -> bool | None:
        if not self._process:
            self._tell(f"cannot be tried: {_last_line(self._said)}")
            return False
        self._listen()
        if not self._has_ended():
            if now >= self._kill_at and not self._killed:
                self._kill()
            self.due = now + _GLANCE if self._killed else min(now + _GLANCE, self._kill_at)
            return None
        self._listen()
        status = self._reaped()
        if self._killed:
            self._tell(f"{'still running after' if self._runs else 'no answer within'} {self._patience:g} s")
        else:
            self._tell(_outcome(status, _last_line(self._said), self._runs))
        return status == 0 and not self._killed

    def close(self) -> None:
        if not self._process:
            return
        self._kill()
        end_by = time.monotonic() + _UNKILLABLE
        while not self._has_ended() and time.monotonic() < end_by:
            time.sleep(0.001)
        self._reaped()

    def _tell(self, outcome: str) -> None:
        self.tried = f"{self._what}: {outcome}"

    def _listen(self) -> None:
        """Take what the check has said so far."""
        for _ in range(_AT_ONCE // 65536):  # who never stops talking does not keep the supervisor
            try:
                new = os.read(self._output, 65536)
            except BlockingIOError:
                return
            if not new:
                return
            self._said = (self._said + new)[-_TAIL:]

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # somebody else has reaped it
            return True

    def _kill(self) -> None:
        # Until it is reaped, no stranger can get its process id; and it may not have its own session yet.
        self._killed = True
        try:
            os.kill(self._process, signal.SIGKILL)
        except ProcessLookupError:
            return
        if self._runs:
            signal_session(self._process, signal.SIGKILL)

    def _reaped(self) -> int:
        """How the check ended, as waitpid says it. What it left running in its process group is killed."""
        status = 1 << 8
        try:
            if self._runs and self._has_ended():
                os.killpg(self._process, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            status = os.waitpid(self._process, os.WNOHANG)[1]
        except ChildProcessError:
            pass
        self._forget()
        return status

    def _forget(self) -> None:
        if self._output >= 0:
            os.close(self._output)
        self._process, self._output = 0, -1


def _outcome(status: int, said: str, runs: bool) -> str:
    if os.WIFSIGNALED(status):
        how = f"killed by signal {os.WTERMSIG(status)}"
    elif runs:
        how = f"exit code {os.WEXITSTATUS(status)}"
    else:
        return said
    return f"{how}: {said}" if said else how


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-_SHOWN:]


def _reason(error: Exception) -> str:
    if not isinstance(error, (OSError, ValueError)):
        return f"{type(error).__name__}: {error}"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text[0].lower() + text[1:])


def _make(work: Callable[[], tuple[bool, str]], telling: int, patience: float) -> NoReturn:
    """Make a check in this process, a fork: it exits with 0 where the check passed, and says why on `telling`."""
    status = 127
    try:
        _stand_alone(telling, patience)
        passes, text = work()
        os.write(2, text.encode("utf-8", "replace"))
        status = 0 if passes else 1
    except Exception as error:
        os.write(2, _reason(error).encode("utf-8", "replace"))
    finally:
        os._exit(status)  # it is a copy of the supervisor, whose work it must never go on with


def _stand_alone(telling: int, patience: float) -> None:
    """Keep nothing of the supervisor: no session, no signal, no descriptor, so that its end is seen when it ends."""
    os.setsid()
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.setitimer(signal.ITIMER_REAL, patience)
    os.dup2(telling, 2)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.close(int(name))
        except OSError:  # the one that the folder was read through
            continue


def _reach(host: str, port: str, own: bool) -> tuple[bool, str]:
    """Whether something accepts connections; `own` says that the host is the program's node, by nobody's wish."""
    number = address.port(port)
    if number is None:
        raise ValueError(f"{port!r} is no port from 1 to 65535")
    try:
        _connected(host, number).close()
    except ConnectionRefusedError:
        if own and _answers("127.0.0.1", number):
            raise ValueError(
                f"connection refused, though 127.0.0.1:{port} answers: it listens for its own node only; wanted "
                "0.0.0.0 as its address, or host: 127.0.0.1 in the probe"
            ) from None
        raise
    return True, "accepts connections"


def _answers(host: str, port: int) -> bool:
    try:
        _connected(host, port).close()
    except OSError:
        return False
    return True


def _connected(host: str, port: int) -> socket.socket:
    """A connection to any of the addresses of `host`."""
    trouble = OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(host.encode(), port, 0, socket.SOCK_STREAM):
        end = socket.socket(family, kind, protocol)
        try:
            end.connect(place)
            if end.getsockname() != end.getpeername():
                return end
            # Nobody listens, but the kernel had given this end the very port that it calls.
            trouble = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError as error:
            trouble = error
        end.close()
    raise trouble


def _ask(method: str, url: str, headers: Mapping[str, str], body: str, environ: Mapping[str, str]) -> tuple[bool, str]:
    scheme, host, port, target = address.parts(url)
    # The client costs twenty times what a refused connection does, and there are many of these at first.
    descriptor = _connected(host, port).detach()
    import socket as sockets
    from http.client import HTTPConnection

    connection = HTTPConnection(host, port)
    connection.sock = sockets.socket(fileno=descriptor)
    if scheme == "https":
        import ssl

        os.environ.update(environ)  # which may name the certificates to trust
        connection.default_port = 443
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
    connection.request(method, target, body=body.encode() if body else None, headers=dict(headers))
    code = connection.getresponse().status
    return 200 <= code < 400, str(code)


def _execute(command: Sequence[str], environ: Mapping[str, str], cwd: str) -> NoReturn:
    """Become the command."""
    try:
        os.chdir(cwd)
    except OSError as error:
        raise ValueError(f"cannot enter the working directory {cwd!r}: {error.strerror}") from error
    try:
        os.execvpe(command[0], list(command), dict(environ))
    except OSError as error:
        if error.errno == errno.ENOEXEC:  # a script without a #! line, which every shell would run
            os.execve("/bin/sh", ["sh", *command], dict(environ))
        raise ValueError(f"cannot start {command[0]!r}: {error.strerror}") from error
