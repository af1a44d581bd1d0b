"""Who else has a file open: for writing, which a lease tells, or for reading, which ``/proc`` tells."""

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from imarium.engine.file_system import mounted_from

__all__ = ["is_open_for_reading", "is_open_for_writing"]

_F_SETSIG = 10


def is_open_for_writing(descriptor: int, *, search: bool = True) -> bool:
    """Whether anybody has the file open for writing, or is about to. ``descriptor`` must be open for reading only.

    A read lease is refused while there is a writer. It is given back at once; a writer that comes in between waits for
    that moment. Where the file system has no leases, ``search`` looks through the open files of all processes, which
    takes long; without it the answer is no.
    """
    try:
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)  # which nobody dies of
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        return search and any(flags & os.O_ACCMODE for flags in _open_files(descriptor))
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def is_open_for_reading(descriptor: int) -> bool:
    """Whether another process has the file open for reading only, or mapped."""
    return any(not flags & os.O_ACCMODE for flags in _open_files(descriptor)) or _is_mapped(descriptor)


def _processes() -> Iterator[Path]:
    own = str(os.getpid())
    return (path for path in Path("/proc").iterdir() if path.name.isdigit() and path.name != own)


def _open_files(descriptor: int) -> Iterator[int]:
    """The flags of each descriptor another process has of this file.

    Only what has the same inode number is asked of its file system: others may not answer.
    """
    status = os.fstat(descriptor)
    inode = _info(Path(f"/proc/self/fdinfo/{descriptor}")).get(b"ino:")
    for process in _processes():
        try:
            opened = list((process / "fdinfo").iterdir())
        except OSError:
            continue
        for one in opened:
            try:
                info = _info(one)
                if info.get(b"ino:") == inode and os.path.samestat((process / "fd" / one.name).stat(), status):
                    yield int(info[b"flags:"], 8)
            except (OSError, KeyError, ValueError):
                continue


def _info(path: Path) -> dict[bytes, bytes]:
    """The first words of ``/proc/PID/fdinfo/FD``: the rest depends on what is open."""
    with path.open("rb", buffering=0) as file:
        words = file.read(256).split()[:8]
    return dict(zip(words[::2], words[1::2], strict=False))


def _is_mapped(descriptor: int) -> bool:
    """Whether a process has it mapped other than to write into it. The engine itself maps no watched file for long."""
    status = os.fstat(descriptor)
    major, _, minor = mounted_from(descriptor, status.st_dev)[0].partition(b":")
    wanted = [b"%02x:%02x" % (int(major), int(minor)), b"%d" % status.st_ino]
    for process in _processes():
        try:
            with (process / "maps").open("rb") as maps:
                if any((words := line.split(None, 5))[3:5] == wanted and words[1][1::2] != b"ws" for line in maps):
                    return True
        except OSError:
            continue
    return False
