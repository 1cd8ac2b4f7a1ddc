"""One program under supervision: started, its signals passed on, its time kept, its end told exactly.

Three processes: the supervisor (this one), the program in a session of its own, and beside it a guard, which kills
that session when the supervisor is gone, however it went. Where a resource manager signals every process of a job,
the guard is hit too and says so, so that no program gets the same signal twice.
"""

from __future__ import annotations

import errno
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from typing import NoReturn
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WATCHED = (signal.SIGCHLD, *_PASSED_ON)
_WITNESS_TIME = 0.05
"""Seconds that the guard has to say that it was signalled too."""
_LATE = 0.1
"""Seconds for which a program's unsuccessful end may be ahead of the signal that explains it."""
_LEFTOVER_STEP = 0.02


class Ended:
    """How a program ended: its exit `code`, or the `signal` that killed it, and what was done to it before.

    `why` is None where it ended by itself, ``timed_out`` when its time was up, ``told`` after a signal from outside
    that asks for an end, ``abandoned`` when whoever started its supervisor was gone.
    """

    __slots__ = ("code", "signal", "why")

    def __init__(self, status: int, why: str | None = None) -> None:
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.code = -1 if self.signal else os.WEXITSTATUS(status)
        self.why = why


def watch() -> None:
    """Hold back the signals that the supervisor waits for; called before anything that must not be interrupted."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)


def start(command: Sequence[str], environ: Mapping[str, str], cwd: str, out: int, err: int) -> int:
    """Start `command` in a session of its own, with an empty standard input; its process id.

    Raises OSError when the directory or the program cannot be used.
    """
    os.chdir(cwd)
    path = _found(command[0], environ.get("PATH", os.defpath))
    try:
        return _spawn(path, command, environ, out, err)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a #! line: a shell would run it, and so do exec's callers since POSIX.
        return _spawn("/bin/sh", ["sh", path, *command[1:]], environ, out, err)


def _spawn(path: str, command: Sequence[str], environ: Mapping[str, str], out: int, err: int) -> int:
    return os.posix_spawn(
        path,
        list(command),
        dict(environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
    )


def _found(program: str, search: str) -> str:
    if "/" in program:
        return program
    for folder in search.split(os.pathsep):
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def supervise(program: int, *, timeout: float | None, grace: float, insist: bool, lifeline: int | None) -> Ended:
    """Wait for the end of `program`, a child in a session of its own, passing on the signals that come.

    After `timeout` seconds it is told to end (SIGTERM) and `grace` seconds later killed. With `insist` the same
    grace holds after a signal from outside; without, whoever sent it decides (Slurm's KillWait). When the other end
    of the pipe `lifeline` is closed, the one who started this supervisor is gone, and SIGHUP says so.
    """
    guard = _Guard(program, grace, lifeline)
    end_by = None if timeout is None else time.monotonic() + timeout
    why: str | None = None
    ending = signal.SIGTERM
    while True:
        number = _next_signal(end_by)
        if number is None:
            why = why or "timed_out"
            signal_session(program, ending)
        elif number == signal.SIGCHLD:
            ended, status = os.waitpid(program, os.WNOHANG)
            if ended:
                break
            continue
        elif number == signal.SIGHUP and lifeline is not None:
            why = why or "abandoned"
            signal_session(program, signal.SIGTERM)
        else:
            if not guard.was_signalled():
                _pass_on(program, number)
            if number not in _ENDING:
                continue
            why = why or "told"
            if not insist:
                continue
        end_by, ending = time.monotonic() + grace, signal.SIGKILL
    _end_leftovers(program, grace)
    guard.dismiss()
    # Whoever signals all processes of a job reaches the program before this one as often as not.
    return Ended(status, why or _told_late(_LATE if status else 0.0))


def _told_late(patience: float) -> str | None:
    end_by = time.monotonic() + patience
    while True:
        number = _next_signal(end_by)
        if number is None or number in _ENDING:
            return "told" if number else None


def _next_signal(end_by: float | None) -> int | None:
    """The next watched signal, or None at the time `end_by`."""
    if end_by is None:
        return int(signal.sigwaitinfo(_WATCHED).si_signo)
    info = signal.sigtimedwait(_WATCHED, max(0.0, end_by - time.monotonic()))
    return None if info is None else int(info.si_signo)


def _pass_on(program: int, number: int) -> None:
    if number in _ENDING:
        signal_session(program, number)
    else:
        os.kill(program, number)


def signal_session(leader: int, number: int) -> bool:
    """Send a signal to every process of the session of `leader`; False where there is none left."""
    found = False
    try:
        os.killpg(leader, number)
        found = True
    except ProcessLookupError:
        pass
    except PermissionError:  # a set-user-id program
        found = True
    for process in _members(leader):
        try:
            os.kill(process, number)
            found = True
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _members(leader: int) -> list[int]:
    """The processes of a session that have left the group of its leader, as a shell's background jobs do."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, _parent, group, session = file.read().rpartition(b")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and int(group) != leader and state != b"Z":
            found.append(int(name))
    return found


def _end_leftovers(leader: int, grace: float) -> None:
    """End what the program left running in the background, as Slurm does at the end of a job."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        return
    end_by = time.monotonic() + grace
    number: int = signal.SIGTERM
    while signal_session(leader, number):
        signal.sigtimedwait((signal.SIGCHLD,), _LEFTOVER_STEP)
        number = signal.SIGKILL if time.monotonic() > end_by else 0


class _Guard:
    """The process that outlives the supervisor."""

    def __init__(self, program: int, grace: float, lifeline: int | None) -> None:
        watched, self._alive = os.pipe()
        self._witness, telling = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._alive)
            os.close(self._witness)
            _keep_guard(program, grace, watched, telling, lifeline)
        os.close(watched)
        os.close(telling)

    def was_signalled(self) -> bool:
        """Whether the guard got a signal too, just now."""
        poll = select.poll()
        poll.register(self._witness, select.POLLIN)
        return bool(poll.poll(_WITNESS_TIME * 1000)) and bool(os.read(self._witness, 64))

    def dismiss(self) -> None:
        """The program has ended; there is nothing to guard."""
        try:
            os.write(self._alive, b"x")
        except BrokenPipeError:  # somebody killed it
            pass
        os.waitpid(self._pid, 0)
        for descriptor in (self._alive, self._witness):
            os.close(descriptor)


def _keep_guard(program: int, grace: float, watched: int, telling: int, lifeline: int | None) -> NoReturn:
    supervisor = os.getppid()
    for number in _PASSED_ON:
        signal.signal(number, lambda *_: os.write(telling, b"s"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == watched:
                if not os.read(watched, 1):
                    _end_leftovers(program, grace)
                os._exit(0)
            os.kill(supervisor, signal.SIGHUP)
            poll.unregister(descriptor)
