"""One shard of a test suite, in pytest: the tests it selects, and what it reports and stores of them.

Each shard collects the suite by itself. In a run the first to have done so writes down which tests there are, in which
order and with which durations, in the folder of the run, and all go by that: whatever changes meanwhile, the file of
durations too, each test has one shard, and a shard that is tried again has the tests it had.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from hpcrun import durations as timing
from hpcrun import junit
from hpcrun.errors import HpcrunError, RunFolderError, UsageError
from hpcrun.events import claim
from hpcrun.here import current

_FORMAT = 1
_MEANING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf")
"""Options of pytest that say, beside the paths, which tests there are."""
_SHOWN = 3
"""Tests that a message names."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the options ask for, as plain values: the processes of pytest-xdist are sent it."""

    run: str
    shard: int
    shards: int
    split: str | None
    """``round-robin``, ``durations``, or None for whichever there is a file for."""
    by_file: bool
    file: str
    """The file of durations."""
    call: str
    """What tells this call of pytest from others of the run, where nothing else does."""
    folder: str | None
    """Where, in the run's folder, the shards agree; None outside of a run."""


def from_options(config: pytest.Config) -> tuple[Asked, str]:
    """What `config` asks for, and a note on it for the user.

    Raises UsageError where the options do not go together, and for a file of durations that is none.
    """
    option, here = config.option, current()
    file = os.path.join(str(config.invocation_params.dir), option.hpcrun_durations)
    alone = not here.inside and "HPCRUN_SHARD_COUNT" not in os.environ
    note = " (outside of a run: the whole suite)" if option.hpcrun_shard == "auto" and alone else ""
    shard, shards = here.index, here.count
    if option.hpcrun_shard is None:
        shard, shards = 0, 1
    elif option.hpcrun_shard != "auto":
        shard, shards = map(int, option.hpcrun_shard.split("/"))
    asked = Asked(
        here.run_id or "",
        shard,
        shards,
        option.hpcrun_split,
        option.hpcrun_group == "file",
        file,
        option.hpcrun_call,
        None,
    )
    if here.run_dir and option.hpcrun_shard is not None:
        meaning = {name: getattr(option, name, None) for name in _MEANING}
        same = [dataclasses.replace(asked, shard=0), str(config.rootpath), config.args, meaning]
        digest = hashlib.sha256(json.dumps(same, default=str).encode()).hexdigest()[:16]
        asked = dataclasses.replace(asked, folder=os.path.join(here.run_dir, "pytest-shards", digest))
    if option.hpcrun_store_durations and asked.folder is None and shards > 1:
        raise UsageError(
            f"found --hpcrun-store-durations with shard {shard} of {shards} outside of a run; wanted it in a run, or "
            "without shards: the next shard would be split by what this one has stored, and have other tests"
        )
    if option.hpcrun_store_durations or option.hpcrun_split != "round-robin":
        timing.read(file)
    return asked, note


class Selection:
    """The tests of one shard; in the processes of pytest-xdist there is nothing else."""

    def __init__(self, config: pytest.Config, asked: Asked) -> None:
        self.config, self.asked = config, asked
        self.said: dict[str, Any] = {}  # how many tests this shard has, of how many, and all that in a line

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Keep the tests of this shard, of those that -k, -m and other plug-ins have left."""
        unique = _unique([item.nodeid for item in items])
        names = {id(item): name for item, name in zip(items, unique, strict=True)}
        # Others may reorder tests, and rename them: the shards go by how they were collected.
        found = yield
        if session.testsfailed and not self.config.option.continue_on_collection_errors:
            return found  # what was collected is not all, and pytest stops here
        self._select(items, names)
        return found

    def _select(self, items: list[pytest.Item], names: Mapping[int, str]) -> None:
        place = {name: at for at, name in enumerate(names.values())}
        own = [names.get(id(item), item.nodeid) for item in items]
        tests, durations = self._agreed(sorted(own, key=lambda name: (place.get(name, len(place)), name)))
        asked = self.asked
        shards = timing.split(tests, asked.shards, durations, by_file=asked.by_file)
        shard_of = dict(zip(tests, shards, strict=True))
        others = [item for item, name in zip(items, own, strict=True) if shard_of[name] != asked.shard]
        items[:] = [item for item, name in zip(items, own, strict=True) if shard_of[name] == asked.shard]
        if others:
            self.config.hook.pytest_deselected(items=others)
        how = ("round robin" if durations is None else "by durations") + (", files whole" if asked.by_file else "")
        line = f"hpcrun: shard {asked.shard} of {asked.shards}, {len(items)} of {len(own)} tests, {how}"
        self.said.update(tests=len(items), of=len(own), line=line)

    def _agreed(self, tests: list[str]) -> tuple[Sequence[str], Mapping[str, float] | None]:
        """All tests, in order, and their durations, as all shards have them; None is round robin.

        `tests` is what this shard has collected. Raises UsageError where other shards have collected others.
        """
        if self.asked.folder is None:
            return tests, self._durations(tests)
        path = os.path.join(self.asked.folder, "agreed.json")
        try:
            if not os.path.exists(path):
                os.makedirs(self.asked.folder, exist_ok=True)
                claim(path, json.dumps({"format": _FORMAT, "tests": tests, "durations": self._durations(tests)}))
            with open(path, encoding="utf-8") as file:
                agreed = json.load(file)
        except OSError as error:
            raise RunFolderError(path, f"the shards cannot agree on their tests: {error.strerror}") from error
        if agreed["format"] != _FORMAT:
            raise RunFolderError(path, f"found format {agreed['format']}, wanted {_FORMAT}: another hpcrun wrote it")
        _compare(self.asked.shard, tests, agreed["tests"])
        return agreed["tests"], agreed["durations"]

    def _durations(self, tests: Sequence[str]) -> dict[str, float] | None:
        if self.asked.split == "round-robin":
            return None
        found = timing.read(self.asked.file)
        if found is None:
            return {} if self.asked.split == "durations" else None
        return {test: found[test] for test in tests if test in found}


class Process(Selection):
    """A process of pytest-xdist: the tests of the shard, of which pytest-xdist gives it some to run."""

    def _select(self, items: list[pytest.Item], names: Mapping[int, str]) -> None:
        try:
            super()._select(items, names)
        except HpcrunError as error:  # to raise it here would make it one of pytest's own
            self.said.update(error=str(error))
            items.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Tell the session that reports which tests were selected."""
        self.config.workeroutput["hpcrun"] = self.said  # type: ignore[attr-defined]  # which is pytest-xdist's


