"""Ports and URLs as probes are given them. Pure, for submission and for the nodes."""

from __future__ import annotations

PORT = "a port from 1 to 65535"
"""What is wanted where `port` finds none."""


def port(text: str) -> int | None:
    """The port that `text` names, from 1 to 65535; None where it names none."""
    named = text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536
    return int(text) if named else None


def parts(url: str) -> tuple[str, str, int, str]:
    """Scheme (http or https), host, port (the scheme's own by default), and path with query of `url`.

    Raises ValueError with what was wanted.
    """
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in ("http", "https"):
        raise ValueError("wanted a URL that begins with http:// or https://")
    rest = rest.partition("#")[0]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    place, target = rest[:end].rpartition("@")[2], rest[end:]
    host, _, digits = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", "")
    number = port(digits or ("443" if scheme == "https" else "80"))
    if not host or number is None:
        raise ValueError(f"wanted a URL with a host and {PORT}")
    return scheme, host.strip("[]"), number, target if target.startswith("/") else f"/{target}"
