"""nv-sflow's ``backends``: where a workflow runs, which Slurm is told by options of sbatch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hpcrun.codespec import NOT_OURS
from hpcrun.fields import Source, by_name, canonical, placed, shown, validated
from hpcrun.values import Model, Text
from hpcrun.variables import Variables, resolved
from hpcrun.workflow import Names, Positive, Whole

_ABSENT = {"offload_task_logs": f"{NOT_OURS}: the logs of tasks are always written on their nodes"}
_OPTIONS = {"account": "account", "partition": "partition", "time": "time"}
_NODES = {"include_nodes": "nodelist", "exclude_nodes": "exclude"}
"""Fields, and the options of sbatch that they are."""


class Backend(Model):
    """Where a workflow runs."""

    type: Literal["slurm", "local"] = "slurm"
    default: bool = False
    gpus_per_node: Whole | None = None
    nodes: Positive | None = None
    account: Text | None = None
    partition: Text | None = None
    time: Text | None = None
    include_nodes: Names = []
    exclude_nodes: Names = []
    extra_args: Names = []
    """Further options of sbatch."""
    job_name: Text | None = None


def spelled(source: Source) -> Source:
    """`source`, a run, with its ``backends`` by name, and every key in its one spelling.

    Raises SpecError for a key that there is not, or a value of another shape than it has to be.
    """
    if source.values.get("backends") is None:
        return source.without("backends")
    found = by_name(source, "backends")
    return found.replaced("backends", found.inner("backends").mapped(_spelled))


def _spelled(source: Source) -> Source:
    if source.values.get("type") in ("docker", "kubernetes"):  # these have fields of their own
        raise source.error(("type",), f"found {shown(source.values['type'])}, wanted 'slurm' or 'local'")
    return canonical(source, list(Backend.model_fields), {}, _ABSENT)


def laid_under(found: Source, variables: Variables) -> Source:
    """`found` with its backend evaluated, and its nodes and options of sbatch where the run says nothing of them.

    Raises SpecError for more than one backend, and for what is wrong with the one.
    """
    given = found.values.get("backends", {})
    if len(given) > 1:
        raise found.error(("backends",), f"found {' and '.join(given)}, wanted one: a workflow has one allocation")
    for name in given:
        inner = found.inner("backends", name)
        one = resolved(inner, inner.values, variables.scope)
        backend = validated(Backend, one)
        found = found.replaced("backends", found.inner("backends").replaced(name, one))
        if backend.nodes is not None and found.values.get("nodes") is None:
            found = found.under(placed(("nodes",), backend.nodes, one.place(("nodes",)), f"backends.{name}.nodes"))
        # Another partition is what naming a node pool is for.
        said = {"partition"} if found.values.get("node_pool") is not None else set()
        said |= {str(key).lstrip("-").replace("_", "-") for key in _asked(found)}
        for field, option, value in _options(backend, one):
            if option not in said:
                said.add(option)
                place = one.place((field,))
                found = found.under(placed(("sbatch", option), value, place, f"backends.{name}.{field}"))
    return found


def _asked(found: Source) -> list[object]:
    given = found.values.get("sbatch") or {}
    if not isinstance(given, dict):
        raise found.error(("sbatch",), f"found {shown(given)}, wanted a mapping of names to values")
    return list(given)


def _options(backend: Backend, given: Source) -> Iterator[tuple[str, str, object]]:
    """(field, option of sbatch, value) of what a backend says, what counts most first."""
    words = list(backend.extra_args)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            raise given.error(("extra_args",), f"found {shown(name)}, wanted options such as --OPTION=VALUE")
        if not equals and words and not words[0].startswith("-"):
            equals, value = "=", words.pop(0)
        yield "extra_args", name[2:], value if equals else True
    for field, option in _OPTIONS.items():
        if getattr(backend, field) is not None:
            yield field, option, getattr(backend, field)
    for field, option in _NODES.items():
        if getattr(backend, field):
            yield field, option, ",".join(getattr(backend, field))
