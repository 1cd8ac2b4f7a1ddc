"""The only client of sbatch, squeue, sacct, scancel and scontrol.

All text comes in formats that did not change between Slurm 22.05 and 26.05: ``squeue -o`` and ``sacct --parsable2``,
never ``--json``. Every command has a deadline; what it says when it fails becomes a typed error.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence

from hpcrun.cluster import AccountingRow, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.indexes import parse_indexes
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir

DEADLINE = 60.0
"""Seconds that one command may take. slurmctld itself gives up after MessageTimeout, 10 s by default."""

_SCRUBBED = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
_SUBMITTED = re.compile(r"^(\d+)(?:;[^\n]*)?$", re.MULTILINE)
_SACCT_CHUNK = 20_000
"""Job ids in one sacct call: one argument holds 128 KiB."""


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

    def limits(self) -> Limits:
        """MaxArraySize (or a lower max_array_tasks), and whether there is a slurmdbd."""
        found = dict(_settings(self._answer("scontrol", "show", "config")))
        largest = int(found.get("MaxArraySize", "1001"))
        lower = re.search(r"max_array_tasks=(\d+)", found.get("SchedulerParameters", ""))
        return Limits(
            max_array=min(largest, int(lower[1])) if lower else largest,
            accounting="slurmdbd" in found.get("AccountingStorageType", ""),
            version=found.get("SLURM_VERSION", ""),
            nodes=self._nodes(),
        )

    def _nodes(self) -> int | None:
        """How many nodes there are: two components of a heterogeneous job never share one."""
        counts = self._answer("sinfo", "--noheader", "--format=%D").split()
        return sum(map(int, counts)) if counts and all(map(str.isdecimal, counts)) else None

    def submit(self, run: RunDir, batch: Batch, dependency: str | None) -> str:
        """Submit the script of `batch` by its path in the run folder; the id of the job."""
        options = [f"--dependency={dependency}"] if dependency else []
        command = ("sbatch", "--parsable", *options, run.script(batch.index))
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
        out = self._answer("squeue", "--noheader", f"--user={os.getuid()}", "--states=all", "--format=%F|%K|%T|%N|%r")
        return [_queue_row(line) for line in out.splitlines() if line.count("|") >= 4]

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """One sacct for up to 20,000 ids."""
        rows: list[AccountingRow] = []
        for first in range(0, len(jobs), _SACCT_CHUNK):
            ids = ",".join(jobs[first : first + _SACCT_CHUNK])
            rows += self._sacct(ids)
        return rows

    def _sacct(self, ids: str) -> list[AccountingRow]:
        fields = "--format=JobID,State,ExitCode,NodeList"
        done = self._ask("sacct", "--noheader", "--parsable2", "--allocations", "--array", f"--jobs={ids}", fields)
        if "accounting storage is disabled" in done.err:
            raise AccountingDisabled("this cluster keeps no accounting (no slurmdbd)")
        if done.code:
            raise ClusterUnavailable(f"`sacct` failed: {_last_line(done)}")
        return [row for line in done.out.splitlines() for row in _accounting_row(line)]

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """One scancel for all of them."""
        if not jobs:
            return
        done = self._ask("scancel", *jobs)
        if done.code and not _ENDED.search(done.err):
            raise ClusterUnavailable(f"`scancel` failed: {_last_line(done)}")


_NO_ANSWER = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Zero Bytes", re.IGNORECASE
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


def _queue_row(line: str) -> QueueRow:
    job, tasks, state, nodes, reason = line.split("|", 4)
    return QueueRow(job.strip(), _tasks(tasks), state, reason, nodes)


def _tasks(text: str) -> tuple[int, ...] | None:
    return None if text in ("N/A", "") else tuple(parse_indexes(text))


def _accounting_row(line: str) -> list[AccountingRow]:
    """``12_3``, ``12_[4-9%2]``, ``12`` and ``12+0`` are rows; steps and workers (``12.batch``, ``12+1``) are not."""
    shown, state, exit_code, nodes = line.split("|", 3)
    job, _, tasks = shown.removesuffix("+0").partition("_")
    if not job.isdecimal():
        return []
    code, _, signal = exit_code.partition(":")
    return [AccountingRow(job, _tasks(tasks.strip("[]")), state, int(code or 0), int(signal or 0), nodes)]
