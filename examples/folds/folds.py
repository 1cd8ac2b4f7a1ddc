"""Cross-validates a naive Bayes classifier that tells which package of the standard library a function comes from.

A function is the names it uses; its label is the package that its file lies in. Shard i of k trains without fold i and
is tested on fold i. All functions of a file are in the same fold: they are too much alike to be apart.

    hpcrun run examples/folds/folds.yaml

By itself, without hpcrun, it does one fold of nine and writes to ./results.
"""

from __future__ import annotations

import ast
import json
import math
import os
import platform
import sys
import sysconfig
import warnings
from collections import Counter, defaultdict
from pathlib import Path

Example = tuple[str, "Counter[str]"]


def main() -> None:
    fold = int(os.environ.get("SYLPHX_SHARD_INDEX", "0"))
    folds = int(os.environ.get("SYLPHX_SHARD_COUNT", "1"))
    folds = 9 if folds == 1 else folds  # there is nothing to learn from with one
    results = Path(os.environ.get("HPCRUN_RESULTS_DIR", "results"))

    files, skipped = labelled_files(folds)
    train = [example for number, found in enumerate(files) if number % folds != fold for example in found]
    test = files[fold::folds]
    model = NaiveBayes(train)
    guesses = Counter((label, model.guess(words)) for found in test for label, words in found)

    tested = sum(guesses.values())
    part = {
        "shard": fold,
        "shards": folds,
        "data": [platform.python_version(), len(files), sum(map(len, files)), skipped],
        "tested": tested,
        "right": sum(times for (label, guess), times in guesses.items() if label == guess),
        "baseline": sum(times for (label, _), times in guesses.items() if label == model.majority),
        "guesses": [[label, guess, times] for (label, guess), times in guesses.items()],
    }
    save(results / f"fold-{fold}-of-{folds}.json", part)
    print(f"fold {fold} of {folds}: learned from {len(train)} functions, {part['right']} of {tested} right")


def labelled_files(folds: int) -> tuple[list[list[Example]], int]:
    """The functions of each file, of every package with at least a file a fold; how many files could not be read."""
    library = Path(sysconfig.get_paths()["stdlib"])
    packages: dict[str, list[list[Example]]] = defaultdict(list)
    skipped = 0
    for path in sorted(library.glob("*/**/*.py")):
        inside = path.relative_to(library).parts
        if {"site-packages", "dist-packages", "test", "tests", "idle_test"} & set(inside):
            continue
        try:
            found = [(inside[0], words) for words in functions(path.read_bytes())]
        except (OSError, SyntaxError, ValueError, RecursionError):
            skipped += 1
            continue
        if found:
            packages[inside[0]].append(found)
    large = [files for files in packages.values() if len(files) >= folds]
    if len(large) < 2:
        sys.exit(f"found {len(large)} packages with {folds} files or more in {library}, wanted two to tell apart")
    return [found for files in large for found in files], skipped


def functions(source: bytes) -> list[Counter[str]]:
    """The names that each function of a file uses."""
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [Counter(filter(None, map(name_of, ast.walk(node)))) for node in nodes]


def name_of(node: ast.AST) -> str | None:
    """The name that `node` is, if it is one."""
    return getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)


class NaiveBayes:
    """A multinomial naive Bayes classifier with add-one smoothing."""

    def __init__(self, examples: list[Example]) -> None:
        labels = Counter(label for label, _ in examples)
        self.majority = max(labels, key=lambda label: (labels[label], label))
        self._words: dict[str, Counter[str]] = {label: Counter() for label in labels}
        for label, words in examples:
            self._words[label].update(words)
        self._vocabulary = set().union(*self._words.values())
        self._prior = {label: math.log(times / len(examples)) for label, times in labels.items()}
        self._size = {label: sum(words.values()) + len(self._vocabulary) for label, words in self._words.items()}

    def guess(self, words: Counter[str]) -> str:
        """The most probable label of a function with these names."""
        known = {word: times for word, times in words.items() if word in self._vocabulary}

        def score(label: str) -> float:
            seen, size = self._words[label], self._size[label]
            return self._prior[label] + sum(n * math.log((seen[word] + 1) / size) for word, n in known.items())

        return max(sorted(self._prior), key=score)


def save(path: Path, part: object) -> None:
    """Write the whole file or none of it: whoever reads the folder never sees half a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(part), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what ast thinks of other people's escapes
    main()
