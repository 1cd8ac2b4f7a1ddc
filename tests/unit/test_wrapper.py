"""The plan and the scripts that `hpcrun sbatch` makes of somebody's own batch script."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit import made

from hpcrun import sbatch_line, script, wrapper
from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.errors import SpecError
from hpcrun.plan import Batch, Plan, from_json
from hpcrun.rundir import RunDir
from hpcrun.sbatch_options import WRAPPED
from hpcrun.sent import Sent, Submitted
from hpcrun.slurm import site_sbatch
from hpcrun.status import RunStatus, Seen, by_shard, fold

OWN = dict.fromkeys(WRAPPED, True)
HET = "#!/bin/bash\n#SBATCH --mem=10\n#SBATCH hetjob\n#SBATCH --mem=20\nsrun true\n"


def plan(*words: str, text: str = "#!/bin/bash\ntrue\n", environ: dict[str, str] | None = None) -> Plan:
    own, line = sbatch_line.parse(words, OWN)
    header = sbatch_line.header(text)
    given = sbatch_line.effective(line, environ or {}, header)
    asked = wrapper.asked(own)
    if asked is not None:
        wrapper.check(asked, given)
    return wrapper.plan_of(asked, given, made.ASKED, made.settings(), Limits(max_array=10, accounting=True), "/copy")


def rendered(found: Plan, batch: int = 0, tasks: list[int] | None = None) -> list[str]:
    """The directives of a script, as they stand there."""
    text, called = script.template(None, script.template_of(found))
    whole = script.render(found, RunDir("/runs/abc"), found.batches[batch], text, called, tasks=tasks)
    return [line for line in whole.splitlines() if line.startswith("#SBATCH")]


def test_the_scripts_own_lines_outrank_our_defaults() -> None:
    """sbatch heeds the later of two lines; ours stand first."""
    text = "#!/bin/bash -l\n#SBATCH --job-name=mine --mem=1G\n\n# a comment\n#SBATCH -o out-%j\necho\n#SBATCH --late\n"
    found = plan("--retries", "1", "job.sh", text=text)
    assert rendered(found) == [
        "#SBATCH --open-mode=append", "#SBATCH --requeue", "#SBATCH --job-name=mine --mem=1G", "#SBATCH -o out-%j",
    ]  # fmt: skip
    assert found.name == "mine"
    assert found.batches[0].words() == []


def test_variables_rank_between_the_script_and_the_command_line() -> None:
    """As sbatch's manual has it; a flag that a variable takes back is none."""
    environ = {"SBATCH_PARTITION": "of-environ", "SBATCH_EXCLUSIVE": "user", "SBATCH_REQUEUE": "no"}
    found = plan("--retries=1", "-p", "of-line", "--wait", "--parsable", "job.sh", environ=environ)
    words = found.batches[0].words()
    assert words.index("--partition=of-environ") < words.index("-p")
    assert "--exclusive=user" in words
    assert not {"--wait", "--parsable", "--requeue"} & set(words)


def test_words_of_several_lines() -> None:
    """No line of a script holds them: they stay on the command line, and the comment that shows it is one line."""
    found = plan("--retries=1", "--comment=a\nexit 1", "two\nlines.sh")
    assert found.batches[0].words() == ["--job-name=two\nlines.sh", "--comment=a\nexit 1"]
    text, called = script.template(None, script.template_of(found))
    lines = script.render(found, RunDir("/runs/abc"), found.batches[0], text, called).splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [lines[-1]]


def test_an_array_of_its_own_keeps_its_indices() -> None:
    """Its elements are the shards, in their order; a retry names those that it is about."""
    found = plan("--retries", "1", "--max-parallel", "3", "-a", "2-10:4,1%5", "job.sh")
    (batch,) = found.batches
    assert [batch.task_of(shard) for shard in range(found.shards)] == [1, 2, 6, 10]
    assert [list(batch.shards_of(task)) for task in (1, 6, 3)] == [[0], [2], []]
    assert batch.words() == ["--array=2-10:4,1%3"]
    assert batch.words([2, 10]) == ["--array=2,10%3"]
    assert from_json(found.to_json()) == found


def test_shards_of_a_script_are_arrays_that_slurm_takes() -> None:
    found = plan("--shards", "25", "job.sh")
    assert [(batch.first, batch.count, batch.array) for batch in found.batches] == [
        (0, 10, True),
        (10, 10, True),
        (20, 5, True),
    ]
    assert "#SBATCH --array=0-9" in rendered(found)


def test_shards_of_a_heterogeneous_script_are_jobs_of_their_own() -> None:
    """For Slurm has no arrays of heterogeneous jobs; our defaults are for the first component."""
    found = plan("--shards", "2", "--max-parallel", "1", "--mem=5", ":", "-n2", "job.sh", text=HET)
    assert [(batch.count, batch.array, batch.after) for batch in found.batches] == [(1, False, None), (1, False, 0)]
    assert found.batches[0].words() == ["--mem=5", ":", "-n2"]
    assert rendered(found) == [
        "#SBATCH --job-name=job.sh", "#SBATCH --open-mode=append", "#SBATCH --requeue", "#SBATCH --mem=10",
        "#SBATCH hetjob", "#SBATCH --mem=20",
    ]  # fmt: skip


