"""TCP ports for servers that tests start.

Not any free one: between the look and the server's start, another process of the test run could be given the same port
by the kernel, for a server or as a connection's own end.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket

_FIRST, _BEYOND = 10_000, 32_768  # below what Linux gives to whoever asks for any
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
_SIZE = (_BEYOND - _FIRST) // _PROCESSES  # of the part that is this process's own
_ports = itertools.count(random.randrange(_SIZE))


def free_port():
    """A port of 127.0.0.1 where nobody listens, another one each time, and of no other process of this test run; test
    runs beside each other start apart."""
    while True:
        port = _FIRST + _PROCESS * _SIZE + next(_ports) % _SIZE
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
