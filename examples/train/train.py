"""Trains a small network that tells the next character of Python code from the ones before it, with torch.

The text is the source of Python's own standard library. Started by itself, this is one process:

    python3 examples/train/train.py

In a gang of shards it is data-parallel training over all of them, one process on each of four nodes here:

    hpcrun run examples/train/train.yaml

Nothing in this file is about hpcrun or Slurm: `init_process_group` finds the other processes by the variables RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT, which every shard of a gang has. Each process works on its share of the same
batches, in double precision, so what comes out is what a single process arrives at, but for rounding: compare.py says
how far apart two results are.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

RANK = int(os.environ.get("RANK", "0"))
PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
CONTEXT = 8
"""Characters that the network sees."""
EPOCHS, STEPS, BATCH = 5, 60, 512
"""A batch is of all processes together."""
HELD_OUT = 8192
"""Characters, of files that are not learned from, to be told after each epoch."""
SYMBOLS = 97
"""Those of ASCII that are printed, the end of a line, and one for all others."""


class Network(nn.Module):
    """Scores of the next character, (samples, SYMBOLS), from the CONTEXT before it."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(SYMBOLS, 12)
        self.hidden = nn.Linear(CONTEXT * 12, 96)
        self.scores = nn.Linear(96, SYMBOLS)

    def forward(self, before: Tensor) -> Tensor:
        return self.scores(torch.tanh(self.hidden(self.characters(before).flatten(1))))


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    together = "RANK" in os.environ
    if together:
        dist.init_process_group("gloo")
    print(f"rank {RANK} of {PROCESSES} on {platform.node()}", flush=True)

    learned, held_out = texts()
    check_same(learned, held_out)
    network = Network()
    losses, accuracies = train(network, learned, held_out)
    if RANK == 0:
        result = {
            "data": [platform.python_version(), len(learned), len(held_out)],
            "torch": torch.__version__,
            "processes": PROCESSES,
            "losses": losses,
            "accuracies": accuracies,
            "baseline": baseline(learned, held_out),
            "weights": {name: found.tolist() for name, found in network.state_dict().items()},
        }
        print(f"baseline {result['baseline']:.1%}: the character that most often follows the one before")
        save(Path(os.environ.get("HPCRUN_RESULTS_DIR", "results")) / "train.json", result)
    if together:
        dist.destroy_process_group()


def train(network: Network, learned: Tensor, held_out: Tensor) -> tuple[list[float], list[float]]:
    """The mean loss of each epoch, and the share of held-out characters that was told after it."""
    chance = torch.Generator().manual_seed(1)  # the same batches in every process, of which each takes its share
    # Known here alone, so that it is gone before the process group is: else torch 1.13 may hang at the end.
    shared = DistributedDataParallel(network) if dist.is_initialized() else network
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    tested = torch.randint(len(held_out) - CONTEXT, (HELD_OUT,), generator=chance)
    losses, accuracies = [], []
    for epoch in range(EPOCHS):
        began, total = time.perf_counter(), torch.zeros(())
        for _ in range(STEPS):
            before, after = samples(learned, torch.randint(len(learned) - CONTEXT, (BATCH,), generator=chance))
            loss = cross_entropy(shared(before), after, reduction="sum") / BATCH
            optimizer.zero_grad()
            # Gradients become the mean over all processes; wanted is the sum, as the loss is one of all the batch.
            (loss * PROCESSES).backward()
            optimizer.step()
            total += loss.detach() / STEPS
        before, after = samples(held_out, tested)
        with torch.no_grad():
            told = (network(before).argmax(1) == after).sum()
        losses.append(sum_of_all(total))
        accuracies.append(sum_of_all(told) / HELD_OUT)
        if RANK == 0:
            seconds = time.perf_counter() - began
            print(f"epoch {epoch}: loss {losses[-1]:.6f}, {accuracies[-1]:.1%} told, {seconds:.1f} s", flush=True)
    return losses, accuracies


def samples(text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """This process's share of the samples that begin at `starts`: (share, CONTEXT) characters, and the ones after."""
    windows = text[starts[RANK::PROCESSES, None] + torch.arange(CONTEXT + 1)]
    return windows[:, :CONTEXT], windows[:, CONTEXT]


def sum_of_all(value: Tensor) -> float:
    """The sum of `value` over all processes."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value.item()


def texts() -> tuple[Tensor, Tensor]:
    """The characters, as numbers below SYMBOLS, of the modules to learn from, and those of every eighth module."""
    table = bytes(code - 31 if 32 <= code < 127 else 96 if code == 10 else 0 for code in range(256))
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    found = [path.read_bytes().translate(table) for path in paths]
    held_out = b"".join(found[::8])
    del found[::8]
    return numbers(b"".join(found)), numbers(held_out)


def numbers(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def check_same(*data: Tensor) -> None:
    """End with a message where the other processes have different data: their nodes have different Pythons."""
    if not dist.is_initialized():
        return
    weighed = torch.stack([(text * torch.arange(1, len(text) + 1)).sum() for text in data])
    least, most = weighed.clone(), weighed.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    if not torch.equal(least, most):
        sys.exit(f"found that the library of Python {platform.python_version()} here is not that of all other nodes")


def baseline(learned: Tensor, held_out: Tensor) -> float:
    """The share of held-out characters told by what most often follows the one before."""
    pairs = torch.bincount(learned[:-1] * SYMBOLS + learned[1:], minlength=SYMBOLS**2).view(SYMBOLS, SYMBOLS)
    return (pairs.argmax(1)[held_out[:-1]] == held_out[1:]).double().mean().item()


def save(path: Path, result: object) -> None:
    """Write the whole file or none of it: whoever reads the folder never sees half a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
