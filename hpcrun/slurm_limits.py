"""The limits that hold for a job, from what scontrol and sacctmgr print. Pure.

The texts: ``scontrol show config``, ``scontrol --all --oneliner show partition``, ``scontrol show assoc_mgr`` with
users, associations and QOS (limits and their use, which any user may ask slurmctld for), and from slurmdbd what
slurmctld does not tell: default QOS, flags, and limits for each user (22.05 to 26.05 print all of them alike).
Which limit wins where several say something is Slurm's rule: the partition's QOS, the job's QOS, the association (man
sacctmgr and "Resource Limits" of Slurm's documentation; acct_policy.c).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from hpcrun import quantity
from hpcrun.errors import HostlistError
from hpcrun.hostlist import expand
from hpcrun.quotas import JOBS, MINUTES, TIME, Kind, Limit, Place, Where

USERS = ("User", "DefaultAccount", "Account", "Partition", "QOS", "DefaultQOS")
"""The columns of ``sacctmgr show user NAME withassoc`` that `places` reads."""
QOS = ("Name", "Flags", "LimitFactor", "MaxSubmitPU", "MaxSubmitPA", "MaxJobsPU", "MaxJobsPA", "MaxTRESPU", "MaxTRESPA")
"""The columns of ``sacctmgr show qos`` that `places` reads."""

Fields = Mapping[str, str]

_FIELD = re.compile(r"(?:^|\s)([A-Za-z][\w/]*)=(\S*)")
_VALUE = re.compile(r"(N|\d+(?:\.\d+)?)(?:\((\d+(?:\.\d+)?)\))?")


@dataclasses.dataclass(frozen=True)
class Said:
    """What Slurm's commands printed; empty where one could not be asked."""

    config: Fields
    partitions: str = ""
    manager: str = ""
    users: str = ""
    qos: str = ""


def fields(line: str) -> dict[str, str]:
    """The ``NAME=VALUE`` in a line of scontrol's."""
    return {match[1]: match[2] for match in _FIELD.finditer(line)}


def partitions(text: str) -> dict[str, Fields]:
    """Each partition by name."""
    found = [fields(line) for line in text.splitlines()]
    return {one["PartitionName"]: one for one in found if "PartitionName" in one}


def enforced(config: Fields) -> frozenset[str]:
    """What AccountingStorageEnforce names; limits imply associations."""
    found = frozenset(config.get("AccountingStorageEnforce", "").replace(" ", "").lower().split(","))
    if found & {"all", "safe"}:
        found |= {"limits", "qos"} if "all" in found else {"limits"}
    return found | {"associations"} if "limits" in found else found


def routed(config: Fields) -> bool:
    """Whether a plug-in of the site's may give a job what its user did not ask for."""
    return config.get("JobSubmitPlugins", "") not in ("", "(null)")


def names(where: Where, config: Fields, known: Mapping[str, Fields]) -> list[str]:
    """The partitions that a job may start in; none where that is not known."""
    if where.partition:
        return [name for name in where.partition.split(",") if name in known]
    return [] if routed(config) else [name for name, one in known.items() if one.get("Default") == "YES"]


def nodes(where: Iterable[Where], said: Said) -> int | None:
    """How many nodes the partitions have in which components of a run may start, or all of them; None if unknown."""
    known = partitions(said.partitions)
    used = {name for one in where for name in (names(one, said.config, known) or known)}
    try:
        return len({host for name in used for host in expand(known[name]["Nodes"])}) or None
    except (KeyError, HostlistError):
        return None


def places(where: Where, uid: int, said: Said) -> tuple[Place, ...]:
    """Each partition in which a job may start, with all that bounds it there; what is not known bounds nothing."""
    known = partitions(said.partitions)
    manager = _manager(said.manager)
    where = Where(where.partition, where.account.lower(), where.qos.lower())  # as Slurm keeps these names
    nowhere = {"PartitionName": ""}  # what bounds an account holds wherever its jobs are
    found = names(where, said.config, known) or [""]
    return tuple(_Setting(where, uid, said, manager, known.get(name, nowhere)).place() for name in found)


