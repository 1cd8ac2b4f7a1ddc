"""Interleaved measurements: each round runs every contender once, so that the machine's moods hit all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender returned in each round; one more round before is thrown away."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, measure in contenders.items():
            value = measure()
            if number:
                found[name].append(value)
    return found


def table(found: Mapping[str, list[float]], base: str, unit: str = "s") -> str:
    """A Markdown table: median, spread, and the median of the round-by-round ratios to `base`."""
    rows = [f"| contender | median | min … max | ratio to {base} |", "|---|---|---|---|"]
    for name, values in found.items():
        ratio = statistics.median(value / other for value, other in zip(values, found[base], strict=True))
        spread = f"{min(values):.3g} … {max(values):.3g} {unit}"
        rows.append(f"| {name} | {statistics.median(values):.3g} {unit} | {spread} | {ratio:.2f} |")
    return "\n".join(rows)
