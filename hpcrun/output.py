"""Whose output is to be seen: `stdout` and `stderr` silence a stream in all shards but some.

What is held back is ``sys.stdout`` or ``sys.stderr`` of this process, as with Skyward and contextlib's redirect_stdout,
and so for all of its threads. What goes to the descriptor past them, as the output of C code and of other processes
does, is not.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Collection

from hpcrun.errors import UsageError
from hpcrun.here import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, TypeVar

    from hpcrun.here import Current

    Function = TypeVar("Function", bound=Callable[..., Any])
    Only = str | int | Collection[int] | Callable[[Current], bool]


def stdout(*, only: Only) -> Silence:
    """A decorator, or context manager: only these shards write to standard output while the function, or block, runs.

    `only` is ``"head"`` (the job of shard 0), the index of a shard, a collection of these, or a function of
    `hpcrun.current()` that says whether this process may. It is looked at whenever the function is called. A generator
    is silent while its own code runs, not between two of its items.

    Raises UsageError for any other `only`.
    """
    return Silence("stdout", only)


def stderr(*, only: Only) -> Silence:
    """As `stdout`, of standard error."""
    return Silence("stderr", only)


class Silence:
    """What `stdout` and `stderr` give: it holds the stream `name` back in processes that `only` leaves out."""

    def __init__(self, name: str, only: Only) -> None:
        self._name, self._only, self._allows = name, only, _rule(name, only)
        self._entered: list[bool] = []

    def __call__(self, function: Function) -> Function:
        """`function`, silent where this process is none of those that may write."""
        if not callable(function):
            raise UsageError(f"@{self._name}(only=…): found {function!r}, wanted a function to decorate")
        wrapped: Function = _wrapped(function, self)
        return wrapped

    def __enter__(self) -> None:
        silent = not self._allows(current())
        self._entered.append(silent)
        if silent:
            _STREAMS[self._name].close()

    def __exit__(self, *_raised: object) -> None:
        # Where two threads are in here at once, one may leave for the other; the number of leavers is right.
        if self._entered.pop():
            _STREAMS[self._name].open()

    def __reduce__(self) -> tuple[Any, ...]:
        return Silence, (self._name, self._only)  # with the decorated function, which may be sent to another process


def _rule(name: str, only: Only) -> Callable[[Current], bool]:
    """Whether a process may write, by what a user has said."""
    if isinstance(only, str) and only == "head":
        return lambda here: here.is_head
    if _is_index(only):
        return lambda here: here.index == only
    if callable(only):
        return lambda here: bool(only(here))
    if isinstance(only, Collection) and not isinstance(only, str) and all(map(_is_index, only)):
        wanted = frozenset(only)
        return lambda here: here.index in wanted
    raise UsageError(
        f"{name}(only=…): found {only!r}, wanted \"head\", the index of a shard, several of them, or a function of "
        "hpcrun.current()"
    )  # fmt: skip


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _wrapped(function: Any, silence: Silence) -> Any:
    """`function` with `silence` around it, and still of its kind."""
    if inspect.isasyncgenfunction(function):
        return _stepped_async(function, silence)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            return (yield from _stepped(function(*args, **named), silence))

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*args: Any, **named: Any) -> Any:
            with silence:
                return await function(*args, **named)

    else:

        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            with silence:
                return function(*args, **named)

    return call


def _stepped(inner: Generator[Any, Any, Any], silence: Silence) -> Generator[Any, Any, Any]:
    """`inner` with `silence` around each of its steps; otherwise as `yield from` has it (PEP 380)."""
    step: Callable[[], Any] = functools.partial(next, inner)
    while True:
        with silence:
            try:
                item = step()
            except StopIteration as end:
                return end.value
        try:
            step = functools.partial(inner.send, (yield item))
        except GeneratorExit:
            with silence:
                inner.close()
            raise
        except BaseException as error:
            step = functools.partial(inner.throw, error)


def _stepped_async(function: Any, silence: Silence) -> Any:
    """As `_stepped`, of a function that is an asynchronous generator."""

    @functools.wraps(function)
    async def call(*args: Any, **named: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **named)
        step: Callable[[], Any] = inner.__anext__
        while True:
            with silence:
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
            try:
                step = functools.partial(inner.asend, (yield item))
            except GeneratorExit:
                with silence:
                    await inner.aclose()
                raise
            except BaseException as error:
                step = functools.partial(inner.athrow, error)

    return call


class _Stream:
    """Standard output or error of this process, silent for as long as anybody wants it so."""

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.RLock()  # one that a signal's handler may take a second time
        self.closed = 0
        """How many want it silent."""
        self._valve: _Valve | None = None

    def close(self) -> None:
        with self._lock:
            self.closed += 1
            stream = getattr(sys, self._name)
            if self.closed == 1 and stream is not None:
                self._valve = _Valve(stream, self)
                setattr(sys, self._name, self._valve)

    def open(self) -> None:
        with self._lock:
            self.closed -= 1
            # Whoever has put another stream there meanwhile keeps it.
            if not self.closed and self._valve is not None and getattr(sys, self._name) is self._valve:
                setattr(sys, self._name, self._valve.behind)


class _Valve:
    """A stream that drops what is written while it is to be silent.

    It goes on to work afterwards: a logging handler that was made meanwhile keeps it for good.
    """

    def __init__(self, behind: Any, owner: _Stream) -> None:
        self.behind, self._owner = behind, owner

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            return _Valve(self.behind.buffer, self._owner)
        return getattr(self.behind, name)

    def write(self, text: Any) -> Any:
        return len(text) if self._owner.closed else self.behind.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __iter__(self) -> Any:
        return iter(self.behind)


_STREAMS = {"stdout": _Stream("stdout"), "stderr": _Stream("stderr")}
