"""The only client of sbatch, squeue, sacct, scancel and scontrol.

All text comes in formats that did not change between Slurm 22.05 and 26.05: ``squeue -o`` and ``sacct --parsable2``,
never ``--json``. Every command has a deadline; what it says when it fails becomes a typed error.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from hpcrun.cluster import AccountingRow, Charge, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.indexes import parse_indexes
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.quotas import Where

DEADLINE = 60.0
"""Seconds that one command may take. slurmctld itself gives up after MessageTimeout, 10 s by default."""

_SCRUBBED = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
_SOON = 10.0
"""Seconds after which a submission goes on without an answer that it can do without."""
_SUBMITTED = re.compile(r"^(\d+)(?:;[^\n]*)?$", re.MULTILINE)
_CLOCKS_DIFFER = 3600.0
"""Seconds by which the clock of slurmctld's machine may be behind this one's."""
_SACCT_CHUNK = 20_000
"""Job ids in one sacct call: one argument holds 128 KiB."""
_LOOKED_AT = 1000
"""Jobs that one squeue is asked for by name."""
_UPDATE_CHUNK = 1000
"""Jobs in one call of scontrol, which takes 2 ms for each."""


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a command ended."""

    code: int
    out: str
    err: str


Runner = Callable[[Sequence[str], Mapping[str, str], float], Completed]
"""Starts a command with an environment and a deadline in seconds."""


