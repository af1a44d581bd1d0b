"""Whose a file of the store is: what others could have changed is not kept, and not shown as kept."""

import os
import stat
from pathlib import Path

from imarium.errors import MissingComponent, RefusedOperation

__all__ = ["check_owner"]


def check_owner(path: Path) -> None:
    """Raises RefusedOperation for what belongs to someone else, is a link, or may be written to by others.

    Raises MissingComponent for what is not there.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise MissingComponent(f"{path}: {error.strerror}; restore it") from error
    if stat.S_ISLNK(status.st_mode):
        raise RefusedOperation(f"{path}: is a link; put there what it leads to")
    if status.st_uid != os.geteuid():
        raise RefusedOperation(f"{path}: belongs to user {status.st_uid}, not to you; use your own store")
    if status.st_mode & 0o022:
        raise RefusedOperation(f"{path}: others may write to it; run 'chmod go-w {path}' if you trust its content")
