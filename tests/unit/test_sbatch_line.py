"""A call of sbatch, read as sbatch reads it; tests/cluster/test_sbatch_line.py holds it against Slurm itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import sbatch_line
from hpcrun.errors import UsageError
from hpcrun.sbatch_line import Header, Line, array, effective, find_script, header, output_path, parse
from hpcrun.sbatch_options import ALIASES, BARE, KNOWN, LETTERS, NO_VALUE, OPTIONAL_VALUE, SINCE, UNTIL, VALUE

OWN = {"shards": True, "retries": True, "dry-run": False}


def line(*argv: str) -> Line:
    """sbatch's part of a command line."""
    return parse(argv, OWN)[1]


def script(*lines: str) -> Header:
    """The header of a script with these lines at its beginning."""
    return header("\n".join(["#!/bin/sh", *lines, "true", ""]))


def test_tables_of_options() -> None:
    """Each option takes a value in one way, and each letter, alias and version is of an option that there is."""
    assert len(NO_VALUE | OPTIONAL_VALUE | VALUE) == len(NO_VALUE) + len(OPTIONAL_VALUE) + len(VALUE)
    named = {*LETTERS.values(), *ALIASES, *ALIASES.values(), *SINCE, *UNTIL, *KNOWN, *sbatch_line.VARIABLES.values()}
    assert named <= NO_VALUE | OPTIONAL_VALUE | VALUE
    assert BARE <= KNOWN


def test_own_options() -> None:
    """They are taken from among sbatch's, in both spellings, and only before the script."""
    own, rest = parse(["-n4", "--shards", "8", "--retries=2", "--dry-run", "-J", "a", "x.sh", "--shards=9"], OWN)
    assert own == {"shards": "8", "retries": "2", "dry-run": ""}
    assert rest.words() == ["-n4", "-J", "a", "x.sh", "--shards=9"]
    assert (rest.script, rest.args) == ("x.sh", ("--shards=9",))


def test_own_options_in_full_only() -> None:
    """An abbreviation is sbatch's, which refuses it; and so is a value that looks like one of ours."""
    assert parse(["--shard=8", "--comment", "--retries", "x.sh"], OWN)[0] == {}
    assert line("--comment", "--retries", "x.sh").get("comment") == "--retries"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--shards"], "--shards: found nothing behind it, wanted a value: --shards=VALUE"),
        (["--dry-run=yes", "x"], "--dry-run: found the value 'yes', wanted --dry-run alone: it takes none"),
    ],
)
def test_own_options_gone_wrong(argv: list[str], problem: str) -> None:
    """A value that is missing or too much."""
    with pytest.raises(UsageError) as caught:
        parse(argv, OWN)
    assert str(caught.value) == problem


@given(
    st.lists(st.sampled_from(["-n4", "-HQ", "-J", "a b", "--part=x", "--wrap", ":", "--", "-", "s.sh", "--hold", ""]))
)
def test_words_as_given(argv: list[str]) -> None:
    """Whatever is given, joined together again it is what was given."""
    assert line(*argv).words() == argv


def test_words_without_some() -> None:
    """A flag is taken out of its cluster; the words of all other options stay as they were."""
    given = line("-HQ", "-n", "4", "--parsable", ":", "-Qn2", "x.sh", "-Q")
    assert given.words({"quiet", "parsable"}) == ["--hold", "-n", "4", ":", "--ntasks=2", "x.sh", "-Q"]


def test_abbreviations_by_version() -> None:
    """What was unambiguous stays so on the Slurm that there is."""
    assert parse(["--cons=gpu"], {}, (24, 11))[1].get("constraint") == "gpu"
    assert parse(["--cons=gpu"], {}, (25, 11))[1].get("constraint") is None


def test_options_of_plugins() -> None:
    """A site's own options are known from sbatch's help; else their value would be taken for the script."""
    text = (
        "  -w, --nodelist=hosts\n\nOptions provided by plugins:\n"
        "      --container-image=[USER@]IMAGE  [pyxis] the image\n      --container-writable     [pyxis] writable\n"
    )
    argv = ["--container-image", "ubuntu", "--container-writable", "x.sh"]
    unsure = line(*argv)
    assert (unsure.script, unsure.unknown) == ("ubuntu", ("container-image",))
    known = parse(argv, {}, plugins=sbatch_line.plugin_options(text))[1]
    assert (known.script, known.get("container-image")) == ("x.sh", "ubuntu")
    found = script("#SBATCH --container-image ubuntu -n4 --container-writable", "#SBATCH --container-mounts /a -J x")
    assert [(option.name, option.value) for option in found.options] == [
        ("container-image", "ubuntu"), ("ntasks", "4"), ("container-writable", None), ("container-mounts", "/a"),
        ("job-name", "x"),
    ]  # fmt: skip
    assert script("#SBATCH -n4 loose").problems == ("Invalid directive found in batch script: loose",)


