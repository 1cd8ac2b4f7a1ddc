"""The TCP ports of a worker replica on its node: kept from other replicas, and who listens on them.

A port is reserved by a name that the kernel gives to one process only and takes back when that process dies, so no
run of no user can leave a reservation behind. Who listens is asked of the kernel as ``ss`` asks it, or read from
/proc/net/tcp where it does not answer: that takes milliseconds, for which Linux looks through every connection.
"""

from __future__ import annotations

import errno
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterator, Mapping, Sequence
else:
    import _socket as socket  # without the enums, selectors and file objects that `socket` loads around it

_TABLES = (("/proc/net/tcp", 8), ("/proc/net/tcp6", 32))
"""The kernel's tables of TCP sockets, and how many hexadecimal digits their addresses have."""
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port id."""
_QUESTION = struct.Struct("=BBBxI 2s46x")
"""struct inet_diag_req_v2: family, protocol, extensions, states; own port of the socket, and no more of its id."""
_ANSWER = struct.Struct("=4x 4x16s16x12x 12xII")
"""struct inet_diag_msg: of the socket's id its own address; uid, inode."""

_LISTEN = b"0A"
_TIME_WAIT = b"06"
_CHUNK = 1 << 16

_LAST = 65535
_FIRST = (20000, 10000)
"""Where free ports are looked for: from the first of these numbers which leaves enough of them."""
_ENOUGH = 2000
_TRIES = 100

_LOOKS = 5
"""How often `state` looks at listeners that come and go before it believes what it sees."""


class PortTaken(Exception):
    """A port cannot be had; the message says which one and who holds it."""


class Reservation:
    """A TCP port that no other replica on this node gets until `release`, or until this process has ended.

    Every fork of this process keeps it too, until that one ends or executes a program.
    """

    __slots__ = ("_holder", "port")

    def __init__(self, port: int, holder: int) -> None:
        self.port = port
        self._holder = holder

    def release(self) -> None:
        """Let others have the port; a second time this does nothing."""
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1


def reserve(port: int) -> Reservation:
    """The reservation of `port`, or of a free port for 0.

    Raises PortTaken where another replica of any run holds it, or any process uses it.
    """
    if port:
        return _reserved(port, lingering=True)
    candidates = _candidates()
    for _ in range(_TRIES):
        try:
            # One without lingering connections: then a server can have it that does not set SO_REUSEADDR.
            return _reserved(candidates[int.from_bytes(os.urandom(4), "little") % len(candidates)], lingering=False)
        except PortTaken:
            continue
    raise PortTaken(f"no free port on this node: {_TRIES} that were picked at random are all in use")


def _reserved(port: int, *, lingering: bool) -> Reservation:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # closed by an exec, as every descriptor of Python's
    try:
        name.bind(b"\0hpcrun-port-%d" % port)
        _check_unused(port, lingering)
    except BaseException as error:
        name.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} is held by another hpcrun worker on this node") from None
        raise
    return Reservation(port, name.detach())


def _check_unused(port: int, lingering: bool) -> None:
    """Raise PortTaken if any process uses `port`.

    With `lingering`, connections that linger after their end (TIME_WAIT) count only where Linux keeps the port from
    everybody until they are forgotten: where a server had it that did not set SO_REUSEADDR.
    """
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            used = not _can_bind(family, address, port, lingering)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            # There is no IPv6 here; or the port is one of root's, which the program may have a right to.
            used = error.errno == errno.EACCES and bool(listening(port))
        if used:
            raise PortTaken(f"port {port} is in use on this node{_user(port)}")


def _can_bind(family: int, address: str, port: int, reuse: bool) -> bool:
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    finally:
        probe.close()
    return True


def _candidates() -> Sequence[int]:
    """Ports that the kernel gives to no outgoing connection and the administrator keeps for nobody, if there are."""
    low, high = _kernel_range()
    kept = _kept_ports()
    for first in _FIRST:
        outside = [*range(first, min(low, _LAST + 1)), *range(max(high + 1, first), _LAST + 1)]
        found = [port for port in outside if port not in kept] if kept else outside
        if len(found) >= _ENOUGH:
            return found
    return [port for port in range(_FIRST[0], _LAST + 1) if port not in kept] or range(_FIRST[0], _LAST + 1)


