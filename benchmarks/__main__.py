"""All figures of docs/benchmarks.md, measured and written by one command: python -m benchmarks

Rows run one after the other, some on this machine, most on the login node of a docker-slurm cluster of their own, which
is started for them and taken down at the end. Peers are installed into environments below --cache. Each row replaces
what stands between its two marks in the page; the text around them is written by hand. A row that fails is named, its
old figures stay, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CLUSTER = "benchmarks"
EAGER = ("--max-array-size", "100001")
DEFAULT = (*EAGER, "--default-scheduling")
PEERS = {
    "hostlists": ("python-hostlist==2.3.0", "ClusterShell"),
    **{name: (name,) for name in ("submitit", "torchx", "dask-jobqueue", "parsl", "executorlib")},
    **{name: (name,) for name in ("psij-python", "hyperqueue", "simple-slurm", "gridtk")},
    "nv-sflow": ("nv-sflow==0.3.1",),
    "nemo-run": ("nemo-run", "leptonai<0.40"),  # 0.11.1 imports what newer ones have no more
}
"""What is installed into each environment of the peers."""
ENVIRONMENT = """set -e
test -x bench/bin/submitit-is-here && exit
python3 -m venv --without-pip bench
python3 -m pip --python bench/bin/python --disable-pip-version-check -q install --no-index \\
    --find-links /opt/wheelhouse --find-links /tmp/peers hpcrun submitit
touch bench/bin/submitit-is-here; chmod +x bench/bin/submitit-is-here
"""


@dataclass(frozen=True)
class Row:
    """One section of the page: a script and its arguments, in full and to try it out."""

    name: str
    where: str
    """``here``, or the scheduling of the cluster: ``eager`` or ``default``."""
    full: str
    quick: str
    minutes: float
    """What it may take at most."""


ROWS = (
    Row("hostlists", "here", "hostlists.py --rounds 10", "hostlists.py --rounds 3", 4),
    Row("start", "here", "start.py 7 {peers}", "start.py 2 {peers}", 4),
    Row("submission", "eager", "submission.py 5", "submission.py 1 100 1000", 4),
    Row("status", "eager", "status.py 5 10000", "status.py 1 50 1000 10000", 10),
    Row("makespan-eager", "eager", "makespan.py 500 6 3", "makespan.py 40 1", 7),
    Row("load", "eager", "load.py 20", "load.py 5", 6),
    Row("gang", "eager", "gang.py 6 8 0", "gang.py 6 1 0", 4),
    Row("makespan-default", "default", "makespan.py 500 4 4", "makespan.py 40 1", 10),
    Row("retry", "default", "retry.py 24 8", "retry.py 2 2", 6),
)
"""In all some 24 minutes on a quiet machine."""


class Failed(Exception):
    """A row that could not be measured, and why."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def run(command: list[str], minutes: float, *, environ: dict[str, str] | None = None) -> str:
    """What a command prints. Raises Failed for one that fails or takes too long, after which nothing of it runs."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=minutes * 60)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"not done after {minutes:g} minutes") from None
            raise
    if process.returncode:
        words = (err.strip() or out.strip()).splitlines()[-3:]
        raise Failed(f"exit code {process.returncode}: {' / '.join(words)}")
    return out.strip()


class Cluster:
    """The docker-slurm cluster of the rows that need one; started when the first of them comes."""

    def __init__(self, name: str, cache: Path) -> None:
        self._environ = {"DOCKER_SLURM_NAME": name}
        self._name, self._cache = name, cache
        self._options: tuple[str, ...] | None = None

    def _command(self, name: str, *words: str, minutes: float = 1) -> str:
        return run([str(ROOT / "docker-slurm" / name), *words], minutes, environ=self._environ)

    def login(self, *words: str, minutes: float = 1) -> str:
        """What a command prints on the login node, in the folder of the scripts."""
        return self._command("login", "-w", "/home/user/benchmarks", *words, minutes=minutes)

    def need(self, options: tuple[str, ...]) -> None:
        """Have it run with these options, and the scripts and submitit on its login node."""
        if self._options == options:
            return
        say(f"starting the cluster {self._name} with {' '.join(options)}")
        for last in (False, True):
            try:
                self._command("up", *options, minutes=10)
                break
            except Failed:  # two containers that make one folder at the same moment, for one
                if last:
                    raise
        self._options = options
        box = f"{self._name}-login"
        self._command("login", "mkdir", "-p", "benchmarks")
        for path in sorted(HERE.glob("*.py")):
            run(["docker", "cp", str(path), f"{box}:/home/user/benchmarks/"], 1)
        wheels = self._cache / "wheels"
        if not list(wheels.glob("submitit-*.whl")):
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps"]
            run([*pip, "--dest", str(wheels), "submitit"], 5)
        run(["docker", "cp", f"{wheels}/.", f"{box}:/tmp/peers"], 1)
        self._command("login", "bash", "-c", ENVIRONMENT, minutes=5)

    def version(self) -> str:
        """Which Slurm it is; empty where none was needed."""
        return self.login("sinfo", "--version") if self._options is not None else ""

    def down(self) -> None:
        """Take it down with its files, and whatever runs there."""
        if self._options is not None:
            self._options = None
            self._command("down", "--volumes", minutes=3)


def peers(cache: Path) -> Path:
    """The folder with an environment for each peer; what cannot be installed is not there."""
    top = cache / f"peers-{platform.python_version()}"
    for name, packages in PEERS.items():
        done = top / name / "installed"
        if done.exists() and done.read_text() == " ".join(packages):
            continue
        say(f"installing {', '.join(packages)}")
        try:
            run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(top / name)], 2)
            pip = [sys.executable, "-m", "pip", "--python", str(top / name / "bin" / "python")]
            run([*pip, "--disable-pip-version-check", "-q", "install", *packages], 8)
            done.write_text(" ".join(packages))
        except Failed as error:
            say(f"{name} could not be installed: {error}")
    return top


def measured(row: Row, words: str, cluster: Cluster, cache: Path) -> str:
    """What the script of a row prints."""
    if row.where == "here":
        top = peers(cache)
        python = str(top / "hostlists" / "bin" / "python") if row.name == "hostlists" else sys.executable
        script, *arguments = words.format(peers=top).split()
        return run([python, str(HERE / script), *arguments], row.minutes)
    cluster.need(EAGER if row.where == "eager" else DEFAULT)
    return cluster.login("../bench/bin/python", *words.split(), minutes=row.minutes)


def shown(row: Row, words: str, found: str, before: str) -> str:
    """The section of a row between its marks."""
    words = words.replace("{peers}", "PEERS")
    where = {"here": "", "eager": ", the tests' eager scheduling", "default": ", Slurm's own scheduling"}[row.where]
    when = time.strftime("%Y-%m-%d %H:%M")
    return f"`python {words}`{where}; {when}, load average {before} before and {load()} after.\n\n{found}"


def put(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks of a row in the page."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(whole):
        raise SystemExit(f"found no marks of the row {name} in {page}, wanted {begin} and {end}")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", whole))


def machine() -> str:
    """The machine, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}) and {memory:.0f} GiB, {system}, "
        f"Python {platform.python_version()}"
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes; writes nothing, prints all")
    parser.add_argument("--rows", metavar="NAME,...", help=f"only these of {names}")
    parser.add_argument("--name", default=CLUSTER, help="the name of the cluster (default: %(default)s)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hpcrun-benchmarks")
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are kept (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    given = parser.parse_args()
    unknown = set((given.rows or names).replace(" ", "").split(",")) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"found the row {', '.join(sorted(unknown))}, wanted some of {names}")
    return given


