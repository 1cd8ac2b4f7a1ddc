"""map: one call of a function for each item, as the shards of one run."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hpcrun.calls import Results
from hpcrun.errors import UsageError
from hpcrun.submission import refuse_function, submit_calls

if TYPE_CHECKING:
    from hpcrun.payload import Call

SHARDS = 1000
"""How many shards a map has where nobody has said it: with more items, each shard has several."""
MOST_SHARDS = 100_000
"""How many it has at most where `chunksize` makes them, of items that nobody may have counted."""


def map(  # noqa: A001 - as the built-in one and those of concurrent.futures and multiprocessing
    function: Callable[..., Any],
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    shards: int | None = None,
    cluster: str | None = None,
    python: str | None = None,
    return_exceptions: bool = False,
    **fields: Any,
) -> Results:
    """Call `function` for each item, on the cluster; the results, in the order of the items, each as it comes.

    With several iterables it is called with one item of each, until the shortest ends. A shard makes the calls of
    `chunksize` items, one after the other, or there are `shards` shards with equal shares; without either each item is
    a shard up to 1,000 of these, then they share the items. With `chunksize` the iterables may be generators of any
    length: they are written to disk as they come, never held in memory as a whole.

    A shard with a call that has raised has failed, and is tried again where `retries` says so: the calls that have
    returned are not made again. `cluster` and `python` are as for `submit`, `fields` further fields of the spec
    (``max_parallel=100``, ``cpus=4``; ``timeout`` is that of a shard); `return_exceptions` as for `Results`.
    Raises UsageError, also for no items at all, and what `submit` does.
    """
    if not iterables:
        raise UsageError("found a map over nothing, wanted something to iterate over after the function")
    if not callable(function):
        refuse_function(function)
    if "kwargs" in fields:
        raise UsageError(
            "found kwargs for a map, wanted functools.partial(function, name=value), which has them for all"
        )
    chunksize, shards = _number("chunksize", chunksize), _number("shards", shards)
    if chunksize is not None and shards is not None:
        raise UsageError("found chunksize and shards, of which each follows from the other; wanted one of them")
    calls: Iterator[Call] = ((args, {}) for args in zip(*iterables, strict=False))
    first = next(calls, None)
    if first is None:
        raise UsageError("found no items to call the function for; wanted at least one")
    every = itertools.chain([first], calls)
    chunks = _by_size(every, chunksize) if chunksize is not None else _by_count(list(every), shards or SHARDS)
    run = submit_calls(function, chunks, cluster=cluster, python=python, fields=fields, mapped=True)
    return Results(run, return_exceptions=return_exceptions)


def _number(name: str, value: int | None) -> int | None:
    try:
        found = None if value is None else operator.index(value)
    except TypeError:
        found = 0
    if found is not None and found < 1:
        raise UsageError(f"found {name}={value!r}, wanted a number from 1")
    return found


def _by_size(calls: Iterator[Call], size: int) -> Iterator[list[Call]]:
    shards = 0
    while chunk := list(itertools.islice(calls, size)):
        shards += 1
        if shards > MOST_SHARDS:
            raise UsageError(
                f"found more than {MOST_SHARDS:,} shards of chunksize={size}, of which each starts a program and "
                "leaves files; wanted a larger chunksize, or shards=N if so many are meant"
            )
        yield chunk


def _by_count(calls: list[Call], most: int) -> Iterator[list[Call]]:
    """`calls` in so many chunks, in order, whose sizes differ by one at most; in fewer where there are fewer."""
    count, chunks = len(calls), min(len(calls), most)
    for chunk in range(chunks):
        yield calls[count * chunk // chunks : count * (chunk + 1) // chunks]
