"""TCP ports for servers that tests start.

Not any free one: between the look and the server's start, another process of the test run could be given the same port
by the kernel, for a server or as a connection's own end.
"""

from __future__ import annotations

import errno
import itertools
import random
import socket

_FIRST, _BEYOND = 10_000, 32_768  # below what Linux gives to whoever asks for any
_ports = itertools.count(random.randrange(_BEYOND - _FIRST))


def free_port():
    """A port of 127.0.0.1 where nobody listens, another one each time; test runs beside each other start apart."""
    while True:
        port = _FIRST + next(_ports) % (_BEYOND - _FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
