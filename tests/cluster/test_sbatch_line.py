"""What hpcrun reads of sbatch's command line, environment and scripts, beside what Slurm itself makes of them."""

from __future__ import annotations

import json
import posixpath
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from containers import Login, User

from hpcrun import sbatch_line
from hpcrun.indexes import parse_indexes

Fields = dict[str, Any]

WRITE = """
import json, os, sys
for case in json.load(sys.stdin):
    os.makedirs(case["cwd"] + "/deep"), os.makedirs(case["cwd"] + "/bin")
    for name in ("script.sh", "bin/found.sh", "deep/er.sh"):
        with open(case["cwd"] + "/" + name, "w", newline="") as file:
            file.write(case["script"])
"""
DRIVER = """
import json, os, subprocess, sys
for case in json.load(sys.stdin):
    done = subprocess.run(
        ["sbatch", "-H", *case["argv"]], input=case["input"].encode(), capture_output=True,
        env={**os.environ, **case["environ"]}, cwd=case["cwd"],
    )
    said = done.stdout + done.stderr
    print(json.dumps({"name": case["name"], "code": done.returncode, "said": said.decode(errors="replace")}))
"""
"""Submits each case on hold, so that none runs."""


def lines(*options: str) -> str:
    """A script with these lines at its beginning."""
    return "\n".join(["#!/bin/bash", *options, "true", ""])


def case(argv: str = "S", script: str | None = None, **more: Any) -> Fields:
    """A call of sbatch: words parted by spaces (S is the script, `_` a space), and the text of the script."""
    words = ["script.sh" if word == "S" else word.replace("_", " ") for word in argv.split()]
    return {"argv": words, "script": lines() if script is None else script, "environ": {}, "input": "", **more}


PBS = lines("#PBS -N of-pbs -j oe", "#PBS -o pbs.out -t 2-6:2", "#SBATCH -J of-sbatch --comment=mine")
HET = lines("#SBATCH -Ja --comment=0 -c2 -t7", "#SBATCH hetjob", "#SBATCH -Jb -n3", "#SBATCH HETJOB", "#SBATCH -N1")

CASES = {
    # The command line.
    "nothing": case(),
    "letters": case("-Jname -o out.txt -n2 -N 1 S"),
    "cluster of letters": case("-OsJclustered -c1 S"),
    "long": case("--job-name=a_b --output o --comment=c=d S"),
    "abbreviated": case("--job-n=short --outp=%x-%j.log --comm abbreviated S"),
    "the last one counts": case("-J one --job-name=two -J three S"),
    "an empty name": case("--job-name= --comment=x S"),
    "a value that looks like an option": case("--comment --hold -J after S"),
    "optional values stand alone": case("--nice --exclusive --no-kill -Jn S 5 user"),
    "optional values": case("--nice=5 --exclusive=user --propagate=NONE S"),
    "the script's own options": case("-Jx S -J y --comment=z -- : -n3"),
    "two dashes": case("-J x -- S -J y"),
    "an unknown pattern": case("-o %z.%4.out S"),
    "standard input": case("-Jstdin", input=lines("#SBATCH --comment=here")),
    "no name on standard input": case("", input=lines("#SBATCH -o in.%j")),
    "wrap": case() | {"argv": ["--wrap", "#SBATCH --comment=no\necho a b", "-owrapped"]},
    "a script along PATH": case("found.sh", environ={"PATH": "/usr/bin:/bin:bin"}),
    "a script in a folder": case("deep/er.sh one_two"),
    "a script in the job's folder": case("-D deep er.sh", environ={"PATH": "/usr/bin:/bin"}),
    "a script not in the job's folder": case("-D deep S"),
    "chdir": case("-D /tmp -o x/%j S"),
    "a chdir of one's own": case("--chdir deep S", lines("#SBATCH -D /tmp", "#SBATCH -e %x.err")),
    "no output": case("-o none -e NONE S"),
    # Variables.
    "variables": case("-Jline S", lines("#SBATCH --comment=c -o s.out"), environ={
        "SBATCH_JOB_NAME": "env", "SBATCH_OUTPUT": "env.out", "SBATCH_REQUEUE": "", "SBATCH_NO_REQUEUE": "1",
    }),
    "a variable takes back": case("S", lines("#SBATCH --no-requeue"), environ={"SBATCH_NO_REQUEUE": "never"}),
    "a variable's array": case("S", lines("#SBATCH --array=1-3"), environ={"SBATCH_ARRAY_INX": "5,7%1"}),
    # Arrays.
    "an array": case("--array=0-9%4 S"),
    "a stepped array": case("-a 1-20:3%2 -o logs/%A_%a.out -e logs/%a.%A S"),
    "a list": case("--array 3,7,11-13%2 S"),
    "brackets": case("--array=[1-3],5 S"),
    "a throttle in the middle": case("--array=1%3,5 S"),
    "an index that is no number": case("--array=a S"),
    "a range backwards": case("--array=3-1 S"),
    "a step of none": case("--array=1-3:0 S"),
    # Scripts.
    "directives": case("S", lines("#SBATCH -J head --comment='a b'", "", "#SBATCH -o head.out", "# SBATCH -o no")),
    "directives behind code": case("S", lines("true", "#SBATCH --comment=late")),
    "an indented directive": case("S", lines("  #SBATCH --comment=in", "#SBATCH\t-J\ttabs")),
    "no space": case("S", lines("#SBATCH-Jtight", "#SBATCH --comment=last  ")),
    "double quotes": case("S", lines('#SBATCH --comment="it\'s \\"here\\" # \\\\" -Jq')),
    "single quotes": case("S", lines("#SBATCH --comment='a \"b\" # c'd -Jq")),
    "comments": case("S", lines("#SBATCH -J n#o --comment=lost", "#SBATCH --no-requeue # --requeue")),
    "an empty word ends the line": case("S", lines("#SBATCH -J x '' --comment=lost")),
    "an unmatched quote": case("S", lines("#SBATCH --comment='never")),
    "a colon": case("S", lines("#SBATCH -n1 : -n2")),
    "a word that is no option": case("S", lines("#SBATCH -J a b")),
    "wrap and quiet in a script": case("S", lines("#SBATCH --quiet --wrap=no -Jq")),
    "requeue": case("S", lines("#SBATCH --requeue --no-requeue")),
    "no requeue": case("--requeue S", lines("#SBATCH --no-requeue")),
    "SLURM": case("S", lines("#SLURM -J old")),
    # Other systems.
    "PBS": case("S", PBS),
    "PBS ignored by the script": case("S", PBS.replace("--comment", "--ignore-pbs --comment")),
    "PBS ignored by the line": case("--ignore-pbs S", PBS),
    "PBS ignored by a variable": case("S", PBS, environ={"SBATCH_IGNORE_PBS": "1"}),
    "PBS behind code": case("S", lines("true", "#PBS -N late")),
    "LSF": case("S", lines("#BSUB -J lsf -o lsf.%j.out", "#BSUB -cwd /tmp", "#PBS -N pbs")),
    # Heterogeneous jobs.
    "het": case("S", HET),
    "het and the line": case("-Jline -n2 S", HET),
    "packjob": case("-J line S", lines("#SBATCH packjob --comment=lost", "#SBATCH -o x")),
    "het on the line": case("-J a -n2 : -J b --comment=c : -t3 S : -J"),
    "het on both": case("-J a : -n2 S", HET),
    # What sbatch refuses to send.
    "empty": case("S", ""),
    "blank": case("S", " \n\n"),
    "no interpreter": case("S", "echo\n"),
    "DOS": case("S", "#!/bin/sh\r\ntrue\r\n"),
    "NUL": case("S", "#!/bin/sh\n\0"),
}  # fmt: skip


