"""What the tasks of the compared workflows do: each call appends one JSON value to the file EVENTS.

note.py start            the task has begun, with the variables that WATCHED names and those of sflow's dialect
note.py end              it is about to end well
note.py up               what follows makes it ready
note.py say TEXT         TEXT, as it has reached the task
note.py meet NAME…       wait until all of these tasks have begun; 1 after half a minute
note.py count FILE       add one to the number in FILE and print it
note.py serve PORT WAIT  after WAIT seconds, serve HTTP on PORT for ever
"""

import http.server
import json
import os
import sys
import time

EVENTS = os.environ["EVENTS"]
NAME = os.path.basename(os.environ.get("SFLOW_TASK_OUTPUT_DIR", "")) or "?"


def write(kind, **more):
    line = json.dumps({"at": time.time(), "kind": kind, "name": NAME, **more}) + "\n"
    with open(EVENTS, "ab", buffering=0) as file:
        file.write(line.encode())


def start():
    watched = os.environ["WATCHED"].split()
    seen = {name: value for name, value in os.environ.items() if name in watched or name[:6] == "SFLOW_"}
    write("start", env=seen, folders=[name for name, value in seen.items() if os.path.isdir(value)])


def meet(*names):
    end_by = time.monotonic() + 30
    while time.monotonic() < end_by:
        with open(EVENTS, encoding="utf-8") as file:
            begun = {event["name"] for event in map(json.loads, file) if event["kind"] == "start"}
        if begun.issuperset(names):
            return
        time.sleep(0.05)
    sys.exit(1)


def count(path):
    with open(path, "a+", encoding="utf-8") as file:
        file.write("x")
        print(file.tell())


class Answer(http.server.BaseHTTPRequestHandler):
    """Says yes to GET, and to POST where the body is a question."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200 if body.endswith(b"?") else 400)
        self.end_headers()


def serve(port, wait):
    time.sleep(float(wait))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Answer)
    write("up")
    server.serve_forever()


if __name__ == "__main__":
    calls = {"start": start, "meet": meet, "count": count, "serve": serve}
    word, *rest = sys.argv[1:]
    if word in calls:
        calls[word](*rest)
    else:
        write(word, text=" ".join(rest))
