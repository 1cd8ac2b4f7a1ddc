"""Puts jobs into the queue that the workers take them from, and waits until there are none left."""

from __future__ import annotations

import json
import os
import sys
import time

import redis


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    queue = redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
    queue.rpush("jobs", *(json.dumps({"job": number}) for number in range(count)))
    print(f"{count} jobs put into the queue")
    while queue.llen("jobs"):
        time.sleep(0.1)
    print("the queue is empty")


if __name__ == "__main__":
    main()
