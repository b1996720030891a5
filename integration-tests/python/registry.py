"""A registry of RPyC, and its clients, with the RPyC that is installed.

    registry.py serve udp|tcp
    registry.py register|discover|list|unregister udp|tcp PORT [ARGUMENT]...

`serve` listens on a port of loopback that the system chooses, prints it, and ends when its standard input does.
The others ask the registry at that port of loopback, and print what it says: `register NAME... PORT`,
`discover NAME`, `list`, `unregister PORT`.
"""

import os
import sys
import threading

import rpyc
from rpyc.utils import registry
from rpyc.utils.factory import DiscoveryError

HOST = "127.0.0.1"


def serve(over):
    server = {"udp": registry.UDPRegistryServer, "tcp": registry.TCPRegistryServer}[over]
    # Version 4 lists nothing.
    listing = {} if tuple(map(int, rpyc.version.version)) < (5,) else {"allow_listing": True}
    served = server(host=HOST, port=0, **listing)
    threading.Thread(target=served.start, daemon=True).start()
    print(served.port, flush=True)
    sys.stdin.read()
    os._exit(0)


def ask(command, over, port, *arguments):
    client = {"udp": registry.UDPRegistryClient, "tcp": registry.TCPRegistryClient}[over]
    # As long as a busy machine takes.
    client = client(HOST, port=int(port), timeout=30)
    if command == "register":
        *names, at = arguments
        print(client.register(tuple(names), int(at)))
    elif command == "unregister":
        client.unregister(int(arguments[0]))
    elif command == "list":
        print(*client.list())
    else:
        try:
            found = rpyc.discover(arguments[0], registrar=client)
        except DiscoveryError:
            found = ()
        print(*("%s:%s" % server for server in found))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        ask(*sys.argv[1:])
