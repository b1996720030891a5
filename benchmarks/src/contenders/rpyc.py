"""Both halves of RPyC: `client WORKLOAD COUNT SECONDS CPU` starts the other one and prints figures, one on a line."""

import os
import subprocess
import sys
import threading
import time

import rpyc
from rpyc.utils.helpers import buffiter
from rpyc.utils.server import ThreadedServer


class Item:
    def exposed_null(self):
        return None


class Bench(rpyc.Service):
    def exposed_null(self):
        return None

    def exposed_echo(self, value):
        return value

    def exposed_call_back(self, item, times):
        for _ in range(times):
            item()

    def exposed_make(self):
        return Item()

    def exposed_items(self, count):
        return iter(range(count))


def serve(cpu):
    if cpu != "any":
        os.sched_setaffinity(0, {int(cpu)})
    server = ThreadedServer(Bench, hostname="127.0.0.1", port=0, auto_register=False)
    threading.Thread(target=server.start, daemon=True).start()
    while not server.active:
        time.sleep(0.001)
    print(server.port, flush=True)
    for _ in sys.stdin:
        print(time.process_time(), flush=True)
    os._exit(0)


def records(count):
    return tuple((i, f"sensor number {i}", f"rack {i % 40}", i / 8) for i in range(count))


def main(workload, count, seconds, cpu):
    server = subprocess.Popen(
        [sys.executable, "-c", sys.orig_argv[2], "serve", cpu],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    port = int(server.stdout.readline())
    connection = rpyc.connect("127.0.0.1", port)
    root = connection.root
    null, echo, call_back, make, items = root.null, root.echo, root.call_back, root.make, root.items
    later = rpyc.async_(null)

    def in_flight():
        for result in [later() for _ in range(count)]:
            result.wait()

    def connect():
        once = rpyc.connect("127.0.0.1", port)
        once.root.null()
        once.close()

    def stream():
        for at, item in enumerate(buffiter(items(count))):
            if at != item:
                raise ValueError("an item is lost")

    body = os.urandom(count) if workload == "bytes" else records(count if workload == "structs" else 0)
    # What is done, as how many operations it counts, and how many of them are one after another.
    work, weight, steps = {
        "null": (null, 1, 1),
        "in-flight": (in_flight, count, 1),
        "bytes": (lambda: echo(body), 1, 1),
        "structs": (lambda: echo(body), 1, 1),
        "callbacks": (lambda: call_back(lambda: None, count), count, count),
        "objects": (lambda: make().null(), 1, 1),
        "items": (stream, count, count),
        "connect": (connect, 1, 1),
    }[workload]

    def server_cpu():
        server.stdin.write("\n")
        server.stdin.flush()
        return float(server.stdout.readline())

    warm = time.perf_counter() + seconds / 5
    while time.perf_counter() < warm:
        work()
    times, operations = [], 0
    there, here = server_cpu(), time.process_time()
    begun = last = time.perf_counter()
    while last < begun + seconds:
        work()
        now = time.perf_counter()
        times.append(now - last)
        last = now
        operations += weight
    here, there = time.process_time() - here, server_cpu() - there
    times.sort()
    at = lambda share: times[int((len(times) - 1) * share)] * 1e6 / steps
    print("rate", operations / (last - begun))
    print("p50", at(0.5))
    print("p99", at(0.99))
    print("cpu", (here + there) * 1e6 / operations)
    print("cpu-client", here * 1e6 / operations)
    print("cpu-server", there * 1e6 / operations, flush=True)
    server.stdin.close()
    server.wait()
    os._exit(0)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    main(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
