"""The same from coroutines: ``await hpcrun.aio.submit(…)``, ``async for value in await hpcrun.aio.map(…)``.

What waits for a cluster or a disk does so in a thread, in short steps, so that cancelling a task ends its waiting (the
run goes on). A handle is to be used by one task at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from hpcrun import mapping, submission
from hpcrun.calls import Results, given
from hpcrun.run import Run
from hpcrun.status import RunStatus, ShardStatus

Item = TypeVar("Item")
_END = object()


async def submit(what: Any, *args: Any, **options: Any) -> AsyncRun:
    """`hpcrun.submit`; the same parameters and errors."""
    return AsyncRun(await asyncio.to_thread(submission.submit, what, *args, **options))


async def map(function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> AsyncResults:  # noqa: A001
    """`hpcrun.map`; the same parameters and errors."""
    return AsyncResults(await asyncio.to_thread(mapping.map, function, *iterables, **options))


async def open(asked: str, home: str | None = None) -> AsyncRun:  # noqa: A001
    """`Run.open`: the run called `asked`."""
    return AsyncRun(await asyncio.to_thread(Run.open, asked, home))


class AsyncRun:
    """A `Run` whose methods are awaited; `run` is the handle behind it."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __repr__(self) -> str:
        return f"AsyncRun({self.id!r})"

    @property
    def id(self) -> str:
        """The run's id, for life."""
        return self.run.id

    async def status(self) -> RunStatus:
        """`Run.status`."""
        return await asyncio.to_thread(self.run.status)

    async def shards(self) -> tuple[ShardStatus, ...]:
        """`Run.shards`."""
        return await asyncio.to_thread(self.run.shards)

    async def follow(self) -> AsyncIterator[RunStatus]:
        """`Run.follow`."""
        async for status in _stepped(self.run.follow()):
            yield status

    async def wait(self, timeout: float | None = None) -> RunStatus:
        """`Run.wait`. Raises TimeoutError after `timeout` seconds."""

        async def last() -> RunStatus:
            async for status in self.follow():
                found = status
            return found

        try:
            return await asyncio.wait_for(last(), timeout)
        except asyncio.TimeoutError as error:  # another class before Python 3.11
            raise TimeoutError(f"run {self.id} has not ended after {timeout:g} s") from error

    async def logs(self, shard: int = 0, attempt: int | None = None, *, role: str = "job", replica: int = 0) -> str:
        """`Run.logs`."""
        return await asyncio.to_thread(self.run.logs, shard, attempt, role=role, replica=replica)

    async def results(self, *, return_exceptions: bool = False, timeout: float | None = None) -> list[Any]:
        """`Run.results`."""
        return [value async for value in self.stream(return_exceptions=return_exceptions, timeout=timeout)]

    def stream(self, *, return_exceptions: bool = False, timeout: float | None = None) -> AsyncResults:
        """`Run.stream`."""
        return AsyncResults(self.run.stream(return_exceptions=return_exceptions, timeout=timeout))

    async def cancel(self) -> RunStatus:
        """`Run.cancel`."""
        return await asyncio.to_thread(self.run.cancel)

    async def retry(self, shards: str | Iterable[int] = "failed") -> AsyncRun:
        """`Run.retry`."""
        return AsyncRun(await asyncio.to_thread(self.run.retry, shards))


class AsyncResults:
    """`Results` for ``async for``."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self.run = AsyncRun(results.run)
        """The run behind it."""

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"Async{self._results!r}"

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._results.has_next():
            await asyncio.to_thread(self._results.look)
        try:
            return next(self._results)
        except StopIteration:
            raise StopAsyncIteration from None

    async def as_completed(self) -> AsyncIterator[tuple[int, Any]]:
        """`Results.as_completed`."""
        results = self._results
        for step in results.steps():
            if step is None:
                await asyncio.to_thread(results.look, every=True)
            else:
                yield step[0], given(step[1])


async def _stepped(steps: Iterator[Item]) -> AsyncIterator[Item]:
    while True:
        found: Any = await asyncio.to_thread(next, steps, _END)
        if found is _END:
            return
        yield found
