"""The files below a path, for measuring them all."""

import os
from collections.abc import Iterator
from pathlib import Path

from imarium.errors import MissingComponent

__all__ = ["regular_files"]


def regular_files(path: Path) -> Iterator[Path]:
    """The path itself, if it is no directory; else the regular files below it, in the order of their names.

    Links in directories are not followed, other kinds of files are passed over. Raises MissingComponent for what
    is not there, and a directory that cannot be read.
    """
    if not path.is_dir():
        if not path.exists():
            raise MissingComponent(f"cannot measure {path}: there is no such file")
        yield path
        return
    for directory, names, files in os.walk(path, onerror=_unreadable):
        names.sort()
        for name in sorted(files):
            file = Path(directory, name)
            if file.is_file() and not file.is_symlink():
                yield file


def _unreadable(error: OSError) -> None:
    raise MissingComponent(f"cannot measure what is in {error.filename}: {error.strerror}") from error
