"""The client of Slurm, with what its commands print."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest

from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir
from hpcrun.slurm import Completed, Slurm, run_here, scrubbed

RUN = RunDir("/r/runs/abc")
BATCH = Batch(index=0, first=0, count=3, array=True, throttle=None, after=None)
CONFIG = """\
Configuration data as of 2025-01-01T00:00:00
AccountingStorageType   = accounting_storage/slurmdbd
MaxArraySize            = 4001
SchedulerParameters     = {0}
SLURM_VERSION           = 24.11.1
"""


class Shell:
    """A runner that says what a test wants, and keeps what it was asked."""

    def __init__(self, out: str = "", err: str = "", code: int = 0) -> None:
        self.answer = Completed(code, out, err)
        self.asked: list[tuple[str, ...]] = []
        self.environ: Mapping[str, str] = {}

    def __call__(self, argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
        self.asked.append(tuple(argv))
        self.environ = environ
        return self.answer

    def slurm(self, **environ: str) -> Slurm:
        return Slurm(environ, self)


@pytest.mark.parametrize(("parameters", "largest"), [("(null)", 4001), ("bf_continue,max_array_tasks=100", 100)])
def test_limits(parameters: str, largest: int) -> None:
    """The largest array is MaxArraySize, or max_array_tasks where that is lower."""
    shell = Shell(CONFIG.format(parameters))
    assert shell.slurm().limits() == Limits(max_array=largest, accounting=True, version="24.11.1")
    assert shell.asked[0] == ("scontrol", "show", "config")


def test_no_accounting() -> None:
    """A cluster without slurmdbd is known as such."""
    assert not Shell("AccountingStorageType   = accounting_storage/none\n").slurm().limits().accounting


def test_queue() -> None:
    """One squeue, with folded pending elements, jobs that are no array, and reasons with bars and spaces in them."""
    shell = Shell(
        "12|0,2,4-6|PENDING||Priority\n12|7|RUNNING|n1|None\n13|N/A|PENDING||(Nodes | required)\n"
        "14|3-9:2%4|PENDING||x\nwarning\n\n"
    )
    assert shell.slurm().queue(RUN) == [
        QueueRow("12", (0, 2, 4, 5, 6), "PENDING", "Priority", ""),
        QueueRow("12", (7,), "RUNNING", "None", "n1"),
        QueueRow("13", None, "PENDING", "(Nodes | required)", ""),
        QueueRow("14", (3, 5, 7, 9), "PENDING", "x", ""),
    ]
    assert shell.asked == [("squeue", "--noheader", f"--user={os.getuid()}", "--states=all", "--format=%F|%K|%T|%N|%r")]
    # Else squeue cuts a long list of pending elements short.
    assert shell.environ["SLURM_BITSTR_LEN"] == "0"


def test_accounting() -> None:
    """Rows of sacct: elements, folded pending ones, plain jobs, leaders; steps and workers are passed over."""
    shell = Shell(
        "12_3|COMPLETED|0:0|n1\n12_[4-6%2]|PENDING|0:0|None assigned\n13|CANCELLED by 0|0:15|n2\n"
        "13.batch|CANCELLED|0:15|n2\n14+1|FAILED|1:0|n3\n14+0|FAILED|1:0|n3\n15_0|FAILED|3:0|n4\n"
    )
    assert shell.slurm().accounting(["12", "13"]) == [
        AccountingRow("12", (3,), "COMPLETED", 0, 0, "n1"),
        AccountingRow("12", (4, 5, 6), "PENDING", 0, 0, "None assigned"),
        AccountingRow("13", None, "CANCELLED by 0", 0, 15, "n2"),
        AccountingRow("14", None, "FAILED", 1, 0, "n3"),
        AccountingRow("15", (0,), "FAILED", 3, 0, "n4"),
    ]
    assert "--jobs=12,13" in shell.asked[0]


def test_accounting_in_chunks() -> None:
    """More ids than one argument holds are asked for in several calls, each once."""
    shell = Shell()
    jobs = [str(job) for job in range(1, 45_001)]
    assert shell.slurm().accounting(jobs) == []
    asked = [word.partition("=")[2] for argv in shell.asked for word in argv if word.startswith("--jobs=")]
    assert ",".join(asked) == ",".join(jobs)
    assert len(asked) == 3
    assert max(map(len, asked)) < 131_072


def test_accounting_is_disabled() -> None:
    """A cluster that keeps no accounting is told apart from one that cannot be asked."""
    with pytest.raises(AccountingDisabled):
        Shell(err="Slurm accounting storage is disabled\n", code=1).slurm().accounting(["1"])
    with pytest.raises(ClusterUnavailable) as caught:
        Shell(err="sacct: error: slurm_persist_conn_open: Connection refused\n", code=1).slurm().accounting(["1"])
    assert not isinstance(caught.value, AccountingDisabled)


@pytest.mark.parametrize(
    ("out", "job"), [("12\n", "12"), ("12;cluster2\n", "12"), ("sbatch: hello from a plugin\n12\n", "12")]
)
def test_submit(out: str, job: str) -> None:
    """The job's id is found, with a cluster's name behind it or a plugin's words before it."""
    shell = Shell(out)
    assert shell.slurm().submit(RUN, BATCH, "afterany:3") == job
    assert shell.asked == [("sbatch", "--parsable", "--dependency=afterany:3", "/r/runs/abc/scripts/0.sh")]


