"""Interleaved measurements: each round runs every contender once, so that the machine's moods hit all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence

Found = Mapping[str, Sequence[float | None]]
"""What each contender returned in each round; None in a round that it sat out."""


def interleaved(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    seldom: Collection[str] = (),
    every: int = 2,
    warm: bool = True,
) -> Found:
    """What each contender returned in each round; with `warm` one more round before is thrown away.

    Those named in `seldom`, which take long, have their turn in one of `every` rounds only, and none before.
    """
    found: dict[str, list[float | None]] = {name: [] for name in contenders}
    for number in range(0 if warm else 1, rounds + 1):
        for name, measure in contenders.items():
            sits_out = name in seldom and (not number or (number - 1) % every)
            value = None if sits_out else measure()
            if number:
                found[name].append(value)
    return found


def median(values: Sequence[float | None]) -> float:
    """The median of the rounds that there were."""
    return statistics.median(value for value in values if value is not None)


def ratios(values: Sequence[float | None], others: Sequence[float | None]) -> list[float]:
    """The ratios to others, round by round, of the rounds that both were in."""
    return [value / other for value, other in zip(values, others, strict=True) if value is not None and other]


def spelled(value: float) -> str:
    """Three digits that count, and thousands apart."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(found: Found, base: str, unit: str = "s") -> str:
    """A Markdown table: median and spread, and the same of the round-by-round ratios to `base`."""
    rows = [f"| contender | median | min … max | rounds | ratio to {base} | min … max |", "|---|---|---|---|---|---|"]
    for name, values in found.items():
        there = [value for value in values if value is not None]
        to = ratios(values, found[base])
        spread = f"{spelled(min(there))} … {spelled(max(there))} {unit}"
        ratio = f"{statistics.median(to):.2f} | {min(to):.2f} … {max(to):.2f}" if name != base else "1.00 | "
        rows.append(f"| {name} | {spelled(statistics.median(there))} {unit} | {spread} | {len(there)} | {ratio} |")
    return "\n".join(rows)