@dataclasses.dataclass
class _Manager:
    """The records of ``scontrol show assoc_mgr``."""

    default_account: str = ""
    associations: list[Fields] = dataclasses.field(default_factory=list)
    qos: dict[str, Fields] = dataclasses.field(default_factory=dict)
    used: dict[tuple[str, str], Fields] = dataclasses.field(default_factory=dict)
    """What an account, or a user by number, has of a QOS, by (QOS, account or number)."""


def _manager(text: str) -> _Manager:
    found, record, name = _Manager(), dict[str, str](), ""
    for line in text.splitlines():
        said = fields(line)
        if not line.startswith(" ") and said:
            record = said
            name = said.get("QOS", "").partition("(")[0]
            if name:
                found.qos[name] = record
            elif "ClusterName" in said:
                found.associations.append(record)
            elif "DefAccount" in said:
                found.default_account = said["DefAccount"]
        elif name and line.strip() and not said:  # "Account Limits", "User Limits", then whose they are
            record = {}
            found.used[name, _whose(line.strip())] = record
        elif not line.lstrip().startswith("Comment="):
            record.update(said)
    return found


def _whose(header: str) -> str:
    """The account, or the number of the user: 22.05 prints it alone, others behind the name."""
    match = re.fullmatch(r"\S*?\(?(\d+)\)?", header)
    return match[1] if match else header


def _table(text: str, columns: tuple[str, ...]) -> list[Fields]:
    rows = [line.split("|") for line in text.splitlines()]
    return [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]


