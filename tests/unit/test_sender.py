"""Whether the process that submits is still there."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from waiting import until

from hpcrun import sender
from hpcrun.rundir import RunDir

RUN = RunDir("/x/runs/abcd1234")


def test_this_process_lives() -> None:
    """It is told from one of the same number that began at another time, and from one on another machine."""
    me = sender.this_process()
    assert sender.from_facts(sender.facts(me)) == me
    assert sender.lives(me, RUN, left=False) is True
    assert sender.lives(me, RUN, left=True) is False, "it lives, and submits nothing more"
    assert sender.lives(dataclasses.replace(me, began=me.began - 1), RUN, left=False) is False
    assert sender.lives(dataclasses.replace(me, host="elsewhere"), RUN, left=False) is None
    assert str(me) == f"process {os.getpid()} on {os.uname().nodename}"


def test_a_dead_one_nobody_has_waited_for_is_dead() -> None:
    """A zombie submits nothing."""
    child = subprocess.Popen(["sleep", "1000"])
    one = sender.Sender(os.uname().nodename, child.pid, _began(child.pid))
    assert sender.lives(one, RUN, left=False) is True
    child.kill()
    until(lambda: sender.lives(one, RUN, left=False) is False, what="the death seen")
    child.wait()
    assert sender.lives(one, RUN, left=False) is False


def test_an_sbatch_that_outlives_its_submission_is_seen(tmp_path: Path) -> None:
    """What a killed submission has started may still reach Slurm."""
    script = f"{RUN.path}/scripts/0.sh"
    assert not sender.calls(RUN)
    wrapper = tmp_path / "sbatch"
    wrapper.write_text("import sys; print(flush=True); sys.stdin.read()\n")
    argv = [sys.executable, str(wrapper), "--parsable", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as left_over:
        assert left_over.stdout is not None
        left_over.stdout.readline()
        assert sender.calls(RUN)
        assert not sender.calls(RunDir("/x/runs/abcd1235"))
        assert left_over.stdin is not None
        left_over.stdin.close()
    until(lambda: not sender.calls(RUN), what="its end seen")


def _began(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
