"""Hostlists beside the real ``scontrol show hostnames`` and ``scontrol show hostlist``, byte for byte."""

from __future__ import annotations

import json
import random
import re
from typing import NamedTuple

import pytest
from containers import RELEASE, Login

from hpcrun.errors import HostlistError
from hpcrun.hostlist import MAX_RANGE, count, expand, fold

ASK = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def ask(question):
    done = subprocess.run(["scontrol", "show", *question], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")

with ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(ask, json.load(sys.stdin)))))
"""
LITERALS = ["", "a", "n", "x-", "-", "gpu-", "a1b", "é", "0", "1", "01", "9", ".b", ".example.org", *"#'()=+:*}/$\\\"~"]
NUMBERS = [
    "0", "1", "2", "3", "7", "8", "9", "10", "11", "98", "99", "100", "999", "1000", "00", "01", "02", "07", "08", "09",
    "010", "098", "099", "0100", "0999", "4294967295", "4294967296", "9999999999999999999", "18446744073709551613",
    "18446744073709551614", "00000000000000000000001", "00000000000000000000002",
]  # fmt: skip
NO_RANGES = [
    "", "-", "-1", "1--2", "1-2-3", "3-1", "010-9", "a", "1a", "0x1", "1.0", "1 ", "1 2", "1-2a", "²", "0-65536",
]  # fmt: skip
SEPARATORS = [",", " ", "\t", "\n", ",,", " , "]

TAKEN = [
    "", " ", ",", "a,,b", ",a,", "a b\tc\nd", "c[1-3,7]", "n[8-010]", "n[08-10]", "n[9-11,011]", "n[00-0]",
    "n[5,4-6,5]", "[1-2]", "[1-2][3-4]", "[1-2][3-4][5-6]", "a[1-2]b[3-4]c[5-6]d[7-8]e", "gpu-[01-02]x[0-1]",
    "rack[1-2,2]n[1,1]", "n[1-2].example.org", "a[1-2]-3", "a[1] [2]", "a[1]\n[2]", "-a", "-", "--", "/etc/passwd",
    "a}", "\x01", "a\x7fb", "n[65535-131070]", "n[0-65535]x", "a[1-2]b[0-65535]", "n[18446744073709551614]",
    "n18446744073709551614", "n[0000000000000000000000000000001-2]", f"n{'0' * 300}1", f"{'a' * 5000}[1-2]",
    "日本[1-2]", "*?~!#;&|<>$(x)`y`'\"",
]  # fmt: skip
REFUSED = [
    "n[", "[", "[]", "n[]", "n[1", "[1-2", "n[1,]", "n[,1]", "n[1,,2]", "n[-1]", "n[1--2]", "n[1-2-3]", "n[2-1]",
    "n[010-8]", "n[a]", "n[1a]", "n[1-2a]", "n[a-b]", "n[0x1]", "n[1e3]", "n[1_2]", "n[1.2]", "n[1;2]", "n[²]", "n[１]",
    "n[1 2]", "n[1\t,2]", "n[1\n2]", "n[1-65537]", "n[0-65536]", "a[1-2][3", "a[x]b[1-2]", "a[1-2]b[x]", "a[2-1]b[1-2]",
    "a[1-2]b[2-1]", "a[]b[1]", "a[0-65535,1]b[1]", "good,n[2-1]", "n[2-1],good", "good bad[",
]  # fmt: skip
MISREAD = [
    ("n[1, 2]", "n1 n02"), ("n[ 1]", "n01"), ("n[+1]", "n01"), ("n[1a-2]", "n01 n02"), ("n[1-]", "n1"),
    ("n[[1-2]]", "n[1] n[2]"), ("n[[1]]", "n[1]"), ("n[1[2]", "n[12"), ("n]", "n]"), ("n1]", "n1]"), ("n[1]]", "n1]"),
    ("a[1-2]b]", "a1b] a2b]"), ("a]b[1-2]", "a]b1 a]b2"), ("a],b[1-2]", "a] b1 b2"), ("a[1-2],b]", "a1 a2 b]"),
    ("n[18446744073709551615]", "n18446744073709551615"), ("n18446744073709551615", "n18446744073709551615"),
    ("n99999999999999999999999", "n00018446744073709551615"), ("{a}", "{a}"), ("a{b", "a{b"),
    ("a[2-1]b[1-2]c[1-2]", ""), ("good,a[x]b[1]c[1]", "good"), ("a[1-]b[1]", "a1b1"),
]  # fmt: skip

THREE_BRACKETS = re.compile(r"(\[[^]]*\][^],\s]*){3}")


READ_SINCE_THEN = pytest.mark.skipif(
    RELEASE == "22.05",
    reason="22.05 refuses what stands behind the last bracket and takes n[ for a host; it reads all that `fold` writes",
)


class Answer(NamedTuple):
    """What scontrol said; where it rejects a hostlist it exits 0 too, but prints no host and complains."""

    returncode: int
    stdout: str
    stderr: str


def ask(login: Login, command: str, texts: list[str]) -> list[Answer]:
    """scontrol's answer to each, all in one call.

    Behind a comma no text is an option, a file (``/…``), standard input (``-``) or "the nodes of this job" (empty).
    """
    questions = json.dumps([[command, f",{text}"] for text in texts])
    done = login("python3", "-c", ASK, input=questions, timeout=600)
    assert done.returncode == 0, done.stderr
    answers = [Answer(*answer) for answer in json.loads(done.stdout)]
    assert len(answers) == len(texts)
    return answers


def lines(hosts: list[str]) -> str:
    """As scontrol prints them: a line each; for none it prints an empty line."""
    return "".join(f"{host}\n" for host in hosts)


def ours(text: str) -> list[str] | None:
    """The hosts, or None for what is no hostlist."""
    try:
        return expand(text)
    except HostlistError:
        return None


def short(text: str) -> bool:
    """Whether it is refused, or has few hosts (counted before anything is built)."""
    try:
        return count(text) <= 2000
    except HostlistError:
        return True


def made_piece(chance: random.Random) -> str:
    """What stands between the commas of a bracket: mostly a number or a range, sometimes neither."""
    if chance.random() < 0.04:
        return chance.choice(NO_RANGES)
    low = chance.choice(NUMBERS[:27])
    if chance.random() < 0.4:
        return chance.choice(NUMBERS)
    high = str(int(low) + chance.choice([0, 1, 2, 3, 11, 101] if chance.random() < 0.95 else [-1]))
    return f"{low}-{high.rjust(chance.choice([0, 0, 2, 3, 4]), '0')}"


def made_term(chance: random.Random) -> str:
    """A host or a pattern with up to four brackets."""
    term = chance.choice(LITERALS)
    for _ in range(chance.choice([0, 0, 1, 1, 1, 2, 3, 4])):
        pieces = [made_piece(chance) for _ in range(chance.choice([1, 1, 2, 3]))]
        term += f"[{','.join(pieces)}]{chance.choice(LITERALS)}"
    return term + chance.choice(["", "", *NUMBERS[:25]])


def made_hostlist(chance: random.Random) -> str:
    """A few terms between separators of every kind, none of them long: scontrol takes minutes for a million hosts."""
    terms = filter(short, [made_term(chance) for _ in range(chance.randint(1, 5))])
    return "".join(term + chance.choice(SEPARATORS) for term in terms)


def made_hosts(chance: random.Random) -> list[str]:
    """Hosts that nearly continue each other: other prefixes, widths, gaps, duplicates."""
    hosts: list[str] = []
    for _ in range(chance.randint(1, 8)):
        prefix, number = chance.choice(["", *"abn", "x-", "a1b", ".", "é", "/", "-"]), chance.choice(NUMBERS[:28])
        hosts += [prefix + number] if chance.random() < 0.9 else [prefix or "alone"] * 2
        for step in range(chance.choice([0, 0, 1, 2, 12])):
            width = chance.choice([len(number)] * 5 + [0, 2, 3])
            hosts.append(prefix + str(int(number) + step + 1).rjust(width, "0"))
    return hosts


def is_misread(text: str) -> bool:
    """Whether scontrol takes it and hpcrun refuses it, as the documentation of `hpcrun.hostlist` says."""
    if "]" in re.sub(r"\[[^][]*\]", "", text) or re.search(r"\[[^]]*\[", text):
        return True
    pieces = [piece for inside in re.findall(r"\[([^]]*)\]", text) for piece in inside.split(",")]
    return any(re.fullmatch(r"\s*\+?\d+(\D+)?-(\s*\+?\d+)?|[\s+]+\d+", piece) for piece in pieces)


@READ_SINCE_THEN
def test_hostnames(login: Login) -> None:
    """300 random hostlists: the same hosts in the same order, and what scontrol rejects is refused."""
    chance = random.Random(2411)
    texts = [made_hostlist(chance) for _ in range(300)]
    verdicts = set()
    for text, answer in zip(texts, ask(login, "hostnames", texts), strict=True):
        hosts = ours(text)
        verdicts.add(hosts is None)
        if hosts is None:
            # A bad range in the first of three brackets is only complained about, and its term vanishes.
            assert answer.stderr, text
            assert answer.stdout.strip() == "" or THREE_BRACKETS.search(text), text
        else:
            assert (answer.returncode, answer.stdout.lstrip("\n"), answer.stderr) == (0, lines(hosts), ""), text
    assert verdicts == {True, False}


@READ_SINCE_THEN
def test_hostnames_of_soup(login: Login) -> None:
    """300 random strings of a hostlist's characters: the same too, except for what is documented as misread."""
    chance = random.Random(2505)
    texts: list[str] = []
    while len(texts) < 300:
        texts += filter(short, ["".join(chance.choices("an0129[[]],,-- +.", k=chance.randint(1, 12)))])
    for text, answer in zip(texts, ask(login, "hostnames", texts), strict=True):
        hosts = ours(text)
        if hosts is None:
            assert answer.stderr or is_misread(text), text
        else:
            assert (answer.stdout.lstrip("\n"), answer.stderr) == (lines(hosts), ""), text


