"""The examples, carried out as their README says, give what it says."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

import pytest
from examples.checks import check_count, check_folds, check_queue, check_service, check_sweep
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
Hpcrun = Callable[..., "subprocess.CompletedProcess[str]"]
COUNT = ("-N", "8", "--", "python3", "examples/count/count.py")
COUNT_ALONE = ("-N", "1", "--", "python3", "examples/count/count.py")
SERVICE = ("examples/service/service.yaml",)
SERVICE_SHARDED = ("-N", "2", "examples/service/service.yaml")
SERVICE_ALONE = ("--", "python3", "examples/service/job.py")


JOBS = 20_000
"""Enough that one worker cannot have done all of them before the others look up."""


def results_of(hpcrun: Hpcrun, *words: str) -> str:
    """The results folder of a run of `words` that has succeeded."""
    submitted = hpcrun("submit", "--json", *words)
    assert submitted.returncode == 0, submitted.stderr
    run_id = json.loads(submitted.stdout)["run_id"]
    waited = hpcrun("wait", run_id)
    assert waited.returncode == 0, waited.stdout + waited.stderr
    return hpcrun("results", run_id).stdout.strip()


def merged(hpcrun: Hpcrun, example: str, results: str) -> str:
    """What the example's merge.py prints, itself a run: wherever the shards ran, it can read their results."""
    done = hpcrun("run", "--", "python3", f"examples/{example}/merge.py", results)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alone(program: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One of the examples' programs, without hpcrun."""
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / program), *args], cwd=cwd, text=True, capture_output=True, check=False
    )


def test_eight_shards_count_what_one_process_counts(hpcrun: Hpcrun) -> None:
    """The README's first command: its merged totals are those of a single process, to the last name."""
    sharded = merged(hpcrun, "count", results_of(hpcrun, *COUNT))
    check_count(sharded, merged(hpcrun, "count", results_of(hpcrun, *COUNT_ALONE)))


def test_every_file_is_counted_exactly_once(hpcrun: Hpcrun) -> None:
    """The shards' lists of files are a partition of the library, found here by other means."""
    results = Path(results_of(hpcrun, *COUNT))
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in results.iterdir()]
    counted = [path for part in parts for path in part["files"]]
    code = "import sysconfig; print(sysconfig.get_paths()['stdlib'])"
    library = subprocess.run(["python3", "-c", code], text=True, capture_output=True, check=True).stdout.strip()
    there = [os.path.relpath(os.path.join(top, name), library) for top, _, names in os.walk(library) for name in names]
    wanted = [path for path in there if path.endswith(".py") and not _installed(path)]
    assert sorted(counted) == sorted(wanted)


def _installed(path: str) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in path.split(os.sep))


def test_the_sweep_tries_every_combination_and_marks_the_front(hpcrun: Hpcrun) -> None:
    """The table has each combination once, sorted; a star means that nothing beats it in both ways."""
    check_sweep(merged(hpcrun, "sweep", results_of(hpcrun, "examples/sweep/sweep.yaml")))


def test_nine_folds_beat_the_baseline(hpcrun: Hpcrun) -> None:
    """Sylphx's spelling gives nine shards; each function is tested once, and each fold beats the majority."""
    check_folds(merged(hpcrun, "folds", results_of(hpcrun, "examples/folds/folds.yaml")))


def test_workers_restore_what_one_process_restores(hpcrun: Hpcrun) -> None:
    """Three workers, and two shards with three workers each, come to the totals of a process that has none."""
    single = merged(hpcrun, "service", results_of(hpcrun, *SERVICE_ALONE))
    results = Path(results_of(hpcrun, *SERVICE))
    check_service(merged(hpcrun, "service", str(results)), single)
    part = json.loads((results / "service-0-of-1.json").read_text(encoding="utf-8"))
    shares = [int(line.split()[-2]) for line in hpcrun("logs", results.parent.name).stdout.splitlines()[:-1]]
    assert len(shares) == part["workers"] == 3
    assert sum(shares) == part["library"][1] == len(part["files"])
    assert min(shares) > 0
    check_service(merged(hpcrun, "service", results_of(hpcrun, *SERVICE_SHARDED)), single)


def queue_of(hpcrun: Hpcrun, workers: int) -> str:
    """The id of a run of the queue's workers, so many of which are there."""
    run_id = hpcrun("submit", "examples/queue/queue.yaml").stdout.strip()
    counts = lambda: json.loads(hpcrun("status", "--json", run_id).stdout)["counts"]  # noqa: E731
    until(lambda: counts().get("running") == workers, what=f"{workers} workers")
    return run_id


