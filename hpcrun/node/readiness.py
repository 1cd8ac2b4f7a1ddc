"""Whether the program of a worker is ready: its probe has passed, and it listens on all of its endpoints itself."""

from __future__ import annotations

import math
import time

from hpcrun.node import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpcrun.node.probe import Prober

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.05
"""Seconds between two looks at whether the program listens."""


class Readiness:
    """Of the program that leads session `session`; `marker` is in the environment of all of its processes.

    `listens` has the ports of its endpoints, `within` the seconds that its probe has. With `near` it is enough to
    listen for processes of the same node. `due` is when to look next, by time.monotonic(), `tried` what still lacks.
    """

    def __init__(
        self,
        listens: Mapping[str, int],
        session: int,
        marker: Mapping[str, str],
        prober: Prober | None,
        *,
        near: bool,
        within: float | None,
    ) -> None:
        self.ports, self.tried, self.ready = dict(listens), "", False
        self._session, self._marker, self._prober, self._near = session, marker, prober, near
        self._within = within or 0.0
        self.due, self._pause = time.monotonic(), _FIRST_LOOK

    def is_due(self, now: float) -> bool:
        """Whether to look now; a probe's answer comes with a signal, at any time."""
        return not self.ready and self.due < math.inf and (now >= self.due or self._prober is not None)

    def look(self, now: float) -> str:
        """See whether it is ready; what has gone wrong for good, if anything has."""
        prober = self._prober
        if prober is not None:
            if not prober.turn(now):
                self.due, self.tried = prober.due, f"readiness: {prober.tried}" if prober.tried else ""
                return self._give_up(prober) if prober.expired(now) else ""
            prober.close()
            self._prober = None
        self.tried = self._lacking()
        self.ready = not self.tried
        self.due = math.inf if self.ready else now + self._pause
        self._pause = min(self._pause * 1.05, _LAST_LOOK)
        return ""

    def close(self) -> None:
        """Look no more: end a check that is on its way."""
        self.due = math.inf
        if self._prober is not None:
            self._prober.close()
            self._prober = None

    def _give_up(self, prober: Prober) -> str:
        self.due = math.inf
        prober.close()
        return f"its readiness probe did not pass in {self._within:g} s: {prober.tried}"

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
