"""Slurm's hostlists: ``c[1-3,7],gpu-[01-02]x[0-1]`` to a list of host names and back.

Order and duplicates are kept, always. The grammar is that of ``scontrol show hostnames`` and ``scontrol show
hostlist`` of Slurm 24.11 (src/common/hostlist.c there); the tests compare both with it, byte for byte:

* Hosts are separated by commas, spaces, tabs and newlines, any number of them; an empty list is no error.
* A bracket holds numbers and ranges separated by commas. The first number of a range sets the width to which
  zeros are padded: ``[08-10]`` is 08, 09, 10, and ``[8-010]`` is 8, 9, 10.
* With several brackets the last one varies fastest, then the first, then the second, and so on.
* Text may follow the last bracket, as in ``n[1-2].example.org``. Slurm before 23.11 refuses that.

What scontrol rejects is rejected. So is what scontrol takes without a word and turns into other hosts than
were meant: ``n[1, 2]`` (n1 and n02), ``n[+1]`` (n01), ``n[1a-2]`` (n01 and n02), ``n[1-]`` (n1), ``n[[1-2]]``
(hosts named ``n[1]`` and ``n[2]``), ``n1]``; numbers of 2**64 - 1 and more (cut to that, or a crash); a bad
range in the first of three brackets (the whole term vanishes); control characters (merged names); ``{…}``
(a host of that name up to 24.11, from 25.05 on a function that only slurmctld can expand).

Only builtins are imported: compute nodes load this module at the start of every task.
"""

from __future__ import annotations

from itertools import groupby

from hpcrun.errors import HostlistError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Bracket = list[tuple[int, int, int]]
    """The (low, high, width) of each piece. Width is 0 where the first number begins with no zero."""

MAX_RANGE = 65536
"""Most hosts of a range, and of a bracket that another one follows (Slurm's MAX_RANGE and MAX_PREFIX_CNT)."""

MAX_HOSTS = 1_048_576
"""Most hosts that `expand` builds unless told otherwise; Slurm has no such limit and runs out of memory."""

_DIGITS = "0123456789"
_TOO_BIG = 2**64 - 1  # Slurm holds numbers in an unsigned long, and takes this one for "empty"
_LONG = 19  # every number of this many digits fits
_REFUSED = "\0\v\f\r{"
_NOT_IN_A_NAME = _REFUSED + " \t\n[]"
_HUNDRED = [tens + ones for tens in _DIGITS for ones in _DIGITS]


def expand(text: str, *, limit: int = MAX_HOSTS) -> list[str]:
    """The hosts of a hostlist, in the order of ``scontrol show hostnames``, duplicates kept.

    ``expand("c[1-3,7]")`` is ``["c1", "c2", "c3", "c7"]``; empty or blank text is an empty list. Raises
    `HostlistError`, naming the column, for what is no hostlist and for one of more than ``limit`` hosts; a
    term is counted before it is built.
    """
    hosts: list[str] = []
    total = 0
    for start, size, literals, brackets in _terms(text):
        total += size
        if total > limit:
            raise HostlistError(text, start + 1, f"a list that grows to {total} hosts", f"at most {limit}")
        hosts += _hosts(literals, brackets) if brackets else literals
    return hosts


def count(text: str) -> int:
    """The number of hosts in a hostlist, counted without building them (so it has no limit).

    Equal to ``len(expand(text))``, and raises the same `HostlistError` for what is no hostlist.
    """
    return sum([size for _, size, _, _ in _terms(text)])


def fold(hosts: Iterable[str]) -> str:
    """The hostlist of these host names as ``scontrol show hostlist`` prints it: order and duplicates kept.

    Neighbours are merged where they continue each other: ``n1 n2 n5`` is ``n[1-2,5]``, ``n2 n1`` is
    ``n[2,1]`` and ``a1 b1 a2`` is ``a1,b1,a2``. ``expand(fold(hosts)) == hosts`` always holds, which is why
    more than 65,536 hosts in a row become two ranges: Slurm prints one, and then refuses to read it.

    Raises `HostlistError` for a name that no hostlist can hold (empty, with a separator or a bracket in it, or
    with a number of 2**64 - 1 or more at its end; ``text`` is that name), and `TypeError` for a string, which
    is a hostlist already.
    """
    if isinstance(hosts, str):
        raise TypeError(f"fold takes host names, not one string: fold(expand({hosts!r}))")
    names = list(hosts)
    _check_names(names)
    terms: list[str] = []
    position = 0
    for prefix, group in groupby([name.rstrip(_DIGITS) for name in names]):
        end = position + len(list(group))
        terms += _fold_prefix(prefix, [name[len(prefix) :] for name in names[position:end]])
        position = end
    return ",".join(terms)


# ---- text to hosts


