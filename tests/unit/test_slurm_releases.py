"""What Slurm's releases say in words of their own; the lines are from 22.05.8, 24.11.5 and 26.05.5."""

from __future__ import annotations

import pytest
from unit.test_slurm import Shell

from hpcrun.cluster import AccountingRow
from hpcrun.errors import ClusterUnavailable, SubmissionRefused
from hpcrun.slurm_releases import refusals, release, untried


@pytest.mark.parametrize("named", ["12_{}", "12_[{}]"])
def test_refusals_of_elements(named: str) -> None:
    """26.05 puts brackets around the element; what was not refused is not taken for refused."""
    err = "".join(f"{named.format(task)}: Job has already finished\n" for task in (0, 3))
    assert refusals(err, ["12_0", "12_1", "12_3"]) == dict.fromkeys(("12_0", "12_3"), "Job has already finished")
    shell = Shell(err=f"{named.format(3)}: Job is pending execution\n", code=1)
    assert shell.slurm().requeue("12_3") == ""


def test_refusals_of_several_elements_in_one_line() -> None:
    """Elements of one reason share it; others of the array that nobody asked about are passed over."""
    err = "12_[0-2,7]: Job has already finished\n12_5: No error\n12_[8-]: what\n"
    assert refusals(err, ["12_1", "12_7", "12_6"]) == dict.fromkeys(("12_1", "12_7"), "Job has already finished")


def test_refusals_of_whole_jobs() -> None:
    """Several jobs, each with its line; and nothing where scontrol does not say which job it means."""
    err = "Invalid job id specified for job 12\nJob is no longer pending execution for job 13\n"
    assert refusals(err, ["12", "13", "14"]) == {
        "12": "Invalid job id specified", "13": "Job is no longer pending execution",
    }  # fmt: skip
    assert refusals("slurm_update error: Unable to contact slurm controller\n", ["12"]) == {}


def test_elements_that_wait_come_folded() -> None:
    """Nothing asks sacct for --array, which 22.05 does not know; an element's own row counts more than its array's."""
    shell = Shell("12_0|RUNNING|0:0|n1\n12_[0-9:3%2]|PENDING|0:0|None assigned\n")
    assert shell.slurm().accounting(["12"]) == [
        AccountingRow("12", (0, 3, 6, 9), "PENDING", 0, 0, ""),
        AccountingRow("12", (0,), "RUNNING", 0, 0, "n1"),
    ]
    shell.slurm().charges(["12"], 0)
    assert not [words for words in shell.asked if "--array" in words]


@pytest.mark.parametrize(
    ("option", "known"),
    [("stepmgr", "Slurm has it since 24.05"), ("colour=red", "the one of this cluster does not know it")],
)
def test_an_option_that_this_sbatch_does_not_know(option: str, known: str) -> None:
    """The last line is advice that helps nobody; the one before says it."""
    err = f"sbatch: unrecognized option '--{option}'\nTry \"sbatch --help\" for more information\n"
    with pytest.raises(SubmissionRefused) as caught:
        Shell(err=err, code=255).slurm().submit_script("/r/x.sh", None)
    assert str(caught.value).splitlines() == [
        f"the cluster refused the submission: unrecognized option '--{option}'",
        f"  `sbatch --version` says which Slurm this is; {known}: leave the option out",
    ]


def test_a_site_that_limits_questions() -> None:
    """From 23.02 on slurmctld may refuse to answer who asks too often: that says nothing of the job."""
    err = "sbatch: error: Batch job submission failed: Rate limit exceeded, please retry later\n"
    with pytest.raises(ClusterUnavailable, match="Rate limit exceeded"):
        Shell(err=err, code=1).slurm().submit_script("/r/x.sh", None)


@pytest.mark.parametrize(
    ("said", "found"),
    [("24.11.5", (24, 11)), ("slurm-wlm 22.05.8", (22, 5)), ("slurm 26.05.0-0rc1", (26, 5)), ("", None)],
)
def test_release(said: str, found: tuple[int, int] | None) -> None:
    """The two numbers that make a release, wherever they stand."""
    assert release(said) == found


def test_untried() -> None:
    """Between the oldest and the newest nothing is said, and neither where the release is not known."""
    assert [untried(version) for version in ("22.05.8", "23.02.1", "26.05.5", "")] == [""] * 4
    assert untried("21.08.8") == "Slurm 21.08 is older than 22.05, the oldest that hpcrun was tried on"
    assert untried("26.11.0") == "Slurm 26.11 is newer than 26.05, the newest that hpcrun was tried on"
