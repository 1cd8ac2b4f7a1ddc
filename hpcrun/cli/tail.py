"""What a log has, from some line near its end or from where it was left, and what has come since."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence

from hpcrun import ledger
from hpcrun.logtail import start_of_last
from hpcrun.run import Run


class Tail:
    """What one process writes: whole lines, each with `prefix`, at last also a part.

    It is the job of a shard, one of its workers, or process `replica` of the task of a workflow.
    """

    def __init__(
        self,
        run: Run,
        shard: int,
        attempt: int | None,
        prefix: str = "",
        *,
        role: str = "job",
        replica: int = 0,
        task: str | None = None,
        since: int | None = None,
    ) -> None:
        """Of which `attempt`; without one of the last and those after it, or of all from the attempt `since`."""
        self._run, self._shard, self._attempt, self._prefix = run, shard, attempt, prefix
        self._role, self._replica, self._task = role, replica, task
        self._from = since
        self._at: dict[str, int] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._new_line = True

    def skip_to(self, lines: int | None) -> None:
        """Pass over all but the last `lines` lines that are there now; None passes over nothing."""
        for path in self.paths() if lines is not None else ():
            if os.path.exists(path):
                with open(path, "rb") as file:
                    self._at[path] = start_of_last(file.fileno(), lines or 0)

    def news(self) -> str:
        """What has been written since the last call."""
        return "".join(self._prefixed(self._read(path)) for path in self.paths())

    def paths(self) -> list[str]:
        """The files to read: of one attempt, or of the last, and of those that began since the last call."""
        numbers: Sequence[int | None] = [self._attempt]
        if self._attempt is None:
            newest = max(len(ledger.read(self._run.dir, self._shard)) - 1, 0)
            numbers = range(newest if self._from is None else self._from, newest + 1)
            self._from = newest
        return [path for number in numbers for path in self._of_attempt(number)]

    def _of_attempt(self, number: int | None) -> list[str]:
        if self._task is not None:
            return [self._run.dir.task_log(number or 0, self._task, self._replica)]
        return self._run.log_paths(self._shard, number, role=self._role, replica=self._replica)

    def _read(self, path: str) -> str:
        try:
            with open(path, "rb") as file:
                file.seek(self._at.get(path, 0))
                raw = file.read()
        except FileNotFoundError:
            return ""
        self._at[path] = self._at.get(path, 0) + len(raw)
        decoder = self._decoders.setdefault(path, codecs.getincrementaldecoder("utf-8")("replace"))
        return decoder.decode(raw)

    def _prefixed(self, text: str) -> str:
        if not self._prefix or not text:
            return text
        begin = self._prefix if self._new_line else ""
        self._new_line = text.endswith("\n")
        body = text[:-1] if self._new_line else text
        end = "\n" if self._new_line else ""
        return begin + body.replace("\n", "\n" + self._prefix) + end