def take_down(cluster: Cluster) -> None:
    try:
        cluster.down()
    except Failed as error:
        say(f"the cluster could not be taken down: {error}")


def each(given: argparse.Namespace, cluster: Cluster, put_in: Callable[[str, str], None]) -> list[str]:
    """Measure row after row; the names of those that failed."""
    failed = []
    chosen = [row for row in ROWS if not given.rows or row.name in given.rows.replace(" ", "").split(",")]
    for number, row in enumerate(chosen, 1):
        words, before, began = row.quick if given.quick else row.full, load(), time.monotonic()
        say(f"{number} of {len(chosen)}, {row.name}: {words} (load average {before})")
        try:
            put_in(row.name, shown(row, words, measured(row, words, cluster, given.cache), before))
            say(f"{row.name} done after {time.monotonic() - began:.0f} s (load average {load()})")
        except Failed as error:
            failed.append(row.name)
            say(f"{row.name} FAILED after {time.monotonic() - began:.0f} s: {error}")
            if row.where != "here":
                take_down(cluster)  # with all that it has left running; the next one has a new one
    return failed


def main() -> int:
    """Measure all; the exit code."""
    given = options()
    cluster = Cluster(given.name, given.cache)

    def put_in(name: str, text: str) -> None:
        if given.quick:
            print(f"\n{text}\n", flush=True)
        else:
            put(given.page, name, text)

    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        failed = each(given, cluster, put_in)
        try:
            slurm = cluster.version()
        except Failed:
            slurm = ""
        if slurm:
            put_in("machine", f"{time.strftime('%Y-%m-%d')}: {machine()}; {slurm} in docker-slurm.")
    finally:
        if not given.keep:
            take_down(cluster)
    say(f"{time.monotonic() - began:.0f} s in all; " + (f"FAILED: {', '.join(failed)}" if failed else "all measured"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
