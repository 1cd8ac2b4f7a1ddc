"""Readiness probes: every kind passes, fails and hangs, and nothing is left of it."""

from __future__ import annotations

import dataclasses
import http.server
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from hpcrun.node.ports import reserve
from hpcrun.node.probe import Prober
from hpcrun.plan import Probe

NOTHING = Probe(
    kind="", port="", host="127.0.0.1", url="", headers={}, pattern="", match_count=1, command=(), delay=0.0,
    interval=None, each_check_timeout=5.0, timeout=None, success_threshold=1,
)  # fmt: skip
ENVIRON = {"PATH": os.environ["PATH"], "HERE": "127.0.0.1", "WORD": "ready"}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a child or a descriptor; all run as a supervisor does, with its signals blocked."""
    # A supervisor's own handlers and mask are not for its checks.
    before = set(os.listdir("/proc/self/fd"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


class Made:
    """What makes probers that are closed at the end."""

    def __init__(self, tmp_path: Path, stack: ExitStack) -> None:
        self.log, self.cwd, self._stack = tmp_path / "log", tmp_path, stack

    def __call__(self, kind: str, *, now: float | None = None, since: int = 0, **fields: Any) -> Prober:
        probe = dataclasses.replace(NOTHING, kind=kind, **fields)
        start = time.monotonic() if now is None else now
        prober = Prober(probe, ENVIRON, str(self.cwd), str(self.log), start, since=since)
        self._stack.callback(prober.close)
        return prober


@pytest.fixture
def made(nothing_is_left: None, tmp_path: Path) -> Iterator[Made]:
    with ExitStack() as stack:
        yield Made(tmp_path, stack)


@pytest.fixture
def listener(nothing_is_left: None) -> Iterator[socket.socket]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


@pytest.fixture
def no_listener(nothing_is_left: None) -> Iterator[int]:
    """A port that nobody takes, as no other test and no connection gets it."""
    held = reserve(0)
    yield held.port
    held.release()


@pytest.fixture
def full(nothing_is_left: None) -> Iterator[int]:
    """A port at which connections hang: more wait there than its queue holds."""
    with ExitStack() as stack:
        found = stack.enter_context(socket.socket())
        found.bind(("127.0.0.1", 0))
        found.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(found.getsockname())
        yield int(found.getsockname()[1])


def passes(prober: Prober) -> None:
    until(lambda: prober.turn(time.monotonic()), what="the probe")


def fails(prober: Prober, why: str) -> None:
    """The probe does not pass, for this reason."""
    until(lambda: prober.turn(time.monotonic()) or why in prober.tried, what=why)
    assert not prober.turn(time.monotonic())
    assert why in prober.tried


def test_port_that_opens(made: Made, no_listener: int) -> None:
    """A port passes once something listens on it; until then the probe says what it found."""
    prober = made("tcp_port", port=str(no_listener))
    fails(prober, f"127.0.0.1:{no_listener}: connection refused")
    with socket.socket() as late:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        late.bind(("127.0.0.1", no_listener))
        late.listen()
        passes(prober)
    assert prober.tried == f"127.0.0.1:{no_listener}: accepts connections"
    assert prober.due == float("inf")
    assert prober.turn(time.monotonic())


def test_port_and_host_of_variables(made: Made, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """References to variables are resolved, an unknown one is told."""
    monkeypatch.setitem(ENVIRON, "PORT", str(listener.getsockname()[1]))
    passes(made("tcp_port", port="$(PORT)", host="$(HERE)"))
    fails(made("tcp_port", port="$(PORTS)"), "127.0.0.1:$(PORTS): '$(PORTS)' is no port from 1 to 65535")


def test_host_that_is_not_there(made: Made) -> None:
    """What the resolver says is passed on."""
    fails(made("tcp_port", port="80", host="no-such-host.invalid"), "no-such-host.invalid:80: ")


def test_port_that_hangs(made: Made, full: int) -> None:
    """A connection that nobody accepts or refuses is given up, and tried again."""
    fails(made("tcp_port", port=str(full), each_check_timeout=0.1), f"127.0.0.1:{full}: no answer within 0.1 s")


class Server(http.server.ThreadingHTTPServer):
    """Answers with the number that is its path's first part; /hang never, /garbage as no web server does."""

    daemon_threads = False  # so that all have ended when the server is closed

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.gone = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Host"], self.headers["X-Word"]))
        if self.path == "/hang":
            self.server.gone.wait(60)
        elif self.path == "/garbage":
            self.wfile.write(b"garbage\r\n\r\n")
        elif self.path != "/nothing":
            self.send_response(int(self.path[1:4]))
            self.send_header("Location", "/500")
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(nothing_is_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # A supervisor has one thread. Here there are two, which newer Pythons warn of in os.fork.
    monkeypatch.setattr(os, "fork", _quiet(os.fork))
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.gone.set()
        found.shutdown()
        thread.join()


def _quiet(fork: Callable[[], int]) -> Callable[[], int]:
    import warnings

    def quiet() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return fork()

    return quiet


@pytest.mark.parametrize("code", [200, 204, 301, 399])
def test_page_that_is_there(made: Made, server: Server, code: int) -> None:
    """2xx and 3xx pass, and nobody follows."""
    prober = made("http_get", url=f"{server.url}/{code}?a=b#c", headers={"X-Word": "$(WORD)"})
    passes(prober)
    assert prober.tried == f"GET {server.url}/{code}?a=b#c: {code}"
    assert server.seen == [(f"/{code}?a=b", f"127.0.0.1:{server.server_port}", "ready")]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("503", "503"),
        ("404", "404"),
        ("garbage", "BadStatusLine: garbage"),
        ("nothing", "remote end closed connection without response"),
        ("a b", "InvalidURL: "),
        ("ä", "can't encode"),
        ("hang", "no answer within 0.5 s"),
    ],
)
def test_page_that_is_not(made: Made, server: Server, path: str, why: str) -> None:
    """Any other answer fails, as does none."""
    url = f"{server.url}/{path}"
    fails(made("http_get", url=url, each_check_timeout=0.5 if path == "hang" else 30.0), why)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{port}/", "GET http://127.0.0.1:{port}/: connection refused"),
        ("http://127.0.0.1:{port}?a", "GET http://127.0.0.1:{port}?a: connection refused"),
        ("https://a:b@127.0.0.1:{port}", "connection refused"),
        ("http://[::1]:{port}/", "connection refused"),
        ("127.0.0.1:{port}/", "wanted a URL that begins with http:// or https://"),
        ("http:///path", "wanted a URL with a host"),
        ("http://127.0.0.1:$(PORT)/", "wanted a URL with a host and a port"),
    ],
)
def test_url(made: Made, no_listener: int, url: str, why: str) -> None:
    """A URL that is none is told, without a server too."""
    fails(made("http_get", url=url.format(port=no_listener)), why.format(port=no_listener))


