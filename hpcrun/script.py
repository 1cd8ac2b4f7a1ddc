"""The sbatch script of a batch, as text from slurm-templates/. The only quoting in the package is here.

Nothing is decided here: every directive comes from the plan.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from hpcrun.errors import TemplateError
from hpcrun.indexes import fold_indexes
from hpcrun.plan import Batch, Plan
from hpcrun.rundir import RunDir

TEMPLATE = "batch.sh"

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~\[\]!^*?{}|()&;<>$-]*")
_QUOTABLE = re.compile(r"[^\"'#\\]*")


def template(folder: str | None, name: str = TEMPLATE) -> tuple[str, str]:
    """The text of a template and what to call it: the one in `folder` if there is one, else the package's."""
    path = os.path.join(folder, name) if folder else ""
    if path and os.path.exists(path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(), path
        except OSError as error:
            raise TemplateError(f"cannot read the template: {error.strerror}", file=path) from error
        except UnicodeDecodeError as error:
            raise TemplateError("found bytes that are not UTF-8, wanted a template", file=path) from error
    return (resources.files("hpcrun") / "templates" / name).read_text(encoding="utf-8"), name


def template_of(plan: Plan) -> str:
    """The name of the template that the scripts of a run are made from."""
    return TEMPLATE if plan.batch_script is None else "sbatch.sh"


def render(
    plan: Plan,
    run: RunDir,
    batch: Batch,
    text: str,
    called: str,
    *,
    in_round: int = 0,
    tasks: Sequence[int] | None = None,
) -> str:
    """The script that carries out `batch` of `plan`, from the template `text`.

    `in_round` is the round of the run's retries by hand, and `tasks` are the elements of the array that it has.
    Raises TemplateError, with the line, when the template is broken or asks for what does not exist.
    """
    first = directives(plan, run, batch, tasks)
    others = [[directive(name, value) for name, value in options] for options in plan.components[1:]]
    own = () if plan.batch_script is None else plan.batch_script.components
    return _rendered(
        text,
        called,
        directives=first,
        components=others,
        sections=list(zip(own, [first, *others], strict=False)),
        copy=shlex.quote(run.batch_script),
        options=shlex.join(batch.words(tasks)).replace("\n", " "),  # in a comment of one line
        run_id=plan.run_id,
        batch=batch.index,
        covers=_covers(plan, batch, tasks),
        prologue=plan.prologue.rstrip("\n"),
        launch=launch(plan, run, batch, in_round),
    )


def _covers(plan: Plan, batch: Batch, tasks: Sequence[int] | None) -> str:
    if plan.tasks:
        return f"a workflow of {len(plan.tasks)} {'task' if len(plan.tasks) == 1 else 'tasks'}"
    if not plan.sharded:
        return "one program"
    if tasks is not None:
        mine = (shard for task in tasks for shard in batch.shards_of(task))
        return f"shards {fold_indexes(mine)} of {plan.shards}, tried again"
    return f"shards {batch.first} to {batch.first + batch.count - 1} of {plan.shards}"


def render_finish(plan: Plan, run: RunDir, text: str, called: str, *, in_round: int) -> str:
    """The script of the small job that tells how the run has ended with this round, from the same template.

    It goes where the run goes, and asks for little. Raises TemplateError as `render` does.
    """
    options: list[tuple[str, str | None]] = [
        ("job-name", f"finish-{plan.run_id}"),
        ("output", run.slurm.replace("%", "%%") + "/finish-%j.out"),
        ("open-mode", "append"),
        ("comment", f"hpcrun-finish:{plan.run_id}"),
        ("export", "ALL"),
        ("requeue", None),
        *((name, value) for name, value in plan.components[0] if name in _WHERE),
        ("ntasks", "1"),
        ("cpus-per-task", "1"),
        ("mem-per-cpu", f"{256 + plan.shards // 256}M"),
        ("time", "10"),
    ]
    return _rendered(
        text,
        called,
        directives=[directive(name, value) for name, value in options],
        components=[],
        run_id=plan.run_id,
        batch="finish",
        covers="how the run has ended, for those that wait for it",
        prologue="",
        launch=shlex.join([plan.node_python, "-I", "-S", run.start, "finish", str(in_round)]),
    )


def render_checkup(
    folder: str, options: Iterable[tuple[str, str | None]], node_python: str, prologue: str, text: str, called: str
) -> str:
    """The script of `hpcrun doctor`'s small job, which leaves its report in `folder`, from the same template.

    Its own output goes nowhere: where Slurm could not open it on the node, nothing would run that says why. Raises
    TemplateError as `render` does.
    """
    probe = (resources.files("hpcrun") / "node" / "checkup.sh").read_text(encoding="utf-8")
    return _rendered(
        text,
        called,
        directives=[directive(name, value) for name, value in options],
        components=[],
        run_id="doctor",
        batch="checkup",
        covers="what hpcrun doctor asks a node",
        prologue=prologue.rstrip("\n"),
        launch=shlex.join(["/bin/sh", "-c", probe, "checkup", folder, node_python]),
    )


_WHERE = ("partition", "account", "qos", "constraint", "reservation")
"""sbatch's options that say where, and on whose account."""


def _rendered(text: str, called: str, **values: object) -> str:
    import jinja2  # 20 ms, which commands that submit nothing do without

    engine = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    try:
        rendered = engine.from_string(text).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"not a template: {error.message}", file=called, line=error.lineno) from error
    except jinja2.TemplateError as error:
        raise TemplateError(f"cannot render the template: {error}", file=called) from error
    if not rendered.startswith("#!"):
        raise TemplateError(
            "found no #! line at its beginning, wanted a script such as #!/bin/bash", file=called, line=1
        )
    return rendered