def _hosts(literals: list[str], brackets: list[Bracket]) -> list[str]:
    """The hosts of a term with brackets: literal, bracket, literal, …, literal."""
    bracket, suffix = brackets[-1], literals[-1]
    if len(brackets) == len(bracket) == 1 and not suffix:  # as in lists of many terms
        return _numbered(literals[0], *bracket[0])
    hosts: list[str] = []
    for prefix in _prefixes(literals, brackets) if len(brackets) > 1 else literals[:1]:
        for low, high, width in bracket:
            hosts += _numbered(prefix, low, high, width)
    return [host + suffix for host in hosts] if suffix else hosts


def _prefixes(literals: list[str], brackets: list[Bracket]) -> list[str]:
    # Slurm resolves the brackets before the last one recursively from the right, so that of these
    # the first varies fastest: [1-2][3-4][5-6] is 135 136 235 236 145 146 245 246.
    prefixes = literals[:1]
    for position, bracket in enumerate(brackets[:-1]):
        numbers = [number for low, high, width in bracket for number in _numbered("", low, high, width)]
        if position:
            prefixes = [prefix + number for number in numbers for prefix in prefixes]
        else:
            prefixes = [prefixes[0] + number for number in numbers]
        literal = literals[position + 1]
        prefixes = [prefix + literal for prefix in prefixes]
    return prefixes


def _numbered(prefix: str, low: int, high: int, width: int) -> list[str]:
    ten = low // 10
    if ten == high // 10 and (ten or width > 1):
        head = prefix + (str(ten).zfill(width - 1) if width else str(ten))
        return [head + digit for digit in _DIGITS[low - ten * 10 : high - ten * 10 + 1]]
    first, last = low // 100 + 1, high // 100  # hundreds first to last - 1 are whole
    if first >= last:
        return _spelled(prefix, range(low, high + 1), width)
    hosts = _spelled(prefix, range(low, first * 100), width)
    for hundred in range(first, last):
        head = prefix + str(hundred).zfill(width - 2)
        hosts += [head + tail for tail in _HUNDRED]
    return hosts + _spelled(prefix, range(last * 100, high + 1), width)


def _spelled(prefix: str, numbers: range, width: int) -> list[str]:
    if width:
        return [prefix + str(number).zfill(width) for number in numbers]
    return [f"{prefix}{number}" for number in numbers]


def _terms(text: str) -> Iterator[tuple[int, int, list[str], list[Bracket]]]:
    """(position, number of hosts, literals, brackets) of each term; names between two such terms come together.

    Those have no brackets, and stand in the place of the literals.
    """
    for char in _REFUSED:
        if char in text:
            raise _refused_character(text, char)
    if text.count("[") != text.count("]"):
        _check_brackets(text)
    # The same length, one separator: but what is inside a bracket must be read from the text itself.
    line = text.replace(" ", ",").replace("\t", ",").replace("\n", ",")
    position = 0
    while True:
        opening = line.find("[", position)
        start = len(line) if opening < 0 else line.rfind(",", position, opening) + 1 or position
        if start - position > 1 or opening < 0:  # else there is but the comma
            names = _names(text, line, position, start)
            yield position, len(names), names, []
            if opening < 0:
                return
        size, literals, brackets, position = _pattern(text, line, start, opening)
        yield start, size, literals, brackets


def _names(text: str, line: str, start: int, end: int) -> list[str]:
    names = line[start:end].split(",")
    for index, name in enumerate(names):
        if len(name) > _LONG and _number_is_too_big(name):
            column = start + sum([len(earlier) + 1 for earlier in names[:index]]) + 1
            raise HostlistError(text, column, repr(name), "a number below 2**64 - 1")
    return [name for name in names if name]


def _pattern(text: str, line: str, start: int, opening: int) -> tuple[int, list[str], list[Bracket], int]:
    """The term that starts here and whose first bracket is at ``opening``.

    The number of its hosts, its literals, one more than its brackets, and the position behind it.
    """
    closing = line.find("]", opening)
    if closing > 0 and line[closing + 1 : closing + 2] in ",":  # the last bracket already: so it is in long lists
        bracket, size = _bracket(text, opening + 1, closing)
        return size, [line[start:opening], ""], [bracket], closing + 1
    literals: list[str] = []
    brackets: list[Bracket] = []
    size = total = 1
    while opening >= 0:
        if size > MAX_RANGE:
            raise _prefix_error(text, start, size)
        literals.append(line[start:opening])
        closing = line.find("]", opening)
        if closing < 0:
            raise HostlistError(text, opening + 1, "'[' without its ']'", "a closed bracket")
        bracket, size = _bracket(text, opening + 1, closing)
        brackets.append(bracket)
        total *= size
        start = closing + 1
        end = line.find(",", start)
        if end < 0:
            end = len(line)
        opening = line.find("[", start, end)
    literals.append(line[start:end])
    return total, literals, brackets, end