def test_certificate_is_checked(made: Made, server: Server) -> None:
    """A server that does not speak TLS is no https server."""
    fails(made("http_get", url=server.url.replace("http", "https") + "/200"), "SSL")


def test_command(made: Made) -> None:
    """A command passes with exit code 0; it sees the program's environment and directory, and no input."""
    (made.cwd / "there").write_text("ready")
    script = 'test "$WORD" = ready && test "$(cat there)" = "$0" && ! read line && test -z "$HPCRUN_HOME"'
    prober = made("exec", command=("sh", "-c", script, "$(WORD)"))
    passes(prober)
    assert prober.tried == "sh: exit code 0"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["sh", "-c", "echo one >&2; echo ' two ' >&2; echo >&2; echo out; exit 3"], "sh: exit code 3: two"),
        (["sh", "-c", "kill -9 $$"], "sh: killed by signal 9"),
        (["sh", "-c", "printf '\\377\\n' >&2; exit 1"], "sh: exit code 1: \ufffd"),
        (
            ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1"],
            "sh: exit code 1: end",
        ),
        (["no-such-program"], "exit code 127: cannot start 'no-such-program': No such file or directory"),
        ([""], "exit code 127: "),
    ],
)
def test_command_that_fails(made: Made, command: list[str], why: str) -> None:
    """A command's exit code and the last thing that it said are told, however much it said."""
    fails(made("exec", command=tuple(command)), why)


def test_command_without_first_line(made: Made) -> None:
    """A script without a #! line is run by the shell; a directory that is not there is told."""
    script = made.cwd / "check"
    script.write_text("echo $1 >&2; exit 4\n")
    script.chmod(0o755)
    fails(made("exec", command=("./check", "said")), "exit code 4: said")
    made.cwd /= "gone"
    fails(made("exec", command=("true",)), "exit code 127: cannot enter the working directory")


def test_command_is_not_the_supervisor(made: Made) -> None:
    """A command has a session of its own, no signal blocked or ignored, and none of the supervisor's descriptors."""
    script = "cat /proc/$$/stat > stat; cat /proc/self/status > status; ls /proc/self/fd > fds"
    with open(made.cwd / "held", "w") as held:
        os.set_inheritable(held.fileno(), True)
        handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            passes(made("exec", command=("sh", "-c", script)))
        finally:
            signal.signal(signal.SIGUSR1, handler)
    process, *_ = (made.cwd / "stat").read_text().split()
    assert (made.cwd / "stat").read_text().rpartition(")")[2].split()[3] == process, "it leads its session"
    seen = (made.cwd / "status").read_text()
    for field in ("SigBlk", "SigIgn"):
        assert f"{field}:\t{'0' * 16}\n" in seen
    assert (made.cwd / "fds").read_text().split() == ["0", "1", "2", "3"], "the last is what ls reads"


