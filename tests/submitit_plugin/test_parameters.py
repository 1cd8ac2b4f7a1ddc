"""What the parameters of submitit's slurm executor become: plans, by their options of sbatch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from submitit.slurm.slurm import SlurmExecutor
from unit.made import ASKED, local, settings

from hpcrun import spec
from hpcrun.cluster import Limits
from hpcrun.compile import compile_plan
from hpcrun.errors import UsageError
from hpcrun.plan import Plan
from hpcrun.submitit_plugin import parameters


def plan(jobs: int = 1, *, max_array: int = 1001, timeouts: int = 3, here: bool = False, **given: Any) -> Plan:
    """The plan of `jobs` jobs with these parameters."""
    fields = parameters.spec(
        given, python=None, program=["python3", "-m", "it"], jobs=jobs, timeouts=timeouts, usr_signal="USR2", local=here
    )
    limits = local() if here else Limits(max_array=max_array, accounting=True)
    return compile_plan(spec.from_source(spec.raw(fields)), settings(), limits, ASKED)


def options(**given: Any) -> str:
    """sbatch's options of one job with these parameters, without those that every job has."""
    plain = plan().components[0]
    own = [option for option in plan(**given).components[0] if option not in plain]
    return " ".join(name if value is None else f"{name}={value}" for name, value in own)


def test_every_name_is_known() -> None:
    """Whatever the slurm executor takes is taken."""
    assert SlurmExecutor._valid_parameters() <= parameters.NAMES


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"partition": "p", "qos": "q", "account": "a"}, "partition=p qos=q account=a"),
        ({"constraint": "c", "exclude": "n1", "nodelist": "n2"}, "constraint=c exclude=n1 nodelist=n2"),
        ({"mail_type": "END", "mail_user": "me", "wckey": "w"}, "mail-type=END mail-user=me wckey=w"),
        ({"exclusive": True}, "exclusive"),
        ({"exclusive": "user"}, "exclusive=user"),
        ({"comment": "mine"}, "comment=mine hpcrun:abc"),
        ({"job_name": "n", "time": 60}, "job-name=n time=62"),
        ({"time": "1-00"}, "time=1442"),
        ({"cpus_per_task": 4, "mem": "8GB"}, "cpus-per-task=4 mem-per-cpu=2048M"),
        ({"cpus_per_task": 4, "mem_per_cpu": "1G"}, "cpus-per-task=4 mem-per-cpu=1024M"),
        ({"gpus_per_node": 2}, "gpus=2"),
        ({"num_gpus": 1, "mem_per_gpu": "1G"}, "mem-per-cpu=1024M gpus=1"),
        ({"gres": "gpu:a100:2", "cpus_per_gpu": 3}, "cpus-per-task=6 gpus=a100:2"),
        ({"signal_delay_s": 30}, "signal=B:USR2@30"),
        ({"additional_parameters": {"reservation": "r", "mail-user": "me"}}, "reservation=r mail-user=me"),
        ({"partition": "p", "additional_parameters": {"partition": "q", "time": 9}}, "time=11 partition=q"),
        (
            {"nodes": 2, "ntasks_per_node": 4, "mem": "8G"},
            "nodes=2 ntasks-per-node=4 ntasks=8 mem-per-cpu=2048M",
        ),
        (
            {"ntasks_per_node": 2, "gpus_per_node": 4},
            "nodes=1 ntasks-per-node=2 ntasks=2 gpus-per-task=2 gpu-bind=none",
        ),
        ({"ntasks_per_node": 2, "gpus_per_task": 1}, "nodes=1 ntasks-per-node=2 ntasks=2 gpus-per-task=1"),
    ],
)
def test_options(given: dict[str, Any], expected: str) -> None:
    """sbatch gets what it would get from submitit, as far as hpcrun spells it the same way."""
    assert options(**given) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"partitoin": "p"}, "partitoin"),
        ({"srun_args": ["-vv"]}, "srun_args"),
        ({"use_srun": False, "nodes": 2}, "use_srun"),
        ({"ntasks_per_node": 2, "teardown": ["true"]}, "teardown"),
        ({"ntasks_per_node": 2, "gpus_per_node": 3}, "gpus_per_node"),
        ({"gpus_per_node": 3, "gres": "gpu:1"}, "gres"),
        ({"gres": "nvme:1"}, "gres"),
        ({"gpus_per_node": "many"}, "gpus_per_node"),
        ({"cpus_per_gpu": 3}, "cpus_per_gpu"),
        ({"mem_per_gpu": "3G"}, "mem_per_gpu"),
        ({"mem": "3G", "mem_per_cpu": "3G"}, "mem_per_cpu"),
        ({"mem": 0}, "mem"),
        ({"time": "UNLIMITED"}, "time"),
        ({"time": "soon"}, "time"),
        ({"nodes": "two"}, "nodes"),
        ({"jobs": 2, "array_parallelism": 0}, "array_parallelism"),
        ({"timeouts": 51}, "max_num_timeout"),
        ({"here": True, "nodes": 2}, "nodes"),
        ({"additional_parameters": {"gpus": 3}}, "gpus"),
    ],
)
def test_refused(given: dict[str, Any], named: str) -> None:
    """What there is not, or cannot be honoured, is refused by its name."""
    with pytest.raises(UsageError, match=named):
        plan(**given)


def test_defaults_are_submitit_s() -> None:
    """Five minutes, 256 jobs at once, streams apart; no warning in the first half of the time."""
    found = plan(300)
    assert (found.name, found.timeout, found.max_parallel, found.separate_stderr) == ("submitit", 300, 256, True)
    assert found.warning == (12, 90)
    assert plan(time=1).warning == (12, 30)
    assert (found.budgets["timed_out"], found.budgets["preempted"], found.budgets["failed"]) == (3, 50, 0)


def test_arrays_are_split() -> None:
    """More jobs than an array may have become several arrays, of which no more jobs run at once than allowed."""
    batches = plan(10, max_array=4, array_parallelism=3).batches
    assert [(batch.first, batch.count, batch.throttle, batch.after) for batch in batches] == [
        (0, 4, 3, None), (4, 4, 3, 0), (8, 2, None, 1),
    ]  # fmt: skip


def test_here() -> None:
    """Without Slurm one program has what its tasks need together."""
    job = plan(here=True, ntasks_per_node=2, cpus_per_task=2, mem="4G", gpus_per_node=2).job
    assert (job.tasks, job.cpus, job.memory, job.gpus) == (1, 4, 4096, 2)


def test_loading_it_is_cheap() -> None:
    """submitit loads every plug-in in every process, so what only submissions need is not loaded with it."""
    code = (
        "import sys; from submitit.core import plugins; plugins.get_executors(), plugins.get_job_environments();"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "hpcrun.submitit_plugin.executor" in loaded
    assert not loaded & {"pydantic", "click", "jinja2", "hpcrun.submission", "hpcrun.slurm"}
