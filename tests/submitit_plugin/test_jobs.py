"""submitit's jobs as shards of runs, on this machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
from machine import Machine
from submitit.core import plugins, utils
from submitit_plugin import functions
from waiting import until

from hpcrun import Run
from hpcrun.errors import SpecError, UsageError
from hpcrun.submitit_plugin.environment import HpcrunJobEnvironment
from hpcrun.submitit_plugin.job import HpcrunJob


def run_of(job: submitit.Job[object]) -> Run:
    """The run that a job is of."""
    return Run.open(job.job_id.partition("_")[0])


def test_submit(executor: submitit.AutoExecutor, folder: Path) -> None:
    """A function's result comes back; what it wrote is found where submitit has it, and by hpcrun."""
    executor.update_parameters(name="multiply", timeout_min=3)
    job = executor.submit(functions.product, 3, y=4)
    assert job.result() == 12
    assert job.exception() is None
    assert "out 3\n" in (job.stdout() or "")
    assert job.stderr() == "err 3\n"
    assert "out 3\n" in (folder / f"{job.job_id}_0_log.out").read_text()
    run = run_of(job)
    assert (run.wait().state, run.plan.name, run.plan.timeout) == ("succeeded", "multiply", 180)
    assert "out 3\n" in run.logs()


def test_map_array(executor: submitit.AutoExecutor) -> None:
    """An array is one run; the job that fails says why, and no other does."""
    jobs = executor.map_array(functions.product, [2, 13, 4], [5, 5, 5])
    run = run_of(jobs[0])
    assert [job.job_id for job in jobs] == [f"{run.id}_{index}" for index in range(3)]
    error = jobs[1].exception()
    assert isinstance(error, utils.FailedJobError)
    assert "ValueError: thirteen" in str(error)
    assert [jobs[0].result(), jobs[2].result()] == [10, 20]
    assert run.wait().state == "partial"
    assert [job.get_info()["State"] for job in jobs] == ["COMPLETED", "FAILED", "COMPLETED"]


def test_batch(executor: submitit.AutoExecutor) -> None:
    """What is submitted in a batch is one run of different functions."""
    with executor.batch():
        jobs = [executor.submit(functions.product, 2, 3), executor.submit(max, 4, 9)]
    assert [job.result() for job in jobs] == [6, 9]
    assert len({run_of(job).id for job in jobs}) == 1


def test_what_a_job_knows(executor: submitit.AutoExecutor) -> None:
    """Inside, JobEnvironment tells who it is."""
    jobs = [executor.submit(functions.where), *executor.map_array(lambda _: functions.where(), range(2))]
    for job in jobs:
        assert job.result() == (job.job_id, 0, 1, 0, 1, [os.uname().nodename])


def test_tasks(executor: submitit.AutoExecutor) -> None:
    """A job of several tasks has a result and a log of each."""
    executor.update_parameters(tasks_per_node=3, stderr_to_stdout=True)
    job = executor.submit(functions.where)
    assert [(rank, tasks, local) for _, rank, tasks, local, _, _ in job.results()] == [(0, 3, 0), (1, 3, 1), (2, 3, 2)]
    for rank in range(3):
        said = job.task(rank).stdout()
        assert f"this is rank {rank}\n" in said
        assert f"this is rank {(rank + 1) % 3}\n" not in said


def test_a_task_fails(executor: submitit.AutoExecutor) -> None:
    """The task that fails ends the others, and is the one that the job tells of."""
    executor.update_parameters(tasks_per_node=2)
    with pytest.raises(utils.FailedJobError, match="rank 1 of all"):
        executor.submit(functions.only_rank, 1).results()


def test_jobs_submit_jobs(executor: submitit.AutoExecutor, machine: Machine) -> None:
    """A job that another job has submitted takes itself for none but itself."""
    executor.update_parameters(tasks_per_node=2)
    assert executor.submit(functions.nested, str(machine.cwd / "inner")).results() == [0, 0]


def test_setup_and_teardown(executor: submitit.AutoExecutor, machine: Machine) -> None:
    """Shell code around a job: what it sets the job sees."""
    after = machine.cwd / "after it"
    executor.update_parameters(hpcrun_setup=["export COLOUR='dark $blue'"], hpcrun_teardown=[f"echo done > '{after}'"])
    job = executor.submit(functions.variable, "COLOUR")
    assert job.result() == "dark $blue"
    assert run_of(job).wait().state == "succeeded"
    assert after.read_text() == "done\n"


