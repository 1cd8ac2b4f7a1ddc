"""retry by hand: the same run goes on with some of its shards, as their next attempts."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hpcrun import admission, events, script, sender
from hpcrun.config import Config
from hpcrun.errors import UsageError
from hpcrun.indexes import fold_indexes, parse_indexes
from hpcrun.plan import Batch, Plan
from hpcrun.quotas import Where
from hpcrun.sending import send
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus
from hpcrun.whole import write_whole

if TYPE_CHECKING:
    from hpcrun.run import Run


def retry(run: Run, asked: str | Iterable[int], config: Config) -> tuple[int, ...]:
    """Try shards of `run` again that have ended without success; their indices.

    `asked` is ``failed`` (all of them), an index set such as ``3,17,40-44``, or indices. They start with budgets of
    their own, in a new round of the run. Raises UsageError where a shard has succeeded, has not ended, or is not there,
    and where nothing failed; ClusterUnavailable and SubmissionRefused as `submit` does.
    """
    _check_supervised(run)
    status = run.status()
    chosen = _chosen(run, status, asked)
    _check_time(run.plan, status)
    _check_stopped(run, status)
    tasks = {batch.index: _tasks(batch, chosen) for batch in run.plan.batches}
    _check_elements(status, run.plan, tasks)
    _check_limits(run, config, sum(map(len, tasks.values())))
    batches = [batch for batch in run.plan.batches if tasks[batch.index]]
    in_round = _next_round(run)
    write_whole(run.dir.round(in_round), fold_indexes(chosen))
    for shard in chosen:
        _forget(os.path.join(run.dir.failed, str(shard)))
    if os.path.exists(run.dir.cancelled):
        os.rename(run.dir.cancelled, f"{run.dir.cancelled}.{in_round}")
    if run.plan.cluster == "slurm":
        text, called = script.template(config.templates, script.template_of(run.plan))
        for batch in batches:
            only = tasks[batch.index] if batch.array else None
            rendered = script.render(run.plan, run.dir, batch, text, called, in_round=in_round, tasks=only)
            write_whole(run.dir.script(batch.index, in_round), rendered)
    send(run.dir, run.cluster, run.plan, batches, in_round=in_round, tasks=tasks, chosen=chosen)
    return chosen


def _check_supervised(run: Run) -> None:
    given = run.plan.batch_script
    if given is not None and not given.supervised:
        raise UsageError(
            f"run {run.id} is Slurm's alone, as sbatch was told of nothing else; submit it again, with "
            f"`hpcrun sbatch --retries 1 {given.name}` (or --array=3,17 for some elements of its array)"
        )


def _chosen(run: Run, status: RunStatus, asked: str | Iterable[int]) -> tuple[int, ...]:
    ended = [shard.index for shard in status.unsuccessful()]
    if asked == "failed":
        if not ended:
            waits = "" if status.done else "; it still goes on"
            raise UsageError(f"run {run.id} has no shard that has failed{waits}")
        return tuple(range(run.plan.shards)) if run.plan.gang else tuple(ended)
    given = _given(asked)
    for shard in given:
        if not 0 <= shard < run.plan.shards:
            raise UsageError(f"found shard {shard}, wanted 0 to {run.plan.shards - 1}")
        state = status.shards[shard].state
        if state == "succeeded":
            raise UsageError(
                f"shard {shard} of run {run.id} has succeeded; wanted shards that have not, such as `failed`. "
                "To do it once more, submit a new run"
            )
        if state not in TERMINAL:
            raise UsageError(f"shard {shard} of run {run.id} is {state}; wanted shards that have ended")
    if run.plan.gang and len(given) < run.plan.shards:
        raise UsageError(f"found {fold_indexes(given)} of a gang, which is tried again whole; wanted `failed`")
    return tuple(given)


def _given(asked: str | Iterable[int]) -> list[int]:
    try:
        return list(parse_indexes(asked)) if isinstance(asked, str) else sorted({operator.index(one) for one in asked})
    except TypeError:
        raise UsageError(
            f"found {asked!r}, wanted the shards to try again: 'failed', an index set such as '3,17', or [3, 17]"
        ) from None


def _check_time(plan: Plan, status: RunStatus) -> None:
    if plan.deadline is not None and status.asked >= plan.deadline:
        raise UsageError(
            f"the time of run {plan.run_id} is up: its run_timeout was {plan.deadline - plan.created:g} s; "
            "submit a new run"
        )


def _check_stopped(run: Run, status: RunStatus) -> None:
    """Raises UsageError where what is to be tried again would be stopped by what has stopped the run."""
    if status.done:
        return
    if run.plan.cluster == "local":
        raise UsageError(f"run {run.id} still goes on on this machine; wait for its end (hpcrun wait {run.id})")
    if events.stopped(run.dir) is not None:
        raise UsageError(f"run {run.id} is being stopped; wait for its end (hpcrun wait {run.id})")


def _tasks(batch: Batch, chosen: Sequence[int]) -> tuple[int, ...]:
    """The elements of `batch` that have chosen shards; of a job that is no array, the one that it is."""
    mine = [shard for shard in chosen if batch.first <= shard < batch.first + batch.count]
    return tuple(sorted({batch.task_of(shard) if batch.array else 0 for shard in mine}))


def _check_elements(status: RunStatus, plan: Plan, tasks: Mapping[int, Sequence[int]]) -> None:
    """Raises UsageError where an element that has chosen shards still goes on with others."""
    for batch in plan.batches if not plan.gang else ():
        for shard in (shard for task in tasks[batch.index] for shard in batch.shards_of(task)):
            state = status.shards[shard].state
            if state not in TERMINAL:
                raise UsageError(
                    f"shard {shard} of run {plan.run_id}, in the same element of the array, is {state}; wait for its "
                    f"end (hpcrun wait {plan.run_id})"
                )


def _check_limits(run: Run, config: Config, jobs: int) -> None:
    """Raises UsageError where limits forbid `jobs` of the run's: those that hold now may be stricter than they were."""
    components = run.plan.components
    own = run.plan.cluster == "slurm" and run.plan.batch_script is None
    if not own or not config.check_limits or "clusters" in dict(components[0]):
        return
    wheres = [Where(*(dict(one).get(name) or "" for name in ("partition", "account", "qos"))) for one in components]
    places = run.cluster.limits(wheres).places
    for _, verdict in admission.verdicts(components, places, jobs, min(jobs, run.plan.max_parallel or jobs)):
        for problem in verdict.problems:
            raise UsageError(
                f"cannot try {run.id} again as it was submitted: found {problem.found}; wanted {problem.wanted}"
            )


def _next_round(run: Run) -> int:
    """The number of a round that nobody else has begun.

    One that somebody had begun who was killed before anything of it was submitted is passed over.
    """
    number = run.round() + 1
    while not sender.claim(run.dir, run.dir.round_claim(number)):
        number += 1
    return number


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