def test_command_that_hangs(made: Made) -> None:
    """A command that takes too long is killed with all that it started, and so is what one leaves behind."""
    command = ("bash", "-c", "set -m; sleep 601 & echo $! >> pids; sleep 602 & echo $! >> pids; wait")
    prober = made("exec", command=command, each_check_timeout=1.0, interval=600.0)
    fails(prober, "bash: still running after 1 s")
    passes(made("exec", command=("sh", "-c", "sleep 603 & echo $! >> pids")))
    pids = [int(line) for line in (made.cwd / "pids").read_text().split()]
    assert len(pids) == 3
    for pid in pids:
        until(lambda pid=pid: _gone(pid), what="the end of what the command started")  # type: ignore[misc]


def _gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_command_that_cannot_be_told_to_end(made: Made) -> None:
    """A command that ignores SIGTERM is killed all the same, and tried again after that."""
    command = ("sh", "-c", "trap '' TERM; echo >> tries; while :; do sleep 0.1; done")
    prober = made("exec", command=command, each_check_timeout=0.1)
    until(lambda: prober.turn(time.monotonic()) or _lines(made.cwd / "tries") >= 3, what="the third try")
    assert not prober.turn(time.monotonic())


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("kind", ["exec", "tcp_port", "http_get"])
def test_close(made: Made, full: int, kind: str) -> None:
    """Whatever is on its way when a prober is closed is killed and reaped; closing twice does nothing more."""
    prober = made(kind, command=("sleep", "600"), port=str(full), url=f"http://127.0.0.1:{full}")
    assert not prober.turn(time.monotonic())
    assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "it is on its way"
    prober.close()
    prober.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_check_that_somebody_else_reaps(made: Made) -> None:
    """A check whose end nobody can tell has failed, and is made again."""
    prober = made("exec", command=("sh", "-c", "until test -e go; do sleep 0.01; done; test -e enough"))
    assert not prober.turn(time.monotonic())
    (made.cwd / "go").touch()
    until(lambda: os.waitpid(-1, os.WNOHANG)[0], what="the end of the check")
    assert not prober.turn(time.monotonic())
    assert prober.tried.startswith("sh: exit code 1")
    (made.cwd / "enough").touch()
    passes(prober)


