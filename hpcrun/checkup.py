"""Checkup: everything that `hpcrun doctor` asks, of this machine, of Slurm, and of a node by one small job.

`hpcrun.doctor` judges it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import locale
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from hpcrun import config as settings
from hpcrun import runtime, script, spec, submission
from hpcrun.cluster import QueueRow
from hpcrun.compile import wheres
from hpcrun.config import Config
from hpcrun.directives import placed
from hpcrun.doctor.facts import Facts, Folder, Machine, Probe, Site, Trial
from hpcrun.doctor.machine import NEEDED, USED
from hpcrun.errors import ClusterUnavailable, ConfigError, HostlistError, HpcrunError, SubmissionRefused
from hpcrun.events import claim
from hpcrun.hostlist import expand
from hpcrun.poller import installed, usable
from hpcrun.quotas import TIME
from hpcrun.roles import node_pool
from hpcrun.run import runs_folder
from hpcrun.rundir import RunDir
from hpcrun.settings_files import files
from hpcrun.slurm import Slurm
from hpcrun.spec import RunSpec
from hpcrun.states import TERMINAL, from_slurm
from hpcrun.whole import write_whole

_READ_BY_SLURM = ("SBATCH_", "SLURM_CLUSTERS", "SLURM_JOB_ID")
_NOT_FOR_A_PROBE = frozenset(
    ("comment", "dependency", "exclusive", "mail-type", "mail-user", "no-requeue", "time", "time-min", "wait-all-nodes")
)
"""Options that runs get from the settings, and that would make a job of seconds wait, or write letters."""
_BYTES, _FILES = 4 << 20, 100
"""What is written on trial: a quota that is used up is seen by nothing else."""
_LATE = 8.0
"""Seconds that a network file system may take to show here what a node has written."""
_MINUTES = 5
"""The small job's time limit, where none is lower."""
_RUNS = 120.0
"""Seconds that the small job may run."""
_ANSWER = 20.0
"""Seconds in which its node hears whether it may be requeued; slurmctld's own deadline is 10 s."""
_GONE = 20.0
"""Seconds in which a job that is cancelled has left the queue."""
_TRIAL = 60.0


@dataclasses.dataclass(frozen=True)
class Asked:
    """Where the small job goes, and how long it may wait."""

    options: Mapping[str, str | bool]
    """sbatch's, by their long names; True for those without a value."""
    pool: str | None = None
    cluster: str | None = None
    timeout: float | None = 60.0
    """Seconds that it may wait in the queue; None for no job."""


def ask(environ: Mapping[str, str], cwd: str, asked: Asked) -> Facts:
    """Everything, as it is now. Raises UsageError for options that no run could have."""
    unread = ""
    try:
        config = settings.load(environ, cwd)
    except ConfigError as error:
        unread, home = str(error), environ.get("HPCRUN_HOME") or "~/.hpcrun"
        config = Config(home=os.path.abspath(os.path.expanduser(home)))
    cluster = submission.choose(asked.cluster or config.cluster)
    commands = {name: shutil.which(name, path=environ.get("PATH")) or "" for name in (*NEEDED, *USED)}
    site = _site(environ, config, asked) if cluster == "slurm" else None
    machine = Machine(
        host=platform.node(),
        python=platform.python_version(),
        settings=tuple(files(environ, cwd)),
        unread=unread,
        cluster=asked.cluster or config.cluster,
        node_python=config.node_python,
        poller=config.poller,
        retry=str(config.defaults.get("retry", "requeue")),
        containers=config.containers.runtime or "",
        commands=commands,
        script=_script(commands["sbatch"]),
        environ={name: value for name, value in environ.items() if name.startswith(_READ_BY_SLURM)},
        locale=_locale(),
        pyslurm=installed() or "",
        unfit=usable(installed(), site.config.get("SLURM_VERSION", "")) if site else "",
    )
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(_place(runs_folder(config.home)))
        except OSError as error:
            reason = f"{error.strerror}" + (f": {error.filename}" if error.filename else "")
            nowhere = Probe("skipped", reason="there is no folder for its report")
            return Facts(machine, Folder(runs_folder(config.home), reason), site, nowhere)
        folder = _folder(config.home, place)
        if site is None:
            return Facts(machine, folder, trial=_trial(config, place))
        return Facts(machine, folder, site, _probe(environ, config, asked, site, place))


@contextlib.contextmanager
def _place(runs: str) -> Iterator[str]:
    """A folder among those of runs, which is none, and is gone in the end."""
    os.makedirs(runs, mode=0o700, exist_ok=True)
    place = tempfile.mkdtemp(prefix=".doctor-", dir=runs)
    try:
        yield place
    finally:
        os.chmod(place, 0o700)
        shutil.rmtree(place, ignore_errors=True)


