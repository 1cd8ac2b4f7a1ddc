"""hpcrun sbatch."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hpcrun import sbatch_line, slurm
from hpcrun.errors import HpcrunError, SubmissionRefused
from hpcrun.rundir import RunDir
from hpcrun.sbatch_line import Effective, Line
from hpcrun.sbatch_options import WRAPPED

if TYPE_CHECKING:
    from hpcrun.run import Run

_OWN = {**dict.fromkeys(WRAPPED, True), "dry-run": False}
_ASKS = ("help", "usage", "version", "test-only", "autocomplete")
"""Options with which sbatch submits nothing."""


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
        sys.exit(slurm.sbatch_as_given(line.words(), None, lambda _: None, sys.stdout.buffer))
    source = _script(line)
    if any(name in WRAPPED for name in own):
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


def _script(line: Line) -> bytes | None:
    """The script's text; None where sbatch will say that there is none."""
    if line.wrap is not None:
        return sbatch_line.wrapped(line.wrap).encode("utf-8", "surrogateescape")
    if line.get("external") is not None:  # a job without a script
        return None
    if line.script is None:
        return sys.stdin.buffer.read()
    search = os.environ.get("PATH", "")
    path = sbatch_line.find_script(line.script, os.getcwd(), search, chdir=line.get("chdir"))
    try:
        with open(path or line.script, "rb") as file:
            return file.read()
    except OSError:
        return None


def _read(line: Line, source: bytes | None) -> Effective:
    header = sbatch_line.header((source or b"").decode("utf-8", "surrogateescape"))
    return sbatch_line.effective(line, os.environ, header)


def _on_input(line: Line, source: bytes | None) -> bytes | None:
    """What sbatch gets on its standard input: the script, where it came to us that way."""
    return source if line.script is None and line.wrap is None else None


def _as_given(line: Line, source: bytes | None, words: Sequence[str]) -> int:
    """Let sbatch do what it does, and keep a run of its job; the exit code is sbatch's own."""
    hushed = line.get("quiet") is not None and line.get("parsable") is None
    given = _on_input(line, source)

    def keep(job: str) -> None:
        try:
            _keep(job, _read(line, source), source, words)
        except (HpcrunError, OSError) as error:  # whatever is wrong with it, the job is submitted
            click.echo(f"hpcrun: job {job} is submitted, but no run is kept of it: {error}", err=True)

    if not hushed:
        return slurm.sbatch_as_given(line.words(), given, keep, sys.stdout.buffer)
    with open(os.devnull, "wb") as nowhere:  # it is to print nothing, and yet has to tell us which job it is
        return slurm.sbatch_as_given(["--parsable", *line.words()], given, keep, nowhere)


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
    script = _read(line, source)
    if source is None or script.header.problems:
        # sbatch says best what is wrong with it.
        sys.exit(slurm.sbatch_as_given(line.words(), _on_input(line, source), lambda _: None, sys.stdout.buffer))
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
        click.echo(":".join(run.jobs))
    elif line.get("quiet") is None:
        for job in run.jobs:
            click.echo(f"Submitted batch job {job}")
    if line.get("quiet") is None:
        click.echo(f"hpcrun: run {run.id}: `hpcrun status {run.id}` shows it", err=True)
