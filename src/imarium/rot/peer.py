"""The process behind a simulator's port: who watches programs must not keep it waiting, for it waits for them."""

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["listeners"]

_LISTENING = b"0A"
_PORT = re.compile(r"(?:swtpm|mssim):.*?\bport=(\d{1,5})\b", re.ASCII)


def listeners(tcti: str) -> tuple[int, ...]:
    """The processes of this machine that listen where ``tcti`` connects to; none where it is no port, or unseen."""
    found = _PORT.match(tcti)
    if found is None:
        return ()
    port = int(found[1])
    sockets = {name for table in ("tcp", "tcp6") for name in _sockets(Path("/proc/net") / table, port)}
    return tuple(pid for pid in _processes() if sockets & _open_sockets(pid)) if sockets else ()


def _sockets(table: Path, port: int) -> set[str]:
    """How ``/proc/PID/fd`` names the sockets that listen at the port."""
    try:
        rows = [line.split() for line in table.read_bytes().splitlines()[1:]]
    except OSError:
        return set()
    mine = b":%04X" % port
    return {f"socket:[{row[9].decode()}]" for row in rows if row[1].endswith(mine) and row[3] == _LISTENING}


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _open_sockets(pid: int) -> set[str]:
    names = set()
    with suppress(OSError):  # gone, or somebody else's
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                names.add(os.readlink(entry.path))  # noqa: PTH115 - it names no path
    return names
