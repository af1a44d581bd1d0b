"""The custody API over real sockets: who may connect, slow and greedy clients, many at once, a service that dies."""

from __future__ import annotations

import asyncio
import http.client
import os
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.real.serving import Authority, UnixClient, plain, served
from tests.unit.builders import binary, ng
from tests.unit.test_index import MADE, filled
from tests.waiting import PATIENCE, until

from imarium.custody import Event, Store
from imarium.custody.indexing import write_index
from imarium.errors import MissingComponent, RefusedOperation, UsageError
from imarium.web import Endpoint, Holding, Limits, Server, Tls, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from imarium.custody import Log

FAST = Limits(head_seconds=0.4, body_seconds=0.4, stall=0.5, idle=1, head=4096)
SOON = 8.0
"""Seconds within which who is too slow for :data:`FAST` is cut off, and nobody is by the usual limits."""


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = filled(tmp_path / "store")
    write_index(log)
    return log


@pytest.fixture
def app(log: Log) -> FastAPI:
    return create_app([Holding("here", Store(log.directory.parents[1]))])


@pytest.fixture
def place(app: FastAPI, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    with served(app, [Endpoint(path=path)]):
        yield path
    assert not path.exists()


@pytest.fixture
def hasty(log: Log, tmp_path: Path) -> Iterator[Path]:
    """The same where a slow client is soon cut off."""
    app = create_app([Holding("here", Store(log.directory.parents[1]))], limits=FAST)
    with served(app, [Endpoint(path=tmp_path / "hasty")], limits=FAST):
        yield tmp_path / "hasty"


def test_a_unix_socket_is_its_owners(place: Path) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    status, body = UnixClient(place).ask("GET", "/v1/logs/0/records?from=1000")
    assert (status, body) == (200, binary(MADE[1000:]))


def test_a_unix_socket_may_be_a_groups(app: FastAPI, tmp_path: Path) -> None:
    with served(app, [Endpoint(path=tmp_path / "socket", group=4242)]):
        status = (tmp_path / "socket").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 4242)


def test_a_place_that_is_taken_is_refused_and_a_dead_one_taken_over(app: FastAPI, tmp_path: Path, place: Path) -> None:
    with pytest.raises(RefusedOperation, match="another process listens"):
        Server(app, [Endpoint(path=place)]).bind()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RefusedOperation, match="no socket"):
        Server(app, [Endpoint(path=tmp_path / "file")]).bind()
    with pytest.raises(MissingComponent, match="cannot listen"):
        Server(app, [Endpoint(path=tmp_path / "nowhere" / "socket")]).bind()
    assert UnixClient(place).ask("GET", "/v1/logs")[0] == 200


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_is_too_busy_to_answer_or_of_another_kind_is_left_alone(
    app: FastAPI, tmp_path: Path, kind: socket.SocketKind
) -> None:
    path = tmp_path / "busy"
    with ExitStack() as opened:
        taken = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
        taken.bind(str(path))
        if kind == socket.SOCK_STREAM:
            taken.listen(0)
            for _ in range(3):
                waiting = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
                waiting.setblocking(False)
                waiting.connect_ex(str(path))
        with pytest.raises(RefusedOperation, match="another process listens"):
            Server(app, [Endpoint(path=path)]).bind()
        assert path.exists()
    Endpoint(path=path).bind().close()  # a dead one of either kind is taken over


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path, "authority")


def over_tls(port: int, context: ssl.SSLContext) -> int:
    client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        client.request("GET", "/v1/logs/0")
        return client.getresponse().status
    finally:
        client.close()


def test_tcp_is_for_clients_with_a_certificate(app: FastAPI, tmp_path: Path, authority: Authority) -> None:
    tls = Tls(*authority.sign("server"), authority.path)
    stranger = Authority.make(tmp_path, "stranger")
    places = [Endpoint.parse("tcp:127.0.0.1:0"), Endpoint(path=tmp_path / "socket")]
    with served(app, places, tls=tls) as (tcp, unix):
        assert (tcp.host, unix.path) == ("127.0.0.1", tmp_path / "socket")
        known = authority.client(authority.sign("client"))
        assert over_tls(tcp.port, known) == 200
        for context in (authority.client(), authority.client(stranger.sign("other"))):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                over_tls(tcp.port, context)
        known.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            over_tls(tcp.port, known)
        assert UnixClient(tmp_path / "socket").ask("GET", "/v1/logs/0")[0] == 200


