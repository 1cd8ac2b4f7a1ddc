"""What is told of tasks and of sweeps: by the record, and by the commands that show it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.tasked import Folder, line, replicas, sweep, task, workflow

from hpcrun import events
from hpcrun.cli import main
from hpcrun.errors import UsageError
from hpcrun.run import Run
from hpcrun.tasks import TaskStatus, fold, named

BENCH = workflow(
    task("server", service=True),
    *replicas("bench", [16, 32], "server", chain=True, retries=2),
    task("report", "bench_32"),
)


def told(*lines: dict[str, Any], over: bool = False) -> dict[str, TaskStatus]:
    """The tasks of BENCH by this record."""
    return {one.name: one for one in fold(BENCH, lines, over=over)}


def hpcrun(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(words), prog_name="hpcrun")
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder of a run of BENCH that is pending."""
    return Folder(BENCH, monkeypatch)


def test_before_anything_is_written() -> None:
    """All tasks are pending, in the order of the plan; where it has ended all the same they were cancelled."""
    assert [(name, one.state, one.tries) for name, one in told().items()] == [
        ("server", "pending", 0), ("bench_16", "pending", 0), ("bench_32", "pending", 0), ("report", "pending", 0)
    ]  # fmt: skip
    assert {one.state for one in told(over=True).values()} == {"cancelled"}


def test_a_later_line_replaces_the_state() -> None:
    """What a probe has tried is gone once the task is ready; when it started, and where, stays."""
    begun = [line("server", "starting", 10.0), line("server", "running", 11.0, node="c1", probe="tcp 8000: refused")]
    assert told(*begun)["server"].probe == "tcp 8000: refused"
    server = told(*begun, line("server", "ready", 12.5))["server"]
    assert (server.state, server.probe, server.node) == ("ready", "", "c1")
    assert (server.started, server.ready, server.ended) == (10.0, 12.5, None)


def test_between_two_tries() -> None:
    """A task that waits for its next try says how the last one ended and when that is due; then it begins afresh."""
    failed = [
        line("bench_16", "starting"),
        line("bench_16", "running", node="c1"),
        line("bench_16", "pending", 12.0, exit_code=3, signal=0, detail="failed with exit code 3", due=17.0),
    ]
    one = told(*failed)["bench_16"]
    assert (one.state, one.tries, one.exit_code, one.due) == ("pending", 1, 3, 17.0)
    again = told(*failed, line("bench_16", "starting", 17.0))["bench_16"]
    assert (again.state, again.tries, again.exit_code, again.due) == ("starting", 2, None, None)
    assert (again.started, again.ended, again.detail) == (17.0, None, "")


def test_signals_are_no_exit_codes() -> None:
    """Of a task that was killed the signal is told, and no code."""
    one = told(line("server", "starting"), line("server", "failed", exit_code=-1, signal=9))["server"]
    assert (one.state, one.exit_code, one.signal) == ("failed", None, 9)


def test_what_nobody_wrote_an_end_of_was_cancelled() -> None:
    """Where the supervisor is gone a ready service has not succeeded; ends that were written hold."""
    ready = [line("server", "starting"), line("server", "ready"), line("bench_16", "succeeded", exit_code=0)]
    found = told(*ready, over=True)
    assert (found["server"].state, found["bench_16"].state, found["report"].state) == (
        "cancelled", "succeeded", "cancelled",
    )  # fmt: skip


def test_lines_of_others_are_passed_over() -> None:
    """A task that the plan does not have, a state of tomorrow and another event change nothing."""
    assert told(line("x", "failed"), line("server", "paused"), {"event": "start", "at": 1.0, "task": 3}) == told()


def test_names() -> None:
    """A replica's own name is it alone, a task's all of its replicas; what is unknown gets a suggestion."""
    assert named(BENCH, ["bench", "server", "bench_16"]) == [1, 2, 0]
    assert named(sweep("16", "32"), ["train_32"]) == [1]
    assert named(sweep("16", "32"), ["train"]) == [0, 1]
    with pytest.raises(UsageError, match=r"found the task 'bench_64', .* Did you mean 'bench_16'\?"):
        named(BENCH, ["bench_64"])
    with pytest.raises(UsageError, match="Wanted one of: server, bench, report, bench_16, bench_32"):
        named(BENCH, ["x"])


