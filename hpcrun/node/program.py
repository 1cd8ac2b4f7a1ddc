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
    from typing import Any, Protocol

    from hpcrun.node.notice import Notice

    class Crew(Protocol):
        """What a program is part of: something that wants to be looked after while it runs."""

        def due(self) -> float:
            """When `turn` is to be called next, by time.monotonic(), if no SIGIO or SIGCHLD comes before."""
            ...

        def turn(self) -> None:
            """Do what can be done now, without waiting. Raises Interrupted where the program is to end."""
            ...

        def passed_on(self, number: int) -> None:
            """A signal from outside, which the program gets."""
            ...

        def farewell(self) -> tuple[int, bytes]:
            """A descriptor, and what the guard writes to it when the supervisor was killed."""
            ...
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WATCHED = (signal.SIGCHLD, *_PASSED_ON)
_DISMISSED = b"x"
"""The word to a guard that it has nothing more to do."""
_STARTING = 0.1
"""Seconds that a process takes at most to become the program that it is to be."""
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
    that asks for an end, ``abandoned`` when whoever started its supervisor was gone, else what its crew said.
    `detail` is what there is to say of it.
    """

    __slots__ = ("code", "detail", "signal", "why")

    def __init__(self, status: int, why: str | None = None) -> None:
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.code = -1 if self.signal else os.WEXITSTATUS(status)
        self.why = why
        self.detail = ""


class Interrupted(Exception):
    """The program is to end, for the reason `why`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


_given_files: tuple[int, int] | None = None
"""The limit of open files that this process was started with, where it has raised its own."""


def allow_files(count: int) -> None:
    """Let this process, and no program that it starts, have `count` files open, as far as that is allowed."""
    global _given_files
    import resource

    soft, hard = _given_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
        )


def spawn(path: str, argv: Sequence[str], environ: Mapping[str, str], **how: Any) -> int:
    """os.posix_spawn, with the limit of open files that this process was given itself."""
    if _given_files is None:
        return os.posix_spawn(path, list(argv), dict(environ), **how)
    import resource

    raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, _given_files)
    try:
        return os.posix_spawn(path, list(argv), dict(environ), **how)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, raised)


def watch() -> None:
    """Hold back the signals that the supervisor waits for; called before anything that must not be interrupted."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_WATCHED, signal.SIGIO))
    # Whoever ignores it hands that on, and then the end of a child is told to nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def start(
    command: Sequence[str], environ: Mapping[str, str], cwd: str, out: int, err: int, *, reads: bool = False
) -> int:
    """Start `command` in a session of its own; its process id. Its standard input is empty, or ours where it `reads`.

    Raises OSError when the directory or the program cannot be used.
    """
    os.chdir(cwd)
    path = found(command[0], environ.get("PATH", os.defpath))
    try:
        return _spawn(path, command, environ, out, err, reads=reads)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a #! line: a shell would run it, and so do exec's callers since POSIX.
        return _spawn("/bin/sh", ["sh", path, *command[1:]], environ, out, err, reads=reads)


def not_started(error: OSError, name: str, cwd: str, err: int) -> str:
    """Why the program `name` could not be started, said in its log `err` too."""
    what = f"enter the working directory {cwd!r}" if _shut(cwd) else f"start {name!r}"
    text = f"cannot {what}: {error.strerror}"
    os.write(err, f"hpcrun: {text}\n".encode("utf-8", "surrogateescape"))
    return text


def start_code(cwd: str) -> int:
    """The exit code of a program that could not be started, as a shell's: 126 or 127."""
    return 126 if _shut(cwd) else 127


def _shut(cwd: str) -> bool:
    return not os.path.isdir(cwd) or not os.access(cwd, os.X_OK)


def _spawn(path: str, command: Sequence[str], environ: Mapping[str, str], out: int, err: int, *, reads: bool) -> int:
    return spawn(
        path,
        command,
        environ,
        file_actions=[
            *(() if reads else ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),)),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=signal.valid_signals(),  # Python ignores some, and so did the submitter's nohup or shell
    )


