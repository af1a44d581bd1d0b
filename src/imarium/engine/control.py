"""Talking to a running engine: a socket in its directory, one JSON document in a line each way.

The socket is for its owner and for root: whoever else connects is not answered. Requests are maps with a ``command``;
answers are maps, with ``error`` where the engine refused. Each has a thread, so that one that is slow, or is about a
file that takes long, keeps no other. See docs/engine.md for the commands.
"""

import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from imarium import durable
from imarium.errors import DeviceError, ImariumError, MissingComponent, RefusedOperation, UsageError

__all__ = ["CONTROL", "Answer", "ask", "is_running", "serving"]

CONTROL = "control"
"""The socket's name in the engine's directory."""

Answer = Callable[[Mapping[str, object]], Mapping[str, object]]
"""Does what a request asks; an ImariumError becomes the answer ``error``."""

_LOG = logging.getLogger("imarium.engine")
_MAX_LINE = 1 << 20
_PATIENCE = 10.0
_PAUSE = 0.1
_AT_ONCE = 16
"""Requests that are looked after at a time. Others wait for one of them to end; if none does, they are not answered."""
_CREDENTIALS = struct.Struct("3i")
_KINDS: Mapping[int, type[ImariumError]] = {2: UsageError, 4: MissingComponent}


@contextmanager
def serving(directory: Path, answer: Answer) -> Iterator[None]:
    """Answer requests in a thread while the block runs. Raises MissingComponent where there can be no socket."""
    with durable.storage_errors(directory), _address(directory) as address:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (directory / CONTROL).unlink(missing_ok=True)
        listener.bind(address)
        (directory / CONTROL).chmod(0o600)
        listener.listen()
    desk = _Desk(answer)
    thread = threading.Thread(target=desk.serve, args=(listener,), name="imarium-control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        desk.end()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(_PATIENCE)
        listener.close()
        desk.close()
        (directory / CONTROL).unlink(missing_ok=True)


def ask(directory: Path, request: Mapping[str, object], *, patience: float | None = None) -> dict[str, object]:
    """The running engine's answer, for which it waits ``patience`` seconds, or as long as the engine runs.

    Raises MissingComponent where none runs, DeviceError where it ends, answers nonsense or has too many who ask, and
    what it refused as UsageError, MissingComponent or RefusedOperation.
    """
    with _connected(directory, patience) as connection:
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(connection, None))
        except (OSError, ValueError, RecursionError) as error:
            raise DeviceError(f"{directory}: the engine broke off; see its messages") from error
    if not isinstance(answer, dict):
        raise DeviceError(f"{directory}: the engine broke off; see its messages")
    refused = answer.get("error")
    if isinstance(refused, dict):
        kind = _KINDS.get(refused.get("exit_status", 1), RefusedOperation)
        raise kind(str(refused.get("message")))
    return answer


def is_running(directory: Path) -> bool:
    """Whether an engine that can be asked runs there. One that was killed has left its socket, and does not count.

    Raises DeviceError where one has too many who ask.
    """
    try:
        with _connected(directory, _PATIENCE):
            return True
    except MissingComponent:
        return False


@contextmanager
def _connected(directory: Path, patience: float | None) -> Iterator[socket.socket]:
    """A connection to the running engine. Raises MissingComponent where none runs, DeviceError where it has no room."""
    with _address(directory) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience)
        try:
            connection.connect(address)
        except BlockingIOError as error:
            raise DeviceError(f"{directory}: too many ask this engine already; try again when some are done") from error
        except OSError as error:
            raise MissingComponent(f"{directory}: no engine is running here; start one, or give --state") from error
        yield connection


@contextmanager
def _address(directory: Path) -> Iterator[str]:
    """A name of the socket that is short enough, wherever the directory is."""
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MissingComponent(f"{directory}: {error.strerror}; no engine was ever started here") from error
    try:
        yield f"/proc/self/fd/{descriptor}/{CONTROL}"
    finally:
        os.close(descriptor)


class _Desk:
    """Looks after those who ask, each in a thread."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._room = threading.Semaphore(_AT_ONCE)
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Until it is closed. A connection that cannot be taken, for want of descriptors, waits until it can."""
        while not self._ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                self._ended.wait(_PAUSE)
                continue
            if not self._room.acquire(timeout=_PATIENCE):
                _LOG.warning("%d requests take long: one more is not answered", _AT_ONCE)
                connection.close()
                continue
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._attend, args=(connection,), name="imarium-answer", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there may be no more threads
                _LOG.warning("a request is not answered: %s", error)
                connection.close()
                self._room.release()
                continue
            self._threads.append(thread)

    def end(self) -> None:
        """Take no more; the socket is to be shut down then."""
        self._ended.set()

    def close(self) -> None:
        """Have what was asked answered, unless that takes long."""
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                if _may_ask(connection):
                    answer = _answered(_line(connection, time.monotonic() + _PATIENCE), self._answer)
                    connection.settimeout(_PATIENCE)  # which counts for all that is sent
                    connection.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            self._room.release()


def _may_ask(connection: socket.socket) -> bool:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in {0, os.geteuid()}


def _answered(line: bytes, answer: Answer) -> Mapping[str, object]:
    try:
        return answer(_request(line))
    except ImariumError as error:
        return {"error": {"code": error.code, "message": str(error), "exit_status": error.exit_status}}


def _request(line: bytes) -> Mapping[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("a request is one line of JSON") from error
    if not isinstance(request, dict):
        raise UsageError("a request is a map")
    return request


def _line(connection: socket.socket, deadline: float | None) -> bytes:
    """Up to a newline, or to the end of what the other side sends. Raises OSError if it is too long or takes too long.

    Without a ``deadline`` each part may take as long as the connection's timeout says.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OSError("a line that takes too long")
            connection.settimeout(left)
        part = connection.recv(1 << 16)
        if not part:
            break
        line += part
        if len(line) > _MAX_LINE:
            raise OSError(f"a line of more than {_MAX_LINE} bytes")
    return bytes(line)
