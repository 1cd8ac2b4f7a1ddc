"""What scontrol and sacctmgr print, as limits: what they printed on two versions of Slurm, and what they might."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hpcrun.quotas import Limit, Place, Where
from hpcrun.slurm_limits import Fields, Said, enforced, nodes, places, routed

HERE = Path(__file__).parent / "slurm_said"
MINE = 1000
ALL_JOBS = Limit("queue", "jobs", 49999, "the cluster", "MaxJobCount")
LINE = [
    Limit("queue", "jobs", 100, "account users", "GrpSubmitJobs", 5),
    Limit("running", "cpu", 64, "account users", "GrpTRES", 3),
]
"""What the account that holds the user's accounts says; five jobs are in the queue, and three of them run."""
USER = "user user in account users"


def printed(version: str, **changed: str) -> Said:
    """What Slurm printed; the partitions low and gpu are special, QOS short and each have limits, user has accounts."""
    texts = {path.stem: path.read_text() for path in (HERE / version).iterdir()} | changed
    config = {
        name.strip(): value.strip()
        for name, _, value in (line.partition("=") for line in texts.pop("config").splitlines())
    }
    return Said(config, **texts)


@pytest.fixture(params=["22.05", "24.11", "26.05"])
def said(request: pytest.FixtureRequest) -> Said:
    return printed(request.param)


def one(where: Where, said: Said) -> Place:
    (place,) = places(where, MINE, said)
    return place


def test_by_default(said: Said) -> None:
    """Who names nothing gets the default partition, account and QOS, with the limits of the association."""
    found = one(Where(), said)
    assert (found.partition, found.account, found.qos) == ("main", "users", "normal")
    assert (found.closed, found.waits, found.default_time) == ("", "", math.inf)
    assert list(found.limits) == [
        ALL_JOBS,
        Limit("job", "time", 3600, USER, "MaxWall"),
        Limit("job", "cpu-minutes", 100, USER, "MaxTRESMinsPerJob"),
        Limit("queue", "jobs", 20, USER, "MaxSubmitJobs", 5),
        *LINE,
    ]


def test_of_a_qos(said: Said) -> None:
    """A QOS says first what holds; the association only what is left, and accounts above it too."""
    found = one(Where(account="other", qos="short"), said)
    assert list(found.limits) == [
        ALL_JOBS,
        Limit("job", "time", 1800, "QOS short", "MaxWall"),
        Limit("job", "cpu", 4, "QOS short", "MaxTRESPerJob"),
        Limit("job", "node", 2, "QOS short", "MaxTRESPerJob"),
        Limit("job", "gres/gpu", 1, "QOS short", "MaxTRESPerJob"),
        Limit("running", "cpu", 100, "QOS short", "GrpTRES", 3),
        *([Limit("running", "mem", 4096, "QOS short", "GrpTRES", 1536)] if "mem=4096(" in said.manager else []),
        Limit("queue", "jobs", 20, "QOS short", "MaxSubmitJobsPerUser", 5),
        Limit("running", "jobs", 3, "QOS short", "MaxJobsPerUser", 3),
        LINE[0],
    ]


def test_of_a_qos_that_nobody_has_used(said: Said) -> None:
    """slurmctld tells limits for each user of those alone that have jobs; slurmdbd tells the others."""
    found = one(Where(qos="each"), said)
    assert list(found.limits) == [
        ALL_JOBS,
        Limit("queue", "jobs", 40, "QOS each", "GrpSubmitJobs"),
        Limit("running", "jobs", 9, "QOS each", "GrpJobs"),
        Limit("budget", "cpu-minutes", 1000, "QOS each", "GrpTRESMins"),
        Limit("running", "cpu", 8, "QOS each", "MaxTRESPerUser"),
        Limit("running", "mem", 8192, "QOS each", "MaxTRESPerUser"),
        Limit("queue", "jobs", 30, "QOS each", "MaxSubmitJobsPerAccount"),
        Limit("running", "cpu", 16, "QOS each", "MaxTRESPerAccount"),
        Limit("job", "time", 3600, USER, "MaxWall"),
        Limit("job", "cpu-minutes", 100, USER, "MaxTRESMinsPerJob"),
        Limit("running", "cpu", 32, "account users", "GrpTRES", 3),  # half of it: LimitFactor
    ]


