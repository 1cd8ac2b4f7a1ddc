"""A service that puts the spaces back into text that has lost them.

It learns words from the docstrings of the modules of Python's own standard library, which takes a second or two, and
only then listens: on the port that HPCRUN_PORT_RESTORE names, or on 8000. Texts come and go as JSON lists.

    curl -d '["Returntrueifthefileexists."]' localhost:8000
"""

from __future__ import annotations

import ast
import json
import math
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
LONGEST = 16  # characters of a word


def main() -> None:
    replica, port = os.environ.get("HPCRUN_REPLICA_INDEX", "0"), int(os.environ.get("HPCRUN_PORT_RESTORE", "8000"))
    Service.model = Model()
    with Server(("0.0.0.0", port), Service) as server:
        print(f"worker {replica} knows {len(Service.model.costs)} words and listens on port {port}", flush=True)
        server.serve_forever()


class Model:
    """The words there are, and what each costs: whole millibits, so that every machine adds up to the same."""

    def __init__(self) -> None:
        found = (text for path in sorted(LIBRARY.glob("*.py")) for text in docstrings(path))
        words = Counter(word for text in found for word in text.split())
        total = sum(words.values())
        self.costs = {
            word: round(-1000 * math.log2(times / total)) for word, times in words.items() if len(word) <= LONGEST
        }
        self._strange = round(1000 * math.log2(total or 1))

    def restored(self, text: str) -> str:
        """`text` cut into the words that are the most probable together."""
        cheapest, cut = [0], [0]
        for end in range(1, len(text) + 1):
            starts = range(max(0, end - LONGEST), end)
            cost, start = min((cheapest[start] + self._cost(text[start:end]), start) for start in starts)
            cheapest.append(cost)
            cut.append(start)
        words, end = [], len(text)
        while end:
            words.append(text[cut[end] : end])
            end = cut[end]
        return " ".join(reversed(words))

    def _cost(self, word: str) -> int:
        return self.costs.get(word) or self._strange + 4000 * len(word)


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a file; none where it is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


class Server(ThreadingHTTPServer):
    daemon_threads = True


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection serves many requests
    model: Model

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps([self.model.restored(text) for text in texts]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """A line for every request is too much."""


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what ast thinks of other people's escapes
    main()
