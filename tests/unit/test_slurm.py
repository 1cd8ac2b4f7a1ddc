"""The client of Slurm, with what its commands print."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import pytest

from hpcrun.cluster import AccountingRow, Charge, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.plan import Batch
from hpcrun.quotas import Limit, Place, Where
from hpcrun.rundir import RunDir
from hpcrun.slurm import Completed, Slurm, run_here, scrubbed

RUN = RunDir("/r/runs/abc")
BATCH = Batch(index=0, first=0, count=3, array=True, throttle=None, pack=1, after=None)
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
    """One squeue: folded pending elements, plain jobs, leaders, and reasons and paths with bars and spaces in them."""
    shell = Shell(
        "12_[0,2,4-6]|PENDING||Priority|hpcrun:abc|/r/runs/abc/scripts/0.sh\n"
        "12_7|RUNNING|n1|None|hpcrun:abc|/r/runs/abc/scripts/0.sh\n"
        "13|PENDING||(Nodes | required)|my own|/a b|c/d.sh\n14_[3-9:2%4]|PENDING||x|(null)|(null)\n"
        "15+1|RUNNING|n2|None|(null)|/r/het.sh\n15+0|RUNNING|n1|None|(null)|/r/het.sh\nwarning\n\n"
    )
    assert shell.slurm().queue(RUN) == [
        QueueRow("12", (0, 2, 4, 5, 6), "PENDING", "Priority", "", "/r/runs/abc/scripts/0.sh", "hpcrun:abc"),
        QueueRow("12", (7,), "RUNNING", "None", "n1", "/r/runs/abc/scripts/0.sh", "hpcrun:abc"),
        QueueRow("13", None, "PENDING", "(Nodes | required)", "", "/a b|c/d.sh", "my own"),
        QueueRow("14", (3, 5, 7, 9), "PENDING", "x"),
        QueueRow("15", None, "RUNNING", "None", "n1", "/r/het.sh"),
    ]
    fields = "--format=%i|%T|%N|%r|%k|%o"
    assert shell.asked == [("squeue", "--noheader", f"--user={os.getuid()}", "--states=all", fields)]
    # Else squeue cuts a long list of pending elements short.
    assert shell.environ["SLURM_BITSTR_LEN"] == "0"


def test_accounting() -> None:
    """Rows of sacct: elements, folded pending ones, plain jobs, leaders; steps and workers are passed over."""
    shell = Shell(
        "12_3|COMPLETED|0:0|n1\n12_[4-6%2]|PENDING|0:0|None assigned\n13|CANCELLED by 0|0:15|n2\n"
        "13.batch|CANCELLED|0:15|n2\n14+1|FAILED|1:0|n3\n14+0|FAILED|1:0|n3\n15_0|FAILED|3:0|n4\n"
    )
    assert shell.slurm().accounting(["12", "13"]) == [
        AccountingRow("12", (4, 5, 6), "PENDING", 0, 0, ""),
        AccountingRow("12", (3,), "COMPLETED", 0, 0, "n1"),
        AccountingRow("13", None, "CANCELLED by 0", 0, 15, "n2"),
        AccountingRow("14", None, "FAILED", 1, 0, "n3"),
        AccountingRow("15", (0,), "FAILED", 3, 0, "n4"),
    ]
    assert "--jobs=12,13" in shell.asked[0]


def test_history() -> None:
    """One sacct by owner and time, with the command that submitted each job."""
    shell = Shell(
        "12_3|COMPLETED|0:0|n1|sbatch --parsable /a b|c/runs/abc/scripts/0.sh\n"
        "13|CANCELLED by 0|0:15|n2|sbatch x.sh\n13.batch|CANCELLED|0:15|n2|\n"
    )
    assert shell.slurm().history(RUN, 1_700_000_000) == [
        AccountingRow("12", (3,), "COMPLETED", 0, 0, "n1", "sbatch --parsable /a b|c/runs/abc/scripts/0.sh"),
        AccountingRow("13", None, "CANCELLED by 0", 0, 15, "n2", "sbatch x.sh"),
    ]
    assert f"--user={os.getuid()}" in shell.asked[0]
    assert any(word.startswith("--starttime=2023-11-1") for word in shell.asked[0])


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


def test_what_sbatch_warns_of_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """It has submitted the job all the same."""
    assert Shell("12\n", "sbatch: warning: can't run 1 processes on 2 nodes\n").slurm().submit(RUN, BATCH, None) == "12"
    assert capsys.readouterr().err == "sbatch: warning: can't run 1 processes on 2 nodes\n"


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


def test_elements_one_by_one() -> None:
    """Asked for by name they come unfolded, with the time that they wait for; many are asked for by owner."""
    shell = Shell(
        "12_3|PENDING,2026-11-21T10:25:23||BeginTime|(null)|(null)\n12_0|COMPLETING,N/A|n1|None|(null)|(null)\n"
    )
    assert shell.slurm().look_at(["12_3", "12_0"]) == [
        QueueRow("12", (3,), "PENDING", "BeginTime", begin="2026-11-21T10:25:23"),
        QueueRow("12", (0,), "COMPLETING", "None", "n1", begin="N/A"),
    ]
    assert "--array" in shell.asked[0]
    assert "--jobs=12_3,12_0" in shell.asked[0]
    shell.slurm().look_at([f"12_{task}" for task in range(5000)])
    assert f"--user={os.getuid()}" in shell.asked[1]


def test_an_element_that_is_forgotten() -> None:
    """squeue fails where it is the only one that is asked for; that it is gone is no trouble of the cluster's."""
    assert Shell(err="slurm_load_jobs error: Invalid job id specified", code=1).slurm().look_at(["12_3"]) == []


