"""Scripts of the kinds that sites publish, how each is submitted, and what it leaves.

Each is submitted from a folder of its own with all the files of this one in it. What is printed is compared line by
line, with what differs from one submission to the next replaced (see `plain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from containers import RELEASE

FOLDER = Path(__file__).parent
FOLDERS = ("logs", "work")
"""What has to be there besides the files."""
SLURMS = re.compile(r"slurmstepd-|\[[\dT:.-]+\] error: ")
"""How slurmstepd's own lines begin; the second way is that of 26.05."""


@dataclass(frozen=True)
class Script:
    """A submission."""

    name: str
    call: str
    """Shell code, in which `sbatch` is whatever is tried."""
    leaves: Mapping[str, tuple[str, ...]]
    """The lines of each file by a pattern of its path (`*` stands for a job's id); a pattern fits one file exactly."""
    prints: tuple[str, ...] = ("Submitted batch job JOB",)
    """What the call itself prints."""
    retries: bool = True
    """Whether it comes to the same with retries: not where a job fails, or asks what Slurm was given."""
    warned: bool = False
    """Whether it has to be warned of its time limit, and helped through the wait for its requeueing."""


def plain(text: str, folder: str) -> tuple[str, ...]:
    """The lines of a text without what differs between two submissions: ids of jobs, the folder, Slurm's remarks."""
    text = re.sub(r"(Submitted batch job) \d+", r"\1 JOB", text.replace(folder, "FOLDER"))
    return tuple(line for line in text.splitlines() if not SLURMS.match(line))


def left(files: Mapping[str, str], patterns: Iterable[str], folder: str) -> dict[str, list[tuple[str, ...]]]:
    """The lines of the files that fit each pattern; one file each, if all is well."""
    return {
        pattern: [plain(text, folder) for path, text in sorted(files.items()) if fnmatchcase(path, pattern)]
        for pattern in patterns
    }


def _one(name: str, *lines: str, call: str = "", output: str = "", **more: bool) -> Script:
    return Script(
        name.partition(".")[0], call or f"sbatch {name}", {output or f"{name.partition('.')[0]}-*.out": lines}, **more
    )


HEREDOC = """\
sbatch --mem=100M <<'END'
#!/bin/sh
#SBATCH --job-name=here
#SBATCH --output=heredoc-%j.out
echo "$SLURM_JOB_NAME came on standard input, costs 1\\$"
END
"""

SCRIPTS = [
    _one("serial.sh", "serial: 1 task, 100 MB", "in the submit directory"),
    _one("openmp.sh", "4 threads, 4 CPUs"),
    _one(
        "mpi_srun.sh", "2 nodes, 4 tasks", "rank 0 of 4, node 0", "rank 1 of 4, node 0", "rank 2 of 4, node 1",
        "rank 3 of 4, node 1", output="mpi-srun.*.out",
    ),
    # The image of 26.05 has no Open MPI.
    *([_one("mpirun.sh", *(f"rank {rank} of 4" for rank in range(4)))] if RELEASE != "26.05" else []),
    _one("hybrid.sh", "rank 0: 4 threads", "rank 1: 4 threads"),
    _one("gpu.sh", "partition gpu", "2", "a step sees 2"),
    Script("array_parameters", "sbatch array_parameters.sh", {
        "parameters-*_1.out": ("element 1: alpha=0.1 beta=red",),
        "parameters-*_2.out": ("element 2: alpha=0.2 beta=green",),
        "parameters-*_3.out": ("element 3: alpha=0.3 beta=blue",),
        "parameters-*_4.out": ("element 4: alpha=0.4 beta=a b",),
    }),
    Script("array_step", "sbatch array_step.sh", {
        f"slurm-*_{index}.out": (f"{index} of 0-9:3, 4 in all",) for index in (0, 3, 6, 9)
    }),
    Script("array_logs", "sbatch array_logs.sh", {
        "logs/*_3.out": ("output of 3",), "logs/*_3.err": ("errors of 3",),
        "logs/*_7.out": ("output of 7",), "logs/*_7.err": ("errors of 7",),
    }),
    Script("array_of_the_line", "sbatch --array=5 --output=of_the_line-%a.out array_step.sh", {
        "of_the_line-5.out": ("5 of 5-5:1, 1 in all",),
    }),
    _one("het.sh", "2 components", "server with 2 CPUs", "client 0", "client 1"),
    Script(
        "chain",
        'first=$(sbatch --parsable chain_first.sh) && sbatch --dependency="afterok:$first" chain_second.sh',
        {"chain_first-*.out": ("computed",), "chain_second-*.out": ("the first one left 42",)},
    ),
    _one("resubmit.sh", "part 1", "part 2", "part 3", output="resubmit.out"),
    _one("requeue.sh", "from the beginning", "checkpoint", "restart 1 continues with step 7", warned=True),
    _one(
        "python_job", "arguments ['a b', '--help']", "job python", call="sbatch python_job 'a b' --help",
        output="python-*.out",
    ),
    _one("perl.pl", "warnings are on in perl"),
    _one("login.sh", "a login shell"),
    _one("strict.sh", "options eu", retries=False),
    _one("scratch.sh", "computed in scratch", "copied back"),
    _one("multiprog.sh", "master", "worker 1 of two, 0", "worker 2 of two, 1"),
    _one("wrap", "wrapped: 2 words", call="""\
sbatch -J wrapped -o wrap-%j.out --mem=100M --wrap 'set -- "a b" c; echo "$SLURM_JOB_NAME: $# words"'"""),
    _one("heredoc", "here came on standard input, costs 1$", call=HEREDOC),
    # A list of names (--export=NAME=value) has Slurm log in for the rest, which containers cannot do.
    _one("export.sh", "CALLER=me EMPTY=[] HOME=set", call="CALLER='me' EMPTY= sbatch --export=ALL export.sh"),
    Script("export_nothing", "CALLER=me sbatch --export=NIL --output=nothing.out export.sh", {
        "nothing.out": (f"CALLER=unset EMPTY=[unset] HOME={'set' if RELEASE == '22.05' else ''}",),
    }),
    _one(
        "chdir.sh", "in work", "below the submit directory", call="sbatch --chdir=work ./chdir.sh",
        output="work/chdir.out",
    ),
    _one(
        "arguments.sh", "6 arguments", "[one two]", "[]", "[--shards]", "[3]", "[*]", "[it's $HOME]",
        call="""sbatch arguments.sh 'one two' '' --shards 3 '*' "it's \\$HOME" """,
    ),
    _one(
        "zero.sh", "the script is what runs", "name slurm_script", "usage: zero.sh prints these lines of itself"
    ),
    # With retries the job's command is hpcrun's own script.
    _one("command.sh", "submitted as command.sh", retries=False),
    _one("background.sh", "step 1", "step 2"),
    Script("apart", "sbatch apart.sh", {"apart.out": ("to standard output",), "apart.err": ("to standard error",)}),
    _one("input.sh", "red is 0.1", "green is 0.2", "blue is 0.3", "a b is 0.4"),
    _one("pbs.sh", "pbs has 2 tasks", output="pbs.out"),
    Script("variables", "SBATCH_MEM_PER_NODE=50 SBATCH_OUTPUT=variables-%x.out sbatch --mem=70 serial.sh", {
        "variables-serial.out": ("serial: 1 task, 70 MB", "in the submit directory"),
    }),
    Script(
        "fails", "sbatch --wait fails.sh; echo \"exit code $?\"", {"fails-*.out": ("about to fail",)},
        ("Submitted batch job JOB", "exit code 3"), retries=False,
    ),
]  # fmt: skip
