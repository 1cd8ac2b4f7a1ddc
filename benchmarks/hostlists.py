"""Expanding and folding hostlists, beside python-hostlist and ClusterShell: medians in ms, and how many times faster.

    python benchmarks/hostlists.py [--rounds 15]

The three run interleaved in one process, and what counts is the CPU time of that, so that a busy machine spoils little.
Before anything is timed, each must give the same hosts. ClusterShell has its turn in each fifth round. A peer that is
not installed is left out, with a line that says so (``pip install python-hostlist ClusterShell``).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pairs import Found, interleaved, median, ratios, spelled

from hpcrun import hostlist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CASES = {
    "51,600 hosts, one range": "n[00001-51600]",
    "51,600 hosts, 86 racks": ",".join(f"r{rack:02d}-[001-600]" for rack in range(86)),
    "25,000 hosts, 5,000 fragments": "n[" + ",".join(f"{n}0-{n}4" for n in range(1, 5001)) + "]",
    "25,000 hosts, 5,000 terms": ",".join(f"n{n % 7}x[{n}0-{n}4]" for n in range(1, 5001)),
    "25,000 hosts, spelled out": ",".join(f"n{n % 7}x{n}" for n in range(25000)),
    "4 hosts": "c[1-3,7]",
}


class Contender(NamedTuple):
    """One implementation: text to hosts, and hosts to text."""

    name: str
    expand: Callable[[str], list[str]]
    fold: Callable[[list[str]], str]


def contenders() -> list[Contender]:
    """Ours first, then the peers that are installed."""
    found = [Contender("hpcrun", hostlist.expand, hostlist.fold)]
    try:
        peer: Any = importlib.import_module("hostlist")
        # Duplicates allowed: without, it spends more time still, on a set.
        found.append(
            Contender(
                "python-hostlist",
                lambda text: list(peer.expand_hostlist(text, allow_duplicates=True)),
                peer.collect_hostlist,
            )
        )
    except ImportError:
        print("python-hostlist is not installed: left out")
    try:
        nodeset: Any = importlib.import_module("ClusterShell.NodeSet").NodeSet
        found.append(
            Contender(
                "ClusterShell",
                lambda text: list(nodeset(text)),
                lambda hosts: str(nodeset.fromlist(hosts)),
            )
        )
    except ImportError:
        print("ClusterShell is not installed: left out")
    return found


def rounds_of(calls: dict[str, Callable[[], object]], rounds: int) -> Found:
    """The times of each call in ms, the calls taking turns."""

    def timed(call: Callable[[], object]) -> float:
        gc.collect()
        start = time.process_time()
        call()
        return (time.process_time() - start) * 1e3

    slow = ("ClusterShell",)
    return interleaved({name: partial(timed, call) for name, call in calls.items()}, rounds, seldom=slow, every=5)


def cell(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """A peer's median, and how many times as fast we were, round by round."""
    times = ratios(theirs, ours)
    return f"{spelled(median(theirs))} ms ({statistics.median(times):.1f}×, {min(times):.1f} … {max(times):.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    found = contenders()
    print("| case | " + " | ".join(one.name for one in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for title, text in CASES.items():
        hosts = found[0].expand(text)
        for contender in found:
            if sorted(contender.expand(text)) != sorted(hosts):
                raise SystemExit(f"{contender.name} expands {title} to other hosts")
        ways = {"expand": {one.name: partial(one.expand, text) for one in found}}
        ways["fold"] = {one.name: partial(one.fold, hosts) for one in found}
        for way, calls in ways.items():
            times = rounds_of(calls, rounds)
            ours, *theirs = times.values()
            cells = [f"{spelled(median(ours))} ms", *(cell(ours, values) for values in theirs)]
            print(f"| {way} {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
