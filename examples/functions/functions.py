"""Functions as runs, cell by cell: in a notebook, in an editor that knows `# %%`, or as a script.

The data are the source files of Python's own standard library. Each cell checks what it has got against one process.
"""

# %% What is counted, and of which files
import ast
import asyncio
import sysconfig
import time
from pathlib import Path

import hpcrun
import hpcrun.aio

FILES = sorted(str(path) for path in Path(sysconfig.get_path("stdlib")).glob("*.py"))


def functions_in(file: str) -> int:
    """How many functions a file defines."""
    tree = ast.parse(Path(file).read_bytes())
    return sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(tree))


# %% One call for each file, in six shards; the results come as they are there
alone = [functions_in(file) for file in FILES]
counts = hpcrun.map(functions_in, FILES, shards=6)
assert list(counts) == alone
print(f"map: {sum(alone)} functions in {len(FILES)} files; run {counts.run.id} {counts.run.wait().state}")

# %% Three items of two hundred are no files: these three come back as what they raise
items = [FILES[number % len(FILES)] for number in range(200)]
for number in (3, 77, 199):
    items[number] = f"/no/such/file.{number}"
found = list(hpcrun.map(functions_in, items, shards=8, return_exceptions=True))
missing = [error.filename for error in found if isinstance(error, FileNotFoundError)]
assert missing == [items[3], items[77], items[199]]
print(f"exceptions: {len(missing)} of {len(items)}, one of {str(found[3].__cause__).split(':')[0].strip()}")


# %% The same function in each shard, which takes its part of the data
def part(files: list[str]) -> int:
    """The functions in this shard's part of `files`."""
    return sum(functions_in(file) for file in hpcrun.shard(files))


run = hpcrun.submit(part, FILES, shards=3, retries=1)
assert sum(run.results()) == sum(alone)
print(f"submit: {run.results()}")

# %% Another process, on another day
again = hpcrun.Run.open(run.id)
assert again.results() == run.results()
print(f"opened: shard 1 was on {again.shards()[1].node}")

# %% Futures
with hpcrun.Executor() as executor:
    futures = [executor.submit(functions_in, file) for file in FILES[:4]]
    assert [future.result() for future in futures] == alone[:4]
print(f"executor: {len(futures)} calls in {len(executor.runs)} run")


# %% Coroutines (in a notebook: await them)
async def first_of_all() -> tuple[int, int]:
    """The first file that is through, of four."""
    results = await hpcrun.aio.map(functions_in, FILES[:4])
    async for number, count in results.as_completed():
        return number, count
    raise AssertionError("four calls, and no result")


number, count = asyncio.run(first_of_all())
assert count == alone[number]
print("coroutines: one of four")


# %% Warned before its time is over, a function saves, and its next attempt goes on from there
def patient(steps: int) -> tuple[int, int]:
    """Take `steps` steps, in as many attempts as it takes: how many the last one took, and which it was."""
    here = hpcrun.current()
    saved = Path(here.results_dir or ".") / "step"
    step = first = int(saved.read_text()) if saved.exists() else 0
    hpcrun.checkpoint(lambda: saved.write_text(str(step)))
    while step < steps and not (first and step > first + 10):
        step += 1
        time.sleep(0.05)
    return step - first, here.attempt


[(steps, attempt)] = hpcrun.submit(patient, 10_000, timeout=5, signal="USR2@3", retries={"timed_out": 1}).results()
assert (steps, attempt) == (11, 1)
print("checkpoint: went on in attempt 1")