def test_start_now() -> None:
    """Many in one call; what scontrol could not do is told by job, and is no error."""
    shell = Shell(err="12_3: Job is no longer pending execution\n9_1: Job has already finished\n", code=1)
    refused = shell.slurm().start_now(["12_3", "12_4", "9_1"])
    assert refused == {"12_3": "Job is no longer pending execution", "9_1": "Job has already finished"}
    assert shell.asked == [("scontrol", "update", "jobid=12_3,12_4,9_1", "StartTime=now")]
    alone = Shell(err="Job is no longer pending execution for job 41\n", code=1)
    assert alone.slurm().start_now(["41"]) == {"41": "Job is no longer pending execution"}
    many = Shell()
    assert many.slurm().start_now([f"12_{task}" for task in range(2500)]) == {}
    assert [words[2].count(",") + 1 for words in many.asked] == [1000, 1000, 500]


def test_requeue() -> None:
    """One that waits already is as good as requeued; else the reason is told."""
    assert Shell().slurm().requeue("12_3") == ""
    assert Shell(err="12_3: Job is pending execution\n", code=1).slurm().requeue("12_3") == ""
    refused = Shell(err="12_3: Requested operation is presently disabled\n", code=1)
    assert refused.slurm().requeue("12_3") == "Requested operation is presently disabled"
    assert refused.asked == [("scontrol", "requeue", "12_3")]


@pytest.mark.parametrize("call", ["start_now", "requeue", "look_at"])
def test_slurmctld_is_down_meanwhile(call: str) -> None:
    """Then neither is refused: nobody has answered."""
    slurm = Shell(err="slurm_update error: Unable to contact slurm controller (connect failure)", code=1).slurm()
    with pytest.raises(ClusterUnavailable, match="Unable to contact"):
        getattr(slurm, call)("12_3" if call == "requeue" else ["12_3"])


def test_environment_of_its_commands() -> None:
    """A surrounding job and options kept in variables do not shape a new job; where the cluster is stays known."""
    here = {
        "PATH": "/bin", "SLURM_CONF": "/etc/s.conf", "SLURM_JWT": "t", "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "4",
        "SBATCH_PARTITION": "x", "SRUN_DEBUG": "1", "SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "x",
        "SLURM_TIME_FORMAT": "%s",
        "SLURM_CLUSTERS": "other",
    }  # fmt: skip
    assert scrubbed(here) == {"PATH": "/bin", "SLURM_CONF": "/etc/s.conf", "SLURM_JWT": "t"}


def test_what_is_asked_of_the_queue_is_not_cut_and_no_job_is_told() -> None:
    """squeue and sacct print lists of elements whole; a job, which gets sbatch's environment, is as its user has it."""
    shell = Shell()
    slurm = shell.slurm(PATH="/bin")
    slurm.queue(RUN)
    assert shell.environ == {"PATH": "/bin", "SLURM_BITSTR_LEN": "0"}
    slurm.accounting(["12"])
    assert shell.environ == {"PATH": "/bin", "SLURM_BITSTR_LEN": "0"}
    shell.answer = Completed(0, "12\n", "")
    slurm.submit(RUN, BATCH, None)
    assert shell.environ == {"PATH": "/bin"}