def found(program: str, search: str) -> str:
    """The path of `program`, looked for in the folders of `search` where it is a mere name.

    Raises FileNotFoundError.
    """
    if "/" in program:
        return program
    for folder in search.split(os.pathsep):
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def supervise(
    program: int,
    guard: Guard,
    *,
    timeout: float | None,
    grace: float,
    insist: bool,
    lifeline: int | None,
    marker: str,
    crew: Crew | None = None,
    warning: tuple[int, float] | None = None,
) -> Ended:
    """Wait for the end of `program`, a child in a session of its own, passing on the signals that come.

    After `timeout` seconds it is told to end (SIGTERM) and `grace` seconds later killed. With `insist` the same
    grace holds after a signal from outside; without, whoever sent it decides (Slurm's KillWait). When the other end
    of the pipe `lifeline` is closed, the one who started this supervisor is gone, and SIGHUP says so. The file
    `marker` is there once the run has been cancelled: then even a good end may be due to a signal on its way here.
    `crew` is looked after meanwhile, and may end the program too. `warning` is the signal that says that the end is
    near, and how many seconds before. `guard` was made before the program, so that it misses no start, and keeps it.
    """
    end_by = None if timeout is None else time.monotonic() + timeout
    notice = notice_of(program, warning, end_by)
    why: str | None = None
    kill_at: float | None = None
    while True:
        number, stop = next_word(end_by if kill_at is None else kill_at, crew, None if why else notice)
        if _has_ended(program):  # looked at first, so that what ended by itself was not told to
            break
        if stop is not None and why is not None and (kill_at is None or time.monotonic() < kill_at):
            continue  # it is told each time that it is to end, once its own supervisor is gone
        if number is None and kill_at is None:
            why = why or stop or "timed_out"
            signal_session(program, signal.SIGTERM)
        elif number is None:
            signal_session(program, signal.SIGKILL)
        elif number == signal.SIGHUP and lifeline is not None:
            why = why or "abandoned"
            signal_session(program, signal.SIGTERM)
        elif not _pass_on(program, number, guard, crew, notice):
            continue
        else:
            why = why or "told"
            if not insist:
                continue
        if number is None or kill_at is None:  # to be told again does not put it off
            kill_at = time.monotonic() + grace
    # Until it is reaped, no stranger can get its process id.
    end_session(program, grace, crew)
    guard.dismiss()
    status = os.waitpid(program, 0)[1]
    waits = (status and os.WTERMSIG(status) != signal.SIGKILL) or os.path.exists(marker)
    return Ended(status, why or _told_late(number, _LATE if waits else 0.0))


def notice_of(leader: int, warning: tuple[int, float] | None, end_by: float | None) -> Notice | None:
    """The `warning` of the program with the process `leader`, before its end at the time `end_by`; None for none."""
    if warning is None:
        return None
    from hpcrun.node.notice import Notice  # most programs ask for none

    return Notice(warning, end_by, leader)


def next_word(end_by: float | None, crew: Crew | None, notice: Notice | None) -> tuple[int | None, str | None]:
    """As `next_signal`; when the time of the warning comes meanwhile, it is given."""
    while notice is not None and notice.at is not None and (end_by is None or notice.at < end_by):
        number, stop = next_signal(notice.at, crew)
        if number is not None or stop is not None:
            return number, stop
        if notice.is_due():
            notice.give(crew)
    return next_signal(end_by, crew)


def _told_late(number: int | None, patience: float) -> str | None:
    """``told`` where an end was told from outside after all: by `number`, or by a signal that is there or due.

    Whoever signals all processes of a job reaches the program, or what it waits for, before this one as often as not.
    """
    end_by = time.monotonic() + patience
    while number not in ENDING:
        number = _next_signal(end_by)
        if number is None:
            return None
    return "told"


def _has_ended(program: int) -> bool:
    return os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def is_told() -> bool:
    """Whether a signal that asks for an end is there and has not been heeded yet."""
    return bool(signal.sigpending() & set(ENDING))


def next_signal(end_by: float | None, crew: Crew | None) -> tuple[int | None, str | None]:
    """The next watched signal, or None at the time `end_by`; and why `crew` wants an end, if it does.

    SIGIO stands for a turn of the crew, whatever was the occasion.
    """
    if crew is None:
        return _next_signal(end_by), None
    number = _next_signal(crew.due() if end_by is None else min(end_by, crew.due()), (*_WATCHED, signal.SIGIO))
    if number in (None, signal.SIGIO, signal.SIGCHLD):
        try:
            crew.turn()
        except Interrupted as error:
            return None, error.why
    if number in (None, signal.SIGIO):  # where something comes in all the time, deadlines hold all the same
        return (None if end_by is not None and time.monotonic() >= end_by else int(signal.SIGIO)), None
    return number, None


def _next_signal(end_by: float | None, watched: Sequence[int] = _WATCHED) -> int | None:
    """The next of the `watched` signals, or None at the time `end_by`."""
    if end_by is None:
        return int(signal.sigwaitinfo(watched).si_signo)
    info = signal.sigtimedwait(watched, max(0.0, end_by - time.monotonic()))
    return None if info is None else int(info.si_signo)


