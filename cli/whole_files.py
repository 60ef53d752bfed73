"""Files that are there as a whole or not at all: written under another name, which nobody sees once it is over."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileExistsAlreadyError(Exception):
    """The message says what to do."""


class FolderError(Exception):
    """Nothing can be written there; the message says where and why."""


def require_absent(file: Path, *, force: bool) -> None:
    """Raises FileExistsAlreadyError."""
    if file.exists() and not force:
        raise FileExistsAlreadyError(f"{file} exists; --force replaces it once the new one is whole")


@contextmanager
def whole(file: Path, *, force: bool) -> Iterator[Path]:
    """A name beside it to write to, which becomes `file` in the end, on disk, or goes away. Its owner's alone.

    Raises FolderError, FileExistsAlreadyError.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)  # mode 600
    except OSError as error:
        raise FolderError(f"can't write to {file.parent}: {error.strerror}") from error
    partial = Path(name)
    try:
        yield partial
        os.fsync(handle)
        if force:
            partial.replace(file)
        else:
            try:
                file.hardlink_to(partial)  # unlike a rename, never over one that somebody made meanwhile
            except FileExistsError:
                raise FileExistsAlreadyError(f"{file} was made by somebody else meanwhile") from None
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    finally:
        os.close(handle)
        partial.unlink(missing_ok=True)
