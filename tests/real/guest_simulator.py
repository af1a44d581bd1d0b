"""A confidential guest's kernel interfaces, served by FUSE from a process of its own.

    measurements/NAME:HASH   tsm-mr: reading gives the value; one write of its size extends
    report/                  configfs-tsm: mkdir makes a request with its attributes, rmdir removes it
    tsi                      VirtCCA's device: the ioctl that gives a token

Simulated are the files and their rules, as the kernel's documents have them: ``inblob`` takes effect at release, where
its error is lost; ``generation`` counts the writes that took effect; ``outblob`` is made when it is read. What the
device behind them does is in guest_devices.

Run as: python guest_simulator.py MOUNT STATE PROVIDER. STATE is the file of the registers; STATE.fault, where there is
one, has the errno that reading ``outblob`` and the ioctl fail with; STATE.size the size that the ioctl tells.
"""

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.real.guest_devices import DEVICES, Device

from imarium.errors import ImariumError
from imarium.registers import DEFAULT_REGISTERS, FileRegisters

BLOBS = ("outblob", "auxblob", "manifestblob")
READ = ("generation", "provider", *BLOBS)
WRITE = ("inblob", "service_provider", "service_guid", "service_manifest_version")


class Guest:
    """FUSE operations by name, for mfusepy: the tree above."""

    use_ns = True

    def __init__(self, registers: FileRegisters, provider: str, state: Path) -> None:
        self.registers = {register.key: register for register in registers.registers()}
        self.values = registers
        self.provider = provider
        self.state = state
        self.requests: dict[str, dict[str, Any]] = {}
        self.device: Device | None = None
        if provider:
            kind, _ = DEVICES[provider]
            self.device = kind(state, self._value)

    def getattr(self, path: str, _number: int | None = None) -> dict[str, int]:
        mode, size = self._status(path.strip("/").split("/"))
        return {"st_mode": mode, "st_size": size, "st_nlink": 1, "st_uid": os.getuid(), "st_gid": os.getgid()}

    def _status(self, parts: list[str]) -> tuple[int, int]:
        match parts:
            case [""] | ["measurements"] | ["report"]:
                return stat.S_IFDIR | 0o755, 0
            case ["measurements", key] if key in self.registers:
                register = self.registers[key]
                return stat.S_IFREG | (0o644 if register.writable else 0o444), register.size
            case ["tsi"]:
                return stat.S_IFREG | 0o600, 0
            case ["report", name] if name in self.requests:
                return stat.S_IFDIR | 0o755, 0
            case ["report", name, attribute] if name in self.requests and attribute in READ + WRITE:
                return stat.S_IFREG | (0o444 if attribute in READ else 0o200), 4096
        raise OSError(errno.ENOENT, "")

    def readdir(self, path: str, _number: int) -> list[str]:
        names = {"/": ["measurements", "report"], "/measurements": list(self.registers), "/report": list(self.requests)}
        return [".", "..", *names.get(path, [*READ, *WRITE])]

    def mkdir(self, path: str, _mode: int) -> int:
        if not path.startswith("/report/"):
            raise OSError(errno.EPERM, "")
        if not self.provider:
            raise OSError(errno.ENXIO, "")
        self.requests[path.split("/")[2]] = {"generation": 0}
        return 0

    def rmdir(self, path: str) -> int:
        del self.requests[path.split("/")[2]]
        return 0

    def open(self, path: str, _flags: int) -> int:
        self.getattr(path)
        return 1

    def truncate(self, _path: str, _length: int, _number: int | None = None) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, _number: int) -> bytes:
        _, first, *rest = path.split("/")
        if first == "measurements":
            data = self.values.read(self.registers[rest[0]])
        else:
            data = self._attribute(self.requests[rest[0]], rest[1])
        return data[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, _number: int) -> int:
        _, first, *rest = path.split("/")
        if first == "measurements":
            register = self.registers[rest[0]]
            if offset or len(data) < register.size:
                raise OSError(errno.EINVAL, "")
            try:
                self.values.extend(register, data[: register.size])
            except ImariumError:
                raise OSError(errno.EIO, "") from None
            return register.size
        request = self.requests[rest[0]]
        if rest[1] == "inblob":
            request["pending"] = request.get("pending", b"") + data
        else:
            request[rest[1]] = data.decode().strip()
            request["generation"] += 1
        return len(data)

    def ioctl(self, path: str, command: int, _arg: Any, _number: int, _flags: int, data: int) -> int:
        """The struct of 64 bytes of challenge, 8192 of token and its size, as FUSE copies it in and out."""
        if path != "/tsi" or command & 0xFFFFFFFF != 0xE0485401:
            raise OSError(errno.ENOTTY, "")
        with suppress(FileNotFoundError):
            raise OSError(int(self.state.with_suffix(".fault").read_text()), "")
        assert self.device is not None
        token = self.device.blob("outblob", {"inblob": ctypes.string_at(data, 64)})
        said = self.state.with_suffix(".size")
        size = int(said.read_text()) if said.exists() else len(token)
        ctypes.memmove(data + 64, token, len(token))
        ctypes.memmove(data + 64 + 8192, size.to_bytes(8, sys.byteorder), 8)
        return 0

    def release(self, path: str, _number: int) -> int:
        parts = path.split("/")
        if parts[1] != "report":
            return 0
        pending = self.requests[parts[2]].pop("pending", None) if parts[-1] == "inblob" else None
        if pending is not None and len(pending) == 64:
            self.requests[parts[2]]["inblob"] = pending
            self.requests[parts[2]]["generation"] += 1
        return 0

    def _attribute(self, request: dict[str, Any], name: str) -> bytes:
        if name == "provider":
            return self.provider.encode() + b"\n"
        if name == "generation":
            return f"{request['generation']}\n".encode()
        if "inblob" not in request:
            raise OSError(errno.EINVAL, "")
        with suppress(FileNotFoundError):
            raise OSError(int(self.state.with_suffix(".fault").read_text()), "")
        assert self.device is not None
        return self.device.blob(name, request)

    def _value(self, name: str) -> bytes:
        (found,) = (register for register in self.registers.values() if register.name == name)
        return self.values.read(found)


@contextmanager
def guest(place: Path, provider: str) -> Iterator[Path]:
    """A running simulator's mount point; ``place``/state is its STATE."""
    assert Path("/dev/fuse").exists(), "there is no /dev/fuse: modprobe fuse"
    mount, state = place / "guest", place / "state"
    mount.mkdir()
    _, registers = DEVICES.get(provider, (None, DEFAULT_REGISTERS))
    FileRegisters.create(state, registers)
    command = [sys.executable, __file__, str(mount), str(state), provider]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "FUSE could not mount: apt install fuse3, pip install mfusepy"
        yield mount
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _main() -> None:
    import mfusepy  # noqa: PLC0415 - needed by the process that serves, not by the tests

    mount, state, provider = sys.argv[1:]
    operations = Guest(FileRegisters(Path(state)), provider, Path(state))
    operations.init = lambda _path: print("ready", flush=True)  # type: ignore[attr-defined]
    with suppress(RuntimeError):
        mfusepy.FUSE(
            operations, mount, foreground=True, nothreads=True, direct_io=True, attr_timeout=0, entry_timeout=0
        )


if __name__ == "__main__":
    _main()