def run_here(argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
    """Run `argv` on this machine.

    Raises ClusterUnavailable when it cannot be started or passes its deadline.
    """
    try:
        done = subprocess.run(argv, env=dict(environ), capture_output=True, timeout=deadline, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise ClusterUnavailable(
            f"found no `{argv[0]}` on this machine; wanted Slurm's commands in PATH, or --cluster local"
        ) from error
    except OSError as error:
        raise ClusterUnavailable(f"cannot start `{argv[0]}`: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterUnavailable(
            f"`{argv[0]}` gave no answer within {deadline:g} s; is slurmctld up? Try `scontrol ping`"
        ) from error
    return Completed(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what a surrounding job, or options kept in variables, would do to Slurm's commands.

    Inside a job the SLURM_* of that job would shape the new one, and SBATCH_* outranks the script's directives.
    """
    return {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_SCRUBBED)} | {
        "SLURM_BITSTR_LEN": "0"
    }


class Slurm:
    """The Slurm cluster that this machine's commands talk to."""

    name = "slurm"

    def __init__(self, environ: Mapping[str, str] | None = None, run: Runner = run_here) -> None:
        self._environ = scrubbed(os.environ if environ is None else environ)
        self._run = run

    def _ask(self, *argv: str) -> Completed:
        return self._run(argv, self._environ, DEADLINE)

    def _answer(self, *argv: str) -> str:
        done = self._ask(*argv)
        if done.code:
            reason = _last_line(done)
            hint = "; where there is no Slurm, use --cluster local" if "configuration source" in reason else ""
            raise ClusterUnavailable(f"`{argv[0]}` failed: {reason}{hint}")
        return done.out

    def limits(self, where: Sequence[Where] = (), *, places: bool = True) -> Limits:
        """MaxArraySize (or a lower max_array_tasks), whether there is a slurmdbd, and what bounds jobs at each place.

        Two questions to slurmctld; where limits of associations and QOS hold, three more at the same time. What is
        not answered in time bounds nothing: Slurm itself has the last word.
        """
        from hpcrun import slurm_limits  # what nobody asks for once a run is submitted

        found = dict(_settings(self._answer("scontrol", "show", "config")))
        partitions = self._soon("scontrol", "--all", "--oneliner", "show", "partition") if where else ""
        said = slurm_limits.Said(found, partitions)
        if places and where and slurm_limits.enforced(found) & {"limits", "qos", "associations"}:
            said = slurm_limits.Said(found, partitions, *self._accounts(found.get("ClusterName", "")))
        largest = int(found.get("MaxArraySize", "1001"))
        lower = re.search(r"max_array_tasks=(\d+)", found.get("SchedulerParameters", ""))
        return Limits(
            max_array=min(largest, int(lower[1])) if lower else largest,
            accounting="slurmdbd" in found.get("AccountingStorageType", ""),
            version=found.get("SLURM_VERSION", ""),
            nodes=slurm_limits.nodes(where, said) if len(where) > 1 else None,
            places=tuple(slurm_limits.places(one, os.getuid(), said) for one in where) if places else (),
        )

    def _accounts(self, cluster: str) -> tuple[str, str, str]:
        """What slurmctld and slurmdbd say of this user's associations and of QOS, in the order of `Said`."""
        from concurrent.futures import ThreadPoolExecutor

        from hpcrun import slurm_limits

        user = _user_name()
        columns = f"format={','.join(slurm_limits.USERS)}", f"format={','.join(slurm_limits.QOS)}"
        asked = (
            ("scontrol", "show", "assoc_mgr", "flags=users,assoc,qos", f"users={user}"),
            ("sacctmgr", "-nP", "show", "user", user, "withassoc", f"cluster={cluster}", columns[0]),
            ("sacctmgr", "-nP", "show", "qos", columns[1]),
        )
        with ThreadPoolExecutor(len(asked)) as pool:
            manager, users, qos = pool.map(lambda argv: self._soon(*argv), asked)
        return manager, users, qos

    def _soon(self, *argv: str) -> str:
        """What a command prints; nothing where it fails or takes long."""
        try:
            done = self._run(argv, self._environ, _SOON)
        except ClusterUnavailable:
            return ""
        return "" if done.code else done.out

    def submit(
        self,
        run: RunDir,
        batch: Batch,
        dependency: str | None,
        in_round: int = 0,
        tasks: Sequence[int] | None = None,
    ) -> str:
        """Submit the script of `batch` by its path in the run folder, which names its elements; the id of the job."""
        return self.submit_script(run.script(batch.index, in_round), dependency)

    def submit_script(self, path: str, dependency: str | None) -> str:
        """Submit the script at `path`; the id of the job."""
        options = [f"--dependency={dependency}"] if dependency else []
        command = ("sbatch", "--parsable", *options, path)
        done = self._ask(*command)
        said = _SUBMITTED.search(done.out)
        if done.code == 0 and said:
            return said[1]
        reason = _last_line(done)
        if _NO_ANSWER.search(reason):
            raise ClusterUnavailable(f"`sbatch` failed: {reason}")
        raise SubmissionRefused(reason, command, _hint(reason))

    def queue(self, run: RunDir) -> list[QueueRow]:
        """One squeue by owner, whatever the number of runs and shards; pending elements come folded.

        In all states: slurmctld sends every job anyway, squeue leaves out the ended ones, and accounting lags behind.
        """
        out = self._answer(
            "squeue", "--noheader", f"--user={_owner(run)}", "--states=all", "--format=%i|%T|%N|%r|%k|%o"
        )
        return [row for line in out.splitlines() for row in _queue_row(line)]

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        """One squeue, without its folding.

        Folded, an element that was requeued is shown to wait with the rest of its array while it still completes.
        """
        chosen = f"--jobs={','.join(jobs)}" if len(jobs) <= _LOOKED_AT else f"--user={os.getuid()}"
        words = ("squeue", "--noheader", "--array", "--states=all", chosen, "--format=%i|%T,%S|%N|%r|%k|%o")
        done = self._ask(*words)
        if done.code and "Invalid job id" in done.err:  # only where there is but one
            return []
        if done.code:
            raise ClusterUnavailable(f"`squeue` failed: {_last_line(done)}")
        return [row for line in done.out.splitlines() for row in _queue_row(line)]

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """One sacct for up to 20,000 ids."""
        rows: list[AccountingRow] = []
        for first in range(0, len(jobs), _SACCT_CHUNK):
            ids = ",".join(jobs[first : first + _SACCT_CHUNK])
            rows += self._sacct(ids)
        return rows

    def _sacct(self, ids: str) -> list[AccountingRow]:
        return self._accounted("--array", f"--jobs={ids}", "--format=JobID,State,ExitCode,NodeList")

    def history(self, run: RunDir, since: float) -> list[AccountingRow]:
        """One sacct by owner, with the command that submitted each job."""
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _CLOCKS_DIFFER))
        fields = "--format=JobID,State,ExitCode,NodeList,SubmitLine"
        return self._accounted("--array", f"--user={_owner(run)}", f"--starttime={start}", fields)

    def charges(self, jobs: Sequence[str], since: float) -> list[Charge]:
        """One sacct for up to 20,000 ids, with a row for each start of what was requeued."""
        found: list[Charge] = []
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _CLOCKS_DIFFER))  # ids may come again
        for first in range(0, len(jobs), _SACCT_CHUNK):
            ids = ",".join(jobs[first : first + _SACCT_CHUNK])
            out = self._sacct_says(
                "--array", "--duplicates", f"--jobs={ids}", f"--starttime={start}", "--format=ElapsedRaw,AllocTRES"
            )
            found += [charge for line in out.splitlines() for charge in _charge(line)]
        return found

    def _accounted(self, *which: str) -> list[AccountingRow]:
        return [row for line in self._sacct_says(*which).splitlines() for row in _accounting_row(line)]

    def _sacct_says(self, *which: str) -> str:
        done = self._ask("sacct", "--noheader", "--parsable2", "--allocations", *which)
        if "accounting storage is disabled" in done.err:
            raise AccountingDisabled("this cluster keeps no accounting (no slurmdbd)")
        if done.code:
            raise ClusterUnavailable(f"`sacct` failed: {_last_line(done)}")
        return done.out

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """One scancel for all of them."""
        if not jobs:
            return
        done = self._ask("scancel", *jobs)
        if done.code and not _ENDED.search(done.err):
            raise ClusterUnavailable(f"`scancel` failed: {_last_line(done)}")

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        """One scontrol for up to 1,000 of them; it goes on after one that it cannot do."""
        refused: dict[str, str] = {}
        for first in range(0, len(jobs), _UPDATE_CHUNK):
            some = jobs[first : first + _UPDATE_CHUNK]
            done = self._ask("scontrol", "update", f"jobid={','.join(some)}", "StartTime=now")
            if done.code and _NO_ANSWER.search(done.err):
                raise ClusterUnavailable(f"`scontrol update` failed: {_last_line(done)}")
            refused |= _refusals(done, some) if done.code else {}
        return refused

    def release(self, jobs: Sequence[str]) -> None:
        """One scontrol for up to 1,000 of them."""
        for first in range(0, len(jobs), _UPDATE_CHUNK):
            done = self._ask("scontrol", "release", ",".join(jobs[first : first + _UPDATE_CHUNK]))
            if done.code and _NO_ANSWER.search(done.err):
                raise ClusterUnavailable(f"`scontrol release` failed: {_last_line(done)}")

    def requeue(self, job: str) -> str:
        """One scontrol; `job` is never the raw id of an element, which can be that of its whole array."""
        done = self._ask("scontrol", "requeue", job)
        if done.code == 0:
            return ""
        if _NO_ANSWER.search(done.err):
            raise ClusterUnavailable(f"`scontrol requeue` failed: {_last_line(done)}")
        reason = _refusals(done, [job])[job]
        return "" if "is pending execution" in reason else reason