@dataclasses.dataclass(frozen=True)
class _Setting:
    """One partition that a job may start in."""

    where: Where
    uid: int
    said: Said
    manager: _Manager
    partition: Fields

    def place(self) -> Place:
        name = self.partition["PartitionName"]
        default = _limit_of_time(self.partition.get("DefaultTime", ""))
        closed, closed_to = self.closed()
        down = self.partition.get("State") == "DOWN"
        return Place(
            partition=name,
            account=self.account,
            qos=self.qos,
            limits=tuple(self.limits()),
            default_time=default,
            closed=closed,
            closed_to=closed_to,
            waits=f"partition {name} is down, and nothing starts there until it is up" if down else "",
        )

    @property
    def account(self) -> str:
        return self.where.account or self.manager.default_account

    @property
    def qos(self) -> str:
        """The job's QOS, by Slurm's rule where it names none; empty where that is not known."""
        if self.where.qos or routed(self.said.config):
            return "" if "," in self.where.qos else self.where.qos
        rows = [row for row in _table(self.said.users, USERS) if row["Account"] == self.account]
        name = self.partition["PartitionName"]
        mine = [row for row in rows if row["Partition"] == name] or [row for row in rows if not row["Partition"]]
        if not mine:
            return ""
        allowed = mine[0]["QOS"].split(",")
        return mine[0]["DefaultQOS"] or (allowed[0] if len(allowed) == 1 and allowed[0] else "normal")

    def closed(self) -> tuple[str, str]:
        """Why no job of this kind may be queued here, and what would have to be another; empty where one may."""
        name, state = self.partition["PartitionName"], self.partition.get("State", "")
        if state in ("INACTIVE", "DRAIN"):
            return f"partition {name}, which takes no jobs now (State {state})", "partition"
        rules = enforced(self.said.config)
        if "associations" in rules and self.account:
            line = [one["Account"] for one in self.line()] or [self.account]
            for what, ours in (("AllowAccounts", line), ("DenyAccounts", line[:1])):
                if self._barred(what, ours):
                    return (
                        f"account {self.account}, and partition {name} has {what} {self.partition[what]}",
                        "account",
                    )
        for what in ("AllowQos", "DenyQos") if self.qos and "qos" in rules else ():
            if self._barred(what, [self.qos]):
                return f"QOS {self.qos}, and partition {name} has {what} {self.partition[what]}", "QOS"
        return "", ""

    def _barred(self, what: str, ours: list[str]) -> bool:
        listed = self.partition.get(what, "ALL" if what.startswith("Allow") else "")
        if not listed or listed in ("ALL", "(null)", "N/A"):
            return False
        there = bool(set(ours) & set(listed.lower().split(",")))
        return not there if what.startswith("Allow") else there

    def line(self) -> list[Fields]:
        """The user's association with the account, that of the account, and those of the accounts above it."""
        name = self.partition["PartitionName"]
        own = [one for one in self.manager.associations if one.get("Account") == self.account and one.get("UserName")]
        mine = [one for one in own if one["Partition"] == name] or [one for one in own if not one.get("Partition")]
        accounts = {one["Account"]: one for one in self.manager.associations if not one.get("UserName")}
        found, account = mine[:1], self.account
        while account in accounts:
            record = accounts.pop(account)
            found.append(record)
            account = record.get("ParentAccount", "").partition("(")[0]
        return found

    def limits(self) -> Iterator[Limit]:
        """Everything that bounds a job here."""
        rows = {row["Name"]: row for row in _table(self.said.qos, QOS)}
        order = [
            name for name in (self.partition.get("QoS", ""), self.qos or self.where.qos) if name not in ("", "N/A")
        ]
        flags = {name: rows[name]["Flags"].split(",") for name in order if name in rows}
        if "OverPartQOS" in flags.get(order[-1] if order else "", ()):
            order.reverse()
        if set(order) <= set(flags) or not (self.where.qos or order[:-1]):  # flags may lift what a partition says
            yield from self._of_partition({flag for some in flags.values() for flag in some})
        most = self.said.config.get("MaxJobCount", "")
        if most.isdecimal():  # slurmctld keeps one free; how many there are of everybody's, it does not tell for little
            yield Limit("queue", JOBS, int(most) - 1, "the cluster", "MaxJobCount")
        if "limits" not in enforced(self.said.config):
            return
        taken: set[str] = set()
        for name in dict.fromkeys(order):
            found = list(self._of_qos(name, rows))
            yield from (limit for key, limit in found if key not in taken)
            taken |= {key for key, _ in found}
        if not self.qos:  # whichever it is, what none of them says is the association's
            taken |= {key for name in self.manager.qos for key, _ in self._of_qos(name, rows)}
        factors = [rows[name]["LimitFactor"] for name in order if name in rows and rows[name]["LimitFactor"]]
        if rows:
            yield from self._of_associations(taken, float(factors[0]) if factors else 1.0)

    def _of_partition(self, flags: set[str]) -> Iterator[Limit]:
        source = f"partition {self.partition['PartitionName']}"
        time, nodes = _limit_of_time(self.partition.get("MaxTime", "")), self.partition.get("MaxNodes", "")
        if time is not None and time != math.inf and "PartitionTimeLimit" not in flags:
            yield Limit("job", TIME, time, source, "MaxTime")
        if nodes.isdecimal() and "PartitionMaxNodes" not in flags:
            yield Limit("job", "node", int(nodes), source, "MaxNodes")

    def _of_qos(self, name: str, rows: Mapping[str, Fields]) -> Iterator[tuple[str, Limit]]:
        """The limits of a QOS, each with the key under which it hides those that come after it."""
        record, row, source = self.manager.qos.get(name, {}), rows.get(name, {}), f"QOS {name}"
        yield from _limits(record, _OF_JOB + _OF_GROUP, source)
        for whose, end, each in (("PU", "PerUser", str(self.uid)), ("PA", "PerAccount", self.account)):
            mine = self.manager.used.get((name, each), {})
            for kind, what, key, column in _OF_EACH:
                # Who has had no job with this QOS has no record yet: then slurmdbd's word is all there is.
                text = mine.get(key + whose) or row.get(column + whose, "")
                yield from _limits({key: text}, [(kind, what, key, key + end, key + whose)], source)

    def _of_associations(self, taken: set[str], factor: float) -> Iterator[Limit]:
        """The limits of the association and of the accounts above, where no QOS has such a limit."""
        hidden = taken | {key[:-2] for key in taken if key[:-2] in ("MaxSubmitJobs", "MaxJobs")}
        for record in self.line():
            user = record.get("UserName", "").partition("(")[0]
            source = f"user {user} in account {record['Account']}" if user else f"account {record['Account']}"
            rules = _OF_GROUP + (_OF_JOB + _OF_USER if user else [])
            for key, limit in _limits(record, rules, source):
                if key not in hidden:
                    yield dataclasses.replace(limit, most=limit.most * factor) if "TRES:" in key else limit


