"""Executor: concurrent.futures, carried out by runs."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from hpcrun import mapping
from hpcrun.call import apply
from hpcrun.calls import Failure, Results, raisable
from hpcrun.errors import UsageError
from hpcrun.payload import named, pickled
from hpcrun.run import Run
from hpcrun.submission import check_fields, refuse_function, submit_calls

if TYPE_CHECKING:
    from hpcrun.payload import Call

Returned = TypeVar("Returned")
_QUIET, _LONGEST = 0.05, 0.5
"""Seconds without a new call, and since the first, after which those that have gathered become a run."""
_PATIENCE = 30
_MOST = 1000
"""How many errors of a file system in a row are borne, one a second; and how many calls a run gets."""


class Executor(concurrent.futures.Executor):
    """An executor whose calls are shards: calls that are submitted shortly after each other become one run.

    `fields` are those of a spec, for each run (``cpus=4, memory="8G", retries=3``), `cluster` and `python` as for
    `hpcrun.submit`. Futures hold what the function has returned or raised, as `Results` gives it. `cancel` of a future
    works until its run is submitted. `runs` are those so far. A program that ends
    leaves its runs going on.
    """

    def __init__(self, *, cluster: str | None = None, python: str | None = None, **fields: Any) -> None:
        if "shards" in fields:
            raise UsageError("found shards for an executor, wanted none: each call is one; max_parallel limits them")
        if "max_workers" in fields:
            raise UsageError("found max_workers, wanted max_parallel, which says how many calls of a run go on at once")
        check_fields(fields)
        self._options: dict[str, Any] = {"cluster": cluster, "python": python}
        self._fields = {"name": "calls", **fields}
        self._lock = threading.Condition()
        self._waiting: list[tuple[concurrent.futures.Future[Any], Call]] = []
        self._first = self._last = 0.0
        self._gathering = self._closed = self._given_up = False
        self._threads: list[threading.Thread] = []
        self.runs: list[Run] = []

    def submit(self, fn: Callable[..., Returned], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Returned]:
        """Have ``fn(*args, **kwargs)`` called; a future of what it returns.

        Raises UsageError where the call cannot be pickled, and RuntimeError after `shutdown`.
        """
        if not callable(fn):
            refuse_function(fn)
        call: Call = ((pickled((fn, args, kwargs), f"a call of {fn!r}"),), {})  # as they are now
        future: concurrent.futures.Future[Returned] = concurrent.futures.Future()
        with self._lock:
            self._check_open()
            self._last = time.monotonic()
            if not self._waiting:
                self._first = self._last
            self._waiting.append((future, call))
            if not self._gathering:
                self._gathering = True
                # No daemon: what was submitted is, also where the interpreter ends meanwhile.
                self._start(self._gather, daemon=False)
            self._lock.notify_all()
        return future

    def map(
        self, fn: Callable[..., Returned], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Returned]:
        """What `hpcrun.map` gives: one run, a shard for each `chunksize` items.

        `timeout` is in seconds, for all results to be there.
        """
        with self._lock:
            self._check_open()
        items = list(zip(*iterables, strict=False))
        if not items:
            return iter(())
        options: dict[str, Any] = {**self._options, **self._fields}
        options["name"] = named(fn)
        run = mapping.map(fn, *zip(*items, strict=True), chunksize=None if chunksize == 1 else chunksize, **options).run
        with self._lock:
            self.runs.append(run)
        return run.stream(timeout=timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those there are, or cancel them, runs included."""
        with self._lock:
            self._closed = True
            self._given_up = self._given_up or cancel_futures
            dropped = [future for future, _ in self._waiting] if cancel_futures else []
            runs = list(self.runs)
            self._lock.notify_all()
        for future in dropped:
            future.cancel()
        for run in runs if cancel_futures else ():
            run.cancel()
        if wait:
            while self._threads:
                self._threads.pop(0).join()
            for run in self.runs:
                run.wait()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _start(self, target: Callable[..., None], *args: Any, daemon: bool) -> None:
        thread = threading.Thread(target=target, args=args, name="hpcrun.Executor", daemon=daemon)
        self._threads = [*(one for one in self._threads if one.is_alive() or one.ident is None), thread]
        thread.start()

    def _gather(self) -> None:
        """Whenever calls have stopped coming, submit those that have."""
        while True:
            with self._lock:
                while self._waiting and not self._closed and len(self._waiting) < _MOST:
                    due = min(self._last + _QUIET, self._first + _LONGEST) - time.monotonic()
                    if due <= 0:
                        break
                    self._lock.wait(due)
                taken, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                if not taken:
                    self._gathering = False
                    return
            mine = [(future, call) for future, call in taken if future.set_running_or_notify_cancel()]
            if mine:
                self._carry_out([future for future, _ in mine], [[call] for _, call in mine])

    def _carry_out(self, futures: list[concurrent.futures.Future[Any]], calls: list[list[Call]]) -> None:
        try:
            run = submit_calls(apply, calls, mapped=True, fields=self._fields, **self._options)
            with self._lock:
                self.runs.append(run)
                given_up = self._given_up
            if given_up:
                run.cancel()
            with self._lock:
                self._start(_await, run, futures, daemon=True)
        except BaseException as error:  # every future has to hear of it
            for future in futures:
                future.set_exception(error)


def _await(run: Run, futures: list[concurrent.futures.Future[Any]]) -> None:
    """Give each future what its call has returned or raised."""
    try:
        results = run.stream()
        patience = _PATIENCE
        for step in results.steps():
            if step is None:
                patience = _look(results, patience)
                continue
            number, found = step
            if isinstance(found, Failure):
                futures[number].set_exception(raisable(found.error))
            else:
                futures[number].set_result(found)
    except BaseException as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _look(results: Results, patience: int) -> int:
    """Have `results` look again; how many errors of a file system in a row are still borne."""
    try:
        results.look(every=True)
    except OSError:
        if not patience:
            raise
        time.sleep(1.0)
        return patience - 1
    return _PATIENCE
