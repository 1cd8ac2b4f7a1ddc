"""Results: what the calls of a run have returned or raised, as they come."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpcrun import returned
from hpcrun.errors import CallFailed, RemoteTraceback, RunFolderError, UsageError
from hpcrun.logtail import last_lines
from hpcrun.payload import Payload
from hpcrun.returned import Body
from hpcrun.states import TERMINAL

if TYPE_CHECKING:
    from hpcrun.run import Run
    from hpcrun.status import RunStatus, ShardStatus

_TAIL_LINES = 20
_LOOK_AGAIN = 0.2
_COMES_WITHIN, _TOLD_WITHIN = 30.0, 3.0
"""Seconds after the end of a shard until what it has returned, or raised, counts as missing."""


class Failure:
    """An exception in the place of a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Results:
    """What the calls of a run return, in their order, each as soon as it is there.

    Iterating waits for what is not there yet, and raises, in the place of its value, what a call has raised: the
    exception itself, whose ``__cause__`` is a `RemoteTraceback` with the traceback on its node and the end of its log.
    Where no exception can tell, it is a `CallFailed`: the program was killed, has run out of time, never started. The
    next ``next()`` goes on behind it. With `return_exceptions` exceptions are given instead of being raised.

    A call is through once it has returned, or once its shard has no further attempt. Whoever iterates follows the run,
    and so speeds up its retries. One thread at a time may iterate.
    """

    def __init__(self, run: Run, *, return_exceptions: bool = False, timeout: float | None = None) -> None:
        """`timeout` is in seconds, from now; once they are over what waits raises TimeoutError. None waits for ever."""
        self.run = run
        """The run behind it."""
        self._return_exceptions = return_exceptions
        self._timeout = timeout
        self._end_by = None if timeout is None else time.monotonic() + timeout
        self._shared, self._length, self._firsts = _layout(run)
        self._statuses: Iterator[RunStatus] | None = None
        self._status: RunStatus | None = None
        self._open = {shard: _Shard(run, shard) for shard in range(run.plan.shards)}
        self._ready: dict[int, Body | Failure] = {}
        self._next = 0
        self._given: set[int] = set()
        """The calls that were given as they came."""
        self._looking = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Results({self.run.id!r}, {self._length} calls)"

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        while not self.has_next():
            self.look()
        if self._next >= self._length:
            raise StopIteration
        return self.take()

    def has_next(self) -> bool:
        """Whether `take` can give the next result, or there is none any more; else `look` has to come before."""
        while self._next in self._given:
            self._next += 1
        return self._next >= self._length or self._next in self._ready

    def take(self) -> Any:
        """The next result, which is there. Raises what its call has raised."""
        number, self._next = self._next, self._next + 1
        found = opened(self._ready.pop(number))
        if isinstance(found, Failure) and not self._return_exceptions:
            raise raisable(found.error)
        return given(found)

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """(number, value) of each call that has not been given yet, in the order in which they come.

        What a call has raised is given in the place of its value, never raised: an exception would hide the others.
        """
        for step in self.steps():
            if step is None:
                self.look(every=True)
            else:
                yield step[0], given(step[1])

    def steps(self) -> Iterator[tuple[int, Any] | None]:
        """What `as_completed` gives, with a `Failure` for what a call has raised, step by step.

        At each None whoever iterates has ``look(every=True)`` called, in its own way, before it goes on.
        """
        while not self.is_over():
            yield from self.taken()
            if not self.is_over():
                yield None

    def is_over(self) -> bool:
        """Whether all has been given."""
        return not self._ready and not self._open

    def taken(self) -> Iterator[tuple[int, Any]]:
        """(number, value) of what is there, with a `Failure` for what a call has raised."""
        while self._ready:
            for number in tuple(self._ready):
                found = self._ready.pop(number, None)
                if found is not None:
                    self._given.add(number)
                    yield number, opened(found)

    def look(self, *, every: bool = False) -> None:
        """Wait for the next status, and read what has come; of shards that still run, of `every` one or of the next."""
        with self._looking:
            if self._status is not None and self._end_by is not None and time.monotonic() > self._end_by:
                raise TimeoutError(f"run {self.run.id} has not returned everything after {self._timeout:g} s")
            self._watch()
            assert self._status is not None
            for index, mine in list(self._open.items()):
                shard = self._status.shards[index]
                over = self._is_over(shard)
                if over or (shard.attempt is not None and (every or self._next in self._calls_of(index))):
                    try:
                        self._gather(shard, mine, over=over)
                    except BaseException:  # an interrupt, as a rule: what was half read is read again
                        self._open[index] = _Shard(self.run, index)
                        raise

    def _watch(self) -> None:
        if self._statuses is None:
            self._statuses = self.run.follow()
        try:
            status = next(self._statuses, None)
        except BaseException:  # a generator that has raised gives nothing any more
            self._statuses = None
            raise
        if status is not None:
            self._status = status
        elif self._status is None or not self._status.done:
            self._statuses = None
        else:
            time.sleep(_LOOK_AGAIN)

    def _is_over(self, shard: ShardStatus) -> bool:
        """Whether a shard is through. One whose end nobody has recorded may be brought back while the run goes on."""
        if shard.state not in TERMINAL:
            return False
        assert self._status is not None
        recorded = shard.ended is not None and not self.run.plan.gang  # of a gang all ends count together
        return self._status.done or shard.state == "succeeded" or shard.cause == "failed" or recorded

    def _gather(self, shard: ShardStatus, mine: _Shard, *, over: bool) -> None:
        calls = self._calls_of(shard.index)
        if not over and (len(calls) == 1 or mine.anew):
            return  # there is one thing to wait for, or nothing counts before the end
        if shard.attempt is not None:
            mine.read(shard.attempt)
        if over and mine.may_come(len(calls), shard):
            return
        for number, body in mine.values().items():
            if number in calls and body is not None and not self._is_known(number):
                self._ready[number] = body
                mine.forget(number)
        if not over:
            return
        for number in calls:
            if not self._is_known(number):
                self._ready[number] = Failure(mine.error(number, shard))
        del self._open[shard.index]

    def _is_known(self, number: int) -> bool:
        return number < self._next or number in self._given or number in self._ready

    def _calls_of(self, shard: int) -> range:
        return range(shard, shard + 1) if self._shared else range(self._firsts[shard], self._firsts[shard + 1])


