"""What Slurm's configuration and limits mean for runs. Pure.

The names are those of ``scontrol show config``, their meanings and defaults those of man slurm.conf.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping

from hpcrun.doctor.facts import SLURM, Facts, Finding, Site, State
from hpcrun.quotas import JOBS, Limit, Place, amount, room, taken
from hpcrun.slurm_releases import NEWEST, OLDEST, release, untried

APART = 2.0
"""Seconds by which clocks may differ: as much as hpcrun waits before it starts a requeued job."""
FAR_APART = 30.0
_TOO_FAR = 300.0
"""munge takes no credential that is older, or younger, than this (man munged, --ttl)."""
_AS_OF = "Configuration data as of "


def examine(facts: Facts) -> Iterator[Finding]:
    """Every finding on the cluster as a whole."""
    site = facts.site
    if site is None:
        return
    if not facts.machine.commands.get("scontrol"):
        return  # which is said already
    if not site.config:
        yield _finding(
            "slurmctld",
            "problem",
            f"gives no answer: {site.error}",
            "Nothing can be submitted, and a run's status is what its records say.",
            "scontrol ping; where it stays silent, ask those who run the cluster",
        )
        return
    for check in _CHECKS:
        found = check(site)
        if found is not None:
            yield found


def _finding(name: str, state: State, found: str, meaning: str = "", todo: str = "") -> Finding:
    return Finding(SLURM, name, state, found, meaning, todo)


def _version(site: Site) -> Finding:
    text = site.config.get("SLURM_VERSION", "")
    found, (oldest, newest) = release(text), (f"{year}.{month:02}" for year, month in (OLDEST, NEWEST))
    if found is None:
        return _finding(
            "version",
            "note",
            f"of an unknown version {text!r}; hpcrun is tried on {oldest} to {newest}",
            "It may work: only output that has long been the same is read.",
            _TRY,
        )
    if found < OLDEST:
        return _finding(
            "version",
            "problem",
            untried(text),
            "Its srun and its states differ: jobs with workers and ranks are the first to fail.",
            f"ask for a newer Slurm; {_TRY} shows whether arrays work",
        )
    if found > NEWEST:
        return _finding(
            "version",
            "note",
            untried(text),
            "It should work: only output that has long been the same is "
            "read, and a state that is not known is never taken for an end.",
            _TRY,
        )
    return _finding("version", "ok", f"Slurm {text}, cluster {site.config.get('ClusterName', '')}")


_TRY = "hpcrun run -N 2 -- hostname"


def _accounting(site: Site) -> Finding:
    kind = site.config.get("AccountingStorageType", "")
    if "slurmdbd" in kind:
        return _finding("accounting", "ok", "slurmdbd")
    age = _seconds(site.config, "MinJobAge", 300)
    return _finding(
        "accounting",
        "note",
        f"no slurmdbd ({kind.rpartition('/')[2] or 'none'})",
        f"sacct knows nothing, and slurmctld forgets an ended job after {age:.0f} s: how it ended is then known by its "
        "records alone (a killed supervisor reads `lost`), and `hpcrun usage` has no charges.",
    )


def _arrays(site: Site) -> Finding:
    if site.limits is None:
        return _finding("arrays", "not checked", "limits could not be asked")
    most = site.limits.max_array
    if most <= 1:
        return _finding(
            "arrays",
            "problem",
            f"MaxArraySize is {most}: there are no job arrays",
            "A run of several shards cannot be submitted.",
            "hpcrun run --gang …   # all shards in one allocation",
        )
    lower = re.search(r"max_array_tasks=(\d+)", site.config.get("SchedulerParameters", ""))
    named = "max_array_tasks" if lower and int(lower[1]) <= most else "MaxArraySize"
    return _finding("arrays", "ok", f"{most:,} elements each ({named}); larger runs become several arrays")


def _limits(site: Site) -> Finding | None:
    places = site.limits.places if site.limits else ()
    if not places or not places[0]:
        return None
    here: Place = places[0][0]
    where = f"partition {here.partition or '(the default)'}" + (f", account {here.account}" if here.account else "")
    if here.closed:
        return _finding(
            "limits",
            "problem",
            f"closed for you: {here.closed}",
            "Runs are refused there.",
            f"another {here.closed_to}; " + ("sinfo" if here.closed_to == "partition" else _MINE) + " lists them",
        )
    queue, running = room(places), [one for one in here.limits if one.kind == "running" and one.what == JOBS]
    shut = [one for one in (*([queue] if queue else []), *running) if one.most == 0]
    if shut:
        return _finding(
            "limits",
            "problem",
            f"{shut[0].source} allows no job ({shut[0].name} 0)",
            "Every run is refused, or waits for ever.",
            f"another account or QOS; {_MINE} lists them",
        )
    if queue and queue.left == 0:
        return _finding(
            "limits",
            "problem",
            f"the queue has no room: {queue.source}, {taken(queue)}",
            "A run is refused until some of these jobs have ended.",
            "squeue --me",
        )
    said = [
        f"{one.source}: {taken(one)}" for one in (*([queue] if queue and queue.name != "MaxJobCount" else []), *running)
    ]
    said += [_of_job(one) for one in here.limits if one.kind == "job"]
    if here.waits:
        return _finding("limits", "note", here.waits, "Runs are taken, and wait.", "sinfo")
    if not said:
        return _finding("limits", "ok", f"none for you in {where}")
    tight = queue is not None and queue.left < _TIGHT
    meaning = (
        "Where a run has more shards than the queue takes, an element of its array runs several, one after the other."
    )
    return _finding("limits", "note" if tight else "ok", f"{where}: {'; '.join(said)}", meaning * tight)


_TIGHT = 100
_MINE = "sacctmgr show user $USER withassoc"


def _of_job(limit: Limit) -> str:
    return f"{limit.source}: {limit.name} {amount(limit.what, limit.most)}"


def _filters(site: Site) -> Finding | None:
    named = [site.config.get(key, "") for key in ("JobSubmitPlugins", "CliFilterPlugins")]
    plugins = ", ".join(name for name in named if name not in ("", "(null)"))
    if not plugins:
        return None
    return _finding(
        "submit filter",
        "note",
        f"plug-ins look at every job: {plugins}",
        "They may refuse one, or give it another partition, account or time than asked for; limits are "
        "then known to Slurm alone.",
        "scontrol show job JOB   # what became of one",
    )


def _exit_codes(site: Site) -> Finding | None:
    keys = ("RequeueExit", "RequeueExitHold")
    said = [f"{key} {site.config[key]}" for key in keys if site.config.get(key, "(null)") not in ("", "(null)")]
    if not said:
        return None
    return _finding(
        "exit codes",
        "note",
        f"Slurm itself requeues jobs that end with certain codes: {', '.join(said)}",
        "A shard ends as its program does, so one with such a code starts again beyond its budget, or is held.",
        "let programs end with other codes",
    )


def _waits(site: Site) -> Finding:
    found = re.search(r"cred_expire=(\d+)", site.config.get("AuthInfo", ""))
    wait = (int(found[1]) if found else 120) + 1
    return _finding(
        "requeue wait", "ok", f"{wait} s before a requeued shard starts again; who follows the run ends that after 2 s"
    )


def _scheduler(site: Site) -> Finding:
    kind, said = site.config.get("SchedulerType", ""), parameters(site.config)
    if kind and "backfill" not in kind:
        return _finding(
            "scheduler",
            "problem",
            kind,
            "Only the backfill scheduler starts heterogeneous jobs: a job with "
            "workers of its own component waits for ever.",
            "topology: flat   # in specs with workers",
        )
    slow = (
        [f"heterogeneous jobs wait for the next pass (bf_interval, {said.get('bf_interval', '30')} s)"]
        if "bf_hetjob_immediate" not in said
        else []
    )
    if "defer" in said:
        slow.append("no job starts at its submission (defer), but with the next pass")
    delay = said.get("batch_sched_delay", "3")
    if delay.isdecimal() and int(delay) > 3:
        slow.append(f"batch jobs wait for up to {delay} s (batch_sched_delay)")
    if not slow:
        return _finding("scheduler", "ok", "backfill, heterogeneous jobs start at once")
    return _finding("scheduler", "ok" if len(slow) == 1 else "note", "backfill; " + "; ".join(slow))


def parameters(config: Mapping[str, str]) -> dict[str, str]:
    """SchedulerParameters by name."""
    return dict(part.partition("=")[::2] for part in config.get("SchedulerParameters", "").split(",") if part)


def _preemption(site: Site) -> Finding:
    mode = site.config.get("PreemptMode", "OFF").upper()
    if "PreemptType" in site.config and site.config["PreemptType"] in ("(null)", "preempt/none"):
        mode = "OFF"
    if "CANCEL" in mode:
        return _finding(
            "preemption",
            "note",
            f"PreemptMode {mode}: a preempted job is cancelled, not requeued",
            "Its shards end as preempted, and Slurm does not start them again.",
            "hpcrun retry RUN   # goes on with those that are missing",
        )
    if "SUSPEND" in mode or "GANG" in mode:
        return _finding(
            "preemption",
            "note",
            f"PreemptMode {mode}: jobs may be stopped for a while",
            "Time limits of `timeout` go on meanwhile, and a gang of which a part is stopped counts it as "
            "dead after lost_after.",
            'In hpcrun.toml: lost_after = "10m"',
        )
    return _finding("preemption", "ok", "off" if mode == "OFF" else "by requeue, with a budget of its own in retries")


def _endings(site: Site) -> Finding:
    wait, silent = _seconds(site.config, "KillWait", 30), _seconds(site.config, "SlurmdTimeout", 300)
    if silent == 0:
        return _finding(
            "lost nodes",
            "problem",
            "SlurmdTimeout is 0: Slurm never gives up a silent node",
            "A shard whose node dies runs for ever, as Slurm has it.",
            "give runs a `timeout` and a `run_timeout`, and tell those who run the cluster",
        )
    if wait < _SHORT_KILL_WAIT:
        return _finding(
            "ends",
            "note",
            f"KillWait is {wait:.0f} s: so long a job that is to end may take",
            "A program that writes a checkpoint at SIGTERM has no more than that; nor has the record of its end.",
            "signal: USR2@120   # in the spec: a warning that long before the time limit",
        )
    return _finding(
        "ends",
        "ok",
        f"{wait:.0f} s from SIGTERM to SIGKILL (KillWait); a silent node is given up after "
        f"{silent:.0f} s (SlurmdTimeout)",
    )


_SHORT_KILL_WAIT = 10


def _processes(site: Site) -> Finding:
    kind = site.config.get("ProctrackType", "").rpartition("/")[2]
    if kind in ("linuxproc", "pgid"):
        return _finding(
            "processes",
            "note",
            f"ProctrackType {kind}: without cgroups",
            "A daemon that leaves its session (setsid) outlives its job, under raw sbatch too.",
            "let programs run in the foreground",
        )
    return _finding("processes", "ok", f"kept together by {kind or 'an unknown plug-in'}: nothing outlives its job")


def _memory(site: Site) -> Finding:
    config = site.config
    consumed = "MEMORY" in config.get("SelectTypeParameters", "").upper()
    kept = config.get("ConstrainRAMSpace", "").lower() == "yes"
    killed = "OverMemoryKill" in config.get("JobAcctGatherParams", "")
    if consumed and (kept or killed):
        return _finding("memory", "ok", "limited to what a job asks for" + ("" if kept else ", by Slurm's own watch"))
    if not consumed:
        return _finding(
            "memory",
            "note",
            "not shared out (SelectTypeParameters without memory)",
            "Slurm puts jobs side by side whatever they ask for: a node can run out, and the kernel picks "
            "whom to kill.",
            "sbatch: {exclusive: true}   # in specs of large programs",
        )
    return _finding(
        "memory",
        "note",
        "shared out, and not enforced (no ConstrainRAMSpace)",
        "A program may take more than it asked for, and that of a neighbour: it may be killed on a full "
        "node, of cause `failed` by signal 9.",
    )


def _gpus(site: Site) -> Finding:
    kinds = [name for name in site.config.get("GresTypes", "").split(",") if name not in ("", "(null)")]
    if "gpu" in kinds:
        return _finding("GPUs", "ok", "known to Slurm (GresTypes gpu)")
    return _finding("GPUs", "ok", "none (GresTypes); a spec with `gpus` is refused by Slurm")


def _mpi(site: Site) -> Finding:
    kinds = re.findall(r"^\s+(\w+)$", site.mpi, re.MULTILINE)
    default = site.config.get("MpiDefault", "none").replace("(null)", "none")
    if not kinds:
        return _finding("MPI", "not checked", "srun --mpi=list gave no answer")
    if "pmix" in kinds:
        return _finding("MPI", "ok", f"pmix (srun --mpi: {', '.join(kinds)}; default {default})")
    return _finding(
        "MPI",
        "note",
        f"no PMIx here; srun --mpi has {', '.join(kinds)}, by default {default}",
        "An MPI that is built for PMIx (as Open MPI 5 is) starts each rank as a program of its own.",
        "module avail mpi   # one that the site has built; or mpi: pmi2 in the spec",
    )


def _clock(site: Site) -> Finding:
    told = next((name.removeprefix(_AS_OF) for name in site.config if name.startswith(_AS_OF)), "")
    try:
        there = time.mktime(time.strptime(told, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return _finding("slurmctld's clock", "not checked", "slurmctld does not tell")
    return clock(SLURM, "slurmctld's clock", "slurmctld's", there - site.asked)


def clock(group: str, name: str, whose: str, ahead: float, about: str = "some") -> Finding:
    """What a clock means that is `ahead` of this machine's by so many seconds, `about`."""
    if abs(ahead) <= APART:
        return Finding(group, name, "ok", "agrees with this machine's")
    side = "ahead of" if ahead > 0 else "behind"
    found = f"{whose} clock is {about} {abs(ahead):.0f} s {side} this machine's"
    meaning = "`run_timeout`, `backoff` and the times that status shows are off by as much"
    if abs(ahead) > FAR_APART:
        meaning += ", and munge, where it is used, refuses what is 300 s apart" if abs(ahead) > _TOO_FAR else ""
    state: State = "problem" if abs(ahead) > FAR_APART else "note"
    todo = "tell those who run the cluster; `chronyc tracking` or `timedatectl` there shows why"
    return Finding(group, name, state, found, meaning + ".", todo)


def _seconds(config: Mapping[str, str], name: str, default: float) -> float:
    """The seconds of ``30 sec``."""
    match = re.match(r"\d+", config.get(name, ""))
    return float(match[0]) if match else default


_CHECKS: tuple[Callable[[Site], Finding | None], ...] = (
    _version,
    _clock,
    _accounting,
    _arrays,
    _limits,
    _filters,
    _waits,
    _exit_codes,
    _scheduler,
    _preemption,
    _endings,
    _processes,
    _memory,
    _gpus,
    _mpi,
)