@READ_SINCE_THEN
def test_hostile_hostnames(login: Login) -> None:
    """The limits of every rule, and names that mean something to a shell, to scontrol or to a terminal."""
    for text, answer in zip(TAKEN, ask(login, "hostnames", TAKEN), strict=True):
        hosts = expand(text)
        assert (answer.returncode, answer.stdout.lstrip("\n"), answer.stderr) == (0, lines(hosts), ""), text[:80]
        assert count(text) == len(hosts)


@READ_SINCE_THEN
def test_rejected(login: Login) -> None:
    """What scontrol rejects, as a whole even where a good host stands beside it, is refused."""
    for text, answer in zip(REFUSED, ask(login, "hostnames", REFUSED), strict=True):
        assert answer.stdout == "", text
        assert answer.stderr, text
        for refuse in (expand, count):
            with pytest.raises(HostlistError):
                refuse(text)


@READ_SINCE_THEN
def test_misread(login: Login) -> None:
    """What scontrol takes for other hosts than were meant is refused: the documented differences, all of them."""
    for (text, hosts), answer in zip(MISREAD, ask(login, "hostnames", [text for text, _ in MISREAD]), strict=True):
        assert answer.stdout.lstrip("\n") == lines(hosts.split()), text
        with pytest.raises(HostlistError):
            expand(text)


