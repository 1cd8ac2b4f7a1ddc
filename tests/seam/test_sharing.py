"""One answer of squeue for the processes of a machine, with a squeue that counts its calls."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from hpcrun.errors import ClusterUnavailable
from hpcrun.poller import Poller, _shared
from hpcrun.rundir import RunDir
from hpcrun.sharing import now
from hpcrun.slurm import Slurm

SQUEUE = """#!/bin/sh
echo "$$" >> {log}
test ! -e {gate} || read line < {gate}
test ! -e {broken} || {{ echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; }}
echo "12|RUNNING|n1|None|(null)|(null)"
"""
ASK = """
import sys
from hpcrun.poller import Poller
from hpcrun.rundir import RunDir
from hpcrun.sharing import now
for _ in range(3):
    print([row.job for row in Poller(setting="squeue").lately(RunDir(sys.argv[1]), now() - 600).rows])
"""


class Site:
    """A home with a run in it, and a squeue whose calls are counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = RunDir(str(folder / "home" / "runs" / "abc"))
        self.cache = folder / "home" / "cache"
        os.makedirs(self.run.path)
        self.cache.mkdir()
        self._log, self.gate, self.broken = folder / "log", folder / "gate", folder / "broken"
        squeue = folder / "bin" / "squeue"
        squeue.parent.mkdir()
        squeue.write_text(SQUEUE.format(log=self._log, gate=self.gate, broken=self.broken))
        squeue.chmod(0o755)
        monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)

    @property
    def calls(self) -> list[int]:
        return [int(line) for line in self._log.read_text().split()] if self._log.exists() else []

    def process(self) -> subprocess.Popen[str]:
        """Another process that wants an answer, three times."""
        words = [sys.executable, "-c", ASK, self.run.path]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def files(self) -> list[Path]:
        return [path for path in self.cache.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_ten_who_want_it_at_once_ask_once(site: Site) -> None:
    """One asks, the others wait for what it is told; nobody else can read that."""
    os.mkfifo(site.gate)
    everybody = [site.process() for _ in range(10)]
    until(lambda: site.calls, what="a call of squeue")
    with site.gate.open("w") as gate:
        site.gate.unlink()
        gate.write("go\n")
    assert {one.communicate()[0] for one in everybody} == {"['12']\n" * 3}
    assert len(site.calls) == 1
    (kept,) = site.files()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_one_that_is_killed_while_it_asks_holds_nobody_up(site: Site) -> None:
    """Its lock goes with it, and nothing that it began is left."""
    os.mkfifo(site.gate)
    first = site.process()
    until(lambda: site.calls, what="a call of squeue")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    site.gate.unlink()
    assert site.process().communicate()[0] == "['12']\n" * 3
    assert len(site.calls) == 2
    assert len(site.files()) == 1


def test_an_answer_is_never_older_than_what_was_wanted(site: Site) -> None:
    """Its age counts from the question, and whoever must know asks."""
    poller = Poller(setting="squeue")
    first = poller.lately(site.run, 0.0)
    assert poller.lately(site.run, first.asked) == first
    moment = now()
    assert poller.lately(site.run, moment).asked >= moment
    poller.queue(site.run)
    assert len(site.calls) == 3
    assert Slurm().lately(site.run, 0.0).asked >= moment


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_text("{}\n"),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"boot": "', b'"boot": "another ')),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"asked": ', b'"asked": 9')),
        lambda path: (path.rename(path.with_suffix(".lock2")), path.symlink_to(path.with_suffix(".lock2"))),
    ],
    ids=["cut", "of another kind", "of another boot", "of the future", "a link"],
)
def test_a_file_that_is_not_ours_is_no_answer(site: Site, spoil: object) -> None:
    """Then the queue is asked."""
    Poller(setting="squeue").lately(site.run, 0.0)
    spoil(site.files()[0])  # type: ignore[operator]
    _shared.clear()  # as another process has it
    assert [row.job for row in Poller(setting="squeue").lately(site.run, 0.0).rows] == ["12"]
    assert len(site.calls) == 2


def test_no_answer_is_one_too(site: Site) -> None:
    """Ten who wait for a slurmctld that is down do not wait for it one after the other."""
    site.broken.touch()
    since = now()
    for _ in range(3):
        with pytest.raises(ClusterUnavailable, match="Unable to contact"):
            Poller(setting="squeue").lately(site.run, since)
        _shared.clear()
    assert len(site.calls) == 1
    site.broken.unlink()
    assert Poller(setting="squeue").queue(site.run)


def test_where_nothing_can_be_kept_everybody_asks(site: Site) -> None:
    """A folder that is not there is no error, and within a process the answer is shared all the same."""
    site.cache.rmdir()
    for _ in range(3):
        Poller(setting="squeue").lately(site.run, 0.0)
    assert len(site.calls) == 1
    _shared.clear()
    Poller(setting="squeue").lately(site.run, 0.0)
    assert len(site.calls) == 2


def test_inside_a_job_nothing_is_kept(site: Site) -> None:
    """A thousand nodes would leave a thousand files."""
    Poller({**os.environ, "SLURM_JOB_ID": "1"}, setting="squeue").lately(site.run, 0.0)
    assert site.files() == []