class _Shard:
    """What the attempts of one shard have left, read so far."""

    def __init__(self, run: Run, shard: int) -> None:
        self._run, self._shard = run, shard
        self.anew = run.plan.gang or run.plan.committed
        """Whether each attempt makes all calls, and only those of the last one count."""
        self._attempts: list[_Attempt] = []
        self._damage: RunFolderError | None = None
        self._since: float | None = None

    def read(self, last: int) -> None:
        """Read what is new of the attempts up to the number `last`; those behind it count no more."""
        del self._attempts[last + 1 :]
        while len(self._attempts) <= last:
            self._attempts.append(_Attempt(self._run.dir.returned(self._shard, len(self._attempts))))
        self._damage = None
        for attempt in self._attempts:
            try:
                attempt.read()
            except RunFolderError as error:
                self._damage = error

    def values(self) -> dict[int, Body | None]:
        """What each call has returned, in the attempt of which it counts: an attempt says which values before it do.

        So nothing that a node leaves that was given up, and comes back, changes what has been read.
        """
        found: dict[int, Body | None] = {}
        kept: set[int] | None = None
        for attempt in reversed(self._attempts[-1:] if self.anew else self._attempts):
            for call, body in attempt.values.items():
                if kept is None or call in kept:
                    found.setdefault(call, body)
            kept = attempt.kept if kept is None else kept
        return found

    def forget(self, call: int) -> None:
        """That a call has a value is enough to know, once that was given."""
        for attempt in self._attempts:
            if call in attempt.values:
                attempt.values[call] = None

    def may_come(self, calls: int, shard: ShardStatus) -> bool:
        """Whether something of a shard that is through is still to come: a network file system may show it later."""
        if shard.state == "succeeded":
            patience = _COMES_WITHIN if len(self.values()) < calls else 0.0
        else:
            told = any(attempt.errors or attempt.all is not None for attempt in self._attempts[-1:])
            patience = _TOLD_WITHIN if shard.cause == "failed" and shard.exit_code == 1 and not told else 0.0
        if not patience and self._damage is None:
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since < (patience or _TOLD_WITHIN)

    def error(self, call: int, shard: ShardStatus) -> BaseException:
        """Why a call of a shard that is through has no value."""
        if self._damage is not None:
            return self._damage
        last = self._attempts[-1] if self._attempts else None
        body = None if last is None else last.errors.get(call, last.all)
        if body is not None:
            return _raised(self._run, body, call, shard)
        before = [attempt.errors[call] for attempt in self._attempts if call in attempt.errors]
        return _failed(self._run, call, shard, before[-1] if before else None)


class _Attempt:
    """What one attempt has left, read so far."""

    __slots__ = ("_reader", "all", "errors", "kept", "values")

    def __init__(self, path: str) -> None:
        self._reader = returned.Reader(path)
        self.values: dict[int, Body | None] = {}
        """What calls have returned; None where that was given."""
        self.errors: dict[int, bytes] = {}
        self.all: bytes | None = None
        """The error of every call that has none of its own."""
        self.kept: set[int] | None = None
        """The calls whose values of earlier attempts count."""

    def read(self) -> None:
        for kind, call, body in self._reader.frames():
            if kind == returned.VALUE:
                self.values.setdefault(call, body)
            elif kind == returned.ERROR:
                self.errors[call] = body.bytes()
            elif kind == returned.ALL:
                self.all = body.bytes()
            elif kind == returned.KEPT:
                self.kept = set(pickle.loads(body.bytes()))


