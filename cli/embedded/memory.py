"""What the embedded stack must remember between runs: its ports and passwords, in `DATA_DIR`/stack.json, mode 600."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Final

import msgspec

_FILE: Final = "stack.json"


class Memory(msgspec.Struct):
    postgres_port: int
    postgres_password: str
    valkey_port: int
    valkey_password: str


def remembered(data_dir: Path) -> Memory | None:
    """What the last run noted, None where there was none."""
    path = data_dir / _FILE
    return msgspec.json.decode(path.read_bytes(), type=Memory) if path.exists() else None


def recall(data_dir: Path) -> Memory:
    """What was remembered, with fresh ports where others have taken the old ones."""
    path = data_dir / _FILE
    memory = remembered(data_dir) or Memory(0, secrets.token_urlsafe(24), 0, secrets.token_urlsafe(24))
    memory.postgres_port = free_port(memory.postgres_port)
    memory.valkey_port = free_port(memory.valkey_port)
    scratch = path.with_suffix(".new")
    scratch.touch(mode=0o600)
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(memory)))
    scratch.replace(path)
    return memory


def free_port(wished: int = 0) -> int:
    """The port wished for when nobody listens there, else any free one."""
    for port in (wished, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free TCP port on 127.0.0.1")
