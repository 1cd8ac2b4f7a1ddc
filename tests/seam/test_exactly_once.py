"""A submission that is interrupted anywhere leaves one job for each batch or none, and a reader finds out which."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from waiting import until

from hpcrun import config, events, reconcile, rerun, runtime, sender, sending, submission
from hpcrun.cluster import Limits
from hpcrun.errors import ClusterUnavailable, SubmissionRefused, UsageError
from hpcrun.indexes import parse_indexes
from hpcrun.local import Local
from hpcrun.quotas import TIME, Limit, Place
from hpcrun.run import Run, all_paths
from hpcrun.rundir import RunDir
from hpcrun.slurm import Completed, Slurm
from hpcrun.spec import raw

TIMED_OUT = Completed(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
DOWN = Completed(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")


class Books:
    """What stands for Slurm's commands: jobs are files in a folder, so they outlive whoever submitted them.

    `sbatch` and `squeue` are lists of what happens at the next calls, one word each; after that all goes well.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.step: Callable[[], None] = lambda: None
        self.sbatch: list[str] = []
        self.squeue: list[str] = []

    def __call__(self, argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
        return {"sbatch": self._sbatch, "squeue": self._squeue, "scancel": self._scancel}[argv[0]](argv)

    def _sbatch(self, argv: Sequence[str]) -> Completed:
        what = self.sbatch.pop(0) if self.sbatch else "taken"
        self.step()
        if what == "refused":
            return Completed(1, "", "sbatch: error: Batch job submission failed: Invalid account")
        if what == "lost":
            return TIMED_OUT
        job = str(100 + len(self.jobs()))
        (self.folder / job).write_text(argv[-1])
        self.step()
        return TIMED_OUT if what == "no answer" else Completed(0, f"{job}\n", "")

    def _squeue(self, argv: Sequence[str]) -> Completed:
        if (self.squeue.pop(0) if self.squeue else "answers") == "down":
            return DOWN
        rows = [f"{job}_[{self.elements(job)}]|PENDING||None|(null)|{script}\n" for job, script in self.jobs().items()]
        return Completed(0, "".join(rows), "")

    def _scancel(self, argv: Sequence[str]) -> Completed:
        for job in argv[1:]:
            (self.folder / job).unlink()
        return Completed(0, "", "")

    def jobs(self) -> dict[str, str]:
        """The script of every job there is."""
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir())}

    def elements(self, job: str) -> str:
        found = re.search(r"--array=\"?([\d,-]+)", Path(self.jobs()[job]).read_text())
        assert found
        return found[1]


class Cluster(Slurm):
    """The client of Slurm itself, above the fake commands, on a cluster where ten elements are an array."""

    def limits(self, *_: Any, **__: Any) -> Limits:
        return Limits(max_array=10, accounting=False)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "jobs")