def test_no_slurm_here() -> None:
    """Without Slurm's commands the message says what to do."""
    with pytest.raises(ClusterUnavailable) as caught:
        run_here(["sbatch-that-is-not-there"], {}, 5.0)
    assert str(caught.value) == (
        "found no `sbatch-that-is-not-there` on this machine; wanted Slurm's commands in PATH; without Slurm there is "
        "`hpcrun run --cluster local`"
    )


ENFORCED = CONFIG.format("(null)") + "AccountingStorageEnforce = associations,limits\nClusterName = docker\n"
PARTITION = (
    "PartitionName=main Default=YES QoS=N/A DefaultTime=NONE MaxNodes=2 MaxTime=01:00:00 Nodes=c[1-4] State=UP\n"
)


class Shells:
    """A runner that answers each command in its own way: with a text, with an error, or not at all."""

    def __init__(self, **answers: str | Completed | ClusterUnavailable) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []
        self.deadlines: dict[str, float] = {}

    def __call__(self, argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
        name = next((name for name in self.answers if name in argv), "")
        self.asked.append(tuple(argv))
        self.deadlines[name] = deadline
        answer = self.answers.get(name, Completed(1, "", "no such thing"))
        if isinstance(answer, ClusterUnavailable):
            raise answer
        return Completed(0, answer, "") if isinstance(answer, str) else answer


def test_limits_of_places() -> None:
    """Where no limits of accounts are enforced, two questions to slurmctld tell what bounds a run."""
    shells = Shells(config=CONFIG.format("(null)"), partition=PARTITION)
    found = Slurm({}, shells).limits([Where(), Where()])
    assert shells.asked == [
        ("scontrol", "show", "config"), ("scontrol", "--all", "--oneliner", "show", "partition")
    ]  # fmt: skip
    place = Place("main", limits=(Limit("job", "time", 3600, "partition main", "MaxTime"),
                                  Limit("job", "node", 2, "partition main", "MaxNodes")))  # fmt: skip
    assert (found.places, found.nodes) == (((place,), (place,)), 4)
    assert shells.deadlines["partition"] < shells.deadlines["config"]
    assert Slurm({}, shells).limits([Where()]).nodes is None
    assert Slurm({}, shells).limits([Where(), Where()], places=False) == dataclasses.replace(found, places=())


def test_limits_of_accounts() -> None:
    """Where they are enforced, slurmctld and slurmdbd are asked once each, whatever the number of components."""
    shells = Shells(config=ENFORCED, partition=PARTITION, assoc_mgr="", user="", qos="")
    Slurm({}, shells).limits([Where(), Where()])
    assert sorted(name for name in shells.answers for argv in shells.asked if name in argv) == sorted(shells.answers)
    assert "cluster=docker" in next(argv for argv in shells.asked if "user" in argv)


@pytest.mark.parametrize("answer", [Completed(1, "", "slurmdbd is down"), ClusterUnavailable("no answer within 10 s")])
def test_limits_that_cannot_be_asked(answer: Completed | ClusterUnavailable) -> None:
    """What does not answer bounds nothing: only without slurmctld's configuration nothing can be submitted."""
    shells = Shells(config=ENFORCED, partition=answer, assoc_mgr=answer, user=answer, qos=answer)
    assert Slurm({}, shells).limits([Where()]).places == ((Place(),),)


def test_charges() -> None:
    """One sacct for every start since the run was created, components and what was requeued included."""
    shell = Shell("10|billing=2,cpu=2,gres/gpu=1,mem=1G,node=1\n0||\n0|\n5|cpu=1,node=1\n|billing=1\n")
    assert shell.slurm().charges(["12", "13"], 1_700_000_000) == [
        Charge(10, {"billing": 2, "cpu": 2, "gres/gpu": 1, "node": 1}), Charge(5, {"cpu": 1, "node": 1})
    ]  # fmt: skip
    assert {"--duplicates", "--jobs=12,13"} <= set(shell.asked[0])
    assert any(word.startswith("--starttime=2023-11-1") for word in shell.asked[0])


def test_no_charges_without_accounting() -> None:
    """As for every question to sacct."""
    with pytest.raises(AccountingDisabled):
        Shell(err="Slurm accounting storage is disabled\n", code=1).slurm().charges(["1"], 0.0)
