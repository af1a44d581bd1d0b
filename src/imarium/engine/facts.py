"""What is known of an event when the policy is asked about it."""

from dataclasses import dataclass

from imarium.engine.hooks import Access, Hook

__all__ = ["EventFacts", "FileFacts", "FileSystem", "Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose doing it is. ``may_setuid`` and ``may_setgid`` are the capabilities CAP_SETUID and CAP_SETGID."""

    uid: int
    euid: int
    suid: int
    gid: int
    egid: int
    sgid: int
    may_setuid: bool
    may_setgid: bool


@dataclass(frozen=True, slots=True)
class FileSystem:
    """The file system a file is on: superblock magic, type, subtype (``fuse.NAME``), and UUID, zero if it has none."""

    magic: int
    name: bytes
    subtype: bytes | None = None
    uuid: bytes = bytes(16)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The file it happens to."""

    owner: int
    group: int
    file_system: FileSystem


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One event. ``file`` is None for what is no file; ``data`` is the keyring's name or the label."""

    hook: Hook
    access: Access
    subject: Subject
    file: FileFacts | None = None
    data: bytes | None = None