def opened(found: Body | Failure) -> Any:
    """The value behind `found`, or a `Failure`."""
    if isinstance(found, Failure):
        return found
    try:
        return returned.loads(found.bytes())
    except Exception as error:  # classes that are not here, or are others here
        return Failure(error)


def given(found: Any) -> Any:
    """`found`, a value or a `Failure`, as it is given where nothing is raised."""
    return found.error if isinstance(found, Failure) else found


def raisable(error: BaseException) -> BaseException:
    """`error`, or what can be raised in its place where it would mean something else to whoever iterates."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        other = RuntimeError(f"a call has raised {type(error).__name__}")
        other.__cause__ = error
        return other
    return error


def _layout(run: Run) -> tuple[bool, int, list[int]]:
    """Whether all shards make the same call, how many calls there are, and which is the first of each shard."""
    try:
        with Payload(run.dir.payload) as payload:
            shards = run.plan.shards
            if payload.chunks == 1 and shards > 1:
                return True, shards, []
            return False, payload.calls, payload.firsts()
    except FileNotFoundError as error:
        if not os.path.exists(run.dir.plan):
            raise RunFolderError(run.dir.path, "the run folder is gone, and its results with it") from error
        raise UsageError(
            f"run {run.id} ({run.plan.name!r}) executes a command, which returns no values; what it has left is in "
            f"{run.dir.results}"
        ) from error


def _raised(run: Run, body: bytes, call: int, shard: ShardStatus) -> BaseException:
    """The exception that a call has raised, with its traceback as the cause."""
    facts = returned.error_facts(body)
    where = f"call {call}, in attempt {facts['attempt']} of shard {shard.index} on {facts['node']}"
    log = _tail(run, shard, but=facts["text"])
    remote = RemoteTraceback(f"\n{where}:\n\n{facts['text']}{_shown(log)}")
    try:
        error = returned.exception_of(facts["exception"])
        if not isinstance(error, Exception):  # sys.exit() there is not to end this process
            raise TypeError
        BaseException.__setattr__(error, "__cause__", remote)
    except Exception:  # it could not be pickled, its class is not here, or does what it likes
        error = CallFailed(
            f"{where}, raised {facts['type']}: {facts['message']}", call=call, shard=shard.index,
            attempt=facts["attempt"], cause=shard.cause, node=facts["node"], log=_tail(run, shard),
        )  # fmt: skip
        error.__cause__ = remote
    return error


def _failed(run: Run, call: int, shard: ShardStatus, before: bytes | None) -> CallFailed:
    """The error of a call that nobody has told of in the last attempt; one `before` it may have had another end."""
    log = _tail(run, shard)
    how: str = shard.cause or shard.state
    if shard.signal:
        how += f", killed by signal {shard.signal}"
    elif shard.exit_code:
        how += f", exit code {shard.exit_code}"
    detail = f": {shard.detail}" if shard.detail else ""
    on = f" on {shard.node}" if shard.node else ""
    earlier = ""
    if before is not None:
        facts = returned.error_facts(before)
        earlier = f"; attempt {facts['attempt']} had raised {facts['type']}: {facts['message']}"
    return CallFailed(
        f"call {call} has returned nothing: shard {shard.index} of run {run.id} has ended{on} ({how}){detail}{earlier}"
        f"{_shown(log)}", call=call, shard=shard.index, attempt=shard.attempt or 0, cause=shard.cause,
        node=shard.node, log=log,
    )  # fmt: skip


def _tail(run: Run, shard: ShardStatus, but: str = "") -> str:
    """The last lines of a shard's log, besides those of the traceback `but`, which stand in it too."""
    if shard.attempt is None:
        return ""
    other = but.rstrip("\n").split("\n") if but else []
    found: list[str] = []
    for path in run.log_paths(shard.index, shard.attempt):
        found += _without(last_lines(path, _TAIL_LINES + len(other)), other)[-_TAIL_LINES:]
    return "\n".join(found).strip("\n")


def _without(lines: list[str], block: list[str]) -> list[str]:
    """`lines` without those of `block`, the first of which may be further up than where `lines` begin."""
    size = len(block)
    for at in range(len(lines) - size + 1 if size else 0):
        if lines[at : at + size] == block:
            return lines[:at] + lines[at + size :]
    for missing in range(1, size):
        left = block[missing:]
        if lines[: len(left)] == left:
            return lines[len(left) :]
    return lines


def _shown(log: str) -> str:
    """The end of a log, where there is one, as a message shows it."""
    return "\n\nthe end of its log:\n" + "\n".join(f"  {line}" for line in log.splitlines()) if log else ""
