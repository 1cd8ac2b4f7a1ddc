"""What the tests submit; a module, so that jobs can import it."""

from __future__ import annotations

import os
import sys
import time

import submitit


def product(x: int, y: int) -> int:
    """Say something on both streams, and fail for 13."""
    print(f"out {x}")
    print(f"err {x}", file=sys.stderr)
    if x == 13:
        raise ValueError("thirteen")
    return x * y


def where() -> tuple[str, int, int, int, int, list[str]]:
    """What the environment of a job says: id, rank, tasks, local rank, nodes, host names."""
    here = submitit.JobEnvironment()
    print(f"this is rank {here.global_rank}", flush=True)
    return here.job_id, here.global_rank, here.num_tasks, here.local_rank, here.num_nodes, list(here.hostnames)


def nested(folder: str) -> int:
    """The rank in a job that this job submits."""
    inner: int = submitit.AutoExecutor(folder, cluster="hpcrun").submit(where).result()[1]
    return inner


def only_rank(failing: int) -> int:
    """Fail on one rank, and wait for ever on the others."""
    rank = submitit.JobEnvironment().global_rank
    if rank == failing:
        raise ValueError(f"rank {rank} of all")
    return stay()


def stay() -> int:
    """Wait for ever."""
    while True:
        time.sleep(0.05)


def variable(name: str) -> str | None:
    """The value of an environment variable."""
    return os.environ.get(name)


def fails_at_first() -> str | None:
    """Fail in the first attempt; the number of the second."""
    attempt = variable("HPCRUN_ATTEMPT")
    print(f"this is attempt {attempt}", flush=True)
    if attempt == "0":
        raise ValueError("once")
    return attempt


class Counting(submitit.helpers.Checkpointable):  # type: ignore[misc]
    """Counts in every start; once it has been stopped as often as that is wanted, it returns."""

    def __init__(self, stops: int) -> None:
        self.stops, self.seen = stops, [] if stops else [-1]

    def __call__(self) -> list[int]:
        """The numbers of the attempts that have ended before."""
        if len(self.seen) >= self.stops:
            return self.seen
        return [stay()]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Note this attempt's number."""
        self.seen = [*self.seen, int(os.environ["HPCRUN_ATTEMPT"])]
        return submitit.helpers.DelayedSubmission(self)


def waits_in_the_second_attempt(path: str) -> str | None:
    """Fail in the first attempt; in the second, wait for the file `path`."""
    attempt = variable("HPCRUN_ATTEMPT")
    if attempt == "0":
        raise ValueError("once")
    while not os.path.exists(path):
        time.sleep(0.02)
    return attempt