def test_status_while_it_runs(folder: Folder) -> None:
    """One row a task: what runs, what its probe has tried, and what each of the others waits for."""
    folder.begin()
    folder.tasks(line("server", "starting"), line("server", "running", node="c1", probe="tcp 8000: connection refused"))
    said = hpcrun("status", "abc").stdout
    rows = {row.split()[0]: row.split() for row in said.splitlines() if row}
    assert rows["server"][1:4] == ["running", "c1", "1"]
    assert rows["server"][-4:] == ["tcp", "8000:", "connection", "refused"]
    assert rows["bench_16"][1:] == ["pending", "after", "server"]
    assert "SHARD" not in said


def test_status_as_json(folder: Folder) -> None:
    """Every task with all that is known of it; a run without tasks has an empty list."""
    folder.begin()
    folder.tasks(line("bench_16", "starting"), line("bench_16", "succeeded", 12.0, exit_code=0, node="c1"))
    tasks = {one["name"]: one for one in json.loads(hpcrun("status", "abc", "--json").stdout)["tasks"]}
    assert list(tasks) == ["server", "bench_16", "bench_32", "report"]
    assert tasks["bench_16"]["variables"] == {"CONCURRENCY": "16"}
    assert (tasks["bench_16"]["of"], tasks["bench_16"]["state"], tasks["bench_16"]["exit_code"]) == (
        "bench", "succeeded", 0,
    )  # fmt: skip


def test_a_workflow_that_fails(folder: Folder) -> None:
    """It ends with 1, whatever the task's code; the report ends with what the first failed task said last."""
    folder.begin()
    folder.tasks(
        line("server", "starting"), line("server", "ready"), line("bench_16", "starting"),
        line("bench_16", "failed", 20.0, exit_code=7, signal=0, detail="failed with exit code 7"),
        line("server", "succeeded", 21.0, detail="ended with the workflow"),
        line("bench_32", "cancelled", 21.0, detail="it needs bench_16, which has not succeeded"),
        line("report", "cancelled", 21.0, detail="it needs bench_32, which has not succeeded"),
    )  # fmt: skip
    log = folder.write("bench_16", "one\nno route to host\n")
    folder.end(exit_code=1, cause="failed", detail="task bench_16 failed with exit code 7")
    done = hpcrun("wait", "abc", code=1)
    assert done.stdout.endswith(f"task bench_16, last lines of {log}:\n  one\n  no route to host\n")
    assert [word for word in ("failed     1  bench_16", "cancelled  2  bench_32, report") if word in done.stdout]
    run = Run.open("abc")
    assert (run.status().exit_code(), [one.state for one in run.tasks()]) == (
        1, ["succeeded", "failed", "cancelled", "cancelled"],
    )  # fmt: skip


def test_what_never_started_says_why(folder: Folder) -> None:
    """Where no task began, the report has what Slurm wrote of the launch."""
    folder.cluster.set("100", "FAILED")
    with open(folder.dir.slurm_output("100", None), "w", encoding="utf-8") as file:
        file.write("python3: not found\n")
    said = hpcrun("status", "abc").stdout
    assert "  workflow: it ended before its program started\n" in said
    assert said.endswith("workflow, last lines of what Slurm wrote:\n  python3: not found\n")


def test_the_last_attempt_counts(folder: Folder) -> None:
    """What the tasks of an attempt that was lost had come to is history once the next one has begun."""
    folder.begin()
    folder.tasks(line("server", "starting"), line("server", "ready"), line("bench_16", "starting"))
    folder.write("bench_16", "of the first\n")
    folder.end(exit_code=-1, signal=15, cause="node_failed")
    folder.begin(attempt=1)
    folder.tasks(line("server", "starting"), attempt=1)
    folder.write("bench_16", "of the second\n", attempt=1)
    said = hpcrun("status", "abc").stdout
    assert "  workflow: attempt 1\n" in said
    assert "  pending   3  bench_16, bench_32, report\n  starting  1  server\n" in said
    assert hpcrun("logs", "abc", "--task", "bench_16").stdout == "of the second\n"
    assert hpcrun("logs", "abc", "--task", "bench_16", "--attempt", "0").stdout == "of the first\n"
    assert hpcrun("logs", "abc", "--attempt", "2", code=2).stderr.startswith("hpcrun: error: found attempt 2")


