"""Serves the reference service, or a classic one, with the RPyC that is installed.

    serve.py SERVER tcp
    serve.py SERVER unix PATH
    serve.py SERVER tls CERTIFICATE KEY
    serve.py SERVER stdio

SERVER is one of SERVERS below. Once it listens it prints one line: the port, chosen by the system, or the
path. It ends when its standard input does; over stdio that is when the connection ends.
"""

import os
import ssl
import sys
import threading

import rpyc
from rpyc.utils.authenticators import AuthenticationError
from rpyc.utils.factory import connect_stdpipes
from rpyc.utils.server import ThreadedServer

from refsvc import RefService

# A service and a configuration for each name.
SERVERS = {
    "ref": (RefService, {}),
    "public": (
        RefService,
        {"allow_public_attrs": True, "allow_setattr": True, "allow_delattr": True},
    ),
    "pickle": (RefService, {"allow_pickle": True}),
    "bound": (RefService, {"bind_threads": True}),
    "classic": (rpyc.SlaveService, {}),
}


def tls(certificate, key):
    """Returns an authenticator: RPyC's own asks for what newer versions of Python lack."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # RPyC takes whatever comes for a frame, and waits for the rest of it with its lock held.
    context.num_tickets = 0

    def authenticate(sock):
        try:
            secured = context.wrap_socket(sock, server_side=True)
        except ssl.SSLError as error:
            raise AuthenticationError(str(error)) from error
        return secured, secured.getpeercert()

    return authenticate


def listener(service, config, medium, rest):
    options = {"protocol_config": config, "auto_register": False}
    if medium == "unix":
        (path,) = rest
        return ThreadedServer(service, socket_path=path, **options), path
    if medium == "tls":
        options["authenticator"] = tls(*rest)
    server = ThreadedServer(service, hostname="127.0.0.1", port=0, **options)
    return server, server.port


def main(server, medium, *rest):
    service, config = SERVERS[server]
    if medium == "stdio":
        connect_stdpipes(service, config).serve_all()
    else:
        served, where = listener(service, config, medium, rest)
        # Version 4 listens only once it is started, which is too late for the line below.
        served.listener.listen(served.backlog)
        threading.Thread(target=served.start, daemon=True).start()
        print(where, flush=True)
        sys.stdin.read()
    # Whoever is still connected is not waited for, nor what version 6 left of the standard output.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
