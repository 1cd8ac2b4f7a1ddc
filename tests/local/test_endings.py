"""How programs end, and what is said of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from machine import HPCRUN, Machine, ended, gone, number_in


def test_every_exit_code_is_kept(machine: Machine) -> None:
    """Each shard's record has its program's own code, whatever it is."""
    codes = (0, 1, 3, 126, 127, 255)
    listed = " ".join(map(str, codes))
    run = machine.run(
        "-N", str(len(codes)), "--", "bash", "-c", f'codes=({listed}); exit "${{codes[$HPCRUN_SHARD_INDEX]}}"', code=3
    )
    shards = run.shards()
    assert [(shard.exit_code, shard.signal) for shard in shards] == [(code, 0) for code in codes]
    assert [shard.state for shard in shards] == ["succeeded"] + ["failed"] * 5


@pytest.mark.parametrize("code", [0, 3, 124, 255])
def test_a_single_program_hands_its_exit_code_on(machine: Machine, code: int) -> None:
    """`hpcrun run` of one program exits as the program did."""
    machine.run("sh", "-c", f"exit {code}", code=code)


def test_all_shards_failing_is_1(machine: Machine) -> None:
    """With several shards there is no one code of a program: 1."""
    assert machine.run("-N", "2", "--", "sh", "-c", "exit 9", code=1).status().state == "failed"


def test_signals_are_no_exit_codes(machine: Machine) -> None:
    """A program that a signal killed has a signal and no code; one that exits with 137 has the code and no signal."""
    numbers = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGHUP)
    ends = [f"kill -{int(number)} $$" for number in numbers] + ["exit 137", "exit 143"]
    script = (
        "ulimit -c 0; case $HPCRUN_SHARD_INDEX in " + " ".join(f"{i}) {end};;" for i, end in enumerate(ends)) + " esac"
    )
    run = machine.run("-N", str(len(ends)), "--", "sh", "-c", script, code=1)
    expected = [(None, int(number)) for number in numbers] + [(137, 0), (143, 0)]
    assert [(shard.exit_code, shard.signal) for shard in run.shards()] == expected
    assert {shard.cause for shard in run.shards()} == {"failed"}, "nobody else ended them"


def test_a_single_program_killed_by_a_signal(machine: Machine) -> None:
    """The exit code is 128 and the signal, as a shell has it."""
    machine.run("sh", "-c", "kill -KILL $$", code=137)


def test_a_program_that_is_not_there(machine: Machine) -> None:
    """127, and the log says what could not be started."""
    run = machine.run("--", "./no such program", code=127)
    assert run.logs() == "hpcrun: cannot start './no such program': No such file or directory\n"


def test_a_program_that_may_not_be_run(machine: Machine) -> None:
    """A file without the right to execute is named in the log."""
    machine.write("data", "no program")
    run = machine.run("--", "./data", code=127)
    assert "cannot start './data': Permission denied" in run.logs()


def test_a_script_without_an_interpreter_line_runs(machine: Machine) -> None:
    """As a shell runs it: by sh, its arguments intact."""
    Path(machine.write("count", 'echo "$#" "$2"\n')).chmod(0o755)
    assert machine.run("--", "./count", "a", "b c").logs() == "2 b c\n"


def test_a_working_directory_that_is_not_there(machine: Machine) -> None:
    """126, and the log names the directory."""
    run = machine.run("--chdir", "gone", "true", code=126)
    assert f"cannot enter the working directory '{machine.cwd}/gone'" in run.logs()


def test_a_program_that_ends_when_its_time_is_up(machine: Machine) -> None:
    """SIGTERM first: what the program does then is in its log; the run timed out, exit code 124."""
    script = 'trap "echo saving; exit 5" TERM; while :; do sleep 0.02; done'
    run = machine.run("--timeout", "0.3s", "--", "bash", "-c", script, code=124)
    shard = run.shards()[0]
    assert (shard.state, shard.cause, shard.exit_code) == ("timed_out", "timed_out", 5)
    assert "saving\n" in run.logs()


def test_a_program_that_ignores_its_timeout_is_killed(machine: Machine) -> None:
    """After the grace comes SIGKILL, for its children too."""
    script = 'trap "" TERM; sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/child"; while :; do wait; done'
    run = machine.run("--timeout", "0.3s", "--", "bash", "-c", script, code=124)
    shard = run.shards()[0]
    assert (shard.state, shard.signal) == ("timed_out", signal.SIGKILL)
    gone(number_in(run, "child"))


def test_only_those_that_time_out_do(machine: Machine) -> None:
    """Some good and some not is partial: 3."""
    script = "if [ $HPCRUN_SHARD_INDEX = 1 ]; then exec sleep 1000; fi"
    run = machine.run("-N", "3", "--timeout", "0.5s", "--", "sh", "-c", script, code=3)
    assert [shard.state for shard in run.shards()] == ["succeeded", "timed_out", "succeeded"]


@pytest.mark.parametrize("monitor", ["", "set -m; "], ids=["plain", "job control"])
def test_what_a_program_leaves_running_is_ended(machine: Machine, monitor: str) -> None:
    """Background processes do not outlive their program, nor do those that job control put in other groups."""
    run = machine.run("bash", "-c", f'{monitor}sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/left"; exit 0')
    gone(number_in(run, "left"))
    assert run.shards()[0].cause is None


def test_what_a_program_leaves_running_gets_time_to_end(machine: Machine) -> None:
    """SIGTERM comes first, and the record is written after the last process has ended."""
    left = 'trap "echo tidied; exit" TERM; echo up >"$HPCRUN_RESULTS_DIR/up"; while :; do sleep 0.02; done'
    script = f"bash -c '{left}' & while [ ! -s \"$HPCRUN_RESULTS_DIR/up\" ]; do sleep 0.02; done"
    run = machine.run("bash", "-c", script)
    assert "tidied\n" in run.logs()


def test_what_ignores_its_end_is_killed(machine: Machine) -> None:
    """A leftover that ignores SIGTERM is killed after the grace; the program's own end is what counts."""
    script = """
        bash -c 'trap "" TERM; echo $$ >"$HPCRUN_RESULTS_DIR/left"; while :; do sleep 0.02; done' &
        while [ ! -s "$HPCRUN_RESULTS_DIR/left" ]; do sleep 0.02; done
        exit 7
    """
    run = machine.run("bash", "-c", script, code=7)
    gone(number_in(run, "left"))


