"""hpcrun sbatch."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hpcrun import sbatch_line, slurm
from hpcrun.errors import ClusterUnavailable, HpcrunError, SubmissionRefused, UsageError
from hpcrun.rundir import RunDir
from hpcrun.sbatch_line import Effective, Line
from hpcrun.sbatch_options import WRAPPED

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hpcrun.run import Run

_OWN = {**dict.fromkeys(WRAPPED, True), "dry-run": False}
_ASKS = ("help", "usage", "version", "test-only", "autocomplete")
"""Options with which sbatch submits nothing."""
_OPEN_FILE = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/([0-9]+)")
"""A file that the shell has opened: ``sbatch <(make-script)``."""


class _AsGiven(click.Command):
    """A command that takes its words as they are: what they mean is sbatch's business."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave all words to the command."""
        ctx.params["words"] = tuple(args)
        return []


@click.command(cls=_AsGiven, add_help_option=False)
def command(words: Sequence[str]) -> None:
    """Submit a batch script as sbatch does, and keep a run of it."""
    own, line = _parsed(words)
    if line.get("help") is not None:
        click.echo(_HELP)
    if any(line.get(name) is not None for name in _ASKS):
        # Its standard input stays what it is: what asks for help may have no script.
        source = _script(line, False) if _OPEN_FILE.fullmatch(line.script or "") else None
        sys.exit(slurm.sbatch_as_given(*_handed_on(line, source), lambda _: None, _Output()))
    supervised = any(name in WRAPPED for name in own)
    source = _script(line, supervised)
    if supervised:
        _supervised(own, line, source, words)
    elif "dry-run" in own:
        click.echo(shlex.join(["sbatch", *line.words()]))
    else:
        sys.exit(_as_given(line, source, words))


def _parsed(words: Sequence[str]) -> tuple[dict[str, str], Line]:
    """Our options, and sbatch's line; where there are options of a site's plug-ins on it, by what these take."""
    own, line = sbatch_line.parse(words, _OWN)
    if not line.unknown:
        return own, line
    help_text = io.BytesIO()
    slurm.sbatch_as_given(["--help"], None, lambda _: None, help_text)
    plugins = sbatch_line.plugin_options(help_text.getvalue().decode("utf-8", "replace"))
    return sbatch_line.parse(words, _OWN, plugins=plugins)


_HELP = """\
Usage: hpcrun sbatch [--shards N] [--retries N] [… options of sbatch …] SCRIPT [ARGUMENT…]

Submits a batch script as sbatch does, with all of sbatch's options, and keeps a run of it for status, logs, cancel and
list. Without an option of these the job is Slurm's alone. With one, hpcrun carries it out and keeps records:

  --shards N               N times the script, each with its index (HPCRUN_SHARD_INDEX)
  --max-parallel N         how many of them, or of the elements of an array, at once
  --retries N              how often a failed one is tried again; 0 is for lost nodes and preemption only
  --retry requeue|in_place, --backoff TIME, --timeout TIME, --max-failed-indexes N, --run-timeout TIME
  --dry-run                show the scripts, submit nothing

What follows is sbatch's own help.
"""


class _Output(io.FileIO):
    """Standard output, which may be closed, full or nobody's: the job is submitted all the same, as with sbatch."""

    def __init__(self) -> None:
        closed = sys.stdout is None
        super().__init__(os.devnull if closed else sys.stdout.fileno(), "wb", closefd=closed)

    def write(self, text: Buffer, /) -> int:
        """Write what can be written."""
        try:
            return super().write(text) or 0
        except OSError:
            return len(memoryview(text))


def _script(line: Line, supervised: bool) -> bytes | None:
    """The script's text; None where sbatch will say that there is none, or where only one of us can read it."""
    if line.wrap is not None:
        return sbatch_line.wrapped(line.wrap).encode("utf-8", "surrogateescape")
    if line.get("external") is not None:  # a job without a script
        return None
    if line.script is None:
        return sys.stdin.buffer.read() if sys.stdin is not None else b""
    search = os.environ.get("PATH", "")
    try:
        path = sbatch_line.find_script(line.script, os.getcwd(), search, chdir=line.get("chdir")) or line.script
        again = stat.S_ISREG(os.stat(path).st_mode) or _OPEN_FILE.fullmatch(line.script)
        if not again and not supervised:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _read(line: Line, source: bytes | None) -> Effective:
    header = sbatch_line.header((source or b"").decode("utf-8", "surrogateescape"))
    return sbatch_line.effective(line, os.environ, header)