def _kernel_range() -> tuple[int, int]:
    try:
        low, high = _setting("ip_local_port_range").split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32768, 60999  # Linux's own


def _kept_ports() -> set[int]:
    """net.ipv4.ip_local_reserved_ports, such as ``8080,30000-32767``."""
    kept: set[int] = set()
    try:
        for part in _setting("ip_local_reserved_ports").strip().split(","):
            first, _, last = part.partition("-")
            kept.update(range(int(first), int(last or first) + 1) if first else ())
    except (OSError, ValueError):
        pass
    return kept


def _setting(name: str) -> str:
    with open(f"/proc/sys/net/ipv4/{name}", encoding="ascii") as file:
        return file.read()


class Listener:
    """A socket that takes connections: its `address` as text, the `uid` it belongs to, its `inode`."""

    __slots__ = ("address", "inode", "uid")

    def __init__(self, address: str, uid: int, inode: int) -> None:
        self.address, self.uid, self.inode = address, uid, inode

    @property
    def loopback(self) -> bool:
        """Whether it can be reached from this node only."""
        return self.address.startswith("127.") or self.address == "::1"


def listening(port: int) -> list[Listener]:
    """Every socket that listens on `port` on this node, in this process's network namespace."""
    try:
        return _asked(port)
    except OSError:  # a kernel without sock_diag, or a container that may not ask it
        return _looked_up(port)


def _asked(port: int) -> list[Listener]:
    """The listeners on `port`, as the kernel tells."""
    found: list[Listener] = []
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    try:
        kernel.setblocking(False)  # an answer is there as soon as the question is asked
        for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            states = 1 << int(_LISTEN, 16)
            question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, states, port.to_bytes(2, "big"))
            length = _HEADER.size + len(question)
            kernel.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + question)
            for answer in _answers(kernel):
                address, uid, inode = _ANSWER.unpack_from(answer)
                found.append(Listener(_shown(address[:size]), uid, inode))
    finally:
        kernel.close()
    return found


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    """The messages that answer one question."""
    while True:
        data = kernel.recv(_CHUNK)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _ERROR:
                code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                raise OSError(code, os.strerror(code))
            if kind == _DONE:
                return
            yield body


def _looked_up(port: int) -> list[Listener]:
    """The listeners on `port`, from the tables in /proc, which name one twice if others come while they are read."""
    found: dict[int, Listener] = {}
    for path, digits in _TABLES:
        table = _listeners(path)
        # The other end of a listening socket is all zeros.
        if b":%04X %s:0000 %s " % (port, b"0" * digits, _LISTEN) not in table:
            continue
        for fields in _sockets(table, port):
            if fields[3] == _LISTEN:
                inode = int(fields[9])
                found[inode] = Listener(_address(fields[1][:digits]), int(fields[7]), inode)
    return list(found.values())


def _listeners(path: str) -> bytes:
    """The beginning of a table, which holds all listeners: the connections, thousands on a busy node, come after."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without IPv6
        return b""
    table = b""
    try:
        while True:
            chunk = os.read(file, _CHUNK)
            table += chunk
            last = chunk.rstrip().rpartition(b"\n")[2].split(None, 4)
            if not chunk or (len(last) > 3 and last[3] not in (_LISTEN, b"st")):
                return table
    finally:
        os.close(file)


def _sockets(table: bytes, port: int) -> Iterator[list[bytes]]:
    """The lines of a table about sockets whose own port is `port`, as fields."""
    end = b":%04X" % port
    for line in table.splitlines():
        if end in line:
            fields = line.split()
            if len(fields) > 9 and fields[1].endswith(end):
                yield fields


def _address(text: bytes) -> str:
    """An address of the tables, words of 32 bits as the machine holds them, as people write it."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return _shown(b"".join(word.to_bytes(4, sys.byteorder) for word in words))


