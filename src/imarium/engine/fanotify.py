"""The kernel's fanotify, as far as a watch needs it: permission events, and their answers.

See fanotify(7). What it takes: Linux with CONFIG_FANOTIFY_ACCESS_PERMISSIONS, and CAP_SYS_ADMIN.
"""

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Self

from imarium.errors import MissingComponent

__all__ = ["EVENTS_AT_ONCE", "FanotifyGroup", "Happened", "RawEvent", "parse_events"]

_CLOEXEC, _NONBLOCK, _CLASS_CONTENT = 0x1, 0x2, 0x4
_UNLIMITED_QUEUE, _UNLIMITED_MARKS, _REPORT_TID = 0x10, 0x20, 0x100
_MARK_ADD, _MARK_FLUSH, _MARK_FILESYSTEM = 0x1, 0x80, 0x100
_ALLOW = 0x1
_NO_DESCRIPTOR = -1
_VERSION = 3
_EVENT = struct.Struct("=IBBHQii")
_RESPONSE = struct.Struct("=iI")

EVENTS_AT_ONCE = 64
"""How many are taken at a time, at most. Each of them opens a file."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)


class Happened(IntFlag):
    """What an event is about."""

    CLOSE_WRITE = 0x8
    OVERFLOW = 0x4000
    OPEN = 0x10000
    """Somebody waits for the file to be opened (FAN_OPEN_PERM)."""
    EXECUTE = 0x40000
    """Somebody waits for the file to be opened to be executed (FAN_OPEN_EXEC_PERM)."""

    @property
    def waits(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self & (Happened.OPEN | Happened.EXECUTE))


_ALL = Happened.CLOSE_WRITE | Happened.OPEN | Happened.EXECUTE


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event. ``descriptor`` is the file, open for reading, the receiver's to close; -1 for an overflow."""

    happened: Happened
    descriptor: int
    task: int


class FanotifyGroup:
    """A group: what is marked with it gives events to it. Once it is closed, nobody waits for it any more."""

    def __init__(self) -> None:
        """Raises MissingComponent where there is no fanotify, or no permission for it."""
        self._answering = threading.Lock()
        flags = _CLOEXEC | _NONBLOCK | _CLASS_CONTENT | _UNLIMITED_QUEUE | _UNLIMITED_MARKS | _REPORT_TID
        files = os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME | getattr(os, "O_LARGEFILE", 0)
        self.descriptor = _libc.fanotify_init(flags, files)
        if self.descriptor < 0:
            reason = os.strerror(ctypes.get_errno())
            raise MissingComponent(f"cannot watch files: fanotify: {reason}; it takes root (CAP_SYS_ADMIN)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def watch(self, path: Path) -> None:
        """Ask for events of the whole file system that ``path`` is on. Raises MissingComponent."""
        if _libc.fanotify_mark(self.descriptor, _MARK_ADD | _MARK_FILESYSTEM, _ALL, -100, os.fsencode(path)):
            number = ctypes.get_errno()
            hint = (
                "; nobody can on /proc, or without CONFIG_FANOTIFY_ACCESS_PERMISSIONS" if number == errno.EINVAL else ""
            )
            raise MissingComponent(f"cannot watch {path}: {os.strerror(number)}{hint}")

    def read(self, at_once: int = EVENTS_AT_ONCE) -> list[RawEvent]:
        """The events there are; none if there are none. Raises OSError; the file of an event may be lost then."""
        try:
            data = os.read(self.descriptor, at_once * _EVENT.size)
        except BlockingIOError:
            return []
        return list(parse_events(data))

    def allow(self, descriptor: int) -> None:
        """Let the task that waits for this event's file go on. Nothing, if it was killed or the group was closed."""
        with self._answering:
            if self.descriptor >= 0:
                with suppress(FileNotFoundError):
                    os.write(self.descriptor, _RESPONSE.pack(descriptor, _ALLOW))

    def free(self) -> None:
        """Get no more events, and let everybody go on whose event was not read. It reads them: it can hang."""
        _libc.fanotify_mark(self.descriptor, _MARK_FLUSH | _MARK_FILESYSTEM, 0, -100, None)
        while self.descriptor >= 0:
            try:
                events = self.read(1)  # of more than one none is told of before all are opened
            except OSError:  # the kernel has answered that one itself
                continue
            if not events:
                return
            for event in events:
                if event.descriptor >= 0:
                    self.allow(event.descriptor)
                    with suppress(OSError):
                        os.close(event.descriptor)

    def close(self) -> None:
        """Let everybody go on and get no more events. A read that hangs keeps the kernel from it until that ends."""
        with self._answering:
            if self.descriptor >= 0:
                descriptor, self.descriptor = self.descriptor, -1
                os.close(descriptor)


def parse_events(data: bytes) -> Iterator[RawEvent]:
    """The events in what was read. Raises MissingComponent for what is of another version."""
    position = 0
    while position + _EVENT.size <= len(data):
        length, version, _, _, mask, descriptor, task = _EVENT.unpack_from(data, position)
        if version != _VERSION or length < _EVENT.size:
            raise MissingComponent(f"this kernel's fanotify speaks version {version}, not {_VERSION}")
        yield RawEvent(Happened(mask & (_ALL | Happened.OVERFLOW)), descriptor, task)
        position += length