def _handed_on(line: Line, source: bytes | None) -> tuple[list[str], bytes | None]:
    """sbatch's words, and what it gets on its standard input: the script, where we have read it off that.

    What we have read off another file that is open, it finds in this process under the same number: a pipe is empty.
    """
    open_file = _OPEN_FILE.fullmatch(line.script or "")
    if line.script is None:
        return line.words(), source if line.wrap is None else None
    if open_file is None or source is None:
        return line.words(), None
    number = int(open_file[1] or 0)
    if number == 0:
        return line.words(), source
    copy = os.memfd_create("script")
    with open(copy, "wb", closefd=False) as file:
        file.write(source)
    os.dup2(copy, number)
    rest = list(line.rest)
    rest[rest.index(line.script)] = f"/proc/{os.getpid()}/fd/{number}"
    return [*line.option_words(), *rest], None


def _as_given(line: Line, source: bytes | None, words: Sequence[str]) -> int:
    """Let sbatch do what it does, and keep a run of its job; the exit code is sbatch's own."""
    hushed = line.get("quiet") is not None and line.get("parsable") is None
    handed_on, given = _handed_on(line, source)

    def keep(job: str) -> None:
        try:
            _keep(job, _read(line, source), source, words)
        except (HpcrunError, OSError) as error:  # whatever is wrong with it, the job is submitted
            click.echo(f"hpcrun: job {job} is submitted, but no run is kept of it: {error}", err=True)

    if not hushed:
        return slurm.sbatch_as_given(handed_on, given, keep, _Output())
    with open(os.devnull, "wb") as nowhere:  # it is to print nothing, and yet has to tell us which job it is
        return slurm.sbatch_as_given(["--parsable", *handed_on], given, keep, nowhere)


def _keep(job: str, script: Effective, source: bytes | None, words: Sequence[str]) -> None:
    from hpcrun import config, submission, wrapper  # what sbatch need not wait for
    from hpcrun.cluster import Limits

    if script.get("clusters"):
        return  # jobs elsewhere are not ours to follow
    settings = config.load(os.environ, os.getcwd())
    when = submission.now(settings.home, "slurm", typed=True)
    plan = wrapper.plan_of(None, script, when, settings, Limits(max_array=1001, accounting=True), "")
    submission.adopt(plan, job, source, {"sbatch": list(words)}, settings.home)


def _supervised(own: Mapping[str, str], line: Line, source: bytes | None, words: Sequence[str]) -> None:
    from hpcrun import config, submission, wrapper
    from hpcrun.cli.compile import show
    from hpcrun.fields import Source
    from hpcrun.run import connect

    asked = wrapper.asked(own)
    if line.get("external") is not None:
        raise UsageError("--external: found a job without a script beside options of hpcrun's, wanted a script")
    if not shutil.which("sbatch"):
        raise ClusterUnavailable(
            "found no `sbatch` in PATH; wanted Slurm's commands (`module load slurm`, or a login node). Without Slurm, "
            f"`hpcrun run --cluster local -- {line.script or 'COMMAND'}` runs the script on this machine"
        )
    script = _read(line, source)
    if source is None or script.header.problems:
        # sbatch says best what is wrong with it.
        sys.exit(slurm.sbatch_as_given(*_handed_on(line, source), lambda _: None, _Output()))
    settings = config.load(os.environ, os.getcwd())
    assert asked is not None, "one of our options at least is given"
    wrapper.check(asked, script)
    cluster = connect("slurm")
    when = submission.now(settings.home, "slurm", typed=True)
    copy = RunDir(when.run_dir).batch_script
    plan = wrapper.plan_of(asked, script, when, settings, cluster.limits(places=False), copy)
    prepared = submission.Prepared(plan, Source({"sbatch": list(words)}, {}), settings, cluster)
    prepared.batch_script = source
    if "dry-run" in own:
        show(prepared, as_json=False)
        return
    try:
        run = submission.carry_out(prepared)
    except SubmissionRefused as error:  # as sbatch says it, and with its exit code
        click.echo(error.said, err=True, nl=False)
        sys.exit(error.code)
    _tell(run, line)
    if line.get("wait") is not None:
        status = run.wait()
        sys.exit(max(1 if shard.signal or shard.exit_code is None else shard.exit_code for shard in status.shards))


def _tell(run: Run, line: Line) -> None:
    """What sbatch would print; several jobs as a dependency names them."""
    if line.get("parsable") is not None:
        _Output().write(f"{':'.join(run.jobs)}\n".encode())
    elif line.get("quiet") is None:
        _Output().write("".join(f"Submitted batch job {job}\n" for job in run.jobs).encode())
    if line.get("quiet") is None:
        click.echo(f"hpcrun: run {run.id}: `hpcrun status {run.id}` shows it", err=True)
