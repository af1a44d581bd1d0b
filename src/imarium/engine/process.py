"""What ``/proc`` says of a task that waits in a system call: who it is, and what it asked for."""

import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from imarium.engine.facts import Subject
from imarium.engine.hooks import Access

__all__ = ["OpenCall", "is_opening", "open_call", "own_subject", "subject_of"]

_CAP_SETGID = 6
_CAP_SETUID = 7
_UNKNOWN = Subject(0, 0, 0, 0, 0, 0, may_setuid=True, may_setgid=True)

_EXECUTE = {"x86_64": {59, 322}, "aarch64": {221, 281}, "riscv64": {221, 281}}
_OPEN = {
    "x86_64": {2: 1, 257: 2, 304: 2},
    "aarch64": {56: 2, 265: 2},
    "riscv64": {56: 2, 265: 2},
}
"""System calls that open, each with the place of its flags."""
_CREAT = {"x86_64": 85}
_OPENAT2 = 437
_MACHINE = platform.machine()
_AT_ONCE = 1 << 13
"""Bytes read of a file of ``/proc`` at once: more than it has, but for a task with thousands of groups."""


def subject_of(task: int) -> Subject:
    """Whose task it is. One that has gone, or cannot be looked at, counts as one that may do everything."""
    status = _read(f"/proc/{task}/status")
    try:
        uid, euid, suid = map(int, _after(status, b"\nUid:")[:3])
        gid, egid, sgid = map(int, _after(status, b"\nGid:")[:3])
        capabilities = int(_after(status, b"\nCapEff:")[0], 16)
    except (IndexError, ValueError):
        return _UNKNOWN
    may_setuid, may_setgid = bool(capabilities >> _CAP_SETUID & 1), bool(capabilities >> _CAP_SETGID & 1)
    return Subject(uid, euid, suid, gid, egid, sgid, may_setuid, may_setgid)


def own_subject() -> Subject:
    """Whose doing it is when this process is asked to measure."""
    return subject_of(os.getpid())


@dataclass(frozen=True, slots=True)
class OpenCall:
    """The system call a task waits in while a file is opened for it. ``flags`` is None where that is not known."""

    executes: bool
    flags: int | None

    @property
    def writes(self) -> bool:
        """Whether the file is opened for writing; no, where the flags are not known."""
        return self.flags is not None and bool(self.flags & os.O_ACCMODE)

    @property
    def creates(self) -> bool:
        """Whether a file that did not exist is wanted."""
        return self.flags is not None and bool(
            (self.flags & os.O_CREAT and self.flags & os.O_EXCL) or self.flags & os.O_TMPFILE == os.O_TMPFILE
        )

    @property
    def may_create(self) -> bool:
        """Whether a file that did not exist would have been made."""
        return self.flags is not None and bool(self.flags & os.O_CREAT)

    @property
    def access(self) -> Access:
        """What the kernel's policy is asked about (``acc_mode``). Reading, where the flags are not known."""
        if self.executes:
            return Access.EXEC
        if self.flags is None:
            return Access.READ
        access = (Access.READ, Access.WRITE, Access.READ | Access.WRITE, Access.READ | Access.WRITE)
        found = access[self.flags & os.O_ACCMODE]
        if self.flags & os.O_TRUNC:
            found |= Access.WRITE
        return found | Access.APPEND if self.flags & os.O_APPEND else found


def open_call(task: int) -> OpenCall:
    """The call a task waits in. It is not known of tasks that open by other ways (io_uring, the kernel's own)."""
    words = _read(f"/proc/{task}/syscall").split()
    if len(words) < 7:
        return OpenCall(False, None)
    number, arguments = int(words[0]), [int(word, 16) for word in words[1:7]]
    if number in _EXECUTE.get(_MACHINE, ()):
        return OpenCall(True, None)
    if number == _CREAT.get(_MACHINE):
        return OpenCall(False, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    if number == _OPENAT2:
        return OpenCall(False, _flags_at(task, arguments[2]))
    place = _OPEN.get(_MACHINE, {}).get(number)
    return OpenCall(False, None if place is None else arguments[place] & 0xFFFFFFFF)


def is_opening(task: int) -> bool:
    """Whether a task is in a call that opens or executes, or may be: it runs, and nobody can tell."""
    words = _read(f"/proc/{task}/syscall").split()
    if len(words) < 7:
        return words == [b"running"]
    number = int(words[0])
    known = {*_EXECUTE.get(_MACHINE, ()), *_OPEN.get(_MACHINE, ()), _CREAT.get(_MACHINE), _OPENAT2}
    return number in known


def _flags_at(task: int, address: int) -> int | None:
    """The flags in a task's ``struct open_how``. Another thread of it may have changed them since they were used."""
    try:
        with Path(f"/proc/{task}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return int(struct.unpack("=Q", memory.read(8))[0])
    except (OSError, struct.error, OverflowError):
        return None


def _read(path: str) -> bytes:
    """What a file of ``/proc`` says; nothing where the task has gone or is not ours to look at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = part = os.read(descriptor, _AT_ONCE)
        while len(part) == _AT_ONCE:
            part = os.read(descriptor, _AT_ONCE)
            data += part
    except OSError:
        return b""
    else:
        return data
    finally:
        os.close(descriptor)


def _after(text: bytes, name: bytes) -> list[bytes]:
    """The words behind a name, to the end of the line."""
    start = text.find(name)
    return text[start + len(name) : text.find(b"\n", start + 1)].split() if start >= 0 else []