def test_hostlist(login: Login) -> None:
    """300 random lists of hosts: the same text, and scontrol reads the same hosts from it."""
    chance = random.Random(1)
    given = [made_hosts(chance) for _ in range(300)]
    folded = [fold(hosts) for hosts in given]
    texts = [",".join(hosts) for hosts in given]
    for hosts, text, answer in zip(given, folded, ask(login, "hostlist", texts), strict=True):
        assert answer == (0, f"{text}\n", ""), hosts
    for hosts, answer in zip(given, ask(login, "hostnames", folded), strict=True):
        assert answer == (0, lines(hosts), ""), hosts


def test_hostlist_of_a_long_row(login: Login) -> None:
    """Of more hosts in a row than a range may have Slurm makes one range, and rejects it; hpcrun makes two."""
    text = f"n[0-{MAX_RANGE - 1}],n{MAX_RANGE}"
    (answer,) = ask(login, "hostlist", [text])
    assert answer == (0, f"n[0-{MAX_RANGE}]\n", "")
    (rejected,) = ask(login, "hostnames", [answer.stdout.strip()])
    assert (rejected.stdout, bool(rejected.stderr)) == ("", True)
    folded = fold(expand(text))
    assert folded == f"n[0-{MAX_RANGE - 1},{MAX_RANGE}]"
    (accepted,) = ask(login, "hostnames", [folded])
    assert accepted == (0, lines(expand(text)), "")