def test_only_the_word_was_changed(executor: submitit.AutoExecutor) -> None:
    """What was given to the slurm executor by its prefix is not lost, and hpcrun's own prefix wins."""
    executor.update_parameters(
        timeout_min=9, slurm_time=7, slurm_partition="gpu", slurm_account="a", hpcrun_account="b",
        slurm_additional_parameters={"mail-type": "END"},
    )  # fmt: skip
    plan = run_of(executor.submit(functions.product, 1, 1)).plan
    options = dict(plan.components[0])
    assert (plan.timeout, options["partition"], options["account"], options["mail-type"]) == (420, "gpu", "b", "END")


def test_slurm_arguments_of_the_executor(folder: Path) -> None:
    """The same for what is given when the executor is made."""
    auto = submitit.AutoExecutor(folder, cluster="hpcrun", slurm_max_num_timeout=7, hpcrun_cluster="local")
    assert auto._executor.max_num_timeout == 7
    assert auto._executor.parameters["cluster"] == "local"


def test_retries(executor: submitit.AutoExecutor) -> None:
    """With hpcrun's own budgets a function that fails is tried again, and its first failure is not the job's."""
    executor.update_parameters(hpcrun_spec={"retries": 1})
    job = executor.submit(functions.fails_at_first)
    assert job.result() == "1"
    assert "this is attempt 0" in job.stdout()


def test_checkpoint(machine: Machine, folder: Path) -> None:
    """A function that its time limit ends goes on from its checkpoint in the next attempt of the same shard."""
    executor = submitit.AutoExecutor(folder, cluster="hpcrun", hpcrun_max_num_timeout=2)
    executor.update_parameters(hpcrun_time="0:4", hpcrun_signal_delay_s=1)
    job = executor.submit(functions.Counting(stops=1))
    assert job.result() == [0]
    assert "1 remaining timeouts" in job.stdout() + job.stderr()
    run = run_of(job)
    run.wait()
    assert [attempt.cause for attempt in run.attempts()[0]] == ["timed_out", None]


def test_time_limits_come_to_an_end(machine: Machine, folder: Path) -> None:
    """After as many as were allowed, and for what has no checkpoint after the first, the job has failed by its time."""
    executor = submitit.AutoExecutor(folder, cluster="hpcrun", hpcrun_max_num_timeout=1)
    executor.update_parameters(hpcrun_time="0:4", hpcrun_signal_delay_s=1)
    with executor.batch():
        jobs = [executor.submit(functions.Counting(stops=9)), executor.submit(functions.stay)]
    assert "timed-out too many times" in str(jobs[0].exception())
    assert "timed-out and not checkpointable" in str(jobs[1].exception())
    run = run_of(jobs[0])
    run.wait()
    assert [len(run.attempts()[shard]) for shard in (0, 1)] == [2, 1]


def test_cancel(executor: submitit.AutoExecutor) -> None:
    """A job is cancelled; without Slurm, those of an array together."""
    single, several = executor.submit(functions.stay), executor.map_array(lambda _: functions.stay(), range(2))
    for job in (single, *several):
        until(lambda job=job: job.get_info()["State"] == "RUNNING", what="the start")
    single.cancel()
    several[0].cancel()
    assert "CANCELLED" in str(single.exception())
    assert several[0].get_info()["State"] == "RUNNING"
    several[1].cancel()
    assert run_of(several[0]).wait().state == "cancelled"
    assert [job.get_info()["State"] for job in several] == ["CANCELLED"] * 2


def test_tried_again_by_hand(executor: submitit.AutoExecutor, folder: Path, machine: Machine) -> None:
    """After `hpcrun retry` a job is not done until its new attempt is, neither for who knew its end nor for others."""
    executor.update_parameters(hpcrun_array_parallelism=1)
    jobs = executor.map_array(functions.waits_in_the_second_attempt, ["go.0", "go.1"])
    assert all(isinstance(job.exception(), utils.FailedJobError) for job in jobs)
    run = run_of(jobs[0])
    run.wait()
    run.retry()
    again: HpcrunJob[str] = HpcrunJob(folder, jobs[1].job_id)
    for job in (jobs[1], again):
        assert not job.done()
        assert job.state == "PENDING"
    machine.write("go.0", "")
    machine.write("go.1", "")
    assert [jobs[1].result(), again.result(), jobs[0].result()] == ["1", "1", "1"]


