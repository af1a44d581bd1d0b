"""Reports of a confidential guest, through configfs-tsm (Documentation/ABI/testing/configfs-tsm-report).

A request is a directory of its own: its attributes are written, then ``outblob`` and what goes with it are read. An
error of ``inblob`` can be lost with close(2), and others can write to the same directory, so ``generation`` is
compared: it counts the writes that took effect.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imarium.errors import DeviceError, ImariumError, MalformedInput, MissingComponent, UsageError

__all__ = ["DIRECTORY", "TsmReport", "provider_of", "request_report"]

DIRECTORY = Path("/sys/kernel/config/tsm/report")

_MAX_BLOB = 1 << 20
_MAX_TEXT = 4096
_ATTEMPTS = 5

_REASONS = {
    errno.ENXIO: "no provider: this is no confidential guest, or its driver is not loaded",
    errno.EBUSY: "the device is busy; try again",
    errno.ETIMEDOUT: "the host did not answer in time; see that its quoting service runs, then try again",
    errno.EINVAL: "the device does not take this request; give a nonce of the size it wants",
}


@dataclass(frozen=True, slots=True)
class TsmReport:
    """A report: ``provider`` as the kernel names it, and its blobs; empty where the provider has none."""

    provider: str
    outblob: bytes
    auxblob: bytes
    manifestblob: bytes


def request_report(
    inblob: bytes, *, options: Mapping[str, str] | None = None, directory: Path = DIRECTORY
) -> TsmReport:
    """A report over ``inblob``. ``options`` are further attributes, such as ``service_provider``, written in order.

    Raises MissingComponent where there is no configfs-tsm or no provider, DeviceError where the device fails,
    UsageError for an ``inblob`` it does not take.
    """
    writes = {name: f"{value}\n".encode() for name, value in (options or {}).items()} | {"inblob": inblob}
    with _entry(directory) as entry:
        for _ in range(_ATTEMPTS):
            first = _generation(entry)
            for name, data in writes.items():
                _write(entry / name, data)
            generation = _generation(entry)
            if generation < first + len(writes):
                raise UsageError(
                    f"{entry.parent}: {len(inblob)} bytes of inblob were not taken; give as many as it wants"
                )
            report = TsmReport(
                _read(entry / "provider", _MAX_TEXT).decode("ascii", "replace").strip(),
                _read(entry / "outblob", _MAX_BLOB),
                _read(entry / "auxblob", _MAX_BLOB, optional=True),
                _read(entry / "manifestblob", _MAX_BLOB, optional=True),
            )
            if generation == first + len(writes) == _generation(entry):
                return report
    raise DeviceError(f"{directory}: someone else wrote to the request each time; end whoever does")


def provider_of(directory: Path = DIRECTORY) -> str:
    """The provider's name, such as ``tdx_guest``. Raises as :func:`request_report`."""
    with _entry(directory) as entry:
        return _read(entry / "provider", _MAX_TEXT).decode("ascii", "replace").strip()


@contextmanager
def _entry(directory: Path) -> Iterator[Path]:
    entry = directory / f"imarium-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        entry.mkdir()
    except FileNotFoundError as error:
        raise MissingComponent(
            f"{directory} is not there: mount configfs and load tsm_report; only confidential guests have reports"
        ) from error
    except OSError as error:
        raise _error(directory, error) from error
    try:
        yield entry
    finally:
        try:
            entry.rmdir()
        except OSError as error:
            raise _error(entry, error) from error


def _generation(entry: Path) -> int:
    text = _read(entry / "generation", _MAX_TEXT).decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise MalformedInput("configfs-tsm generation", offset=0, expected="a number", found=repr(text[:20]))
    return int(text)


def _write(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _error(path, error) from error
    if written != len(data):
        raise DeviceError(f"{path}: took {written} of {len(data)} bytes; give fewer")


def _read(path: Path, limit: int, *, optional: bool = False) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            parts: list[bytes] = []
            while (part := file.read(1 << 16)) and sum(map(len, parts)) <= limit:
                parts.append(part)
    except OSError as error:
        if optional and error.errno in (errno.ENOENT, errno.ENXIO, errno.EOPNOTSUPP):
            return b""
        raise _error(path, error) from error
    data = b"".join(parts)
    if len(data) > limit:
        raise MalformedInput(path.name, offset=limit, expected=f"at most {limit} bytes", found="more")
    return data


def _error(path: Path, error: OSError) -> ImariumError:
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        return MissingComponent(f"{path}: {error.strerror}; run as root in a confidential guest")
    kind = {errno.ENXIO: MissingComponent, errno.EINVAL: UsageError}.get(error.errno or 0, DeviceError)
    return kind(f"{path}: {reason}")
