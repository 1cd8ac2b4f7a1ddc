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
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WATCHED = (signal.SIGCHLD, *_PASSED_ON)
_WITNESS_TIME = 0.05
"""Seconds that the guard has to say that it was signalled too."""
_LATE = 0.1
"""Seconds for which a bad end, or any end in a cancelled run, may be ahead of the signal that explains it."""
_LEFTOVER_STEP = 0.02
_UNKILLABLE = 10.0
"""Seconds of SIGKILL after which a process cannot be killed: one of another user, or one that waits for a dead disk."""


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
    # Whoever ignores it hands that on, and then the end of a child is told to nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


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
        setsigdef=signal.valid_signals(),  # Python ignores some, and so did the submitter's nohup or shell
    )


def _found(program: str, search: str) -> str:
    if "/" in program:
        return program
    for folder in search.split(os.pathsep):
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def supervise(
    program: int, *, timeout: float | None, grace: float, insist: bool, lifeline: int | None, marker: str
) -> Ended:
    """Wait for the end of `program`, a child in a session of its own, passing on the signals that come.

    After `timeout` seconds it is told to end (SIGTERM) and `grace` seconds later killed. With `insist` the same
    grace holds after a signal from outside; without, whoever sent it decides (Slurm's KillWait). When the other end
    of the pipe `lifeline` is closed, the one who started this supervisor is gone, and SIGHUP says so. The file
    `marker` is there once the run has been cancelled: then even a good end may be due to a signal on its way here.
    """
    guard = _Guard(program, grace, lifeline)
    end_by = None if timeout is None else time.monotonic() + timeout
    why: str | None = None
    kill_at: float | None = None
    while True:
        number = _next_signal(end_by if kill_at is None else kill_at)
        if _has_ended(program):  # looked at first, so that what ended by itself was not told to
            break
        if number is None and kill_at is None:
            why = why or "timed_out"
            signal_session(program, signal.SIGTERM)
        elif number is None:
            signal_session(program, signal.SIGKILL)
        elif number == signal.SIGCHLD:
            continue
        elif number == signal.SIGHUP and lifeline is not None:
            why = why or "abandoned"
            signal_session(program, signal.SIGTERM)
        else:
            _pass_on(program, number, guard)
            if number not in _ENDING:
                continue
            why = why or "told"
            if not insist:
                continue
        if number is None or kill_at is None:  # to be told again does not put it off
            kill_at = time.monotonic() + grace
    # Until it is reaped, no stranger can get its process id.
    end_session(program, grace)
    guard.dismiss()
    status = os.waitpid(program, 0)[1]
    return Ended(status, why or _told_late(number, _LATE if status or os.path.exists(marker) else 0.0))


def _told_late(number: int | None, patience: float) -> str | None:
    """``told`` where an end was told from outside after all: by `number`, or by a signal that is there or due.

    Whoever signals all processes of a job reaches the program, or what it waits for, before this one as often as not.
    """
    end_by = time.monotonic() + patience
    while number not in _ENDING:
        number = _next_signal(end_by)
        if number is None:
            return None
    return "told"


def _has_ended(program: int) -> bool:
    return os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _next_signal(end_by: float | None) -> int | None:
    """The next watched signal, or None at the time `end_by`."""
    if end_by is None:
        return int(signal.sigwaitinfo(_WATCHED).si_signo)
    info = signal.sigtimedwait(_WATCHED, max(0.0, end_by - time.monotonic()))
    return None if info is None else int(info.si_signo)


def _pass_on(program: int, number: int, guard: _Guard) -> None:
    if guard.was_signalled(number):
        return  # then so was the program, with every process of the job
    if number in _ENDING:
        signal_session(program, number)
    else:
        os.kill(program, number)


def signal_session(leader: int, number: int) -> None:
    """Send a signal to every process of the session of `leader`, once."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass
    for process in _session(leader):
        try:
            if os.getpgid(process) != leader:  # as a shell's background jobs are
                os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def _session(leader: int) -> list[int]:
    """The processes of the session of `leader` that run."""
    # At the end of every shard, so it opens no file of the processes that it is not about.
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _in_session(int(name), leader)]


def _in_session(process: int, leader: int) -> bool:
    try:
        if os.getsid(process) != leader:
            return False
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def end_session(leader: int, grace: float) -> None:
    """End what the session of `leader` still runs, as Slurm does at the end of a job: SIGTERM, `grace`, SIGKILL."""
    if not _session(leader):
        return
    signal_session(leader, signal.SIGTERM)
    kill_at = time.monotonic() + grace
    while _session(leader):
        signal.sigtimedwait((signal.SIGCHLD,), _LEFTOVER_STEP)
        if time.monotonic() > kill_at:
            signal_session(leader, signal.SIGKILL)
        if time.monotonic() > kill_at + _UNKILLABLE:
            return


class _Guard:
    """The process that outlives the supervisor."""

    def __init__(self, program: int, grace: float, lifeline: int | None) -> None:
        watched, self._alive = os.pipe()
        self._witness, telling = os.pipe()
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._alive)
                os.close(self._witness)
                _keep_guard(program, supervisor, grace, watched, telling, lifeline)
            finally:
                os._exit(0)  # it is a copy of the supervisor, whose work it must never go on with
        os.close(watched)
        os.close(telling)
        os.set_blocking(self._witness, False)

    def was_signalled(self, number: int) -> bool:
        """Whether the guard got this signal too, just now."""
        poll = select.poll()
        poll.register(self._witness, select.POLLIN)
        end_by = time.monotonic() + _WITNESS_TIME
        while poll.poll(max(0.0, end_by - time.monotonic()) * 1000):
            said = os.read(self._witness, 64)
            if number in said or not said:
                return bool(said)
        return False

    def dismiss(self) -> None:
        """The program has ended; there is nothing to guard."""
        try:
            os.write(self._alive, b"x")
        except BrokenPipeError:  # somebody killed it
            pass
        os.waitpid(self._pid, 0)
        for descriptor in (self._alive, self._witness):
            os.close(descriptor)


def _keep_guard(program: int, supervisor: int, grace: float, watched: int, telling: int, lifeline: int | None) -> None:
    os.setsid()  # a signal to the supervisor's process group alone is not one to every process of the job
    os.set_blocking(telling, False)

    def tell(number: int, _frame: object) -> None:
        try:
            os.write(telling, bytes((number,)))
        except OSError:  # the supervisor is gone, and the program is being ended
            pass

    for number in _PASSED_ON:
        signal.signal(number, tell)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if watched in ready:
            if not os.read(watched, 1):
                end_session(program, grace)
            return
        poll.unregister(ready[0])
        if os.getppid() == supervisor:
            os.kill(supervisor, signal.SIGHUP)