def test_cancel_at_deletion(executor: submitit.AutoExecutor) -> None:
    """A job that nobody has a handle on any more is cancelled, where that was asked for."""
    jobs = [executor.submit(functions.stay).cancel_at_deletion()]
    run = run_of(jobs[0])
    until(lambda: jobs[0].get_info()["State"] == "RUNNING", what="the start")
    jobs.clear()
    assert run.wait().state == "cancelled"


def test_in_another_session(executor: submitit.AutoExecutor, folder: Path, machine: Machine) -> None:
    """A job is found again from a pickle, or by folder and id, without the settings that it was submitted with."""
    job = executor.submit(functions.product, 6, 7)
    (machine.cwd / "job.pkl").write_bytes(pickle.dumps(job))
    code = "import pickle; print(pickle.load(open('job.pkl', 'rb')).result())"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "42\n", done.stderr
    again: HpcrunJob[int] = HpcrunJob(folder, job.job_id)
    assert again.submission().args == (6, 7)
    assert again.result() == 42


def test_refused(executor: submitit.AutoExecutor, folder: Path) -> None:
    """What cannot be honoured is refused by name; then nothing is submitted and nothing left behind."""
    with pytest.raises(NameError, match=r"'partitoin' for executor 'hpcrun'.*those of the slurm executor"):
        executor.update_parameters(hpcrun_partitoin="gpu")
    with pytest.raises(UsageError, match="srun_args"):
        executor.update_parameters(hpcrun_srun_args=["--cpu-bind=none"])
    with pytest.raises(UsageError, match=r"timeoutSeconds.*timeout_min"):
        executor.update_parameters(hpcrun_spec={"timeoutSeconds": 60})
    executor.update_parameters(hpcrun_additional_parameters={"output": "x.out"})
    with pytest.raises(SpecError, match="--output, which hpcrun decides"):
        executor.submit(functions.product, 1, 1)
    executor.update_parameters(hpcrun_additional_parameters=None, nodes=2)
    executor.update_parameters(hpcrun_additional_parameters={})
    with pytest.raises(UsageError, match="nodes: found 2"):
        executor.submit(functions.product, 1, 1)
    executor.update_parameters(nodes=1)
    executor._executor.max_pickle_size_gb = 0
    with pytest.raises(RuntimeError, match="max_pickle_size_gb"):
        executor.map_array(functions.product, [1, 2], [1, 2])
    assert list(folder.glob("*")) == []


def test_others_are_left_alone(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """That hpcrun is installed changes nothing for those who do not ask for it."""
    srun = Path(machine.write("srun", "#!/bin/sh\n"))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    slurm = submitit.AutoExecutor(folder)
    assert slurm.cluster == "slurm"
    with pytest.warns(UserWarning, match="slurm_partition"):
        slurm.update_parameters(partition="gpu", hpcrun_partition="other")
    assert slurm._executor.parameters == {"partition": "gpu"}


@pytest.mark.parametrize(
    ("environ", "active"),
    [
        ({}, False),
        ({"SUBMITIT_EXECUTOR": "hpcrun"}, False),
        ({"HPCRUN_RUN_ID": "a", "HPCRUN_SHARD_INDEX": "4", "SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7"}, False),
        ({"HPCRUN_RUN_ID": "a", "HPCRUN_SHARD_INDEX": "4", "SUBMITIT_EXECUTOR": "hpcrun"}, True),
        ({"HPCRUN_RUN_ID": "a", "HPCRUN_SHARD_INDEX": "4", "SUBMITIT_EXECUTOR": "slurm"}, False),
    ],
)
def test_where_it_is_active(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], active: bool
) -> None:
    """In submitit's jobs; not in runs of anything else, and not in jobs that another executor started inside of one."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert HpcrunJobEnvironment().activated() == active
    if active:
        found = plugins.get_job_environment()
        assert (type(found), found.job_id, found.num_tasks, found.global_rank) == (HpcrunJobEnvironment, "a_4", 1, 0)
