"""An RPyC client as anybody writes one: it knows nothing of Rust.

    python3 examples/python_client.py HOST PORT
"""

import sys

import rpyc


def main(host, port):
    connection = rpyc.connect(host, int(port))
    scope = connection.root
    print(f"{scope.title}: {scope.__doc__}")
    print("channels:", ", ".join(scope.channels()))

    samples = []

    def on_sample(at, volts):
        samples.append((at, volts))
        print(f"sample {at}: {volts:.2f} V")

    with scope.subscribe("A", on_sample, every_ms=1) as subscription:
        # Callbacks arrive while this side reads: while it waits for an answer, or serves. In a program with a
        # window, or an idle prompt: rpyc.BgServingThread(connection), kept in a variable.
        while len(samples) < 5:
            connection.serve(timeout=10)
        print("sent:", subscription.sent >= 5)

    try:
        scope.subscribe("Z", on_sample)
    except KeyError as error:
        print("KeyError:", error.args[0])

    latest = scope.latest(3)
    print("latest:", len(latest), "in a list:", isinstance(latest, list))
    connection.close()


main(*sys.argv[1:])
