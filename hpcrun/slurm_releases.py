"""What differs between Slurm's releases, from 22.05 to 26.05, and what hpcrun does about it: all of it is here.

Nothing asks which release there is before it acts. Login node, slurmctld and nodes of one site may be of different
ones for months (Slurm supports that over three, see its upgrade guide), and sites patch theirs. So hpcrun says only
what every release understands, and reads each form that one of them writes.

What it does without for that, and since when that is there:

* ``--json``: its layouts changed in 23.02, 24.05 and 24.11; ``squeue -o`` and ``sacct --parsable2`` stayed.
* ``sacct --array`` (23.02): elements that wait come folded (``12_[3-9%4]``), as from squeue. SLURM_BITSTR_LEN=0 keeps
  either from cutting them at 64 characters.
* ``srun --external-launcher`` (23.11) and ``--stepmgr`` (24.05).
* SLURM_JOB_START_TIME (23.02), for the start of a component: the node asks ``scontrol show job``.
* What srun takes from the environment of a batch script (``SLURM_CPUS_PER_TASK`` until 21.08 and again since 23.11,
  ``SLURM_TRES_PER_TASK`` since 23.11): each step is told all of it and its environment is freed of it.

Slurm's own lines in the output of a job, which have to be told from those of the job, begin in two ways: `OWN_LINE`.

Some readers have the forms of one thing beside each other, where they read it: `slurm_limits` (accounts in ``scontrol
show assoc_mgr``), `sbatch_options` and `sbatch_paths` (sbatch's options, ``%r``), and the node's witnesses (``oom-kill
event`` of slurmstepd is ``oom_kill event`` since 23.02). `hostlist` reads what later releases read, and writes only
what 22.05 reads too: nothing behind a last bracket.

Where nothing can be done: 22.05 drops a backslash in the path of ``--output``, and does not start a job whose output
has no folder then. docs/versions.md has what was tried where. Nodes carry this module.
"""

from __future__ import annotations

import re

from hpcrun.errors import IndexSetError
from hpcrun.indexes import parse_indexes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

OLDEST, NEWEST = (22, 5), (26, 5)
"""The releases between which, both included, hpcrun is tried."""

NO_ANSWER = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes|Broken pipe"
    r"|Message (send|receive) failure|Communication \w+ failure|Unexpected message|standby mode"
    r"|Rate limit exceeded",  # 23.02 and later, where a site sets SlurmctldParameters=rl_enable
    re.IGNORECASE,
)
"""What a command says when slurmctld has not answered it: it may have heard all the same."""
ENDED = re.compile(r"Invalid job id|already completing or completed|already finished", re.IGNORECASE)
"""What scancel says of a job that needs none. 22.05 and later mostly say nothing."""
UNKNOWN_JOB = "Invalid job id"
"""What squeue says where the only job that it is asked about is forgotten; of several it says nothing."""
NO_ACCOUNTING = "accounting storage is disabled"
"""What sacct says where there is no slurmdbd."""
WAITS_ALREADY = "is pending execution"
"""What ``scontrol requeue`` says of a job that waits."""

OWN_LINE = re.compile(rb"slurmstepd|srun:|hpcrun:|\[[^]\n]{5,60}\] (?:\S+: )?(?:error|fatal): ")
"""How a line begins that Slurm itself, or the runtime, leaves in a job's own output.

slurmstepd puts its name there (``slurmstepd-n1: error: *** JOB 12 ON n1 CANCELLED AT ...``), and the time instead in
26.05: ``[2026-05-21T21:53:52.776] error: *** JOB 12 ...``, or as LogTimeFormat says (slurm.conf(5)).
"""

_USAGE = re.compile(r'^Try "\w+ --help" for more information$')
_PREFIX = re.compile(r"^(sbatch|squeue|sacct|scancel|scontrol|slurm_\w+)(: error:|:| error:) ?")

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
    # 26.05 says it of afterok and afternotok of a job that is forgotten, too; 22.05 starts such a job at once.
    ("dependency problem", "`squeue --me` lists the jobs there are; Slurm knows ended ones for some minutes only"),
    ("job array", "the cluster's MaxArraySize changed while submitting; submit again"),
)


def hint(reason: str) -> str:
    """What to do about sbatch's refusal; empty where that is not known."""
    lowered = reason.lower()
    unknown = re.search(r"unrecognized option '--([\w-]+)", lowered)
    if unknown:
        from hpcrun.sbatch_options import SINCE

        since = SINCE.get(unknown[1])
        known = "the one of this cluster does not know it" if since is None else f"Slurm has it since {spelt(since)}"
        return f"`sbatch --version` says which Slurm this is; {known}: leave the option out"
    return next((advice for words, advice in _HINTS if words in lowered), "")


def last_words(out: str, err: str, code: int) -> str:
    """The line in which a command says why it failed, without its own name in front.

    That is the last one, but for the advice to read its help that follows an option it does not know.
    """
    lines = [line.strip() for line in (err or out).splitlines() if line.strip()]
    told = [line for line in lines if not _USAGE.match(line)] or lines
    return _PREFIX.sub("", told[-1]) if told else f"exit code {code} and not a word"


def job_and_tasks(shown: str) -> tuple[str, tuple[int, ...] | None] | None:
    """(job, elements) of ``12``, ``12+0``, ``12_3`` and ``12_[4-9%2]``; elements None of what is no array.

    None of what is no job of its own: steps and workers, ``12.batch`` and ``12+1``.
    """
    job, _, tasks = shown.removesuffix("+0").partition("_")
    if not job.isdecimal():
        return None
    if tasks.isdecimal() and tasks.isascii():  # which most are
        return job, (int(tasks),)
    tasks = tasks.strip("[]")
    return job, tuple(parse_indexes(tasks)) if tasks else None


def refusals(err: str, jobs: Collection[str]) -> dict[str, str]:
    """What scontrol complained of, by job or element (``12_3``); empty where it did not say of which.

    ``12_3: Reason`` up to 25.11 and ``12_[3]: Reason`` from 26.05 on, where elements of one reason can share a line in
    both; ``Reason for job 12`` of what is no array.
    """
    found: dict[str, str] = {}
    for line in filter(str.strip, err.splitlines()):
        named, colon, reason = line.partition(": ")
        for job in _named(named) if colon else ():
            if job in jobs:
                found[job] = reason.strip()
        alone = re.fullmatch(r"(?:scontrol: (?:error: )?)?(.*) for job (\S+)", line.strip())
        if alone and alone[2] in jobs:
            found[alone[2]] = alone[1]
    return found


def _named(shown: str) -> list[str]:
    try:
        who = job_and_tasks(shown.strip())
    except IndexSetError:
        return []
    if who is None or who[1] is None:
        return [shown.strip()]
    return [f"{who[0]}_{task}" for task in who[1]]


def release(version: str) -> tuple[int, int] | None:
    """(24, 11) of ``24.11.5``, of ``slurm-wlm 24.11.5`` and the like; None where there is no such number."""
    found = re.search(r"(?<![\d.])(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def spelt(found: tuple[int, int]) -> str:
    """A release as Slurm spells it: ``22.05``."""
    return f"{found[0]}.{found[1]:02}"


def untried(version: str) -> str:
    """What to think of a Slurm that hpcrun was never tried on; empty for the others, and where none is known."""
    here = release(version)
    if here is None or OLDEST <= here <= NEWEST:
        return ""
    age = f"older than {spelt(OLDEST)}, the oldest" if here < OLDEST else f"newer than {spelt(NEWEST)}, the newest"
    return f"Slurm {spelt(here)} is {age} that hpcrun was tried on"
