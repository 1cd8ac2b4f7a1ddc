"""The most that is wanted at a time, by things of which some end before others begin. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping


def peak(weights: Mapping[str, int], before: Mapping[str, Collection[str]]) -> tuple[int, tuple[str, ...]]:
    """The largest sum of `weights` over things of which none is `before` another, and which these are.

    ``before[x]`` are all those that have ended when x begins, directly or not. By Dilworth's theorem the sum is what
    remains of all weights when as much as possible of each is handed on to things after it: a maximum flow.
    """
    wanted = {name: weight for name, weight in weights.items() if weight}
    after: dict[str, list[str]] = {name: [] for name in wanted}
    for later in wanted:
        for earlier in before.get(later, ()):
            if earlier in after and earlier != later:
                after[earlier].append(later)
    left, lacking = dict(wanted), dict(wanted)  # what each can still hand on, and still be handed
    handed: dict[str, dict[str, int]] = {name: {} for name in wanted}  # to whom, from whom, how much
    while True:
        reached, end = _search(left, lacking, after, handed)
        if end is None:
            break
        _hand_on(reached, end, left, lacking, handed)
    found = tuple(name for name in wanted if ("from", name) in reached and ("to", name) not in reached)
    return sum(wanted[name] for name in found), found


Node = tuple[str, str]
"""A thing as one that hands on (``from``), or as one that is handed something (``to``)."""


def _search(
    left: Mapping[str, int],
    lacking: Mapping[str, int],
    after: Mapping[str, list[str]],
    handed: Mapping[str, Mapping[str, int]],
) -> tuple[dict[Node, Node | None], str | None]:
    """Everything that is reached from those with something left, each with whence, up to one that lacks something."""
    reached: dict[Node, Node | None] = {("from", name): None for name, amount in left.items() if amount}
    waiting = list(reached)
    while waiting:
        here = waiting.pop()
        side, name = here
        if side == "to" and lacking[name]:
            return reached, name
        following = after[name] if side == "from" else [giver for giver, amount in handed[name].items() if amount]
        for other in following:
            there = ("to" if side == "from" else "from", other)
            if there not in reached:
                reached[there] = here
                waiting.append(there)
    return reached, None


def _hand_on(
    reached: Mapping[Node, Node | None],
    end: str,
    left: dict[str, int],
    lacking: dict[str, int],
    handed: Mapping[str, dict[str, int]],
) -> None:
    """Hand on as much as goes along the way to `end`."""
    way: list[Node] = [("to", end)]
    while (previous := reached[way[-1]]) is not None:
        way.append(previous)
    way.reverse()
    steps = list(itertools.pairwise(way))
    taken_back = [handed[one[1]][two[1]] for one, two in steps if one[0] == "to"]
    amount = min([left[way[0][1]], lacking[end], *taken_back])
    for (side, name), (_, other) in steps:
        if side == "from":
            handed[other][name] = handed[other].get(name, 0) + amount
        else:
            handed[name][other] -= amount
    left[way[0][1]] -= amount
    lacking[end] -= amount
