"""Where an application listens: a unix socket, or TCP with TLS; and serving it there until told to end."""

import asyncio
import errno
import os
import resource
import socket
import ssl
import stat
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from imarium.errors import MissingComponent, RefusedOperation, UsageError
from imarium.web.connection import connection_class
from imarium.web.limits import Limits

__all__ = ["Endpoint", "Server", "Tls"]

_BACKLOG = 2048
_SOCKET_MODE = 0o600
_GROUP_MODE = 0o660
_GRACE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to listen at: the ``path`` of a unix socket, or ``host`` and ``port``.

    A unix socket is for its owner, and for ``group`` (a number) if given.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0
    group: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """``unix:PATH`` or ``tcp:HOST:PORT``; an IPv6 address stands in brackets. Raises UsageError."""
        kind, _, rest = text.partition(":")
        if kind == "unix" and rest:
            return cls(path=Path(rest))
        host, _, port = rest.rpartition(":")
        if kind == "tcp" and host and port.isascii() and port.isdigit() and int(port) < 1 << 16:
            return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))
        raise UsageError(f"cannot listen at {text!r}; give unix:PATH or tcp:HOST:PORT")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp:{host}:{self.port}"

    def bind(self) -> socket.socket:
        """A socket that listens there. Raises MissingComponent, RefusedOperation for a path that is in use."""
        try:
            return self._bind_unix(self.path) if self.path else self._bind_tcp()
        except OSError as error:
            raise MissingComponent(f"cannot listen at {self}: {error.strerror or error}") from error

    def _bind_unix(self, path: Path) -> socket.socket:
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if self.group is not None:
            os.chown(path, -1, self.group)
            path.chmod(_GROUP_MODE)
        listener.listen(_BACKLOG)
        return listener

    def _bind_tcp(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        return listener


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate and key shown to clients, and the authorities whose certificates clients must show."""

    certificate: Path
    key: Path
    client_authorities: Path

    def context(self) -> ssl.SSLContext:
        """A server's context: TLS 1.3, clients with a certificate only. Raises MissingComponent."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.client_authorities)
        except (OSError, ssl.SSLError) as error:
            names = f"{self.certificate}, {self.key}, {self.client_authorities}"
            raise MissingComponent(f"TLS cannot be set up with {names}: {error}") from error
        return context


class Server:
    """Serves one application at several places. A TCP endpoint needs ``tls``.

    Listening begins with :meth:`bind`, which raises UsageError, MissingComponent or RefusedOperation.
    """

    def __init__(
        self, app: FastAPI, endpoints: Sequence[Endpoint], *, tls: Tls | None = None, limits: Limits | None = None
    ) -> None:
        if any(endpoint.path is None for endpoint in endpoints) and tls is None:
            raise UsageError("TCP needs --tls-cert, --tls-key and --client-ca; without them use a unix socket")
        self._app = app
        self._endpoints = endpoints
        self._tls = tls
        self._limits = limits or Limits()
        self._servers: list[uvicorn.Server] = []
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None

    def bind(self) -> tuple[Endpoint, ...]:
        """Begin to listen; where, with the ports that the system chose."""
        context = self._tls.context() if self._tls else None
        _raise_file_limit(self._limits.connections)
        with ExitStack() as undo:
            for endpoint in self._endpoints:
                listener = endpoint.bind()
                undo.callback(listener.close)
                self._sockets.append(listener)
                self._servers.append(uvicorn.Server(self._config(None if endpoint.path else context)))
            undo.pop_all()
        return tuple(map(_bound, self._endpoints, self._sockets))

    def start(self) -> None:
        """Serve, in a thread of its own, until :meth:`stop`."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="serve")
        self._thread.start()

    def stop(self) -> None:
        """End. Answers under way have a few seconds."""
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    async def _run(self) -> None:
        pairs = zip(self._servers, self._sockets, strict=True)
        try:
            await asyncio.gather(*(server.serve([listener]) for server, listener in pairs))
        finally:
            for endpoint in self._endpoints:
                if endpoint.path is not None:
                    endpoint.path.unlink(missing_ok=True)

    def _config(self, context: ssl.SSLContext | None) -> uvicorn.Config:
        limits = self._limits
        config = uvicorn.Config(
            self._app,
            http=connection_class(limits),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=round(limits.idle),
            timeout_graceful_shutdown=_GRACE_SECONDS,
            h11_max_incomplete_event_size=limits.head,
            backlog=_BACKLOG,
        )
        if context is not None:
            config.ssl_context_factory = lambda _config, _default: context
        return config


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens at any more. Raises RefusedOperation for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RefusedOperation(f"{path}: is there and is no socket; name another place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:  # one that is too busy, or of another kind, is alive too
            raise RefusedOperation(f"{path}: another process listens there; end it, or name another place")
    path.unlink()


def _bound(endpoint: Endpoint, listener: socket.socket) -> Endpoint:
    if endpoint.path is not None:
        return endpoint
    host, port = listener.getsockname()[:2]
    return Endpoint(host=host, port=port)


def _raise_file_limit(connections: int) -> None:
    """Let the process have a file open for each connection, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, 2 * connections)) if hard != resource.RLIM_INFINITY else max(soft, 2 * connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