def test_ranks() -> None:
    """The command line before variables, these before #PBS, that before #SBATCH."""
    found = script("#SBATCH -J s -o s -e s -A s", "#PBS -N p -o p -e p")
    call = effective(line("-Jline", "x.sh"), {"SBATCH_JOB_NAME": "v", "SBATCH_OUTPUT": "v"}, found)
    assert [call.job_name(), call.output, call.error, call.get("account")] == ["line", "v", "p", "s"]


def test_components() -> None:
    """Resources are of one component; a name or a time stays for those behind it, the line's even for those before."""
    found = script("#SBATCH -Ja -n1 -c2 -t5", "#SBATCH hetjob", "#SBATCH -n2", "#SBATCH packjob", "#SBATCH -Jc")
    call = effective(line("x.sh"), {}, found)
    assert [[call.get(name, at) for name in ("job-name", "ntasks", "time", "cpus-per-task")] for at in range(3)] == [
        ["a", "1", "5", "2"], ["a", "2", "5", None], ["c", None, "5", None]
    ]  # fmt: skip
    call = effective(line("-n1", ":", "-n2", "--comment=c", "x.sh"), {}, script())
    assert (call.components, call.get("comment", 0), call.get("ntasks", 0), call.get("ntasks", 1)) == (2, "c", "1", "2")


def test_lines_of_a_header() -> None:
    """What has to stand in the header of a script in its stead: as it is there, burst buffers and #PBS included."""
    kept = ["#SBATCH -n 4 # four", "#BB_LUA pool=x", "#SBATCH hetjob", "#SBATCH --comment='a b'"]
    found = script("# remark", *kept, "", "export A=1", "#SBATCH --late", "#PBS -N x")
    assert found.lines == (*kept, "#PBS -N x")
    assert found.components == 2
    assert [option.value for option in found.options] == ["4", "a b"]


@pytest.mark.parametrize(
    ("text", "ids", "throttle"),
    [
        ("0-9", range(10), None),
        ("1-100:2%5", range(1, 101, 2), 5),
        ("3,7,11-13%2", [3, 7, 11, 12, 13], 2),
        ("[1-3],5%0", [1, 2, 3, 5], None),
    ],
)
def test_arrays(text: str, ids: list[int], throttle: int | None) -> None:
    """Ranges, steps, lists and throttles."""
    found = array(text)
    assert found is not None
    assert (found.ids, found.throttle, found.text) == (tuple(ids), throttle, text)


@pytest.mark.parametrize("text", ["", ",", "a", "1-", "3-1", "0-9:0", "-1", "1;2", "0-4000001"])
def test_no_arrays(text: str) -> None:
    """What slurmctld refuses, and what no MaxArraySize allows."""
    assert array(text) is None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("slurm-%A_%a.out", "/w/slurm-7_3.out"),
        ("%4a-%12j-%0A", "/w/0003-0000000009-7"),
        ("/logs/%x.%u.%N.%n.%t.%s.%J.%b", "/logs/na me.me.c1.0.0.batch.9.3"),
        ("%%j-%z-%", "/w/%j-%z-%"),
        ("a\\%j\\\\b", "/w/a%j\\b"),
    ],
)
def test_paths_of_output(pattern: str, path: str) -> None:
    """Fields, widths up to ten, unknown fields as they are, none at all with a backslash."""
    told = {"job": 9, "array_job": 7, "task": 3, "name": "na me", "user": "me", "node": "c1", "cwd": "/w"}
    assert output_path(pattern, **told) == path  # type: ignore[arg-type]


def test_where_a_script_is() -> None:
    """In the job's folder, then along PATH, then here; with a dot or a slash in front nowhere else."""
    files = {"/w/here.sh", "/w/job/there.sh", "/bin/tool", "/w/job/here.sh"}

    def found(word: str, chdir: str | None = None) -> str | None:
        return find_script(
            word, "/w", "/usr/bin:/bin", chdir=chdir, is_file=lambda path: path.replace("/./", "/") in files
        )

    assert found("here.sh") == "/w/here.sh"
    assert found("here.sh", "job") == "/w/job/here.sh"
    assert found("there.sh") is None
    assert found("./here.sh", "job") == "./here.sh"
    assert found("tool", "job") == "/bin/tool"
    assert found("/w/job/there.sh") == "/w/job/there.sh"


@pytest.mark.parametrize(
    ("argv", "name"),
    [(["a/b.sh"], "b.sh"), (["--wrap=x"], "wrap"), ([], "sbatch"), (["-J", "", "b.sh"], ""), (["-J%j", "b"], "%j")],
)
def test_names_of_jobs(argv: list[str], name: str) -> None:
    """An option, the script's base name, or a word for what has none."""
    assert effective(line(*argv), {}, Header()).job_name() == name


def test_script_of_wrap() -> None:
    """sbatch reads no options in it."""
    call = effective(line("--wrap", "#SBATCH -Jx"), {}, script("#SBATCH -Jy"))
    assert call.job_name() == "wrap"
    assert sbatch_line.wrapped("true") == "#!/bin/sh\n# This script was created by sbatch --wrap.\n\ntrue\n"
