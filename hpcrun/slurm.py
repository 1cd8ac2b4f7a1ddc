"""The only client of sbatch, squeue, sacct, scancel and scontrol.

What differs between Slurm's releases is `hpcrun.slurm_releases`' business. Every command has a deadline; what it says
when it fails becomes a typed error.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from hpcrun.cluster import AccountingRow, Asked, Charge, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir
from hpcrun.sharing import now
from hpcrun.slurm_releases import (
    ENDED,
    NO_ACCOUNTING,
    NO_ANSWER,
    UNKNOWN_JOB,
    WAITS_ALREADY,
    hint,
    job_and_tasks,
    last_words,
    refusals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.quotas import Where

DEADLINE = 60.0
"""Seconds that one command may take. slurmctld itself gives up after MessageTimeout, 10 s by default."""

_SCRUBBED = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
_WITHOUT_SLURM = "without Slurm there is `hpcrun run --cluster local`"
_WHOLE = {"SLURM_BITSTR_LEN": "0"}
"""What keeps squeue and sacct from cutting lists of elements at 64 characters. No job is to inherit it from sbatch."""
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
            f"found no `{argv[0]}` on this machine; wanted Slurm's commands in PATH; {_WITHOUT_SLURM}"
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
    return {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_SCRUBBED)}


class Slurm:
    """The Slurm cluster that this machine's commands talk to."""

    name = "slurm"

    def __init__(self, environ: Mapping[str, str] | None = None, run: Runner = run_here) -> None:
        self._environ = scrubbed(os.environ if environ is None else environ)
        self._asking = self._environ | _WHOLE
        self._run = run

    def _ask(self, *argv: str) -> Completed:
        return self._run(argv, self._asking, DEADLINE)

    def _answer(self, *argv: str) -> str:
        done = self._ask(*argv)
        if done.code:
            reason = _last_line(done)
            if "configuration source" in reason:
                raise ClusterUnavailable(f"`{argv[0]}` failed: {reason}; {_WITHOUT_SLURM}")
            raise _unavailable(argv[0], done)
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

        user = user_name(os.getuid())
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
        return self._submit(run.script(batch.index, in_round), dependency, batch.words(tasks))

    def submit_script(self, path: str, dependency: str | None) -> str:
        """Submit the script at `path`; the id of the job."""
        return self._submit(path, dependency, ())

    def _submit(self, path: str, dependency: str | None, options: Sequence[str]) -> str:
        options = [*([f"--dependency={dependency}"] if dependency else []), *options]
        command = (site_sbatch(self._environ), "--parsable", *options, path)
        done = self._run(command, self._environ, DEADLINE)
        said = _SUBMITTED.search(done.out)
        if done.code == 0 and said:
            if done.err and sys.stderr is not None:  # what it warns of, and what a site's plug-in has to say
                sys.stderr.write(done.err)
            return said[1]
        reason = _last_line(done)
        if NO_ANSWER.search(reason):
            raise _unavailable("sbatch", done)
        raise SubmissionRefused(reason, command, hint(reason), done.err, done.code)

    def queue(self, run: RunDir) -> list[QueueRow]:
        """One squeue by owner, whatever the number of runs and shards; pending elements come folded.

        In all states: slurmctld sends every job of that user anyway, squeue leaves out the ended ones, and accounting
        lags behind.
        """
        return queue_rows(self.listing(owner(run)))

    def listing(self, of: int) -> str:
        """What squeue prints of the jobs of user `of`, for `queue_rows`."""
        return self._answer("squeue", "--noheader", f"--user={of}", "--states=all", "--format=%i|%T|%N|%r|%k|%o")

    def lately(self, run: RunDir, since: float) -> Asked:
        """The queue as it is now; `hpcrun.poller` has one answer for several who ask."""
        began = now()
        rows = self.queue(run)
        return Asked(rows, began, now() - began)

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        """One squeue, without its folding.

        Folded, an element that was requeued is shown to wait with the rest of its array while it still completes.
        """
        chosen = f"--jobs={','.join(jobs)}" if len(jobs) <= _LOOKED_AT else f"--user={os.getuid()}"
        words = ("squeue", "--noheader", "--array", "--states=all", chosen, "--format=%i|%T,%S|%N|%r|%k|%o")
        done = self._ask(*words)
        if done.code and UNKNOWN_JOB in done.err:  # only where there is but one
            return []
        if done.code:
            raise _unavailable("squeue", done)
        return [row for line in done.out.splitlines() for row in _queue_row(line)]

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """One sacct for up to 20,000 ids."""
        rows: list[AccountingRow] = []
        for first in range(0, len(jobs), _SACCT_CHUNK):
            ids = ",".join(jobs[first : first + _SACCT_CHUNK])
            rows += self._sacct(ids)
        return rows

    def _sacct(self, ids: str) -> list[AccountingRow]:
        return self._accounted(f"--jobs={ids}", "--format=JobID,State,ExitCode,NodeList")

    def history(self, run: RunDir, since: float) -> list[AccountingRow]:
        """One sacct by owner, with the command that submitted each job."""
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _CLOCKS_DIFFER))
        fields = "--format=JobID,State,ExitCode,NodeList,SubmitLine"
        return self._accounted(f"--user={owner(run)}", f"--starttime={start}", fields)

    def charges(self, jobs: Sequence[str], since: float) -> list[Charge]:
        """One sacct for up to 20,000 ids, with a row for each start of what was requeued."""
        found: list[Charge] = []
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _CLOCKS_DIFFER))  # ids may come again
        for first in range(0, len(jobs), _SACCT_CHUNK):
            ids = ",".join(jobs[first : first + _SACCT_CHUNK])
            out = self._sacct_says(
                "--duplicates", f"--jobs={ids}", f"--starttime={start}", "--format=ElapsedRaw,AllocTRES"
            )
            found += [charge for line in out.splitlines() for charge in _charge(line)]
        return found

    def _accounted(self, *which: str) -> list[AccountingRow]:
        # The record of the elements that wait lags behind: what an element's own one says comes after it, and counts.
        lines = sorted(self._sacct_says(*which).splitlines(), key=lambda line: "[" not in line.partition("|")[0])
        return [row for line in lines for row in _accounting_row(line)]

    def _sacct_says(self, *which: str) -> str:
        done = self._ask("sacct", "--noheader", "--parsable2", "--allocations", *which)
        if NO_ACCOUNTING in done.err:
            raise AccountingDisabled("this cluster keeps no accounting (no slurmdbd)")
        if done.code:
            raise _unavailable("sacct", done)
        return done.out

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """One scancel for all of them."""
        if not jobs:
            return
        done = self._ask("scancel", *jobs)
        if done.code and not ENDED.search(done.err):
            raise _unavailable("scancel", done)

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        """One scontrol for up to 1,000 of them; it goes on after one that it cannot do."""
        refused: dict[str, str] = {}
        for first in range(0, len(jobs), _UPDATE_CHUNK):
            some = jobs[first : first + _UPDATE_CHUNK]
            done = self._ask("scontrol", "update", f"jobid={','.join(some)}", "StartTime=now")
            if done.code and NO_ANSWER.search(done.err):
                raise _unavailable("scontrol update", done)
            refused |= _refusals(done, some) if done.code else {}
        return refused

    def release(self, jobs: Sequence[str]) -> None:
        """One scontrol for up to 1,000 of them."""
        for first in range(0, len(jobs), _UPDATE_CHUNK):
            done = self._ask("scontrol", "release", ",".join(jobs[first : first + _UPDATE_CHUNK]))
            if done.code and NO_ANSWER.search(done.err):
                raise _unavailable("scontrol release", done)

    def requeue(self, job: str) -> str:
        """One scontrol; `job` is never the raw id of an element, which can be that of its whole array."""
        done = self._ask("scontrol", "requeue", job)
        if done.code == 0:
            return ""
        if NO_ANSWER.search(done.err):
            raise _unavailable("scontrol requeue", done)
        reason = _refusals(done, [job])[job]
        return "" if WAITS_ALREADY in reason else reason

    def configuration(self) -> dict[str, str]:
        """What ``scontrol show config`` prints, by name; raises ClusterUnavailable."""
        return dict(_settings(self._answer("scontrol", "show", "config")))

    def mpi_kinds(self) -> str:
        """What ``srun --mpi=list`` prints; empty where it cannot be asked."""
        try:
            done = self._ask("srun", "--mpi=list")
        except ClusterUnavailable:
            return ""
        return f"{done.out}\n{done.err}"

    def exit_code(self, job: str) -> int | None:
        """That of a job's batch script, as slurmctld remembers it; None where it does not."""
        done = self._ask("scontrol", "--oneliner", "show", "job", job)
        said = re.search(r"\bExitCode=(\d+):", done.out)
        return int(said[1]) if said else None