def _shown(packed: bytes) -> str:
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):  # an IPv4 address in a socket of IPv6
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _user(port: int) -> str:
    """By whom a port is in use, for a message; of a socket that is bound and no more, no table tells."""
    lingers = False
    for path, _ in _TABLES:
        try:
            with open(path, "rb") as file:
                table = file.read()
        except FileNotFoundError:
            continue
        for fields in _sockets(table, port):
            if fields[3] != _TIME_WAIT:
                return f", by a process of uid {int(fields[7])}"
            lingers = True
    return ", by connections that have ended, for a minute (TIME_WAIT)" if lingers else ""


def owns(inodes: Collection[int], session: int, marker: Mapping[str, str]) -> bool:
    """Whether a process of the replica has one of these sockets open.

    Its processes are those of the session `session`, the descendants of that session's leader, and those whose
    environment holds all of `marker`: daemons, containers. All have to be of this process's user.
    """
    return bool(_owned(inodes, session, marker, enough=1))


def _owned(inodes: Collection[int], session: int, marker: Mapping[str, str], enough: int) -> set[int]:
    """Those of the sockets that the replica has open; no more are looked for when `enough` are found."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: set[int] = set()
    for process in _members(session, marker) if wanted else ():
        found |= _open_in(process, wanted)
        if len(found) >= enough:
            break
    return found


def _open_in(process: int, wanted: Mapping[str, int]) -> set[int]:
    folder = f"/proc/{process}/fd"
    found: set[int] = set()
    try:
        for name in os.listdir(folder):
            try:
                inode = wanted.get(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:  # closed meanwhile
                continue
            if inode is not None:
                found.add(inode)
    except OSError:  # it has ended, or is none of ours
        pass
    return found


def _members(session: int, marker: Mapping[str, str]) -> Iterator[int]:
    """The replica's processes, those first that are cheap to tell."""
    yield session
    rest: list[int] = []
    for process in _own_processes():
        if _session_of(process) == session:
            yield process
        else:
            rest.append(process)
    parents = {process: _parent(process) for process in rest}
    entries = {f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in marker.items()}
    strangers: list[int] = []
    for process in rest:
        if _descends(process, session, parents):
            yield process
        else:
            strangers.append(process)
    for process in strangers:
        if entries and _has_in_environment(process, entries):
            yield process


def _own_processes() -> list[int]:
    own = os.getuid()
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == own:
                found.append(int(name))
        except OSError:
            continue
    return found


def _session_of(process: int) -> int:
    try:
        return os.getsid(process)
    except OSError:
        return 0


def _parent(process: int) -> int:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split(None, 2)[1])
    except OSError:
        return 0


def _descends(process: int, session: int, parents: Mapping[int, int]) -> bool:
    """Whether the way up from `process`, one of `parents`, which are not of the session, comes to the session."""
    for _ in range(len(parents)):  # a process id that was given anew meanwhile could close a circle
        process = parents[process]
        if process not in parents:
            return process > 0 and _session_of(process) == session
    return False


def _has_in_environment(process: int, entries: set[bytes]) -> bool:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return entries.issubset(file.read().split(b"\0"))
    except OSError:
        return False


def state(port: int, session: int, marker: Mapping[str, str]) -> str:
    """Who listens on `port`: nobody (``closed``), the replica (``open``) or somebody else (``stranger``).

    ``loopback`` is where the replica does, but at addresses that no other host can reach. ``stranger`` holds even if
    the replica listens beside it, because then either may get a connection.
    """
    unknown: set[int] = set()
    for _ in range(_LOOKS):
        listeners = listening(port)
        inodes = {listener.inode for listener in listeners}
        strange = inodes - _owned(inodes, session, marker, enough=len(inodes))
        if not strange:
            return _reach(listeners)
        if strange & unknown:
            break
        # A socket that the replica has closed, or handed on to a child, since the table was read is no stranger's.
        unknown = strange
    return "stranger"


def _reach(listeners: Sequence[Listener]) -> str:
    if not listeners:
        return "closed"
    return "loopback" if all(listener.loopback for listener in listeners) else "open"