def _refusals(done: Completed, jobs: Sequence[str]) -> dict[str, str]:
    """What scontrol complained of, by job: ``12_3: Reason`` where there are several, or ``Reason for job 12``."""
    found: dict[str, str] = {}
    for line in filter(str.strip, done.err.splitlines()):
        job, colon, reason = line.partition(": ")
        if colon and job in jobs:
            found[job] = reason.strip()
        elif len(jobs) == 1:
            found[jobs[0]] = re.sub(r"^scontrol: (error: )?| for job \S+$", "", line).strip()
    return found or dict.fromkeys(jobs, _last_line(done))


_NO_ANSWER = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes|Broken pipe"
    r"|Message (send|receive) failure|Communication \w+ failure|Unexpected message|standby mode",
    re.IGNORECASE,
)
_ENDED = re.compile(r"Invalid job id|already completing or completed|already finished", re.IGNORECASE)

_HINTS = (
    ("invalid partition", "`sinfo` lists the partitions; name one with --partition or in a node pool of hpcrun.toml"),
    ("invalid account", "`sacctmgr show user $USER withassoc` lists your accounts; name one with --account"),
    ("invalid qos", "`sacctmgr show qos` lists them; name one with --qos"),
    ("invalid feature", "`sinfo -o %f` lists the features that --constraint can ask for"),
    (
        "node configuration is not available",
        "no node has that much: lower cpus, memory or gpus, or choose another pool",
    ),
    ("memory", "lower memory or cpus, or choose a pool with larger nodes"),
    ("violates accounting/qos policy", "`sacctmgr show assoc user=$USER` and `sacctmgr show qos` show the limits"),
    ("invalid license", "`scontrol show licenses` lists them; name one with --licenses"),
    ("reservation is invalid", "`scontrol show reservation` lists them; name one with --reservation"),
    ("invalid node name", "`sinfo -N` lists the nodes; name some with --nodelist or --exclude"),
    ("dependency problem", "`squeue --me` lists the jobs there are; Slurm knows ended ones for some minutes only"),
    ("job array", "the cluster's MaxArraySize changed while submitting; submit again"),
)


