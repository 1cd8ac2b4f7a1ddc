"""Whether a program is ready: its probes have passed, and it listens on all of its endpoints itself."""

from __future__ import annotations

import math
import time

from hpcrun.node import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpcrun.node.probe import Prober

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.05
"""Seconds between two looks at whether the program listens."""


class Readiness:
    """Of the program that leads session `session`; `marker` is in the environment of all of its processes.

    `listens` has the ports of its endpoints. With `near` it is enough to listen for processes of the same node. `due`
    is when to look next, by time.monotonic(), `tried` what still lacks.
    """

    def __init__(
        self, listens: Mapping[str, int], session: int, marker: Mapping[str, str], probers: Sequence[Prober], *,
        near: bool,
    ) -> None:  # fmt: skip
        self.ports, self.tried, self.ready = dict(listens), "", False
        self._session, self._marker, self._probers, self._near = session, marker, list(probers), near
        self.due, self._pause = time.monotonic(), _FIRST_LOOK

    def is_due(self, now: float) -> bool:
        """Whether to look now; a probe's answer comes with a signal, at any time."""
        return not self.ready and self.due < math.inf and (now >= self.due or bool(self._probers))

    def look(self, now: float) -> str:
        """See whether it is ready; what has gone wrong for good, if anything has."""
        for prober in list(self._probers):
            if prober.turn(now):
                prober.close()
                self._probers.remove(prober)
        if self._probers:
            self.due = min(prober.due for prober in self._probers)
            self.tried = next((f"readiness: {prober.tried}" for prober in self._probers if prober.tried), "")
            late = next((prober for prober in self._probers if prober.expired(now)), None)
            return self._give_up(late) if late is not None else ""
        self.tried = self._lacking()
        self.ready = not self.tried
        self.due = math.inf if self.ready else now + self._pause
        self._pause = min(self._pause * 1.05, _LAST_LOOK)
        return ""

    def was_ready(self, now: float) -> bool:
        """Whether it was ready when it ended, and nobody had seen it: what it said last may not have been read."""
        return not self.ready and self.due < math.inf and all(one.has_passed_by_now(now) for one in self._probers)

    def close(self) -> None:
        """Look no more: end the checks that are on their way."""
        self.due = math.inf
        for prober in self._probers:
            prober.close()
        self._probers = []

    def _give_up(self, late: Prober) -> str:
        self.close()
        return f"its readiness probe did not pass in {late.within:g} s: {late.tried}"

    def _lacking(self) -> str:
        """What the first endpoint lacks that does not listen yet; empty where all do."""
        for name, port in self.ports.items():
            state = ports.state(port, self._session, self._marker)
            if state == "open" or (state == "loopback" and self._near):
                continue
            said = {
                "closed": f"nothing listens on port {port}",
                "loopback": f"it listens on port {port} for its own node only; wanted 0.0.0.0 as its address",
                "stranger": f"port {port} belongs to a process that is not this worker's",
            }
            return f"endpoint {name}: {said[state]}"
        return ""