def test_of_a_partition(said: Said) -> None:
    """A partition has limits of its own, unless the QOS stands above them, and takes whom it takes."""
    found = one(Where("low", "other"), said)
    assert list(found.limits[:2]) == [
        Limit("job", "time", 3600, "partition low", "MaxTime"), Limit("job", "node", 2, "partition low", "MaxNodes")
    ]  # fmt: skip
    assert found.default_time == 600
    assert found.closed == "partition low, which takes no jobs now (State DRAIN)"
    assert "MaxTime" not in [limit.name for limit in one(Where("low", "other", "each"), said).limits]


def test_barred(said: Said) -> None:
    """Whom a partition does not take is told with what it says."""
    open_again = Said(
        said.config, said.partitions.replace("State=DRAIN", "State=UP"), said.manager, said.users, said.qos
    )
    assert one(Where("low", "other"), open_again).closed == ""
    assert one(Where("low", "OTHER"), open_again).closed == ""
    assert one(Where("gpu", qos="Short"), said).closed == ""
    assert one(Where("low"), open_again).closed == "account users, and partition low has AllowAccounts foo,other"
    assert one(Where("gpu"), said).closed == "QOS normal, and partition gpu has AllowQos short"
    denied = open_again.partitions.replace("AllowAccounts=foo,other", "DenyAccounts=users")
    refused = one(Where("low"), Said(said.config, denied, said.manager, said.users, said.qos))
    assert refused.closed_to == "account"
    assert one(Where("low", "other"), Said(said.config, denied, said.manager)).closed == ""


def test_the_qos_of_a_partition(said: Said) -> None:
    """It comes before the job's, unless that says otherwise; a partition that is down is no reason to refuse."""
    found = one(Where("gpu", qos="each"), said)
    assert [limit.source for limit in found.limits if limit.name == "MaxWall"] == ["QOS short"]
    assert [limit.source for limit in found.limits if limit.kind == "queue"] == [
        "the cluster", "QOS each", "QOS each", "QOS short"
    ]  # fmt: skip
    assert found.waits == "partition gpu is down, and nothing starts there until it is up"


def test_several_partitions(said: Said) -> None:
    """Slurm takes any of them."""
    assert [place.partition for place in places(Where("gpu,main"), MINE, said)] == ["gpu", "main"]


def test_another_user(said: Said) -> None:
    """What others have used of a limit for each user is not taken from this one's."""
    found = {limit.name: limit for place in places(Where(qos="short"), 1001, said) for limit in place.limits}
    assert found["MaxSubmitJobsPerUser"].used == 0


@pytest.mark.parametrize("missing", ["manager", "users", "qos"])
@pytest.mark.parametrize("where", [Where(), Where(qos="each"), Where(qos="short"), Where("gpu"), Where("low", "other")])
def test_what_cannot_be_asked_is_no_limit(said: Said, missing: str, where: Where) -> None:
    """Without one of the answers fewer limits are known, and no others: what hides a limit may be what is not known."""
    whole = one(where, said)
    texts = {"manager": said.manager, "users": said.users, "qos": said.qos, missing: ""}
    found = one(where, Said(said.config, said.partitions, **texts))
    known = {(limit.kind, limit.what, limit.most, limit.source) for limit in whole.limits}
    assert {(limit.kind, limit.what, limit.most, limit.source) for limit in found.limits} <= known
    assert ALL_JOBS in found.limits


def test_without_slurmdbd(said: Said) -> None:
    """Then neither the job's QOS nor what of it hides limits is known."""
    found = one(Where(), Said(said.config, said.partitions, said.manager))
    assert (found.qos, found.limits) == ("", (ALL_JOBS,))


def test_whichever_qos_it_is(said: Said) -> None:
    """Where a job's QOS is not known, limits of the association that no QOS could hide are."""
    found = one(Where(), Said(said.config, said.partitions, said.manager, "", said.qos))
    assert [limit.name for limit in found.limits] == ["MaxJobCount", "MaxTRESMinsPerJob"]
    without = Said(said.config, said.partitions, said.manager.partition("QOS Records")[0], "", "normal||||||||\n")
    assert [limit.name for limit in one(Where(), without).limits] == [
        "MaxJobCount", "MaxWall", "MaxTRESMinsPerJob", "MaxSubmitJobs", "GrpSubmitJobs", "GrpTRES"
    ]  # fmt: skip


