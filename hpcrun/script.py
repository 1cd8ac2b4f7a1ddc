"""The sbatch script of a batch, as text from slurm-templates/. The only quoting in the package is here.

Nothing is decided here: every directive comes from the plan.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from importlib import resources

import jinja2

from hpcrun.errors import TemplateError
from hpcrun.plan import Batch, Plan
from hpcrun.rundir import RunDir

TEMPLATE = "batch.sh"

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~\[\]!^*?{}|()&;<>$-]*")
_QUOTABLE = re.compile(r"[^\"'#\\]*")


def template(folder: str | None) -> tuple[str, str]:
    """The text of the batch template and what to call it: the one in `folder` if there is one, else the package's."""
    path = os.path.join(folder, TEMPLATE) if folder else ""
    if path and os.path.exists(path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(), path
        except OSError as error:
            raise TemplateError(f"cannot read the template: {error.strerror}", file=path) from error
        except UnicodeDecodeError as error:
            raise TemplateError("found bytes that are not UTF-8, wanted a template", file=path) from error
    return (resources.files("hpcrun") / "templates" / TEMPLATE).read_text(encoding="utf-8"), TEMPLATE


def render(plan: Plan, run: RunDir, batch: Batch, text: str, called: str) -> str:
    """The script that carries out `batch` of `plan`, from the template `text`.

    Raises TemplateError, with the line, when the template is broken or asks for what does not exist.
    """
    engine = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    last = batch.first + batch.count - 1
    try:
        rendered = engine.from_string(text).render(
            directives=directives(plan, run, batch),
            components=[[directive(name, value) for name, value in options] for options in plan.components[1:]],
            run_id=plan.run_id,
            batch=batch.index,
            covers=f"shards {batch.first} to {last} of {plan.shards}" if plan.sharded else "one program",
            prologue=plan.prologue.rstrip("\n"),
            launch=launch(plan, run, batch),
        )
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"not a template: {error.message}", file=called, line=error.lineno) from error
    except jinja2.TemplateError as error:
        raise TemplateError(f"cannot render the template: {error}", file=called) from error
    if not rendered.startswith("#!"):
        raise TemplateError(
            "found no #! line at its beginning, wanted a script such as #!/bin/bash", file=called, line=1
        )
    return rendered


def launch(plan: Plan, run: RunDir, batch: Batch) -> str:
    """The command that starts the runtime on the node.

    Isolated (-I -S): no PYTHON* variable and no site package of the user's reaches the runtime itself.
    """
    return shlex.join([plan.node_python, "-I", "-S", run.start, "shard", str(batch.index)])


def directives(plan: Plan, run: RunDir, batch: Batch) -> list[str]:
    """The options of sbatch for one batch, each ready to stand behind ``#SBATCH``."""
    options = list(plan.components[0])
    if batch.array:
        throttle = f"%{batch.throttle}" if batch.throttle else ""
        options.insert(1, ("array", f"0-{batch.count - 1}{throttle}"))
    output = run.slurm.replace("%", "%%") + ("/%A_%a.out" if batch.array else "/%j.out")
    options.insert(1, ("output", output))
    return [directive(name, value) for name, value in options]


def directive(name: str, value: str | None) -> str:
    """One long option as sbatch reads it from a script.

    sbatch splits these lines itself: quotes and backslashes work as in a shell, a ``#`` ends the line even within
    quotes, and nothing is expanded (sbatch's opt.c; measured on 24.11).
    """
    if value is None:
        return f"--{name}"
    if _PLAIN.fullmatch(value) and value:
        return f"--{name}={value}"
    if _QUOTABLE.fullmatch(value):
        return f'--{name}="{value}"'
    return f"--{name}=" + re.sub(r"([\s\"'#\\])", r"\\\1", value)


def exports(environ: Mapping[str, str]) -> str:
    """Lines of shell that export `environ`; names that a shell cannot hold are left out."""
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environ.items()) if name.isidentifier()
    )
