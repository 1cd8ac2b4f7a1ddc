"""The local cluster: the same seam as `hpcrun.slurm`, on this machine.

Each run has a detached supervisor of its own (`hpcrun.node.local`), which holds a lock while it lives. A run belongs
to the machine it was started on; from another one its supervisor cannot be seen, and that is said.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from hpcrun.cluster import AccountingRow, Asked, Charge, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.indexes import fold_indexes
from hpcrun.logtail import last_lines
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir
from hpcrun.sharing import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.quotas import Where

_ENOUGH_FOR_ANY_RUN = 1_000_000_000
_SAID = {"w": ("PENDING", ""), "d": ("PENDING", "Dependency"), "r": ("RUNNING", "")}


class Local:
    """This machine as a cluster; `python` is what runs the supervisor."""

    name = "local"

    def __init__(self, environ: Mapping[str, str], python: str = "python3") -> None:
        # The Python that runs this is at hand, and is no wrapper (of pyenv, say) that changes the environment.
        self._environ, self._python = dict(environ), sys.executable if python == "python3" else python

    def limits(self, where: Sequence[Where] = (), *, places: bool = True) -> Limits:
        """This machine's CPUs, memory and GPUs, as far as this process may use them."""
        return Limits(
            max_array=_ENOUGH_FOR_ANY_RUN,
            accounting=False,
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            devices=_devices(self._environ),
        )

    def submit(
        self,
        run: RunDir,
        batch: Batch,
        dependency: str | None,
        in_round: int = 0,
        tasks: Sequence[int] | None = None,
    ) -> str:
        """Start the run's supervisor, detached, and wait until it is in charge."""
        argv = [self._python, "-I", "-S", run.start, "local"]
        if tasks is not None:
            argv += [str(in_round), fold_indexes(tasks)]
        with open(run.local_messages, "ab") as messages:
            try:
                supervisor = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                    env=self._environ,
                    start_new_session=True,
                )
            except OSError as error:
                raise SubmissionRefused(
                    f"cannot start {self._python!r}: {error.strerror}",
                    tuple(argv),
                    "set node_python in hpcrun.toml to a Python 3.9 or newer",
                ) from error
        assert supervisor.stdout is not None
        said, _, pid = supervisor.stdout.readline().decode().strip().partition(" ")
        supervisor.stdout.close()
        code = supervisor.wait()  # it has left a child behind, which is nobody's
        if said != "ready":
            raise SubmissionRefused(
                f"the local supervisor ended with code {code}",
                tuple(argv),
                "\n".join(last_lines(run.local_messages, 20)),
            )
        return f"local-{pid}"

    def submit_script(self, path: str, dependency: str | None) -> str:
        """Nothing but runs is submitted here."""
        raise SubmissionRefused("there are only runs on this machine", (path,))

    def queue(self, run: RunDir) -> list[QueueRow]:
        """What of `run` waits and runs; nothing once its supervisor is gone."""
        holder = _holder(run)
        if holder is None:
            return []
        pid, node = holder
        if node != os.uname().nodename:
            raise ClusterUnavailable(f"this run is on the machine {node}; ask there")
        with open(run.local_states, encoding="ascii") as file:
            states = file.read()
        job = f"local-{pid}"
        rows = [(letter, tuple(i for i, state in enumerate(states) if state == letter)) for letter in _SAID]
        return [
            QueueRow(job, tasks, state, reason, node if letter == "r" else "")
            for letter, tasks in rows
            if tasks
            for state, reason in [_SAID[letter]]
        ]

    def lately(self, run: RunDir, since: float) -> Asked:
        """The same: it costs a look at a file."""
        began = now()
        return Asked(self.queue(run), began, now() - began)

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        """Nothing here waits to be started again by somebody else."""
        return []

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        """There is none."""
        raise AccountingDisabled("this machine keeps no accounting")

    def history(self, run: RunDir, since: float) -> list[AccountingRow]:
        """There is none."""
        raise AccountingDisabled("this machine keeps no accounting")

    def charges(self, jobs: Sequence[str], since: float) -> list[Charge]:
        """Nobody counts."""
        raise AccountingDisabled("this machine keeps no accounting")

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        """Tell the supervisor to start nothing more and to end what runs."""
        holder = _holder(run)
        if holder is None:
            return
        pid, node = holder
        if node != os.uname().nodename:
            raise ClusterUnavailable(f"this run is on the machine {node}; cancel it there")
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # the run has just ended
            pass

    def release(self, jobs: Sequence[str]) -> None:
        """Nothing is held here."""

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        """Nothing waits here: the run's supervisor starts attempts itself."""
        return {}

    def requeue(self, job: str) -> str:
        """What has ended here is not started again."""
        return "the local cluster does not start ended jobs again"


def _holder(run: RunDir) -> tuple[int, str] | None:
    """(process id, machine) of the supervisor of `run`, or None when nobody holds its lock."""
    try:
        descriptor = os.open(run.local_lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        pid, node = os.read(descriptor, 4096).decode().split()
        if node == os.uname().nodename:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        return int(pid), node
    except BlockingIOError:
        return int(pid), node
    except ValueError:  # it died before it had written its name
        return None
    finally:
        os.close(descriptor)


def _devices(environ: Mapping[str, str]) -> tuple[str, ...]:
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in visible.split(",") if name and name != "-1")
    try:
        return tuple(map(str, range(len(os.listdir("/proc/driver/nvidia/gpus")))))
    except OSError:
        return ()
