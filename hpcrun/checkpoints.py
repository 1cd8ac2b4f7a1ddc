"""Hooks for the warning before the end: `checkpoint` has a function called when this process should save its state.

The runtime gives the warning that a spec's ``signal`` asks for to programs that catch it (docs/spec.md, The warning
before the end). A preemption without one, a time limit and `hpcrun cancel` are SIGTERM, with some time before SIGKILL.
"""

from __future__ import annotations

import os
import sys

from hpcrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])
else:
    import _signal as signal  # without the enums, which cost the shard of a function 1.5 ms of CPU

_CAUGHT = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


def checkpoint(hook: Hook) -> Hook:
    """Have `hook` called, with nothing, when the end of this process is near; returns `hook`, so it is a decorator too.

    Hooks are called in the order of registration, in the main thread, between two of its bytecodes: not while it is in
    a long call of C code, but as soon as that returns. They are called at the warning (SIGUSR1 or SIGUSR2, as the
    spec's ``signal`` says), after which the program goes on, and at SIGTERM, after which it ends as it would have
    ended without them. So a hook may be called twice, and has to leave something whole whenever it is cut short.

    Hooks are not interrupted by further signals; a SIGTERM that comes meanwhile takes effect after them. One that
    raises an exception leaves its traceback on standard error, and the others are called all the same. SystemExit, as
    of ``sys.exit()``, ends the program after the last hook.

    What caught one of the signals before goes on to get it after the hooks. Processes that this one forks have neither
    the hooks nor the handlers. Outside of a run nothing is done at all.

    Raises UsageError for what cannot be called with nothing, and for a first hook from another thread than the main
    one, for Python lets no other catch signals.
    """
    _check(hook)
    if os.environ.get("HPCRUN_RUN_ID"):
        _hooks.add(hook)
    return hook


def _check(hook: object) -> None:
    import inspect  # 11 ms of CPU, and most calls have no hook

    name = getattr(hook, "__qualname__", repr(hook))
    if not callable(hook) or inspect.iscoroutinefunction(hook):
        raise UsageError(f"checkpoint(): found {name}, wanted a plain function to call at the warning")
    try:
        inspect.signature(hook).bind()
    except TypeError as error:
        raise UsageError(
            f"checkpoint(): found {name}{inspect.signature(hook)}, wanted a function that can be called with nothing "
            f"({error}); functools.partial or a lambda can hold its arguments"
        ) from None
    except ValueError:  # one of C code, which does not tell
        pass


class _Hooks:
    """The hooks of this process, and the handlers that call them."""

    def __init__(self) -> None:
        self._hooks: list[Callable[[], object]] = []
        self._before: dict[int, Any] = {}
        """What was there for each signal before: a function, SIG_DFL or SIG_IGN."""
        self._running = False
        self._waiting: list[int] = []
        """Signals that have come while hooks were running."""

    def add(self, hook: Callable[[], object]) -> None:
        if not self._before:
            self._install()
        if hook not in self._hooks:
            self._hooks.append(hook)

    def clear(self) -> None:
        self._hooks.clear()

    def _install(self) -> None:
        import threading

        if threading.current_thread() is not threading.main_thread():
            raise UsageError(
                f"checkpoint(): found the first call in thread {threading.current_thread().name!r}, wanted it in the "
                "main thread, the only one that can catch signals; register the hook before threads are started"
            )
        for number in _CAUGHT:
            before = signal.getsignal(number)
            if before is not None:  # that of C code cannot be called from here, so it stays
                self._before[number] = before
                signal.signal(number, self._handle)
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a forked process: be as if there had been no hook, or each of them would write the parent's state."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._hooks, self._before, self._running, self._waiting = [], {}, False, []

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._waiting.append(number)
        if self._running:
            return
        self._running = True
        try:
            leaving = self._call_all()
        finally:
            self._running = False
            numbers, self._waiting = dict.fromkeys(self._waiting), []
        if leaving is not None:
            raise leaving
        for each in numbers:
            self._as_before(each, frame)

    def _call_all(self) -> SystemExit | None:
        """Call every hook; the SystemExit of one of them, if any raised it."""
        leaving = None
        for hook in list(self._hooks):
            try:
                hook()
            except SystemExit as error:
                leaving = leaving or error
            except Exception:
                _tell()
        return leaving

    def _as_before(self, number: int, frame: FrameType | None) -> None:
        """Do what the signal would have done without hooks; a warning that nobody else waits for has done its work."""
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL and number == signal.SIGTERM:
            flush()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _tell() -> None:
    """Leave the traceback of the exception at hand on standard error."""
    import traceback  # most hooks do not fail

    try:  # not by sys.stderr: the signal may have come in the middle of a write to it
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    except OSError:
        pass


def flush() -> None:
    """Write out what was printed, as far as that can be done: an end by a signal, or by os._exit, does not."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, replaced, or a signal came in the middle of a write to it
            pass


_hooks = _Hooks()


def forget() -> None:
    """Forget every hook: what has registered them is over."""
    _hooks.clear()