def test_tcp_without_tls_is_refused(app: FastAPI, tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(UsageError, match="TCP needs"):
        Server(app, [Endpoint.parse("tcp:127.0.0.1:0")])
    good = authority.sign("server")
    (tmp_path / "empty").write_bytes(b"")
    for tls in (Tls(good[0], tmp_path / "none", authority.path), Tls(*good, tmp_path / "empty")):
        with pytest.raises(MissingComponent, match="TLS cannot be set up"):
            Server(app, [Endpoint.parse("tcp:127.0.0.1:0")], tls=tls).bind()


# Slow and greedy clients


def ended(path: Path, data: bytes) -> bytes:
    """Sends, and reads until the service ends the connection, soon."""
    with plain(path, SOON) as sock:
        sock.sendall(data)
        found = b""
        while part := _received(sock):
            found += part
        return found


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except ConnectionResetError:
        return b""


def test_a_client_that_sends_no_request_is_cut_off(hasty: Path) -> None:
    assert ended(hasty, b"") == b""
    assert ended(hasty, b"GET /v1/logs HTTP/1.1\r\nHost: x") == b""
    assert b" 408 " in ended(hasty, b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")


def test_a_client_that_sends_its_request_byte_by_byte_is_cut_off(hasty: Path) -> None:
    with plain(hasty) as sock:
        begun = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for byte in b"GET /v1/logs HTTP/1.1\r\nHost: " + b"x" * 1000:
                sock.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun < SOON


def test_a_head_that_is_too_long_is_refused(hasty: Path) -> None:
    assert b" 400 " in ended(hasty, b"GET /v1/logs HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert b" 400 " in ended(hasty, b"\x16\x03\x01\x02\x00" * 100)


def test_a_client_that_takes_nothing_is_cut_off(hasty: Path, place: Path, log: Log) -> None:
    data = binary([ng(b"/more/%d" % number) for number in range(50_000)])
    with log.list_path.open("ab") as file:
        file.write(data)
    log.grow(50_000, len(data))
    log.note(Event.KEPT, "boot", base=0)
    with plain(hasty) as sock:
        sock.sendall(b"GET /v1/logs/0/records HTTP/1.1\r\nHost: x\r\n\r\n")
        hung_up = select.poll()
        hung_up.register(sock, select.POLLHUP)
        assert hung_up.poll(25_000), "not before the usual limit"
        found = b""
        while part := _received(sock):
            found += part
        assert 0 < len(found) < len(data)
    assert UnixClient(place).ask("GET", "/v1/logs/0")[0] == 200


def test_evidence_that_a_client_does_not_take_is_held_and_counted_until_it_goes(log: Log, tmp_path: Path) -> None:
    evidence = bytes(range(256)) * (1 << 16)
    store = Store(log.directory.parents[1])
    holding = Holding("here", store, quote=lambda _nonce, _first, _view: evidence)
    limits = Limits(held=len(evidence) - 1)
    body = b'{"nonce": "5a5a5a5a5a5a5a5a"}'
    with served(create_app([holding], limits=limits), [Endpoint(path=tmp_path / "held")], limits=limits):

        def ask() -> tuple[int, bytes]:
            return UnixClient(tmp_path / "held").ask("POST", "/v1/quote", body, content_type="application/json")

        def takes_nothing() -> bool:
            greedy.append(plain(tmp_path / "held"))
            head = b"POST /v1/quote HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            greedy[-1].sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return b" 200 " in greedy[-1].recv(15)

        greedy: list[socket.socket] = []
        assert ask() == (200, evidence)
        until(takes_nothing)  # the first is let go of a moment after it was sent
        for _ in range(3):
            status, answer = ask()
            assert (status, b"too_much_evidence" in answer) == (503, True)
        for sock in greedy:
            sock.close()
        until(lambda: ask() == (200, evidence))


@pytest.mark.parametrize("query", ["form=ascii", "form=json", "bank=sha256"])
def test_an_answer_that_cannot_be_finished_breaks_off(
    place: Path, log: Log, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    with log.list_path.open("r+b") as file:
        file.seek(log.offset_of(4000))
        file.write(b"\xff" * 40)
    client = UnixClient(place)
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        client.ask("GET", f"/v1/logs/0/records?{query}")
    assert "an answer broke off: record 4000" in caplog.text
    assert "Traceback" not in caplog.text
    assert UnixClient(place).ask("GET", f"/v1/logs/0/records?{query}&to=3999")[0] == 200


def test_more_connections_than_allowed_are_turned_away(app: FastAPI, tmp_path: Path) -> None:
    limits = Limits(connections=10)
    with served(app, [Endpoint(path=tmp_path / "few")], limits=limits):
        socks = [plain(tmp_path / "few") for _ in range(12)]
        assert UnixClient(tmp_path / "few").ask("GET", "/v1/logs")[0] == 503
        for sock in socks:
            sock.close()
        until(lambda: UnixClient(tmp_path / "few").ask("GET", "/v1/logs")[0] == 200)


# Many at once


def test_many_clients_at_different_places_get_what_they_ask_for(place: Path) -> None:
    async def ask(first: int) -> bool:
        reader, writer = await asyncio.open_unix_connection(str(place))
        writer.write(b"GET /v1/logs/0/records?from=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % first)
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2] == binary(MADE[first:])

    async def run() -> list[bool]:
        return await asyncio.gather(*(ask(number * 10) for number in range(500)))

    assert all(asyncio.run(run()))


def test_news_reaches_many_who_wait_and_one_who_left_does_no_harm(place: Path, log: Log) -> None:
    results: list[bytes] = []

    def wait() -> None:
        results.append(UnixClient(place).ask("GET", "/v1/logs/newest/records?from=5000&wait=60")[1])

    gone = plain(place)
    gone.sendall(b"GET /v1/logs/newest/records?from=5000&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
    threads = [threading.Thread(target=wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    until(lambda: b'"waiting":51' in UnixClient(place).ask("GET", "/v1/status")[1])
    gone.close()
    until(lambda: b'"waiting":50' in UnixClient(place).ask("GET", "/v1/status")[1])
    news = ng(b"/new").binary()
    with log.list_path.open("ab") as file:
        file.write(news)
    log.grow(1, len(news))
    log.note(Event.KEPT, "boot", base=0)
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [news] * 50


def test_a_service_that_ends_lets_go_of_those_who_wait(app: FastAPI, tmp_path: Path) -> None:
    server = Server(app, [Endpoint(path=tmp_path / "socket")])
    server.bind()
    server.start()
    with plain(tmp_path / "socket") as sock:
        sock.sendall(b"GET /v1/logs/newest/records?from=5000&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: b'"waiting":1' in UnixClient(tmp_path / "socket").ask("GET", "/v1/status")[1])
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 30
    assert not server.is_alive


SERVICE = """
import sys
from pathlib import Path
from imarium.custody import Store
from imarium.web import Endpoint, Holding, Server, create_app
place = Path(sys.argv[1])
server = Server(create_app([Holding("here", Store(place / "store"))]), [Endpoint(path=place / "socket")])
server.bind()
server.start()
print("listening", flush=True)
"""


@pytest.fixture
def killable(tmp_path: Path, log: Log) -> Iterator[subprocess.Popen[bytes]]:
    assert log.records == len(MADE)
    process = _service(tmp_path)
    yield process
    process.kill()
    process.wait()


def _service(tmp_path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SERVICE, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    return process


def test_a_service_that_was_killed_is_started_again_at_the_same_place(
    killable: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    before = UnixClient(tmp_path / "socket").ask("GET", "/v1/logs/0/records?from=4000")
    os.kill(killable.pid, signal.SIGKILL)
    killable.wait()
    assert (tmp_path / "socket").exists()
    again = _service(tmp_path)
    try:
        assert UnixClient(tmp_path / "socket").ask("GET", "/v1/logs/0/records?from=4000") == before
    finally:
        again.kill()
        again.wait()


@pytest.mark.parametrize("text", ["unix:", "tcp:1", "tcp::1", "tcp:host:99999", "tcp:host:x", "http://x", "", "unix"])
def test_places_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="cannot listen at"):
        Endpoint.parse(text)


def test_places() -> None:
    for text in ("unix:/run/x", "tcp:127.0.0.1:80", "tcp:[::1]:8080", "tcp:host:0"):
        assert str(Endpoint.parse(text)) == text
