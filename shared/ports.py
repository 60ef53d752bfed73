"""Whether a port can be listened on: asked before a start, so that the answer can name what to change."""

from __future__ import annotations

import socket


class PortTakenError(Exception):
    """Nobody can listen there now; the message names the setting to change."""


def require_free(setting: str, host: str, port: int) -> None:
    """Raise PortTakenError when `host`:`port` can't be listened on."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise PortTakenError(
            f"can't listen on {host}:{port}: {error.strerror or error}; stop what uses it, or change {setting}"
        ) from error