def all_processed(hpcrun: Hpcrun, run_id: str) -> str:
    """The logs of the queue's workers, once they say that all is done and have been cancelled."""
    until(lambda: hpcrun("logs", run_id).stdout.count("processing") >= JOBS, what="the last lines of the workers")
    assert hpcrun("cancel", run_id).stdout == f"run {run_id}: cancelled\n"
    assert hpcrun("wait", run_id).returncode == 130
    return hpcrun("logs", run_id).stdout


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis server."""
    socket = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            until(socket.exists, what="the server's socket")
            yield f"unix://{socket}"
        finally:
            server.terminate()


def test_workers_empty_a_queue(hpcrun: Hpcrun, redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Velda's worker, as it is: all jobs of a queue are processed, each once, until the run is cancelled."""
    monkeypatch.setenv("REDIS_URL", redis)
    workers = min(8, len(os.sched_getaffinity(0)))
    run_id = queue_of(hpcrun, workers)
    pushed = alone("queue/push.py", str(JOBS), cwd=ROOT)
    assert pushed.stdout == f"{JOBS} jobs put into the queue\nthe queue is empty\n", pushed.stderr
    check_queue(all_processed(hpcrun, run_id), JOBS)


def test_no_other_cut_is_cheaper() -> None:
    """The service's way to the best cut of a text finds what trying all cuts finds."""
    found = runpy.run_path(str(ROOT / "examples" / "service" / "worker.py"))
    model = found["Model"]()
    strange = max(model.costs.values())  # what a word costs that was seen once
    for text in ("thefile'sname", "returnTrue", "isnotxqz", "a", ""):
        cuts = [_cut(text, places) for places in product((False, True), repeat=max(len(text) - 1, 0))]
        cost = {cut: sum(model.costs.get(w) or strange + 4000 * len(w) for w in cut.split()) for cut in cuts}
        assert cost[model.restored(text)] == min(cost.values()), text


def _cut(text: str, places: tuple[bool, ...]) -> str:
    return "".join(" " * (at > 0 and places[at - 1]) + char for at, char in enumerate(text))


class _Liar(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(["x" for _ in texts]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def test_the_job_refuses_wrong_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that makes something up is found out, and there is no result."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Liar) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = json.dumps([f"127.0.0.1:{server.server_port}"])
        monkeypatch.setenv("TYGER_RESTORE_WORKER_ENDPOINT_ADDRESSES", address)
        done = alone("service/job.py", cwd=tmp_path)
        server.shutdown()
        thread.join()
    assert (done.returncode, (tmp_path / "results").exists()) == (1, False)
    assert "found answers of workers that differ" in done.stderr


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A standard library of three files, of which one is not UTF-8 and one is no Python."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "good.py").write_text('def f():\n    """Documented."""\n' * 1000, encoding="utf-8")
    (folder / "bytes.py").write_bytes(b"name = '\xff\xfe'\n")
    (folder / "words.py").write_text("this is no Python\n", encoding="utf-8")
    return folder


def alone_on(library: Path, program: str) -> str:
    """What a program prints that is started without hpcrun and takes `library` for the standard one."""
    code = (
        "import runpy, sysconfig, warnings; warnings.simplefilter('error'); "
        f"sysconfig.get_paths = lambda: {{'stdlib': {str(library)!r}}}; "
        f"runpy.run_path({str(ROOT / 'examples' / program)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=library.parent, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_counting_alone_skips_and_names_what_is_not_python(library: Path) -> None:
    """Without hpcrun the program is shard 0 of 1; files that cannot be read are said and counted, and end nothing."""
    assert "3 of 3 files, 2000 lines, 2 skipped" in alone_on(library, "count/count.py")
    table = alone("count/merge.py", "results", cwd=library.parent).stdout
    assert "3 files, each counted once; 2 skipped" in table
    assert "skipped bytes.py: SyntaxError" in table
    assert "skipped words.py: SyntaxError" in table


def test_sweeping_alone_tries_every_combination(library: Path) -> None:
    """Without hpcrun the program is shard 0 of 1 and has all rows; what files hold is no matter to it."""
    assert alone_on(library, "sweep/sweep.py").startswith("shard 0 of 1: 18 of 18 combinations, the tightest ")
    check_sweep(alone("sweep/merge.py", "results", cwd=library.parent).stdout)


def test_folding_alone_does_one_fold(tmp_path: Path) -> None:
    """Without hpcrun the program does one fold of nine: with one there is nothing to learn from."""
    done = alone("folds/folds.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fold 0 of 9: ")


@pytest.mark.parametrize("example", ["count", "sweep", "folds", "service"])
def test_merging_refuses_what_is_not_whole(example: str, tmp_path: Path) -> None:
    """A merge of nothing, and one of a part of many, end with a message instead of a table."""
    nothing = alone(f"{example}/merge.py", ".", cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith("found no ")
    part = {"shard": 1, "shards": 3, "library": ["3", 1], "data": ["3", 1, 1, 0], "files": [], "tested": 1}
    (tmp_path / f"{example.removesuffix('s')}-1-of-3.json").write_text(json.dumps(part), encoding="utf-8")
    one = alone(f"{example}/merge.py", ".", cwd=tmp_path)
    assert (one.returncode, one.stdout) == (1, "")
    assert "[0, 2]" in one.stderr