@pytest.mark.parametrize(
    ("err", "said"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "Batch job submission failed: Invalid partition name specified\n"
            "  `sinfo` lists the partitions; name one with --partition or in a node pool of hpcrun.toml",
        ),
        (
            "sbatch: error: x\nsbatch: error: "
            "Batch job submission failed: Requested node configuration is not available\n",
            "Batch job submission failed: Requested node configuration is not available\n"
            "  no node has that much: lower cpus, memory or gpus, or choose another pool",
        ),
        ("sbatch: error: something new\n", "something new"),
        ("", "exit code 1 and not a word"),
    ],
)
def test_refused(err: str, said: str) -> None:
    """A refusal is told in Slurm's last word, with the next step where it is known; exit code 2."""
    with pytest.raises(SubmissionRefused) as caught:
        Shell(err=err, code=1).slurm().submit(RUN, BATCH, None)
    assert str(caught.value) == f"the cluster refused the submission: {said}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "err",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "squeue: error: Socket timed out on send/recv operation",
    ],
)  # fmt: skip
def test_slurmctld_is_down(err: str) -> None:
    """A slurmctld that does not answer is exit code 69, whatever was asked, and never a refusal."""
    slurm = Shell(err=err + "\n", code=1).slurm()
    for ask in (
        slurm.limits,
        lambda: slurm.queue(RUN),
        lambda: slurm.submit(RUN, BATCH, None),
        lambda: slurm.cancel(RUN, ["1"]),
    ):
        with pytest.raises(ClusterUnavailable) as caught:
            ask()
        assert caught.value.exit_code == 69


def test_cancel() -> None:
    """One scancel for all jobs, in order; those that have ended already are no error."""
    shell = Shell(err="scancel: error: Kill job error on job id 12: Invalid job id specified\n", code=1)
    shell.slurm().cancel(RUN, ["13", "12"])
    shell.slurm().cancel(RUN, [])
    assert shell.asked == [("scancel", "13", "12")]


def test_environment_of_its_commands() -> None:
    """A surrounding job and options kept in variables do not shape a new job; where the cluster is stays known."""
    here = {
        "PATH": "/bin", "SLURM_CONF": "/etc/s.conf", "SLURM_JWT": "t", "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "4",
        "SBATCH_PARTITION": "x", "SRUN_DEBUG": "1", "SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "x",
        "SLURM_TIME_FORMAT": "%s",
        "SLURM_CLUSTERS": "other",
    }  # fmt: skip
    assert scrubbed(here) == {"PATH": "/bin", "SLURM_CONF": "/etc/s.conf", "SLURM_JWT": "t", "SLURM_BITSTR_LEN": "0"}


def test_no_slurm_here() -> None:
    """Without Slurm's commands the message says what to do."""
    with pytest.raises(ClusterUnavailable) as caught:
        run_here(["sbatch-that-is-not-there"], {}, 5.0)
    assert str(caught.value) == (
        "found no `sbatch-that-is-not-there` on this machine; wanted Slurm's commands in PATH, or --cluster local"
    )
