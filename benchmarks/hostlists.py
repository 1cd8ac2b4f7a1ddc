"""Expanding and folding hostlists, beside python-hostlist and ClusterShell: medians in ms, and how many times faster.

    python benchmarks/hostlists.py [--rounds 15]

The three run interleaved in one process, so that a busy machine slows them alike. Before anything is timed, each
must give the same hosts. A peer that is not installed is left out, with a line that says so
(``pip install python-hostlist ClusterShell``).
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

from hpcrun import hostlist

if TYPE_CHECKING:
    from collections.abc import Callable

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


def medians(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each call in ms, the calls taking turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, spent in zip(calls, times, strict=True):
            gc.collect()
            start = time.perf_counter()
            call()
            spent.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(spent) for spent in times]


def report(title: str, found: list[Contender], calls: list[Callable[[], object]], rounds: int) -> None:
    """One line: our median, then each peer's with its ratio to ours."""
    ours, *theirs = medians(calls, rounds)
    cells = [f"{found[0].name} {ours:8.3f} ms"]
    cells += [
        f"{peer.name} {spent:8.3f} ms ({spent / ours:5.1f} x)" for peer, spent in zip(found[1:], theirs, strict=True)
    ]
    print(f"{title:42}" + "   ".join(cells))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    found = contenders()
    for title, text in CASES.items():
        hosts = found[0].expand(text)
        for contender in found:
            if sorted(contender.expand(text)) != sorted(hosts):
                raise SystemExit(f"{contender.name} expands {title} to other hosts")
        report(f"expand {title}", found, [partial(c.expand, text) for c in found], rounds)
        report(f"fold   {title}", found, [partial(c.fold, hosts) for c in found], rounds)


if __name__ == "__main__":
    main()