def test_signals_ignored_by_the_submitter(machine: Machine) -> None:
    """Under nohup, or where SIGCHLD is ignored, programs are started and waited for as ever, with default signals."""
    ignoring = "trap '' HUP INT QUIT CHLD USR1 PIPE; exec \"$@\""
    submitted = machine.command(
        "bash", "-c", ignoring, "bash", HPCRUN, "submit", "--", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"
    )
    run = machine.open(submitted.stdout.decode().strip())
    assert ended(run).state == "succeeded"
    masks = dict(line.split(":") for line in run.logs().splitlines())
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & 0x7FFFFFFF == 0, "beyond are two that the C library keeps for itself"


def test_logs_of_a_run_cut_short(machine: Machine) -> None:
    """What a program had written when it was killed is there, the unfinished line too."""
    run = machine.run("sh", "-c", "echo whole; printf half; kill -KILL $$", code=137)
    assert run.logs() == "whole\nhalf"


def test_signals_of_the_user_reach_the_program_alone(machine: Machine) -> None:
    """SIGUSR1 to a shard's supervisor goes to the program; to be told it is no end."""
    script = 'trap "echo told; exit 0" USR1; echo $PPID >"$HPCRUN_RESULTS_DIR/up"; while :; do sleep 0.02; done'
    run = machine.submit("bash", "-c", script)
    supervisor = number_in(run, "up")
    os.kill(supervisor, signal.SIGUSR1)
    assert ended(run).state == "succeeded"
    assert run.logs() == "told\n"
