"""What a watch is about: whole file systems, or what is below some paths."""

import os
from collections.abc import Sequence
from pathlib import Path

from imarium.engine.file_system import mounted_from
from imarium.errors import MissingComponent, UsageError

__all__ = ["Scope"]


class Scope:
    """Paths to watch. The kernel gives the events of whole file systems; what is outside is let go unseen."""

    def __init__(self, paths: Sequence[Path], mounts: Sequence[Path] = ()) -> None:
        """Raises UsageError for no path or one below ``mounts``, MissingComponent for one that is not there."""
        if not paths:
            raise UsageError("nothing to watch: name paths")
        self.roots = [_resolved(path) for path in paths]
        for mount in map(_resolved, mounts):
            if inside := next((root for root in self.roots if root.is_relative_to(mount)), None):
                raise UsageError(f"cannot watch {inside}: this engine itself serves it")
        self._devices = {root.stat().st_dev for root in self.roots if root.is_mount()}
        self._parts = [os.fsencode(root) for root in self.roots if not root.is_mount()]

    def file_systems(self) -> list[list[Path]]:
        """The paths to watch, those on the same file system together. Raises MissingComponent."""
        found: dict[bytes, list[Path]] = {}
        for root in self.roots:
            found.setdefault(_file_system(root), []).append(root)
        return list(found.values())

    def covers(self, descriptor: int) -> bool:
        """Whether an open file is watched. Raises OSError."""
        if not self._parts or os.fstat(descriptor).st_dev in self._devices:
            return True
        name = os.readlink(b"/proc/self/fd/%d" % descriptor)  # noqa: PTH115 - names are bytes
        return any(name.startswith(part) and name[len(part) : len(part) + 1] in {b"", b"/"} for part in self._parts)


def _file_system(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise MissingComponent(f"cannot watch {path}: {error.strerror}") from error
    try:
        return mounted_from(descriptor, os.fstat(descriptor).st_dev)[0]
    finally:
        os.close(descriptor)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise MissingComponent(f"cannot watch {path}: {error}") from error