def _bracket(text: str, start: int, end: int) -> tuple[Bracket, int]:
    """Each piece between the brackets, from the text itself, and how many numbers."""
    pieces = text[start:end].split(",")
    ranges: Bracket = []
    size = len(pieces)
    ascii_alone = text.isascii()  # isdigit() knows the digits of every script
    for piece in pieces:
        first, hyphen, last = piece.partition("-")
        if not first.isdigit() or (hyphen and not last.isdigit()) or not (ascii_alone or piece.isascii()):
            raise _range_error(text, start, pieces, len(ranges))
        if len(piece) <= _LONG:
            low = int(first)
            high = int(last) if hyphen else low
        else:
            low, high = _number(first), _number(last or first)
        span = high - low
        if not 0 <= span < MAX_RANGE or high >= _TOO_BIG:
            raise _range_error(text, start, pieces, len(ranges))
        ranges.append((low, high, len(first) if first[0] == "0" else 0))
        size += span
    return ranges, size


def _number(digits: str) -> int:
    # Leading zeros are legal in any number, but Python refuses to convert thousands of digits.
    return int(digits if len(digits) <= _LONG else digits.lstrip("0")[:21] or "0")


def _number_is_too_big(name: str) -> bool:
    return _number(name[len(name.rstrip(_DIGITS)) :] or "0") >= _TOO_BIG


# ---- hosts to text


def _fold_prefix(prefix: str, tails: list[str]) -> list[str]:
    """The terms of neighbours with this prefix; a tail is the number behind it as spelled, or empty."""
    if "" not in tails:
        return [_fold_numbers(prefix, tails)]
    terms: list[str] = []
    for numbered, group in groupby(tails, bool):
        same = list(group)
        terms += [_fold_numbers(prefix, same)] if numbered else [prefix] * len(same)
    return terms


def _fold_numbers(prefix: str, tails: list[str]) -> str:
    ranges: list[str] = []
    first = last = ""
    following = end = -1
    for tail in tails:
        number = int(tail[-20:])  # what is in front of these can only be zeros, see _check_names
        # A number joins the range if Slurm, padding it to the width of the first one, prints it as it is.
        if number == following != end and (len(tail) == len(first) or (len(tail) > len(first) and tail[0] != "0")):
            last = tail
        else:
            ranges.append(_range(first, last))
            first = last = tail
            end = number + MAX_RANGE
        following = number + 1
    ranges.append(_range(first, last))
    del ranges[0]
    if len(tails) == 1:
        return prefix + first
    return f"{prefix}[{','.join(ranges)}]"


def _range(first: str, last: str) -> str:
    return first if first is last else f"{first}-{last}"


# ---- refusals


def _check_names(names: list[str]) -> None:
    """Refuse what `expand` could not read back."""
    joined = ",".join(names)
    separators = joined.count(",") - max(len(names) - 1, 0)
    if separators or "" in names or any(char in joined for char in _NOT_IN_A_NAME):
        for name in names:
            _check_characters(name)
    for name in names:
        if len(name) > _LONG and _number_is_too_big(name):
            raise HostlistError(name, 1, repr(name), "a number below 2**64 - 1")


def _check_characters(name: str) -> None:
    if not name:
        raise HostlistError(name, 1, "nothing", "a host name")
    for column, char in enumerate(name, 1):
        if char in _NOT_IN_A_NAME or char == ",":
            raise HostlistError(name, column, repr(char), "one host name, with no separator or bracket")


def _check_brackets(text: str) -> None:
    """Refuse a ``]`` without its ``[``; where there are as many of both, reading the terms finds all else."""
    opening = position = 0
    while opening >= 0 and position >= 0:
        opening = text.find("[", position)
        closing = text.find("]", position, len(text) if opening < 0 else opening)
        if closing >= 0:
            raise HostlistError(text, closing + 1, "']' without its '['", "an opened bracket")
        position = text.find("]", opening) + 1 or -1


def _prefix_error(text: str, end: int, size: int) -> HostlistError:
    column = text.rindex("[", 0, end) + 1
    wanted = f"at most {MAX_RANGE} in a bracket that another one follows"
    return HostlistError(text, column, f"a bracket of {size} numbers", wanted)


def _range_error(text: str, start: int, pieces: list[str], index: int) -> HostlistError:
    piece = pieces[index]
    column = start + sum([len(earlier) + 1 for earlier in pieces[:index]]) + 1
    first, hyphen, last = piece.partition("-")
    if not (piece.isascii() and first.isdigit() and (last.isdigit() or not hyphen)):
        found = repr(piece) if piece else "nothing"
        return HostlistError(text, column, found, "a number, or a range such as 1-3")
    found = f"the {'range' if hyphen else 'number'} {piece}"
    if _number(last or first) >= _TOO_BIG:
        return HostlistError(text, column, found, "numbers below 2**64 - 1")
    if _number(first) > _number(last):
        return HostlistError(text, column, found, "low-high with low <= high")
    return HostlistError(text, column, found, f"at most {MAX_RANGE} hosts in a range")


def _refused_character(text: str, char: str) -> HostlistError:
    wanted = "no control character in a host name"
    if char == "{":
        wanted = "host names; a function in braces is expanded by `scontrol show hostnames` of Slurm 25.05"
    return HostlistError(text, text.index(char) + 1, repr(char), wanted)