def test_no_process_to_be_had(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no process just now, that is a failed check."""

    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    prober = made("exec", command=("true",))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", fork)
        assert not prober.turn(time.monotonic())
    assert prober.tried == "true: cannot be tried: resource temporarily unavailable"
    passes(prober)


def test_a_turn_does_not_wait(made: Made) -> None:
    """A turn returns at once while a check hangs; the check's end is signalled by SIGCHLD."""
    prober = made("exec", command=("sh", "-c", "read line < pipe"))
    os.mkfifo(made.cwd / "pipe")
    while signal.sigtimedwait((signal.SIGCHLD,), 0):
        pass
    for _ in range(3):
        now = time.monotonic()
        assert not prober.turn(now)
        assert now < prober.due < now + 0.5
    pipe = until(lambda: _opened(made.cwd / "pipe"), what="the reader")
    os.write(pipe, b"line\n")
    os.close(pipe)
    assert signal.sigtimedwait((signal.SIGCHLD,), 60)
    assert prober.turn(time.monotonic())


def _opened(pipe: Path) -> int:
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads yet
        return 0


def test_log(made: Made) -> None:
    """A log passes with enough matches, anywhere in its lines; a line counts only when it is whole."""
    prober = made("log_watch", pattern="is $(WORD)|up", match_count=4, now=0.0)
    now = 0.0
    for text, found in [
        ("", 0), ("it is ready up\n", 2), ("it is ready", 2), (" now\nno\n", 3), ("", 3), ("is rea", 3),
    ]:  # fmt: skip
        with open(made.log, "a", encoding="ascii") as log:
            log.write(text)
        assert not prober.turn(now)
        assert prober.tried == f"{found} of 4 wanted matches of 'is ready|up' in the log"
        now = prober.due
    with open(made.log, "a", encoding="ascii") as log:
        log.write("dy\n")
    assert prober.turn(now)


def test_log_that_is_not_there(made: Made) -> None:
    """A log that does not exist yet, that is emptied, or that begins with another program's lines."""
    prober = made("log_watch", pattern="^ready$", now=0.0)
    assert not prober.turn(0.0)
    assert prober.tried == f"the log {made.log}: no such file or directory"
    made.log.write_text("something long that says nothing\n")
    assert not prober.turn(prober.due)
    made.log.write_text("ready\n")
    assert prober.turn(prober.due)
    assert not made("log_watch", pattern="^ready$", since=6, now=0.0).turn(0.0)


def test_log_in_any_bytes(made: Made) -> None:
    """Bytes that are no text do not keep the rest of their line from matching."""
    made.log.write_bytes(b"\xff\xfe\0 r\xc3\xa4dy\r\n")
    assert made("log_watch", pattern="rädy", now=0.0).turn(0.0)


def test_pattern_that_is_none(made: Made) -> None:
    """A pattern that its variables have spoiled is told."""
    prober = made("log_watch", pattern="$(WORD)(", now=0.0)
    assert not prober.turn(0.0)
    assert prober.tried.startswith("'ready(' is no regular expression: ")


def test_log_of_long_lines(made: Made) -> None:
    """A long line is searched before it ends, counts once, and neither ^ nor $ matches amid it."""
    probers = {
        pattern: made("log_watch", pattern=pattern, match_count=count, now=0.0)
        for pattern, count in {"across": 2, "^x": 2, "x$": 2, "^across$": 1, "bar": 1, "x end$": 1}.items()
    }

    def passed() -> set[str]:
        found = set()
        for pattern, prober in probers.items():
            while not prober.turn(prober.due) and prober.due == 0.0:
                pass
            if prober.turn(prober.due):
                found.add(pattern)
        return found

    with open(made.log, "wb", buffering=0) as log:
        log.write(b"x" * 70_000 + b"acr")
        assert passed() == set()
        log.write(b"oss bar" + b"x" * 70_000)
        assert passed() == {"bar"}
        log.write(b"x" * 3_000_000 + b" across " + b"x" * 100_000)
        assert passed() == {"bar"}
        log.write(b"x end\nacross\n")
        assert passed() == {"across", "^across$", "bar", "x end$"}


def test_log_in_turns(made: Made) -> None:
    """Of a large log a turn searches a part, and wants to be called again at once."""
    made.log.write_text("some line of a log\n" * 200_000 + "ready\n")
    prober = made("log_watch", pattern="ready", now=0.0)
    turns = 1
    while not prober.turn(0.0):
        assert prober.due == 0.0
        turns += 1
    assert turns == 4


def test_threshold(made: Made) -> None:
    """As many checks in a row as wanted have to pass."""
    script = 'echo >> tries; n=$(wc -l < tries); test "$n" != 3'
    prober = made("exec", command=("sh", "-c", script), success_threshold=3)
    passes(prober)
    assert _lines(made.cwd / "tries") == 6


def test_delay_and_interval(made: Made) -> None:
    """The first check is made after the delay, each other one an interval after the end of the one before."""
    prober = made("exec", now=100.0, delay=5.0, interval=7.0, command=("sh", "-c", "echo >> tries; exit 1"))
    assert prober.due == 105.0
    assert not prober.turn(104.9)
    assert not (made.cwd / "tries").exists()
    for number, now in enumerate((105.0, 112.0, 119.0), 1):
        until(lambda now=now: prober.turn(now) or prober.due == now + 7.0, what="the check")  # type: ignore[misc]
        assert not prober.turn(now + 6.9)
        assert _lines(made.cwd / "tries") == number


def test_adaptive_interval(made: Made) -> None:
    """By default checks come fast at first, and ten times a second in the end."""
    made.log.touch()
    prober = made("log_watch", pattern="ready", now=0.0)
    pauses = []
    now = 0.0
    for _ in range(20):
        assert not prober.turn(now)
        pauses.append(prober.due - now)
        now = prober.due
    assert pauses[:3] == pytest.approx([0.02, 0.026, 0.0338])
    assert pauses == pytest.approx(sorted(pauses))
    assert pauses[-1] == pytest.approx(0.1)


def test_timeout(made: Made) -> None:
    """A probe with a timeout expires, unless it has passed."""
    made.log.touch()
    probers = [made("log_watch", pattern="ready", now=10.0, timeout=limit) for limit in (5.0, None)]
    for prober in probers:
        assert not prober.turn(14.9)
        assert not prober.expired(14.9)
    assert [prober.expired(15.0) for prober in probers] == [True, False]
    made.log.write_text("ready\n")
    assert probers[0].turn(probers[0].due)
    assert not probers[0].expired(100.0)