def _refusals(done: Completed, jobs: Sequence[str]) -> dict[str, str]:
    """Why scontrol did not do it, by job; for all of them the same where it does not say which."""
    return refusals(done.err, jobs) or dict.fromkeys(jobs, _last_line(done))


def _last_line(done: Completed) -> str:
    return last_words(done.out, done.err, done.code)


def _unavailable(command: str, done: Completed) -> ClusterUnavailable:
    """The error of a command that has failed, with what to do where Slurm does not answer."""
    reason = _last_line(done)
    hint = "; is slurmctld up? Try `scontrol ping`" if NO_ANSWER.search(reason) else ""
    return ClusterUnavailable(f"`{command}` failed: {reason}{hint}")


def _settings(out: str) -> list[tuple[str, str]]:
    return [(name.strip(), value.strip()) for name, _, value in (line.partition("=") for line in out.splitlines())]


def user_name(uid: int) -> str:
    """The user of this number as Slurm knows them."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner(run: RunDir) -> int:
    """Whose jobs those of `run` are."""
    try:
        return os.stat(run.path).st_uid
    except FileNotFoundError:
        return os.getuid()


def queue_rows(text: str) -> list[QueueRow]:
    """The rows of what `Slurm.listing` has returned."""
    return [row for line in text.splitlines() for row in _queue_row(line)]


def _queue_row(line: str) -> list[QueueRow]:
    """The row of a line ``ID|STATE|NODES|REASON|COMMENT|SCRIPT``; only the first three are certainly without bars.

    Instead of the state there may be ``STATE,BEGIN``.
    """
    shown, state, nodes, rest = (*line.split("|", 3), "", "", "")[:4]
    who = job_and_tasks(shown.strip())
    if who is None or rest.count("|") < 2:
        return []
    words, bar, script = rest.partition("|/")
    words, script = (words, f"/{script}") if bar else (rest.rpartition("|")[0], "")
    reason, _, comment = words.rpartition("|")
    state, _, begin = state.partition(",")
    comment = "" if comment == "(null)" else comment
    return [QueueRow(*who, state, reason, nodes, script=script, comment=comment, begin=begin)]


def _accounting_row(line: str) -> list[AccountingRow]:
    shown, state, exit_code, nodes, script = (*line.split("|", 4), "")[:5]
    who = job_and_tasks(shown)
    if who is None:
        return []
    code, _, signal = exit_code.partition(":")
    nodes = "" if nodes == "None assigned" else nodes
    return [AccountingRow(*who, state, int(code or 0), int(signal or 0), nodes, script)]


def _charge(line: str) -> list[Charge]:
    """``3600|billing=2,cpu=2,gres/gpu=1,mem=1G,node=1``; nothing was allotted where no resource is named."""
    seconds, _, amounts = line.partition("|")
    named = dict(part.partition("=")[::2] for part in amounts.split(",") if "=" in part)
    counted = {name: float(amount) for name, amount in named.items() if amount.isdecimal()}
    return [Charge(float(seconds), counted)] if counted and seconds.isdecimal() else []


def sbatch_as_given(
    words: Sequence[str], script: bytes | None, submitted: Callable[[str], None], out: IO[bytes]
) -> int:
    """Call the site's sbatch with `words`, and with `script` on its standard input, or ours where that is None.

    What it prints goes to `out` as it comes, and the id of its job to `submitted` before it ends (``--wait``). Its
    exit code; that of a shell where a signal has killed it. Raises ClusterUnavailable where there is no sbatch.
    """
    try:
        process = subprocess.Popen(
            [site_sbatch(os.environ), *words],
            stdin=None if script is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except OSError as error:
        raise ClusterUnavailable(
            f"cannot start `sbatch`: {error.strerror}; is this a login node of Slurm's?"
        ) from error
    # Ctrl-C in `sbatch --wait` ends sbatch, and that is this command's end.
    before = signal.signal(signal.SIGINT, lambda number, _: process.send_signal(number))
    with process:
        try:
            if process.stdin is not None:
                process.stdin.write(script or b"")
                process.stdin.close()
        except BrokenPipeError:  # it has refused its options already
            pass
        for line in process.stdout or ():
            out.write(line)
            out.flush()
            said = _ANSWER.match(_text(line))
            if said:
                submitted(said["job"])
    signal.signal(signal.SIGINT, before)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


_ANSWER = re.compile(r"(?:Submitted batch job )?(?P<job>\d+)(?:$|;| on cluster)")


def site_sbatch(environ: Mapping[str, str]) -> str:
    """The sbatch to call: the first in PATH that is no script of somebody's which calls hpcrun in its stead."""
    first = ""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, "sbatch")
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            continue
        first = first or path
        try:
            with open(path, "rb") as file:
                begin = file.read(4096)
        except OSError:  # it may be executed all the same
            return path
        if not (begin.startswith(b"#!") and b"hpcrun" in begin):
            return path if path != first else "sbatch"
    return "sbatch"
