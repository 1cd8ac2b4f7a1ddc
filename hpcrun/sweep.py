"""Sweeps: the values and the name of one replica of a task, from its place in the Cartesian product. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def values_at(variables: Sequence[tuple[str, Sequence[str]]], index: int) -> dict[str, str]:
    """The values at `index` of the Cartesian product of the domains of `variables`, the last one fastest."""
    found: dict[str, str] = {}
    for name, domain in reversed(variables):
        index, at = divmod(index, len(domain))
        found[name] = domain[at]
    return {name: found[name] for name, _ in variables}


def replica_name(task: str, values: Iterable[str]) -> str:
    """The name of the replica of `task` with these values: nv-sflow's, in which ``.``, ``-`` and spaces are ``_``."""
    return "_".join([task, *(value.replace(".", "_").replace("-", "_").replace(" ", "_") for value in values)])
