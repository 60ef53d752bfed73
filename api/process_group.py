"""Several API processes that accept from one listening socket, under a parent that starts those anew which die."""

from __future__ import annotations

from uvicorn.supervisors import Multiprocess


class ProcessGroup(Multiprocess):
    """uvicorn's own, but for its end: it would keep the socket open until the last process has answered what it had
    taken. Whoever connected in the meantime would be let in, wait for up to ten seconds and then be cut off."""

    def terminate_all(self) -> None:
        super().terminate_all()
        for listening in self.sockets:  # from here on the processes' own decide, and are closed within 100 ms
            listening.close()