class Suite(Selection):
    """The session of one shard, or with ``--hpcrun-store-durations`` that of a whole suite.

    Raises UsageError, also for a report that cannot be written.
    """

    def __init__(self, config: pytest.Config) -> None:
        asked, self.note = from_options(config)
        super().__init__(config, asked)
        self.is_shard = config.option.hpcrun_shard is not None
        self.seconds: dict[str, float] = {}
        self.is_shown = False
        self.summary: list[str] = []
        self.report = ""
        if asked.shards > 1 and getattr(config.option, "xmlpath", None):
            self._redirect_report(config.option.xmlpath)

    def _redirect_report(self, given: str) -> None:
        self.report = os.path.abspath(os.path.expanduser(os.path.expandvars(given)))  # as pytest does
        try:
            self.config.option.xmlpath = junit.begin(self.report, self._which())
        except OSError as error:
            raise UsageError(f"{error.filename}: cannot be written: {error.strerror}; --junitxml is {given}") from error

    def _which(self) -> junit.Which:
        return junit.Which(self.asked.run, self.asked.shard, self.asked.shards)

    def _select(self, items: list[pytest.Item], names: Mapping[int, str]) -> None:
        try:
            if self.is_shard:
                super()._select(items, names)
        except HpcrunError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send a process of pytest-xdist what it is to select."""
        if self.is_shard:
            node.workerinput["hpcrun"] = dataclasses.asdict(self.asked)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of pytest-xdist has selected."""
        self.said.update(getattr(node, "workeroutput", {}).get("hpcrun", {}))

    def pytest_report_collectionfinish(self) -> str | list[str]:
        """Which shard this is, and how many tests it has."""
        self.is_shown = True
        return self._line()

    def _line(self) -> str | list[str]:
        return f"{self.said['line']}{self.note}" if "line" in self.said else []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up how long a test takes, with what is set up for it and torn down."""
        if report.duration > 0:  # a test may have put the clock back
            test = _without_group(report.nodeid) if hasattr(report, "worker_id") else report.nodeid
            self.seconds[test] = round(self.seconds.get(test, 0.0) + report.duration, 6)

    @pytest.hookimpl(trylast=True)  # when the report has been written
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Store and report; a shard for which there was no test has succeeded."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.said.get("of") and not self.said["tests"]:
            session.exitstatus = pytest.ExitCode.OK
        if "error" in self.said:
            self.summary.append(f"error: {self.said['error']}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        try:
            if self.config.option.hpcrun_store_durations and self.seconds:
                self._store()
            if self.report:
                whole = junit.finish(self.report, self._which(), int(session.exitstatus), self.said.get("tests", 0))
                self.summary.append(f"{self.report} has the results of {whole} of {self.asked.shards} shards")
        except (OSError, HpcrunError) as error:
            self.summary.append(f"error: {error}")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def _store(self) -> None:
        file, folder = self.asked.file, self.asked.folder
        if folder is None:
            timing.keep(file, self.seconds)
        else:
            timing.keep_part(file, os.path.join(folder, "durations"), self.asked.shard, self.seconds)
        self.summary.append(f"{file} has the durations of {len(self.seconds)} tests of this shard")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What there is to say at the end."""
        if "line" in self.said and not self.is_shown:
            terminalreporter.write_line(str(self._line()))
        for line in self.summary:
            terminalreporter.write_line(f"hpcrun: {line}")


def _compare(shard: int, tests: Sequence[str], agreed: Sequence[str]) -> None:
    here, there = sorted(set(tests) - set(agreed)), sorted(set(agreed) - set(tests))
    if not here and not there:
        return
    differ = [
        f"{len(names)} {where}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for names, where in ((here, "only here"), (there, "only there"))
        if names
    ]
    raise UsageError(
        f"found other tests in shard {shard} than in the shard that was the first to collect them "
        f"({'; '.join(differ)}); wanted the same in all, or some tests would be in no shard. After a change of the "
        "tests begin a new run; tests must not depend on the node, the time or what other shards do (--lf). A second "
        "call of pytest in a run, which has others by an option of a conftest.py, needs a name: --hpcrun-call=NAME"
    )


def _unique(names: Sequence[str]) -> list[str]:
    """`names`, with a number after each that was there before: a test may be asked for twice."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found


def _without_group(test: str) -> str:
    """A node id without what pytest-xdist adds to it with ``--dist loadgroup``."""
    name, at, group = test.rpartition("@")
    return name if at and "]" not in group else test