@pytest.mark.parametrize("partitions", ["", "slurm_load_partitions: error\n"])
def test_without_partitions(said: Said, partitions: str) -> None:
    """What bounds an account is known all the same."""
    found = one(Where(qos="short"), Said(said.config, partitions, said.manager, said.users, said.qos))
    assert found.partition == ""
    assert Limit("job", "time", 1800, "QOS short", "MaxWall") in found.limits


def test_a_partition_that_there_is_not(said: Said) -> None:
    """Slurm will say so itself."""
    found = one(Where("nosuch"), said)
    assert (found.partition, found.closed, found.default_time) == ("", "", None)


def test_nothing_is_enforced(said: Said) -> None:
    """Limits that Slurm does not enforce are none; those of partitions hold anyway."""
    found = one(Where("low"), Said({**said.config, "AccountingStorageEnforce": "none"}, said.partitions, said.manager))
    assert {limit.source for limit in found.limits} == {"partition low", "the cluster"}
    assert (
        one(Where("low"), Said({"AccountingStorageEnforce": "none"}, said.partitions.replace("DRAIN", "UP"))).closed
        == ""
    )


def test_a_plug_in_that_chooses(said: Said) -> None:
    """Where the site's own code may give a job another partition or QOS, only what was named is known."""
    routed_ = Said({**said.config, "JobSubmitPlugins": "lua"}, said.partitions, said.manager, said.users, said.qos)
    assert (one(Where(), routed_).partition, one(Where(), routed_).qos) == ("", "")
    assert one(Where("low", qos="short"), routed_).qos == "short"
    assert one(Where("low", qos="short"), routed_).limits[0].name == "MaxTime"


def test_an_association_with_a_partition(said: Said) -> None:
    """Users may have other limits in a partition than elsewhere."""
    record = "ClusterName=docker Account=users UserName=user(1000) Partition=high\n    MaxSubmitJobs=7(1) MaxWallPJ=5\n"
    manager = said.manager.replace("\nQOS Records", f"{record}\nQOS Records")
    users = said.users + "user|users|users|high|short|\n"
    changed = Said(said.config, said.partitions, manager, users, said.qos)
    assert (one(Where("high"), changed).qos, one(Where("main"), changed).qos) == ("short", "normal")
    found = one(Where("high", qos="normal"), changed)
    assert Limit("queue", "jobs", 7, USER, "MaxSubmitJobs", 1) in found.limits
    assert Limit("queue", "jobs", 20, USER, "MaxSubmitJobs", 5) not in found.limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", {"none"}),
        ("associations,limits,qos", {"associations", "limits", "qos"}),
        ("Associations, Limits", {"associations", "limits"}),
        ("safe", {"safe", "limits", "associations"}),
        ("all", {"all", "limits", "qos", "associations"}),
    ],
)
def test_enforced(text: str, expected: set[str]) -> None:
    """The settings of AccountingStorageEnforce imply others."""
    assert enforced({"AccountingStorageEnforce": text}) == expected


@pytest.mark.parametrize(
    ("config", "expected"), [({}, False), ({"JobSubmitPlugins": "(null)"}, False), ({"JobSubmitPlugins": "lua"}, True)]
)
def test_routed(config: Fields, expected: bool) -> None:
    """A plug-in of the site's for submissions is in the configuration."""
    assert routed(config) == expected


@pytest.mark.parametrize(
    ("wheres", "expected"),
    [
        ([Where(), Where()], 4),
        ([Where("gpu"), Where("gpu")], 2),
        ([Where("gpu"), Where("low")], 4),
        ([Where("nosuch"), Where("gpu")], 4),
    ],
)
def test_nodes(said: Said, wheres: list[Where], expected: int) -> None:
    """The nodes of the partitions in which a run may start, each once; of all, where they are not known."""
    assert nodes(wheres, said) == expected


def test_nodes_that_cannot_be_counted(said: Said) -> None:
    """Nobody is told of a number that is not known."""
    assert nodes([Where()], Said(said.config)) is None
    assert nodes([Where()], Said(said.config, "PartitionName=a Default=YES Nodes=n[1-\n")) is None
    assert nodes([Where()], Said(said.config, "PartitionName=a Default=YES\n")) is None


def test_a_comment_is_no_limit(said: Said) -> None:
    """Text that people wrote is not read."""
    manager = said.manager.replace("MinPrioThresh=\n", "MinPrioThresh=\n    Comment=MaxSubmitJobs=1(0) MaxWallPJ=1\n")
    assert one(Where(), Said(said.config, said.partitions, manager, said.users, said.qos)) == one(Where(), said)
