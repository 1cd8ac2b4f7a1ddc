"""The workflows of nv-sflow's page on replicas, as far as they can be carried out where there are no models.

Each says what it shows and in which way it was completed. `PROGRAMS` are the programs that the page takes for granted.
"""

from __future__ import annotations

import dataclasses
import textwrap

SERVER = """
import http.server, os, sys
mode = sys.argv[sys.argv.index("--mode" if "--mode" in sys.argv else "--role") + 1]
where = os.path.join(os.environ["HPCRUN_RESULTS_DIR"], f"{mode}.{os.environ['SFLOW_REPLICA_INDEX']}")
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        super().server_bind()
        with open(where + ".new", "w") as file:
            file.write(f"{os.environ['SFLOW_TASK_NODE_NAME']}:{self.server_address[1]}")
        os.rename(where + ".new", where)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = f"{mode} {os.environ['SFLOW_REPLICA_INDEX']} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *of):
        pass
print("serving", flush=True)
Server(("", 0), Handler).serve_forever()
"""
BENCHMARK = """#!/bin/sh
exec python3 -c '
import os, sys, time, urllib.request
began = time.time()
urllib.request.urlopen(os.environ["BENCHMARKED"]).read()
time.sleep(0.2)
with open(os.path.join(os.environ["HPCRUN_RESULTS_DIR"], "benchmark." + sys.argv[2]), "w") as file:
    file.write(f"{began} {time.time()}\\n")
' "$@"
"""
PROGRAMS = {"server.py": SERVER, "benchmark": BENCHMARK}
"""``python -m server`` and ``benchmark``, by the names of their files in the working directory."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One of the page's workflows, and what comes of it."""

    text: str
    """The spec."""
    tasks: tuple[str, ...]
    """The names of what runs, in order."""
    says: tuple[str, ...] = ()
    """What each of them says, where the page says what that is."""
    options: tuple[str, ...] = ()


def block(text: str, tasks: str, says: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Block:
    return Block(textwrap.dedent(text), tuple(tasks.split()), says, options)


BLOCKS = {
    "copies": block(
        """
        workflow:
          name: demo
          tasks:
            - name: worker
              replicas:
                count: 4
                policy: parallel
              script:
                - echo "I am replica $SFLOW_REPLICA_INDEX"
        """,
        "worker_0 worker_1 worker_2 worker_3",
        tuple(f"I am replica {index}" for index in range(4)),
    ),
    "iterations": block(
        """
        workflow:
          tasks:
            - name: benchmark
              replicas:
                count: 3
                policy: sequential
              script:
                - echo "Running benchmark iteration $SFLOW_REPLICA_INDEX"
        """,
        "benchmark_0 benchmark_1 benchmark_2",
        tuple(f"Running benchmark iteration {index}" for index in range(3)),
    ),
    "a sweep": block(
        """
        variables:
          BATCH_SIZE:
            value: 32
            domain: [16, 32, 64, 128]
        workflow:
          name: sweep
          tasks:
            - name: train
              replicas:
                variables:
                  - BATCH_SIZE
                policy: sequential
              script:
                - echo "Training with batch size $BATCH_SIZE"
        """,
        "train_16 train_32 train_64 train_128",
        tuple(f"Training with batch size {size}" for size in (16, 32, 64, 128)),
    ),
    "two variables": block(
        """
        variables:
          LEARNING_RATE:
            value: 0.001
            domain: [0.001, 0.01]
          BATCH_SIZE:
            value: 32
            domain: [32, 64]
        workflow:
          name: hyperparam_sweep
          tasks:
            - name: experiment
              replicas:
                variables:
                  - LEARNING_RATE
                  - BATCH_SIZE
                policy: parallel
              script:
                - echo "LR=$LEARNING_RATE BS=$BATCH_SIZE"
        """,
        "experiment_0_001_32 experiment_0_001_64 experiment_0_01_32 experiment_0_01_64",
        ("LR=0.001 BS=32", "LR=0.001 BS=64", "LR=0.01 BS=32", "LR=0.01 BS=64"),
    ),
    "count and variables": block(
        """
        variables:
          CONCURRENCY: {value: 8, domain: [8, 16, 32, 64]}
        workflow:
          tasks:
            - name: bench
              replicas:
                count: 4
                variables:
                  - CONCURRENCY
              script:
                - echo "$CONCURRENCY"
        """,
        "bench_8 bench_16 bench_32 bench_64",
        ("8", "16", "32", "64"),
    ),
    "a count from a variable": block(
        """
        variables:
          NUM_WORKERS:
            value: 4
        workflow:
          tasks:
            - name: worker
              replicas:
                count: ${{ variables.NUM_WORKERS }}
                policy: parallel
              script:
                - echo "Worker $SFLOW_REPLICA_INDEX of $NUM_WORKERS"
        """,
        " ".join(f"worker_{index}" for index in range(6)),
        tuple(f"Worker {index} of 6" for index in range(6)),
        ("--set", "NUM_WORKERS=6"),
    ),
}
GPUS = """
backends:
  - name: cluster
    type: slurm
    nodes: {nodes}
    gpus_per_node: {gpus}
    extra_args: [{where}]
workflow:
  tasks:
    - name: worker
      replicas:
        count: 4
        policy: parallel
      resources:
        gpus:
          count: 2
      script:
        - echo "My GPUs: $SFLOW_TASK_NODE_NAME $CUDA_VISIBLE_DEVICES"
        - sleep 1
"""
"""GPU slices; the nodes are as large as there are any."""
DISAGGREGATED = """
variables:
  NUM_PREFILL_SERVERS:
    value: 2
  NUM_DECODE_SERVERS:
    value: 2
workflow:
  tasks:
    - name: prefill_server
      replicas:
        count: ${{ variables.NUM_PREFILL_SERVERS }}
        policy: parallel
      resources:
        gpus:
          count: 1
      script:
        - python3 -m server --mode prefill
      probes: &ready
        readiness:
          exec: {command: [sh, -c, 'test -e "$HPCRUN_RESULTS_DIR/${HPCRUN_ROLE%_server}.$SFLOW_REPLICA_INDEX"']}
    - name: decode_server
      replicas:
        count: ${{ variables.NUM_DECODE_SERVERS }}
        policy: parallel
      resources:
        gpus:
          count: 1
      script:
        - python3 -m server --mode decode
      probes: *ready
    - name: client
      depends_on: [prefill_server, decode_server]
      script:
        - cd "$HPCRUN_RESULTS_DIR"
        - for server in prefill.? decode.?; do python3 -c 'import sys, urllib.request as get; print(get.urlopen("http://" + open(sys.argv[1]).read()).read().decode())' $server; done
"""  # noqa: E501
"""Prefill and decode servers, which are real ones, and somebody who asks them."""
BENCHMARKED = """
variables:
  CONCURRENCY:
    value: 16
    domain: [16, 32, 64, 128]
workflow:
  tasks:
    - name: server
      script:
        - date +%s.%N >$HPCRUN_RESULTS_DIR/began
        - sleep {late}
        - python3 -m http.server {port}
      probes:
        readiness:
          tcp_port:
            port: {port}
    - name: benchmark
      replicas:
        variables:
          - CONCURRENCY
        policy: sequential
      depends_on:
        - server
      env: {{BENCHMARKED: "http://${{{{ task.server.nodes[0].name }}}}:{port}/"}}
      script:
        - echo "Running benchmark with concurrency=$CONCURRENCY"
        - ./benchmark --concurrency $CONCURRENCY
"""
"""A server that takes some seconds, and a sweep against it, one at a time."""