def test_followed_without_a_terminal(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look says in one line what the tasks have come to since the last one, and the first is no exception."""
    folder.begin()
    folder.tasks(line("server", "starting"), line("server", "running", node="c1"))
    real = Run._glance

    def glance(self: Run, seen: Any) -> Any:
        """While somebody follows, the rest happens."""
        if len(events.read(folder.dir.tasks(0))) == 2:
            folder.tasks(
                line("server", "ready"), line("bench_16", "starting"), line("bench_32", "starting"),
                line("bench_16", "running"), line("bench_32", "running"),
            )  # fmt: skip
        else:
            folder.tasks(
                *(line(name, "succeeded", exit_code=0) for name in ("server", "bench_16", "report")),
                line("bench_32", "failed", exit_code=2, detail="failed with exit code 2"),
            )
            folder.end(exit_code=1, cause="failed")
        return real(self, seen)

    monkeypatch.setattr(Run, "_glance", glance)
    said = [text.split("  ", 1)[-1] for text in hpcrun("wait", "abc", code=1).stderr.splitlines()]
    assert said == [
        "server running", "server ready", "bench_16, bench_32 running", "server, bench_16, report succeeded",
        "bench_32 failed with exit code 2",
    ]  # fmt: skip


def test_logs_of_all_tasks(folder: Folder) -> None:
    """Each line has the name of its task, in the order of the plan; one task alone is printed as it is."""
    folder.begin()
    folder.write("server", "up\n")
    folder.write("bench_16", "a\nb\n")
    folder.write("bench_32", "c\n")
    assert hpcrun("logs", "abc").stdout == "[server] up\n[bench_16] a\n[bench_16] b\n[bench_32] c\n"
    assert hpcrun("logs", "abc", "--task", "bench", "--tail", "1").stdout == "[bench_16] b\n[bench_32] c\n"
    assert hpcrun("logs", "abc", "-t", "bench_32,server").stdout == "[bench_32] c\n[server] up\n"
    assert hpcrun("logs", "abc", "-t", "bench_16").stdout == "a\nb\n"
    assert hpcrun("logs", "abc", "-t", "bench_16", "--path").stdout == folder.dir.task_log(0, "bench_16") + "\n"
    assert Run.open("abc").logs(task="bench") == "a\nb\nc\n"
    assert Run.open("abc").log_paths(task="report") == [folder.dir.task_log(0, "report")]


def test_logs_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of a task on two nodes has a log, and its rank before its lines."""
    folder = Folder(workflow(task("train", nodes=(0, 1))), monkeypatch)
    folder.write("train", "zero\n")
    folder.write("train", "one\n", rank=1)
    assert hpcrun("logs", "abc").stdout == "[train 0] zero\n[train 1] one\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "bench_61"], "found the task 'bench_61', which run abc does not have. Did you mean 'bench_16'?"),
        (["--shard", "0"], "found --shard, --role or --replica for tasks, wanted --task alone: those of run abc have"),
    ],
)
def test_logs_of_what_is_not_there(folder: Folder, words: list[str], message: str) -> None:
    """It is said what there is."""
    assert message in hpcrun("logs", "abc", *words, code=2).stderr


def test_results_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each value, with what became of it; for scripts the same as JSON, and the folder by itself."""
    folder = Folder(sweep("0.1", "1"), monkeypatch)
    folder.begin(0)
    folder.end(0)
    folder.begin(1)
    folder.end(1, exit_code=5, cause="failed")
    assert hpcrun("results", "abc").stdout == (
        "TASK       BATCH_SIZE  STATUS     EXIT  ATTEMPTS\n"
        "train_0_1  0.1         succeeded  0     1\n"
        "train_1    1           failed     5     1\n"
    )
    (table,) = json.loads(hpcrun("results", "abc", "--json").stdout)["sweeps"]
    assert (table["task"], table["variables"]) == ("train", ["BATCH_SIZE"])
    assert table["points"][1] == {
        "name": "train_1", "variables": {"BATCH_SIZE": "1"}, "state": "failed", "exit_code": 5, "signal": 0,
        "attempts": 1,
    }  # fmt: skip
    assert hpcrun("results", "abc", "--path").stdout == folder.dir.results + "\n"
    assert hpcrun("logs", "abc", "--task", "train_1", "--path").stdout == folder.dir.log(1, 0) + "\n"
    assert "1      train_1    failed" in hpcrun("status", "abc").stdout


def test_results_of_a_sweep_in_a_workflow(folder: Folder) -> None:
    """The replicas of a task, with their tries; tasks that nothing is swept over are not in it."""
    folder.begin()
    folder.tasks(line("bench_16", "starting"), line("bench_16", "succeeded", exit_code=0), line("bench_32", "starting"))
    assert hpcrun("results", "abc").stdout == (
        "TASK      CONCURRENCY  STATUS     EXIT  ATTEMPTS\n"
        "bench_16  16           succeeded  0     1\n"
        "bench_32  32           starting         1\n"
    )
