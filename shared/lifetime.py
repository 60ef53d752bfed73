"""When a process ends: with the one that is responsible for it at the latest, and undisturbed once it is ending."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(signal_number: signal.Signals, parent_pid: int) -> None:
    """Have the kernel send this process a signal when its parent dies (Linux, prctl(2); elsewhere nothing happens).

    `parent_pid` is who the parent should be: if it is gone already, the signal comes now.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal_number)


def end_undisturbed() -> None:
    """Further SIGTERM and SIGINT change nothing. For the end of a process, when its work is done.

    Python puts handlers of its own away before it ends: a signal that comes then would kill it, with another exit code.
    Blocked they would not do: a library's threads may still be there and take them.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