@pytest.fixture
def cluster(books: Books, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster that submissions get, and clocks by which nothing has to be waited for."""
    found = Cluster({}, books)
    monkeypatch.setattr(submission, "connect", lambda *_, **__: found)
    monkeypatch.setattr(reconcile, "ARRIVES", 0.0)
    monkeypatch.setattr(sending, "_PAUSE_FIRST", 0.001)
    return found


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """Settings; what is the same in all run folders is there already, as it is after the first run of a home."""
    found = config.load(os.environ, "/")
    sources = {name: runtime._source(name) for name in runtime.NODE_MODULES}
    built = runtime._cached(sources, sys.executable, os.path.join(found.home, "cache"))
    monkeypatch.setattr(runtime, "_cached", lambda *_: built)
    return found


def prepared(settings: config.Config, cluster: str = "slurm", shards: int = 25) -> submission.Prepared:
    return submission.prepare(raw({"command": ["true"], "shards": shards}), settings, cluster, typed=True)


def steps_of_this_process(step: Callable[[], None]) -> None:
    """Call `step` before everything that this process changes on disk, and in the middle of each line it writes."""
    changes = {
        "os.mkdir",
        "os.rename",
        "os.link",
        "os.remove",
        "os.rmdir",
        "os.truncate",
        "subprocess.Popen",
        "os.exec",
    }
    write = os.write

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in changes or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
            step()

    def in_two(descriptor: int, text: bytes) -> int:
        step()
        write(descriptor, text[: len(text) // 2])
        step()
        return len(text) // 2 + write(descriptor, text[len(text) // 2 :])

    os.write = in_two
    sys.addaudithook(hook)


def killed_at(step: int, what: Callable[[Callable[[], None]], object]) -> bool:
    """Do `what` in a process that is killed at its step number `step`; whether it was, before it was through."""
    process = os.fork()
    if process == 0:
        _until_killed(step, what)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL), "neither done nor killed"
    return code != 0


def _until_killed(step: int, what: Callable[[Callable[[], None]], object]) -> NoReturn:
    left = step

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    try:
        what(count)
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def known(run: Run) -> list[str]:
    """For each of the three batches the job that status names, or that it was never submitted."""
    shards = run.status().shards
    words = [{shard.job.partition("_")[0] or shard.detail[:15] for shard in part} for part in (
        shards[:10], shards[10:20], shards[20:]
    )]  # fmt: skip
    assert all(len(word) == 1 for word in words), "a batch is submitted as a whole"
    return [word.pop() for word in words]


def batches_of(books: Books) -> list[str]:
    """For each of the three batches the job that there is, or the word of the status that there was never one."""
    jobs: dict[str, list[str]] = {}
    for job, script in books.jobs().items():
        jobs.setdefault(os.path.basename(script), []).append(job)
    assert all(len(found) == 1 for found in jobs.values()), "a batch has one job at most"
    return [jobs.get(f"{batch}.sh", ["never submitted"])[0] for batch in range(3)]


def test_killed_at_every_step(books: Books, cluster: Cluster, settings: config.Config, tmp_path: Path) -> None:
    """Whatever has come about, status says of each batch what became of it, and a retry submits what is missing."""
    outcomes, step = set(), 0
    while True:
        here, fresh = another_home(settings, tmp_path, step), Books(tmp_path / f"jobs{step}")
        cluster._run = fresh
        decided = prepared(here)

        def what(count: Callable[[], None], books: Books = fresh, decided: submission.Prepared = decided) -> None:
            books.step = count
            steps_of_this_process(count)
            submission.carry_out(decided)

        if not killed_at(step, what):
            break
        outcomes.add(tuple(judged(here, fresh, cluster)))
        step += 1
    never = "never submitted"
    assert outcomes == {
        (), (never, never, never), ("100", never, never), ("100", "101", never), ("100", "101", "102"),
    }  # fmt: skip
    assert step > 40


def another_home(settings: config.Config, folder: Path, number: int) -> config.Config:
    """Settings with a home of its own."""
    return settings.model_copy(update={"home": str(folder / f"home{number}")})


def judged(settings: config.Config, books: Books, cluster: Cluster) -> list[str]:
    """Judge what a killed submission has left; for each batch what it had come to."""
    paths = all_paths(settings.home)
    if not paths:
        assert books.jobs() == {}
        return []
    run = Run(paths[0], cluster)
    came_to = batches_of(books)
    assert known(run) == came_to
    missing = [shard.index for shard in run.status().shards if not shard.job]
    assert parse_indexes(run.status().folded("failed")) == missing
    if missing:
        assert rerun.retry(run, "failed", settings) == tuple(missing)
        assert covered(books) == list(range(25)), "each shard has one job now"
        assert run.status().folded("pending") == "0-24"
    assert run.cancel().state == "cancelled"
    assert books.jobs() == {}
    return came_to


def covered(books: Books) -> list[int]:
    """The shards of all jobs that may run: those of them that nobody has shut out."""
    found = []
    for job, script in books.jobs().items():
        batch, _, in_round = os.path.basename(script).removesuffix(".sh").partition(".")
        claim = RunDir(os.path.dirname(os.path.dirname(script))).claim(int(batch), int(in_round or 0))
        if not os.path.exists(claim):
            found += [10 * int(batch) + task for task in parse_indexes(books.elements(job))]
    return sorted(found)


def test_a_retry_killed_at_every_step(
    books: Books, cluster: Cluster, settings: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is submitted by the next one, and nothing is submitted twice."""
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    step = 0
    while True:
        here, fresh = another_home(settings, tmp_path, step), Books(tmp_path / f"jobs{step}")
        cluster._run = fresh
        fresh.sbatch = ["taken", "lost"]
        fresh.squeue = ["down"] * 100
        with pytest.raises(ClusterUnavailable):
            submission.carry_out(prepared(here))
        fresh.squeue = []
        run = Run(all_paths(here.home)[0], cluster)

        def what(count: Callable[[], None], books: Books = fresh, run: Run = run) -> None:
            books.step = count
            steps_of_this_process(count)
            rerun.retry(run, "failed", settings)

        if not killed_at(step, what):
            break
        if run.status().folded("failed"):
            rerun.retry(run, "failed", here)
        assert covered(fresh) == list(range(25))
        assert run.status().folded("pending") == "0-24"
        step += 1
    assert step > 10


@pytest.mark.parametrize("others", [["answers"], ["down", "down", "answers"]])
def test_an_answer_that_is_lost(books: Books, cluster: Cluster, settings: config.Config, others: list[str]) -> None:
    """Slurm took the second of three, and said nothing: it is found in the queue, and the rest is submitted."""
    books.sbatch, books.squeue = ["taken", "no answer"], others
    run = submission.carry_out(prepared(settings))
    assert batches_of(books) == known(run) == ["100", "101", "102"]


def test_a_call_that_is_lost(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """Slurm says afterwards that it has no such job: only then it is submitted again."""
    books.sbatch, books.squeue = ["taken", "lost", "lost"], ["down", "answers", "down", "answers"]
    run = submission.carry_out(prepared(settings))
    assert batches_of(books) == known(run) == ["100", "101", "102"]


def test_an_sbatch_that_still_runs_is_waited_for(
    books: Books, cluster: Cluster, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper of sbatch that hpcrun could not end may still get through: nothing is called a second time then."""
    running = iter([True, True, False])
    monkeypatch.setattr(sender, "calls", lambda _: next(running, False))
    books.sbatch = ["lost"]
    run = submission.carry_out(prepared(settings))
    assert next(running, "asked until it was gone") == "asked until it was gone"
    assert known(run) == ["100", "101", "102"]


def test_slurm_stays_away(
    books: Books, cluster: Cluster, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is known and what to do; when Slurm is back, status tells what became of it."""
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    books.sbatch, books.squeue = ["taken", "no answer"], ["down"] * 100
    with pytest.raises(ClusterUnavailable) as caught:
        submission.carry_out(prepared(settings))
    (path,) = all_paths(settings.home)
    run = Run(path, cluster)
    said = str(caught.value)
    assert "Socket timed out" in said
    assert f"run {run.id}: whether the next of its 3 batches was submitted is not known" in said
    assert "; submitted: job 100; not submitted: the last batch\n" in said
    for command in ("status", "retry", "cancel"):
        assert f"`hpcrun {command} {run.id}`" in said
    status = run.status()
    assert "could not be asked" in status.notes[0]
    assert not status.done
    books.squeue = []
    assert known(run) == ["100", "101", "never submitted"]
    assert rerun.retry(run, "failed", settings) == tuple(range(20, 25))
    assert run.status().folded("pending") == "0-24"


def test_tried_again_after_a_lost_answer(
    books: Books, cluster: Cluster, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of which nobody had written down the number has run, and failed: that is like any other failure."""
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    books.sbatch, books.squeue = ["no answer"], ["down"] * 100
    with pytest.raises(ClusterUnavailable):
        submission.carry_out(prepared(settings, shards=2))
    run = Run(all_paths(settings.home)[0], cluster)
    books.squeue = []
    events.claim(run.dir.claim(0), "100")
    for shard, cause in enumerate((None, "failed")):
        start = {"at": 1.0, "shard": shard, "attempt": 0, "node": "c1", "job": "100", "task": shard}
        events.add(run.dir.record(shard, 0), "start", start)
        events.add(run.dir.record(shard, 0), "end", {"at": 2.0, "exit_code": 1, "signal": 0, "cause": cause})
    books._scancel(["scancel", "100"])  # long ended
    assert run.status().folded("failed") == "1"
    assert rerun.retry(run, "failed", settings) == (1,)
    assert covered(books) == [1]


def test_limits_hold_for_a_retry(
    books: Books, cluster: Cluster, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a limit forbids by now is said, and neither submitted nor begun."""
    submission.carry_out(prepared(settings.model_copy(update={"defaults": {"timeout": "1h"}}), shards=1))
    run = Run(all_paths(settings.home)[0], cluster)
    start = {"at": 1.0, "shard": 0, "attempt": 0, "node": "c1", "job": "100", "task": 0}
    events.add(run.dir.record(0, 0), "start", start)
    events.add(run.dir.record(0, 0), "end", {"at": 2.0, "exit_code": 1, "signal": 0, "cause": "failed"})
    books._scancel(["scancel", "100"])
    strict = Place("main", limits=(Limit("job", TIME, 1800.0, "partition main", "MaxTime"),))
    monkeypatch.setattr(cluster, "limits", lambda *_, **__: Limits(1001, True, places=((strict,),)))
    wanted = "wanted 30m at most, or another partition"
    said = f"found a time limit of 1h2m, and partition main allows 30m (MaxTime); {wanted}"
    with pytest.raises(UsageError) as caught:
        rerun.retry(run, "failed", settings)
    assert str(caught.value) == f"cannot try {run.id} again as it was submitted: {said}"
    assert (run.round(), os.path.exists(run.dir.round(1)), len(run.jobs)) == (0, False, 1)


def test_refused_in_the_middle(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """What was submitted is taken back, also where its answer had been lost."""
    books.sbatch = ["no answer", "taken", "refused"]
    with pytest.raises(SubmissionRefused, match="Invalid account"):
        submission.carry_out(prepared(settings))
    assert books.jobs() == {}


def test_two_jobs_of_one_script(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """The one that has begun is the batch's, whichever id was written down; a cancel ends both."""
    run = submission.carry_out(prepared(settings, shards=3))
    (books.folder / "90").write_text(run.dir.script(0))
    assert run.status().jobs == ("100",), "none has begun"
    events.claim(run.dir.claim(0), "90")
    assert run.status().jobs == ("90",)
    assert {shard.job for shard in run.status().shards} == {"90_0", "90_1", "90_2"}
    run.cancel()
    assert books.jobs() == {}


def test_cancelled_while_it_is_submitted(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """Nothing more is submitted, and what was just being submitted is ended."""
    decided = prepared(settings)

    def stop() -> None:
        if len(books.jobs()) == 1:
            events.stop(decided.dir, "user")

    books.step = stop
    run = submission.carry_out(decided)
    assert run.status().state == "cancelled"
    assert books.jobs() == {}
    assert run.status().counts() == {"cancelled": 25}


def test_only_one_submits(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """A retry waits for a submission that is still under way; what is under way is pending."""
    run = submission.carry_out(prepared(settings))
    with subprocess.Popen(["sleep", "1000"]) as other:
        began = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19])
        theirs = sender.Sender(os.uname().nodename, other.pid, began)
        Path(run.dir.submission).write_text("")
        events.add(run.dir.submission, "sending", {"at": 1.0, **sender.facts(theirs)})
        books._scancel(["scancel", *books.jobs()])
        shards = run.status().shards
        assert {(shard.state, shard.detail) for shard in shards} == {("pending", f"{theirs} is submitting it")}
        with pytest.raises(UsageError, match="submitting run"):
            sending.send(run.dir, cluster, run.plan, run.plan.batches)
        other.kill()
    assert run.status().folded("failed") == "0-24"


def test_a_line_cut_short_harms_no_other(books: Books, cluster: Cluster, settings: config.Config) -> None:
    """A submission that died within a line of its record is continued on a line of its own."""
    run = submission.carry_out(prepared(settings))
    text = Path(run.dir.submission).read_text()
    Path(run.dir.submission).write_text(text[: text.rindex('"submitted"') + 8])
    assert sending.send(run.dir, cluster, run.plan, run.plan.batches[2:]) == {0: "100", 1: "101", 2: "103"}
    assert [event["event"] for event in events.read(run.dir.submission)][-4:] == [
        "sending", "intent", "submitted", "left",
    ]  # fmt: skip


def test_a_local_run_killed_at_every_step(settings: config.Config, tmp_path: Path) -> None:
    """Its supervisor is there or not; where it is, every shard runs once, and where not, status says so."""
    outcomes, step = set(), 0
    while True:
        here = another_home(settings, tmp_path, step)
        decided = submission.prepare(
            raw({"command": ["sh", "-c", 'echo x >> "$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"'], "shards": 2}),
            here, "local", typed=True,
        )  # fmt: skip

        def what(count: Callable[[], None], decided: submission.Prepared = decided) -> None:
            steps_of_this_process(count)
            submission.carry_out(decided)

        if not killed_at(step, what):
            break
        outcomes.add(judged_local(here, again="failed" not in outcomes))
        step += 1
    assert outcomes == {"no run", "failed", "succeeded"}


def judged_local(settings: config.Config, *, again: bool) -> str:
    """Judge what a killed submission has left, and try it `again`; what it had come to."""
    paths = all_paths(settings.home)
    if not paths:
        return "no run"
    run = Run(paths[0], Local(os.environ))
    until(lambda: run.status().done, what="the run's end")
    status = run.status()
    written = [path.read_text() for path in sorted(Path(run.dir.results).iterdir())]
    assert written == (["x\n", "x\n"] if status.state == "succeeded" else [])
    if status.state == "failed":
        assert all(shard.detail.startswith("never submitted") for shard in status.shards)
        if again:
            rerun.retry(run, "failed", settings)
            until(lambda: run.status().state == "succeeded", what="its success")
    return status.state