def _hint(reason: str) -> str:
    lowered = reason.lower()
    return next((hint for words, hint in _HINTS if words in lowered), "")


def _last_line(done: Completed) -> str:
    lines = [line for line in (done.err or done.out).splitlines() if line.strip()]
    text = lines[-1].strip() if lines else f"exit code {done.code} and not a word"
    return re.sub(r"^(sbatch|squeue|sacct|scancel|scontrol|slurm_\w+): (error: )?", "", text)


def _settings(out: str) -> list[tuple[str, str]]:
    return [(name.strip(), value.strip()) for name, _, value in (line.partition("=") for line in out.splitlines())]


def _user_name() -> str:
    """This user as Slurm knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _owner(run: RunDir) -> int:
    """Whose jobs those of `run` are."""
    try:
        return os.stat(run.path).st_uid
    except FileNotFoundError:
        return os.getuid()


def _queue_row(line: str) -> list[QueueRow]:
    """The row of a line ``ID|STATE|NODES|REASON|COMMENT|SCRIPT``; only the first three are certainly without bars.

    Instead of the state there may be ``STATE,BEGIN``.
    """
    shown, state, nodes, rest = (*line.split("|", 3), "", "", "")[:4]
    who = _who(shown.strip())
    if who is None or rest.count("|") < 2:
        return []
    words, bar, script = rest.partition("|/")
    words, script = (words, f"/{script}") if bar else (rest.rpartition("|")[0], "")
    reason, _, comment = words.rpartition("|")
    state, _, begin = state.partition(",")
    comment = "" if comment == "(null)" else comment
    return [QueueRow(*who, state, reason, nodes, script=script, comment=comment, begin=begin)]


def _who(shown: str) -> tuple[str, tuple[int, ...] | None] | None:
    """(job, elements) of ``12``, ``12+0``, ``12_3`` and ``12_[4-9%2]``.

    None of what is no job of its own: steps and workers, ``12.batch`` and ``12+1``.
    """
    job, _, tasks = shown.removesuffix("+0").partition("_")
    if not job.isdecimal():
        return None
    tasks = tasks.strip("[]")
    return job, tuple(parse_indexes(tasks)) if tasks else None


def _accounting_row(line: str) -> list[AccountingRow]:
    shown, state, exit_code, nodes, script = (*line.split("|", 4), "")[:5]
    who = _who(shown)
    if who is None:
        return []
    code, _, signal = exit_code.partition(":")
    return [AccountingRow(*who, state, int(code or 0), int(signal or 0), nodes, script)]


def _charge(line: str) -> list[Charge]:
    """``3600|billing=2,cpu=2,gres/gpu=1,mem=1G,node=1``; nothing was allotted where no resource is named."""
    seconds, _, amounts = line.partition("|")
    named = dict(part.partition("=")[::2] for part in amounts.split(",") if "=" in part)
    counted = {name: float(amount) for name, amount in named.items() if amount.isdecimal()}
    return [Charge(float(seconds), counted)] if counted and seconds.isdecimal() else []
