"""Poller: Slurm, asked for as little as will do. One answer of its queue serves all runs of a user.

An answer has the jobs of all their runs anyway, so it is shared, within a process and between those of a machine
(`hpcrun.sharing`), for as long as whoever asks finds it young enough. The queue is asked by squeue, or where the
settings say so by pyslurm (``poller``), in a process of its own: importing pyslurm calls slurm_init(), which ends the
process where there is no configuration, and its calls hold the interpreter's lock, for ten seconds where slurmctld is
down. Whatever goes wrong there, squeue answers, and goes on to do so for a while.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Mapping

from hpcrun.cluster import Asked, QueueRow
from hpcrun.errors import ClusterUnavailable, HpcrunError
from hpcrun.rundir import RunDir
from hpcrun.sharing import Answer, Shared, now
from hpcrun.slurm import Runner, Slurm, owner, queue_rows, run_here
from hpcrun.slurm_releases import release

PYSLURM_DEADLINE = 5.0
"""Seconds that pyslurm may take, from the start of its process to its answer."""
_ASIDE = 300.0
"""Seconds for which pyslurm is left alone once it has failed."""
_READER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hpcrun import records; records.main(sys.argv[2])"
)
_WHAT_SLURM = ("SLURM_CONF", "SLURM_CONF_SERVER")

_shared: dict[str, Shared] = {}
_making = threading.Lock()


def usable(installed: str | None, slurm: str) -> str:
    """Why pyslurm cannot ask Slurm here; empty where it can.

    It reads structures as one release of Slurm lays them out, and has its name: 24.11.0 belongs to Slurm 24.11. What
    it belongs to is found out without importing it: `installed` is ``importlib.metadata.version("pyslurm")``, None
    where there is none; `slurm` is what ``scontrol --version`` prints (``slurm 24.11.5``), or the version alone. Both
    are compared as pairs of numbers: 22.5 is 22.05.
    """
    if installed is None:
        return "pyslurm is not installed in this Python"
    theirs, ours = release(installed), release(slurm)
    if theirs is None:
        return f"found pyslurm {installed!r}, whose version names no release of Slurm"
    if ours is None:
        return f"found no version of Slurm in {slurm!r}, wanted what `scontrol --version` prints"
    if theirs != ours:
        return f"found pyslurm {installed} with Slurm {ours[0]}.{ours[1]:02}; wanted pyslurm {ours[0]}.{ours[1]}.*"
    return ""


def installed() -> str | None:
    """The version of the pyslurm that this Python has, which is not imported for that; None where there is none."""
    from importlib import metadata  # 10 ms, which nobody needs who has squeue

    try:
        return metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        return None


class Poller(Slurm):
    """Slurm, whose queue several ask together."""

    def __init__(
        self, environ: Mapping[str, str] | None = None, run: Runner = run_here, setting: str | None = None
    ) -> None:
        """`setting` is ``squeue`` or ``pyslurm``; None has the settings looked up when it is first asked."""
        given = os.environ if environ is None else environ
        super().__init__(given, run)
        self._in_job = "SLURM_JOB_ID" in given  # a thousand nodes have nothing to share, and need no files for it
        self._setting = setting
        self._unusable: str | None = None
        self._read = Asked((), -1.0, 0.0)

    def queue(self, run: RunDir) -> list[QueueRow]:
        """As of now, for whoever must know."""
        return list(self.lately(run, now()).rows)

    def lately(self, run: RunDir, since: float) -> Asked:
        """The queue as somebody was told who asked at `since` or later; where nobody has, it is asked."""
        of = owner(run)
        answer = self._share(run, of).answer(since, lambda last: self._ask_queue(of, last))
        if answer.error:
            raise ClusterUnavailable(answer.error)
        read = self._read
        if read.asked != answer.asked:
            read = self._read = Asked(queue_rows(answer.text), answer.asked, answer.took)
        return read

    def _share(self, run: RunDir, of: int) -> Shared:
        """Where the answers are kept about the jobs of user `of` in this cluster, by those who share it with us.

        Another squeue, or another configuration, may be that of another cluster.
        """
        runs = os.path.dirname(run.path)
        which = [_first("squeue", self._environ.get("PATH", os.defpath))]
        which += [self._environ.get(name, "") for name in _WHAT_SLURM]
        key = hashlib.sha256(json.dumps([runs, of, os.getuid(), os.uname().nodename, which]).encode()).hexdigest()[:16]
        folder = os.path.join(os.path.dirname(runs), "cache") if os.path.basename(runs) == "runs" else None
        with _making:
            if key not in _shared:
                path = None if folder is None or self._in_job else os.path.join(folder, f"queue-{key}")
                _shared[key] = Shared(path)
            return _shared[key]

    def _ask_queue(self, of: int, last: Answer | None) -> Answer:
        aside = last.aside if last is not None else 0.0
        asked = now()
        if asked >= aside and self._by_pyslurm():
            text = self._pyslurm(of)
            if text is not None:
                return Answer(text, asked, now() - asked)
            asked = now()
            aside = asked + _ASIDE
        try:
            return Answer(self.listing(of), asked, now() - asked, aside=aside)
        except ClusterUnavailable as error:
            return Answer("", asked, now() - asked, str(error), aside)

    def _by_pyslurm(self) -> bool:
        """Whether pyslurm is to be asked: the settings say so, and it is of this release of Slurm."""
        if self._setting is None:
            self._setting = _from_settings()
        if self._setting != "pyslurm":
            return False
        if self._unusable is None:
            self._unusable = self._fits()
        return not self._unusable

    def _fits(self) -> str:
        here = installed()
        if here is None:
            return usable(here, "")
        try:
            return usable(here, self._answer("scontrol", "--version"))
        except ClusterUnavailable as error:
            return str(error)

    def _pyslurm(self, of: int) -> str | None:
        """What pyslurm says of the jobs of user `of`, as squeue would print it; None where anything goes wrong."""
        argv = (sys.executable, "-c", _READER, json.dumps(sys.path), str(of))
        try:
            done = self._run(argv, self._asking, PYSLURM_DEADLINE)
        except ClusterUnavailable:
            return None
        text, end, rest = done.out.rpartition("END\n")
        return text if done.code == 0 and end and not rest else None


def _first(command: str, path: str) -> str:
    """Which file `command` is along `path`, as a shell finds it; empty where there is none."""
    paths = (os.path.join(folder, command) for folder in path.split(os.pathsep))
    return next((one for one in paths if os.access(one, os.X_OK) and os.path.isfile(one)), "")


def _from_settings() -> str:
    """The setting ``poller``; ``squeue`` where settings cannot be read, as on a node."""
    try:
        from hpcrun.settings_files import at_a_glance

        found = at_a_glance("poller", os.environ, os.getcwd())
        if found is None:
            from hpcrun.config import load

            found = load(os.environ, os.getcwd()).poller
        return found
    except (ImportError, HpcrunError, OSError):  # whoever needs the settings complains of them
        return "squeue"