def launch(plan: Plan, run: RunDir, batch: Batch, in_round: int = 0) -> str:
    """The command that starts the runtime on the node.

    Isolated (-I -S): no PYTHON* variable and no site package of the user's reaches the runtime itself.
    """
    which = [str(batch.index), *([str(in_round)] if in_round else [])]
    return shlex.join([plan.node_python, "-I", "-S", run.start, "shard", *which])


def directives(plan: Plan, run: RunDir, batch: Batch, tasks: Sequence[int] | None = None) -> list[str]:
    """The options of sbatch for one batch, or for some `tasks` of its array, each ready to stand behind ``#SBATCH``."""
    options = list(plan.components[0])
    if batch.array and not batch.ids:
        throttle = f"%{batch.throttle}" if batch.throttle else ""
        elements = f"0-{batch.elements - 1}" if tasks is None else fold_indexes(tasks)
        options.insert(1, ("array", f"{elements}{throttle}"))
    if plan.batch_script is not None:
        return [directive(name, value) for name, value in options]
    output = run.slurm.replace("%", "%%") + ("/%A_%a.out" if batch.array else "/%j.out")
    options.insert(1, ("output", output))
    return [directive(name, value) for name, value in options]


def directive(name: str, value: str | None) -> str:
    """One long option as sbatch reads it from a script.

    sbatch splits these lines itself: quotes and backslashes work as in a shell, a ``#`` ends the line even within
    quotes, and nothing is expanded (sbatch's opt.c; measured on 24.11). In 22.05 a space ends a word also behind a
    backslash: only quotes keep it.
    """
    if value is None:
        return f"--{name}"
    if _PLAIN.fullmatch(value) and value:
        return f"--{name}={value}"
    if _QUOTABLE.fullmatch(value):
        return f'--{name}="{value}"'
    escaped = re.sub(r"[\"'#\\]", r"\\\g<0>", value)
    return f"--{name}=" + re.sub(r"\s+", r'"\g<0>"', escaped)


def exports(environ: Mapping[str, str]) -> str:
    """Lines of shell that export `environ`; names that a shell cannot hold are left out."""
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environ.items()) if name.isidentifier()
    )