def _pass_on(program: int, number: int, guard: Guard, crew: Crew | None, notice: Notice | None) -> bool:
    """Let the program have a signal that came from outside; whether it asks for an end."""
    if number in (signal.SIGCHLD, signal.SIGIO):
        return False
    everywhere = guard.was_signalled(number)  # then so was the program, with every process of the job
    if notice is not None and number == notice.number:
        if notice.is_new() and not everywhere:
            notice.give(crew)
        return False
    if crew is not None and (not everywhere or number in ENDING):
        crew.passed_on(number)
    if not everywhere:
        if number in ENDING:
            signal_session(program, number)
        else:
            os.kill(program, number)
    return number in ENDING


def signal_session(leader: int, number: int) -> None:
    """Send a signal to every process of the session of `leader`, once."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass
    for process in session_of(leader):
        try:
            if os.getpgid(process) != leader:  # as a shell's background jobs are
                os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def session_of(leader: int) -> list[int]:
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


def end_session(leader: int, grace: float, crew: Crew | None = None) -> None:
    """End what the session of `leader` still runs, as Slurm does at the end of a job: SIGTERM, `grace`, SIGKILL.

    There is no session 0: that is the kernel's.
    """
    if not leader or not session_of(leader):
        return
    signal_session(leader, signal.SIGTERM)
    kill_at = time.monotonic() + grace
    while session_of(leader):
        signal.sigtimedwait((signal.SIGCHLD,), _LEFTOVER_STEP)
        _look_after(crew)
        if time.monotonic() > kill_at:
            signal_session(leader, signal.SIGKILL)
        if time.monotonic() > kill_at + _UNKILLABLE:
            return


def _look_after(crew: Crew | None) -> None:
    """Give `crew` its turn where nothing can come of it any more."""
    try:
        if crew is not None:
            crew.turn()
    except Interrupted:
        pass


def is_closed(pipe: int) -> bool:
    """Whether nobody holds the other end of a pipe any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


class Guard:
    """The process that outlives the supervisor, and then ends the program; it is made before that."""

    def __init__(self, environ: Mapping[str, str], grace: float, lifeline: int | None, crew: Crew | None) -> None:
        """For a program that is to be started with `environ`; `supervise` says what the others mean.

        Raises OSError where there can be no more processes.
        """
        watched, self._alive = os.pipe()
        self._witness, telling = os.pipe()
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._alive)
                os.close(self._witness)
                farewell = _let_go(crew, (watched, telling, lifeline)) if crew is not None else None
                _keep_guard(environ, supervisor, grace, watched, telling, lifeline, farewell)
            finally:
                os._exit(0)  # it is a copy of the supervisor, whose work it must never go on with
        os.close(watched)
        os.close(telling)
        os.set_blocking(self._witness, False)

    def keep(self, program: int) -> None:
        """From now on guard `program`."""
        self._tell(b"%d\n" % program)

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
        """The program has ended, or there is none; there is nothing to guard."""
        self._tell(_DISMISSED)
        os.waitpid(self._pid, 0)
        for descriptor in (self._alive, self._witness):
            os.close(descriptor)

    def _tell(self, word: bytes) -> None:
        try:
            os.write(self._alive, word)
        except BrokenPipeError:  # somebody killed it
            pass


def _let_go(crew: Crew, kept: Sequence[int | None]) -> tuple[int, bytes]:
    """Close what the guard has no business with: a connection that it held would seem to be alive."""
    farewell = crew.farewell()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in (*kept, farewell[0]):
            try:
                os.close(int(name))
            except OSError:  # the one by which the folder was listed
                pass
    return farewell


def _say(farewell: tuple[int, bytes] | None) -> None:
    try:
        if farewell is not None and farewell[0] >= 0:
            os.write(*farewell)
            os.close(farewell[0])
    except OSError:  # nobody listens
        pass


def _started(environ: Mapping[str, str]) -> int:
    """The leader of a session that was given just this environment, which names its attempt; 0 where there is none."""
    time.sleep(_STARTING)
    given = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environ.items())
    for process in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            if os.getsid(process) != process:
                continue
            with open(f"/proc/{process}/environ", "rb") as file:
                if file.read() == given:
                    return process
        except OSError:
            continue
    return 0


def _keep_guard(
    environ: Mapping[str, str], supervisor: int, grace: float, watched: int, telling: int, lifeline: int | None,
    farewell: tuple[int, bytes] | None,
) -> None:  # fmt: skip
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
    program = 0
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if watched in ready:
            said = os.read(watched, 64)
            if said and not said.endswith(_DISMISSED):
                program = int(said)
                continue
            if not said:
                _say(farewell)
                end_session(program or _started(environ), grace)
            return
        poll.unregister(ready[0])
        if os.getppid() == supervisor:
            os.kill(supervisor, signal.SIGHUP)
