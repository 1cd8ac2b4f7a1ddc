"""Has workers put the spaces back into docstrings that have lost them, and counts the words that come out right.

What is restored is the first paragraph of each docstring in the packages of Python's own standard library. The job
starts once every worker listens, and finds them as a program of Tyger does: their addresses are a JSON list in
TYGER_RESTORE_WORKER_ENDPOINT_ADDRESSES. Each gets a thread, which takes file after file. Afterwards the job does the
same work in its own process, and refuses answers that differ. Each shard has every Nth file, and workers of its own.

    hpcrun run examples/service/service.yaml

By itself, without hpcrun, it does everything in one process and writes to ./results.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import accumulate
from pathlib import Path
from threading import Lock

from worker import LIBRARY, Model, docstrings


def main() -> None:
    index = int(os.environ.get("HPCRUN_SHARD_INDEX", "0"))
    shards = int(os.environ.get("HPCRUN_SHARD_COUNT", "1"))
    results = Path(os.environ.get("HPCRUN_RESULTS_DIR", "results"))
    addresses = json.loads(os.environ.get("TYGER_RESTORE_WORKER_ENDPOINT_ADDRESSES", "[]"))

    paths = files()
    texts = {path: [summary(text) for text in docstrings(path)] for path in paths[index::shards]}
    answers = from_workers(texts, addresses)
    model = Model()
    own = {path: [model.restored(squeezed(text)) for text in found] for path, found in texts.items()}
    if addresses and answers != own:
        sys.exit("found answers of workers that differ from those of this process, wanted the same")

    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for path, found in texts.items():
        package = packages[path.relative_to(LIBRARY).parts[0]]
        for number, text in enumerate(found):
            words, guessed = spans(text), spans(own[path][number])
            package.update(docstrings=1, words=len(words), right=len(words & guessed))
    part = {
        "shard": index,
        "shards": shards,
        "library": [platform.python_version(), len(paths)],
        "files": [str(path.relative_to(LIBRARY)) for path in texts],
        "workers": len(addresses),
        "packages": packages,
    }
    save(results / f"service-{index}-of-{shards}.json", part)
    total = sum(packages.values(), Counter())
    print(f"shard {index} of {shards}: {total['right']} of {total['words']} words right")


def files() -> list[Path]:
    """The files of every package of the standard library, in the same order on every machine; the model has not seen
    them."""
    others = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    inside = (path.relative_to(LIBRARY) for path in LIBRARY.glob("*/**/*.py"))
    return [LIBRARY / path for path in sorted(inside) if not others & set(path.parts)]


def summary(text: str) -> str:
    """The first paragraph, with one space between two words."""
    return " ".join(text.split("\n\n")[0].split())


def squeezed(text: str) -> str:
    return text.replace(" ", "")


def from_workers(texts: dict[Path, list[str]], addresses: list[str]) -> dict[Path, list[str]]:
    """What the workers make of the texts of each file: whoever is free gets the next one."""
    waiting, lock = iter(texts.items()), Lock()

    def next_file() -> tuple[Path, list[str]] | None:
        with lock:
            return next(waiting, None)

    def ask(address: str) -> dict[Path, list[str]]:
        connection, answers = HTTPConnection(address), {}
        for path, found in iter(next_file, None):
            connection.request("POST", "/", json.dumps(list(map(squeezed, found))))
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{address} answered {response.status} to {path}")
            answers[path] = json.load(response)
        return answers

    with ThreadPoolExecutor(len(addresses) or 1) as threads:
        parts = list(threads.map(ask, addresses))
    for number, part in enumerate(parts):
        print(f"worker {number} at {addresses[number]}: {len(part)} files")
    return {path: answer for part in parts for path, answer in part.items()}


def spans(text: str) -> set[tuple[int, int]]:
    """Where each word begins and ends, spaces not counted."""
    words = text.split(" ")
    ends = accumulate(map(len, words))
    return {(end - len(words[number]), end) for number, end in enumerate(ends)}


def save(path: Path, part: object) -> None:
    """Write the whole file or none of it: whoever reads the folder never sees half a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(part), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what ast thinks of other people's escapes
    main()