REFUSED = [
    "an index that is no number", "a range backwards", "a step of none", "an unmatched quote", "a colon",
    "a word that is no option", "empty", "blank", "no interpreter", "DOS", "NUL",
]  # fmt: skip


@pytest.fixture(scope="module")
def version(login: Login) -> tuple[int, int]:
    """The cluster's Slurm."""
    major, minor = re.findall(r"\d+", login("sbatch", "--version").stdout)[:2]
    return int(major), int(minor)


@pytest.fixture(scope="module")
def submitter(login: Login) -> User:
    """The ordinary user, in a folder for all cases."""
    return User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def understood(submitter: User) -> Iterator[dict[str, Any]]:
    """What Slurm shows of the job of each case, component by component; where there is none, what sbatch said."""
    cases = [{**given, "name": name, "cwd": _folder(submitter, name)} for name, given in CASES.items()]
    submitter.ok("python3", "-c", WRITE, input=json.dumps(cases))
    done = map(json.loads, submitter.ok("python3", "-c", DRIVER, input=json.dumps(cases)).splitlines())
    said = {one["name"]: one["said"] for one in done}
    shown = _shown(submitter.ok("scontrol", "show", "job"))
    yield {name: shown.get(_job(words), words) for name, words in said.items()}
    submitter.login("scancel", "--me")


def _folder(user: User, name: str) -> str:
    return f"{user.folder}/{list(CASES).index(name)}"


def _job(said: str) -> str:
    found = re.search(r"^Submitted batch job (\d+)", said, re.MULTILINE)
    return found[1] if found else ""


def _shown(text: str) -> dict[str, list[Fields]]:
    """What `scontrol show job` prints, by job; the components of a heterogeneous one by their leader."""
    found: dict[str, list[Fields]] = {}
    fields: Fields
    for record in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^ +(\w+)=(.*?) *$", record, re.MULTILINE))
        fields |= dict(re.findall(r"(JobId|HetJobId|ArrayTaskId|Requeue|NumTasks|TimeLimit)=(\S+)", record))
        fields |= {"JobName": re.findall(r"JobName=(.*)", record)[0]}
        found.setdefault(fields.get("HetJobId", fields["JobId"]), []).append(fields)
    return found


