"""moto's server, as a process: `python aws_server.py PORT`. It answers as AWS does, where moto does not."""

from __future__ import annotations

import sys

from moto.ec2.models.instances import Instance
from moto.server import main

_terminate = Instance.terminate


def terminate(self):
    """AWS lets go of network interfaces that were there before the instance."""
    state = _terminate(self)
    for interface in self.nics.values():
        interface.instance = interface.attachment_id = interface.device_index = None
        interface.status = "available"
    return state


Instance.terminate = terminate
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
