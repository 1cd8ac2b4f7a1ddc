"""Words of a command line to sbatch's options, by the rules of getopt_long(3) as sbatch uses it.

Options end at the first word that is none (sbatch's own option string begins with ``+``), long ones may be shortened
as far as they stay unambiguous, flags of one letter may be clustered. What sbatch would refuse is passed on as it
is, so that sbatch refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcrun.sbatch_options import ALIASES, LETTERS, NO_VALUE, OPTIONAL_VALUE, SINCE, UNTIL, VALUE

Version = tuple[int, int]
"""Of Slurm: ``(24, 11)``."""

NO, OPTIONAL, REQUIRED = "no", "optional", "required"


@dataclass(frozen=True)
class Option:
    """An option as it was given."""

    name: str
    """The long name without dashes, abbreviations completed; what was written where sbatch has no such option."""
    value: str | None
    """None for a flag without one, and where the value is missing."""
    words: tuple[str, ...] = ()
    """How it was given. Letters of one cluster (``-HQ``) share a word: the first has it, the others have none."""
    component: int = 0
    """Of a heterogeneous job."""
    off: bool = False
    """A variable such as ``SBATCH_REQUEUE=no``, which takes a flag back."""

    def spelled(self) -> str:
        """The option in one word, by its long name."""
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


@dataclass(frozen=True)
class Piece:
    """Words that belong together, and the options they spell: none for the separators ``:`` and ``--``."""

    words: tuple[str, ...]
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Table:
    """The options of a command: what each long name takes, and which long name a letter stands for."""

    takes: Mapping[str, str]
    letters: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def long(self, name: str) -> str | None:
        """The long name that `name` stands for; None where it is unknown or ambiguous."""
        if name in self.takes:
            return name
        found = [known for known in self.takes if known.startswith(name)]
        return found[0] if len(found) == 1 else None


def table(version: Version | None = None, plugins: Mapping[str, bool] | None = None) -> Table:
    """sbatch's options in a Slurm, all that are known where the version is not.

    `plugins` are the options that the site's SPANK plug-ins add, True where they take a value: see `plugin_options`.
    """
    takes = {**dict.fromkeys(NO_VALUE, NO), **dict.fromkeys(OPTIONAL_VALUE, OPTIONAL), **dict.fromkeys(VALUE, REQUIRED)}
    if version:
        takes = {
            name: what
            for name, what in takes.items()
            if SINCE.get(name, version) <= version and (name not in UNTIL or version < UNTIL[name])
        }
    takes |= {name: REQUIRED if value else NO for name, value in (plugins or {}).items()}
    return Table(takes, LETTERS, ALIASES)


def read(words: Sequence[str], known: Table, component: int = 0) -> tuple[list[Piece], list[str]]:
    """The options at the beginning of `words`, and the words behind them."""
    pieces = []
    rest = list(words)
    while rest and is_option(rest[0]):
        piece = take(rest, known, component)
        pieces.append(piece)
        if piece.words == ("--",):
            break
    return pieces, rest


def is_option(word: str) -> bool:
    """Whether getopt sees an option in a word; ``-`` alone is none."""
    return word.startswith("-") and word != "-"


def take(rest: list[str], known: Table, component: int) -> Piece:
    """Take the first word off `rest`, and its value where that is the next word."""
    word = rest.pop(0)
    if word == "--":
        return Piece((word,))
    if word.startswith("--"):
        return _long(word, rest, known, component)
    return _letters(word, rest, known, component)


def _long(word: str, rest: list[str], known: Table, component: int) -> Piece:
    written, equals, value = word[2:].partition("=")
    name = known.long(written)
    words: tuple[str, ...] = (word,)
    given = value if equals else None
    if name and not equals and known.takes[name] == REQUIRED and rest:
        given = rest.pop(0)
        words += (given,)
    shown = name or written
    return Piece(words, (Option(known.aliases.get(shown, shown), given, words, component),))


def _letters(word: str, rest: list[str], known: Table, component: int) -> Piece:
    options: list[Option] = []
    words: tuple[str, ...] = (word,)
    cluster = word[1:]
    while cluster:
        letter, cluster = cluster[0], cluster[1:]
        name = known.letters.get(letter, letter)
        takes = known.takes.get(name, NO)
        value = None
        if takes != NO and cluster:
            value, cluster = cluster, ""
        elif takes == REQUIRED and rest:
            value = rest.pop(0)
            words += (value,)
        options.append(Option(name, value, (), component))
    first = Option(options[0].name, options[0].value, words, component)
    return Piece(words, (first, *options[1:]))
