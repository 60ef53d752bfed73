"""Tying a process to its parent's life: none may outlive the one that is responsible for it."""

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