def expected(given: Fields, cwd: str, jobs: list[Fields], version: tuple[int, int]) -> list[Fields]:
    """What Slurm has to show, component by component; its own default where nothing was asked for."""
    _, line = sbatch_line.parse(["-H", *given["argv"]], {}, version)
    text = sbatch_line.wrapped(line.wrap) if line.wrap else given["script"] if line.script else given["input"]
    effective = sbatch_line.effective(line, given["environ"], sbatch_line.header(text, version), version)
    assert not effective.header.problems
    script = _script(line, given, cwd)
    array = effective.array
    folder = posixpath.join(cwd, effective.chdir or "").rstrip("/")
    of_job = {"job": jobs[0]["JobId"], "name": effective.job_name(script), "user": "user", "node": "", "cwd": folder}
    output = sbatch_line.output_path(effective.output, **of_job)
    of_leader = {
        "Command": script or "(null)", "WorkDir": folder, "StdOut": output,
        "StdErr": sbatch_line.output_path(effective.error, **of_job) if effective.error else output,
        "array": (list(array.ids), array.throttle) if array else None,
    }  # fmt: skip
    return [
        {
            "JobName": effective.job_name(script, component),
            "Comment": effective.get("comment", component) or None,
            "Requeue": "0" if effective.requeue is False else "1",
            "NumTasks": effective.get("ntasks", component) or "1",
            "TimeLimit": f"00:{time:>02}:00" if (time := effective.get("time", component)) else "UNLIMITED",
        }
        | (of_leader if component == 0 else {})
        for component in range(effective.components)
    ]


def _script(line: sbatch_line.Line, given: Fields, cwd: str) -> str | None:
    files = {f"{cwd}/{name}" for name in ("script.sh", "bin/found.sh", "deep/er.sh")}
    path = given["environ"].get("PATH", "/usr/bin:/bin")
    return line.script and sbatch_line.find_script(
        line.script, cwd, path, chdir=line.get("chdir"), is_file=files.__contains__
    )


def seen(job: Fields, wanted: Fields) -> Fields:
    """What Slurm shows of the fields of `wanted`."""
    text = job.get("ArrayTaskId")
    throttle = text and text.partition("%")[2]
    array = (parse_indexes(text), int(throttle) if throttle else None) if text else None
    # 22.05 shows the script's arguments, too, and 26.05 no path of errors that go with the output.
    shown = {**job, "array": array, "Command": job["Command"].partition(" ")[0]}
    shown |= {"StdErr": job.get("StdErr") or job.get("StdOut")}
    return {name: shown.get(name) for name in wanted}


def test_as_slurm_understands_it(understood: dict[str, Any], submitter: User, version: tuple[int, int]) -> None:
    """The same name, array, files, folder and so on, component by component."""
    jobs = {name: jobs for name, jobs in understood.items() if name not in REFUSED}
    wanted = {name: expected(CASES[name], _folder(submitter, name), jobs[name], version) for name in jobs}
    assert {name: list(map(seen, jobs[name], wanted[name])) for name in jobs} == wanted
    assert {name: len(jobs[name]) for name in jobs} == {name: len(wanted[name]) for name in jobs}


def test_what_sbatch_refuses(understood: dict[str, Any], version: tuple[int, int]) -> None:
    """Its words are known where it refuses a script; an array that slurmctld refuses is none."""
    for name in REFUSED:
        header = sbatch_line.header(CASES[name]["script"], version)
        _, line = sbatch_line.parse(CASES[name]["argv"], {}, version)
        said = understood[name].replace("sbatch: error: ", "")
        if header.problems:
            assert "\n".join(header.problems) in said
        else:
            assert "Invalid job array specification" in said
            assert sbatch_line.effective(line, {}, header, version).array is None


def test_paths_of_output(user: User) -> None:
    """Every field of a pattern, widths and backslashes, as slurmstepd fills them in."""
    patterns = {
        "fields": "o.%x.%u.%N.%n.%t.%s.%%j.%3j.%12j.%J.%A.%z.%5a",
        "array": "o.%4A_%03a.%j",
        "backslash": "o.a\\%j",
        "folder%n": "%x",
    }
    jobs = {}
    for name, pattern in patterns.items():
        folder = f"{user.folder}/{name}"
        options = ["-J", name, "-o", pattern, "-D", folder, "-w", "c1", *(["-a4"] if name == "array" else [])]
        user.ok("mkdir", "-p", folder, folder.replace("%n", "0"))
        jobs[name] = user.ok("sbatch", "--parsable", *options, "--wrap", "true").strip()
    user.ok("srun", "-Q", "-w", "c1", "-d", f"afterany:{':'.join(jobs.values())}", "true")
    wanted = set()
    for name, pattern in patterns.items():
        task = {"task": 4, "array_job": jobs[name]} if name == "array" else {}
        wanted.add(
            sbatch_line.output_path(
                pattern, job=jobs[name], name=name, user="user", node="c1", cwd=f"{user.folder}/{name}", **task
            )
        )
    found = user.ok("find", user.folder, "-type", "f").splitlines()
    assert set(found) == {posixpath.normpath(path) for path in wanted}