def _script(sbatch: str) -> str:
    """The first line of sbatch, where it is a script."""
    try:
        with open(sbatch, "rb") as file:
            first = file.readline(200).rstrip()
    except OSError:
        return ""
    return first.decode("utf-8", "replace") if first.startswith(b"#!") else ""


def _locale() -> str:
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        names = (name for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name))
        return ", ".join(f"{name}={os.environ[name]}" for name in names) or "an LC_* variable"
    finally:
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, before)
    return ""


def _folder(home: str, place: str) -> Folder:
    runs = runs_folder(home)
    states = {path: os.stat(path) for path in (home, runs)}
    room = os.statvfs(place)
    return Folder(
        path=runs,
        modes={path: stat.S_IMODE(found.st_mode) for path, found in states.items()},
        strangers={path: found.st_uid for path, found in states.items() if found.st_uid not in (0, os.getuid())},
        refused=_refused(place),
        kind=_kind(place),
        free=room.f_bavail * room.f_frsize,
        files=room.f_favail if room.f_files else None,
    )


def _refused(place: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for what, attempt in _OPERATIONS.items():
        try:
            attempt(os.path.join(place, what.replace(" ", "-")))
        except OSError as error:
            found[what] = error.strerror or str(error)
    return found


def _claim(path: str) -> None:
    if not claim(path, "once") or claim(path, "twice"):
        raise OSError("a second claim was granted")


def _exclusive(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        raise OSError("a file was created twice")


def _rename(path: str) -> None:
    write_whole(path, "old")
    write_whole(path, "new")


def _lock(path: str) -> None:
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(path: str) -> None:
    os.mkdir(path)
    try:
        with open(os.path.join(path, "large"), "wb") as file:
            file.write(bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a quota may show no sooner
        for number in range(_FILES):
            write_whole(os.path.join(path, str(number)), "")
    finally:
        shutil.rmtree(path, ignore_errors=True)


_OPERATIONS: dict[str, Callable[[str], None]] = {
    "hard links": _claim,
    "exclusive creation": _exclusive,
    "renaming": _rename,
    "locks": _lock,
    f"writing {_BYTES >> 20} MiB and {_FILES} files": _write,
}


def _kind(path: str) -> str:
    """The type of the file system that `path` is on."""
    real, best = os.path.realpath(path), ("", "")
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            mount, kind = line.split()[1:3]
            mount = mount.replace("\\040", " ")
            if f"{real}/".startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
                best = mount, kind
    return best[1]


def _site(environ: Mapping[str, str], config: Config, asked: Asked) -> Site:
    slurm = Slurm(environ)
    try:
        found, now = slurm.configuration(), time.time()
    except ClusterUnavailable as error:
        return Site(error=str(error))
    try:
        limits = slurm.limits(wheres(_spec(config, asked), config))
    except ClusterUnavailable:
        limits = None
    return Site(found, limits=limits, mpi=slurm.mpi_kinds(), asked=now)


def _spec(config: Config, asked: Asked) -> RunSpec:
    """The spec of a run that goes where the settings and the options say. Raises SpecError."""
    given = spec.raw({"command": ["true"], "sbatch": dict(asked.options), "node_pool": asked.pool})
    if asked.pool is None:
        given = given.without("node_pool")
    defaults = config.default_fields()
    for field in set(defaults.values) - {"sbatch", "node_pool"}:
        defaults = defaults.without(field)
    return spec.from_source(spec.beneath(spec.spelled(given), defaults))


def _probe(environ: Mapping[str, str], config: Config, asked: Asked, site: Site, place: str) -> Probe:
    """What one small job finds on its node, or what became of it."""
    if asked.timeout is None or not site.config:
        return Probe("skipped", reason="none was submitted (--no-job)" if site.config else "Slurm gives no answer")
    slurm, run = Slurm(environ), RunDir(place)
    try:
        runtime.write(run, {}, config.node_python, os.path.join(config.home, "cache"))
    except OSError as error:
        return Probe("skipped", reason=f"the runtime cannot be written: {error.strerror}")
    job = ""
    try:
        # A second node where it costs no wait; but who names a node wants to hear of that one.
        for nodes in ("1",) if "nodelist" in asked.options else ("1-2", "1"):
            write_whole(os.path.join(place, "job.sh"), _job(config, asked, place, nodes, _minutes(site)))
            try:
                job = slurm.submit_script(os.path.join(place, "job.sh"), None)
                break
            except SubmissionRefused as error:
                refused = Probe("refused", reason=error.reason, hint=error.hint)
            except ClusterUnavailable as error:
                return Probe("refused", reason=str(error))
        return _watched(slurm, job, place, asked.timeout) if job else refused
    finally:
        if job:
            _remove(slurm, run, job)


def _minutes(site: Site) -> int:
    """The small job's time limit: one that no limit of time forbids."""
    places = [one[0] for one in site.limits.places if one] if site.limits else []
    bounds = [one.most for place in places for one in place.limits if (one.kind, one.what) == ("job", TIME)]
    return max(1, int(min([60 * _MINUTES, *bounds]) // 60))


def _job(config: Config, asked: Asked, place: str, nodes: str, minutes: int) -> str:
    wanted = _spec(config, asked)
    of_user = {name: value for name, value in wanted.sbatch.items() if name not in _NOT_FOR_A_PROBE}
    options: dict[str, str | None] = {
        "job-name": "hpcrun-doctor",
        "output": "/dev/null",
        "comment": "hpcrun-doctor",
        "export": "ALL",
        "chdir": "/",
        "requeue": None,
        "cpus-per-task": "1",
        "mem-per-cpu": "256M",
        "time": str(minutes),
        **placed(wanted, node_pool(wanted.node_pool, config, "node_pool"), own=False),
        **of_user,
        "nodes": nodes,
    }
    options["time"] = str(asked.options.get("time", minutes))
    text, called = script.template(config.templates)
    return script.render_checkup(place, options.items(), config.node_python, config.prologue, text, called)


def _watched(slurm: Slurm, job: str, place: str, timeout: float) -> Probe:
    """Wait until the job has reported, has waited for too long, or has ended without a word."""
    began = early = time.time()
    ended, pause = 0.0, 0.1
    while True:
        if "report" in os.listdir(place):
            late = time.time()
            return Probe("reported", job, said=_report(place), waited=late - began, between=(early, late))
        asked = time.time()
        rows = slurm.look_at([job])
        state, reason = (rows[0].state.partition(",")[0], rows[0].reason) if rows else ("", "")
        kind = from_slurm(state)[0]
        if kind == "pending":
            early = asked
            if asked - began > timeout:
                return Probe("waits", job, reason, waited=asked - began)
        elif kind in TERMINAL or not rows:
            ended = ended or asked
            if asked - ended > _LATE or state not in ("COMPLETED", ""):  # else a report is on its way
                code, on = slurm.exit_code(job), _first_node(rows)
                return Probe("silent", job, reason, state=state, code=code, said=on, waited=asked - began)
        elif asked - early > _RUNS:
            return Probe("silent", job, state="RUNNING", said=_first_node(rows), waited=asked - early)
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def _first_node(rows: Sequence[QueueRow]) -> dict[str, str]:
    """The node that a batch script runs on, as it would have said itself."""
    try:
        return {"node": expand(rows[0].nodes)[0]}
    except (HostlistError, IndexError):
        return {}


def _report(place: str) -> dict[str, str]:
    """What the node wrote; whether it may requeue its job comes a moment later."""
    end_by = time.monotonic() + _ANSWER
    while "requeue" not in os.listdir(place) and time.monotonic() < end_by:
        time.sleep(0.1)
    found: dict[str, str] = {}
    for name in ("report", "requeue"):
        with contextlib.suppress(OSError), open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
            found |= {key: value.strip() for key, _, value in (line.partition("=") for line in file) if value.strip()}
    return found


def _remove(slurm: Slurm, run: RunDir, job: str) -> None:
    """Leave nothing of the job in the queue: it may just be on its way back there."""
    end_by, pause = time.monotonic() + _GONE, 0.2
    while time.monotonic() < end_by:
        with contextlib.suppress(ClusterUnavailable):
            slurm.cancel(run, [job])
            if all(from_slurm(row.state.partition(",")[0])[0] in TERMINAL for row in slurm.look_at([job])):
                return
        time.sleep(pause)
        pause *= 1.5


def _trial(config: Config, place: str) -> Trial:
    """A run of one shard on this machine, with a home of its own that leaves nothing behind."""
    alone, began = config.model_copy(update={"home": place, "defaults": {}, "places": {}}), time.monotonic()
    source = spec.raw({"command": [sys.executable, "-c", ""]})
    try:
        status = submission.carry_out(submission.prepare(source, alone, "local", typed=False)).wait(_TRIAL)
    except (HpcrunError, TimeoutError) as error:
        return Trial(str(error).partition("\n")[0])
    shard = status.shards[0]
    said = "" if status.state == "succeeded" else f"{status.state}, {shard.detail or shard.cause}"
    return Trial(said, time.monotonic() - began)