def test_no_requeue_means_in_place() -> None:
    found = plan("--retries", "1", "--no-requeue", "job.sh")
    assert found.retry == "in_place"
    assert not [line for line in rendered(found) if "requeue" in line]


def test_nothing_of_ours_leaves_the_job_to_slurm() -> None:
    found = plan("-a", "0-2", "job.sh", "a", "b")
    assert not found.supervised
    assert found.shards == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--shards=2", "--array=0-3", "x"],
            "--shards: found 2 beside an array of the script's own (--array=0-3); wanted one of both: the elements of "
            "an array are shards already",
        ),
        (
            ["--retries=1", "-M", "other", "x"],
            "--clusters: found 'other' beside options of hpcrun's, which follows jobs on this cluster only; submit "
            "there, or leave hpcrun's options out",
        ),
        (["--max-parallel=2", "x"], "--max-parallel: found it without shards; wanted --shards or --array beside it"),
        (["--retries=-1", "x"], "--retries: found '-1', wanted a number from 0 to 50"),
        (["--shards=0", "x"], "--shards: found 0, wanted 1 or more"),
        (["--retry=never", "x"], "--retry: found 'never', wanted 'requeue' or 'in_place'"),
    ],
)
def test_refused(words: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan(*words)
    assert str(caught.value) == message


def status(words: list[str], rows: list[Any], counted: list[Any] | None, **more: Any) -> RunStatus:
    """The status of a job that is Slurm's alone, number 7, by what queue and accounting say."""
    found = plan(*words)
    sent = Submitted((Sent(0, job="7"),))
    seen = Seen(
        records={}, submitted=sent, queue=by_shard(found, sent, rows), stopped=None, asked=0.0,
        accounting=None if counted is None else by_shard(found, sent, counted), **more,
    )  # fmt: skip
    return fold(found, seen)


def test_slurm_alone_tells_how_it_is() -> None:
    """Success needs no record here; accounting has the exit codes."""
    rows = [
        QueueRow("7", (1,), "COMPLETED", nodes="c1"), QueueRow("7", (5,), "FAILED", nodes="c2"),
        QueueRow("7", (9,), "PENDING", "Resources"),
    ]  # fmt: skip
    counted = [AccountingRow("7", (5,), "FAILED", 9, 0, "c2"), AccountingRow("7", (1,), "COMPLETED", 0, 0, "c1")]
    found = status(["-a", "1,5,9", "x"], rows, counted)
    told = [(shard.state, shard.exit_code, shard.job, shard.detail) for shard in found.shards]
    assert told == [("succeeded", 0, "7_1", ""), ("failed", 9, "7_5", ""), ("pending", None, "7_9", "Resources")]


def test_without_accounting_success_is_told_by_the_queue() -> None:
    """Its exit code is known all the same; that of a failure is not."""
    found = status(["-a", "1,5", "x"], [QueueRow("7", (1,), "COMPLETED"), QueueRow("7", (5,), "FAILED")], None)
    assert [(shard.state, shard.exit_code) for shard in found.shards] == [("succeeded", 0), ("failed", None)]


def test_what_slurm_has_forgotten() -> None:
    """With accounting, an element that it does not know was cancelled while it waited; without, nobody knows."""
    cancelled = status(["-a", "1,5", "x"], [], [AccountingRow("7", (5,), "COMPLETED", 0, 0, "c2")])
    assert [shard.state for shard in cancelled.shards] == ["cancelled", "succeeded"]
    (lost,) = status(["x"], [], None).shards
    assert (lost.state, lost.cause) == ("failed", "lost")
    assert lost.detail == "Slurm has forgotten it, and keeps no accounting: how it ended is not known"


def test_ctrl_c_ends_a_wait_as_it_ends_sbatchs(tmp_path: Path) -> None:
    """The exit code of a shell for that signal, and not a word."""
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho waits\nexec sleep 1000\n")
    (tmp_path / "sbatch").chmod(0o755)
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "HPCRUN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "hpcrun", "sbatch", "--wait", "job.sh"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, cwd=tmp_path, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


def test_a_wrapper_called_sbatch_does_not_call_itself(tmp_path: Path) -> None:
    """Who has put `hpcrun sbatch` into a script of sbatch's name gets the next one in PATH."""
    for folder, text in (
        ("a", '#!/bin/sh\nexec hpcrun sbatch "$@"\n'),
        ("b", '#!/bin/sh\nexec /opt/slurm/sbatch "$@"\n'),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sbatch").write_text(text)
        (tmp_path / folder / "sbatch").chmod(0o755)
    assert site_sbatch({"PATH": f"{tmp_path}/a{os.pathsep}{tmp_path}/b"}) == f"{tmp_path}/b/sbatch"
    assert site_sbatch({"PATH": f"{tmp_path}/b"}) == "sbatch"


def test_places_of_a_batch() -> None:
    """An array from 0 has no list of its indices."""
    batch = Batch(0, 4, 10, array=True, throttle=None, pack=4, after=None)
    assert (batch.tasks, batch.task_of(9), batch.shards_of(2)) == (range(3), 1, range(12, 14))
    assert dataclasses.replace(batch, pack=1, ids="3-21:2").task_of(5) == 5