Rule = tuple[Kind, str, str, str, str]
"""Kind of limit, what it bounds, the key in scontrol's record, the name that people know, the key that hides it."""

_OF_JOB: list[Rule] = [
    ("job", TIME, "MaxWallPJ", "MaxWall", "MaxWall"),
    ("job", "", "MaxTRESPJ", "MaxTRESPerJob", "MaxTRES"),
    ("job", MINUTES, "MaxTRESMinsPJ", "MaxTRESMinsPerJob", "MaxTRESMins"),
]
_OF_GROUP: list[Rule] = [
    ("queue", JOBS, "GrpSubmitJobs", "GrpSubmitJobs", "GrpSubmitJobs"),
    ("running", JOBS, "GrpJobs", "GrpJobs", "GrpJobs"),
    ("running", "", "GrpTRES", "GrpTRES", "GrpTRES"),
    ("running", MINUTES, "GrpTRESRunMins", "GrpTRESRunMins", "GrpTRESRunMins"),
    ("budget", MINUTES, "GrpTRESMins", "GrpTRESMins", "GrpTRESMins"),
]
_OF_USER: list[Rule] = [
    ("queue", JOBS, "MaxSubmitJobs", "MaxSubmitJobs", "MaxSubmitJobs"),
    ("running", JOBS, "MaxJobs", "MaxJobs", "MaxJobs"),
]
_OF_EACH: list[tuple[Kind, str, str, str]] = [
    ("queue", JOBS, "MaxSubmitJobs", "MaxSubmit"),
    ("running", JOBS, "MaxJobs", "MaxJobs"),
    ("running", "", "MaxTRES", "MaxTRES"),
]
"""What a QOS allows each user and each account: kind, what, scontrol's key and sacctmgr's column."""


def _limits(record: Fields, rules: Iterable[Rule], source: str) -> Iterator[tuple[str, Limit]]:
    """The limits that a record has, each with the key that hides others: of resources, one for each."""
    for kind, what, key, name, hides in rules:
        text = record.get(key, "")
        if what in (JOBS, TIME):
            value = _value(text)
            if value:
                most = value[0] * 60 if what == TIME else value[0]
                yield hides, Limit(kind, what, most, source, name, value[1])
            continue
        for resource, amount in (part.partition("=")[::2] for part in text.split(",") if "=" in part):
            value = _value(amount) or _memory(amount)
            if value:
                yield f"{hides}:{resource}", Limit(kind, resource + what, value[0], source, name, value[1])


def _value(text: str) -> tuple[float, float] | None:
    """(limit, used) of ``20(5)`` and ``20``; None of ``N(5)`` and of what is no number."""
    match = _VALUE.fullmatch(text)
    return (float(match[1]), float(match[2] or 0)) if match and match[1] != "N" else None


def _memory(text: str) -> tuple[float, float] | None:
    """(MiB, 0) of sacctmgr's ``4G``."""
    try:
        return float(quantity.memory(text)), 0.0
    except ValueError:
        return None


def _limit_of_time(text: str) -> float | None:
    try:
        return quantity.time_limit(text)
    except ValueError:
        return None
