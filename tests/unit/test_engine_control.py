"""The engine's socket: questions, refusals, nonsense, and who may ask."""

import contextlib
import json
import resource
import socket
import threading
import time

import pytest

from imarium.engine.control import CONTROL, ask, is_running, serving
from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError

HELD: list[threading.Event] = []


def answer(request):
    match request.get("command"):
        case "echo":
            return {"got": request["text"]}
        case "usage":
            raise UsageError("make sense")
        case "missing":
            raise MissingComponent("not there")
        case "refused":
            raise RefusedOperation("would lose it")
        case "hold":
            HELD[0].wait(20)
    return {}


@pytest.fixture
def held():
    """Lets the answers to ``hold`` go."""
    found = threading.Event()
    HELD.append(found)
    yield found
    found.set()
    HELD.clear()


@pytest.fixture
def place(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with serving(deep, answer):
        yield deep


def raw(place, data, monkeypatch):
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(CONTROL)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


def test_questions_of_many_are_answered(place):
    got: list[object] = []

    def one(number):
        got.append(ask(place, {"command": "echo", "text": number})["got"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, got)) == sorted(map(str, range(40)))
    assert (place / CONTROL).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("command", "kind"), [("usage", UsageError), ("missing", MissingComponent), ("refused", RefusedOperation)]
)
def test_a_refusal_arrives_as_the_error_it_was(place, command, kind):
    with pytest.raises(kind):
        ask(place, {"command": command})


@pytest.mark.parametrize(
    "data", [b"\n", b"not json\n", b"[1]\n", b"3\n", b"\xff\xfe\n", b"[" * 50000 + b"\n", b'{"command": "echo"']
)
def test_nonsense_is_refused_and_the_next_is_answered(place, data, monkeypatch):
    assert "error" in json.loads(raw(place, data, monkeypatch))
    assert ask(place, {"command": "echo", "text": 1}) == {"got": 1}


def test_a_line_without_end_is_cut_off(place, monkeypatch):
    with contextlib.suppress(OSError):
        assert raw(place, b"x" * (3 << 20), monkeypatch) == b""
    assert ask(place, {"command": "echo", "text": 1}) == {"got": 1}


def test_one_that_is_silent_or_takes_long_keeps_no_other(place, held, monkeypatch):
    monkeypatch.chdir(place)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(15)]
        for number, connection in enumerate(slow):
            connection.connect(CONTROL)
            if number % 2:
                connection.sendall(b'{"command": "hold"}\n')
        assert ask(place, {"command": "echo", "text": 1}, patience=5) == {"got": 1}
        held.set()


def test_more_than_can_be_looked_after_are_not_answered_until_some_have_gone(place, held, monkeypatch, caplog):
    monkeypatch.chdir(place)
    monkeypatch.setattr("imarium.engine.control._PATIENCE", 1.0)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(16)]
        for connection in slow:
            connection.connect(CONTROL)
            connection.sendall(b'{"command": "hold"}\n')
        with pytest.raises(DeviceError, match="broke off"):
            ask(place, {"command": "echo", "text": 1}, patience=5)
        assert "16 requests take long" in caplog.text
        held.set()
        for connection in slow:
            assert connection.recv(100) == b"{}\n"
    assert ask(place, {"command": "echo", "text": 1}, patience=5) == {"got": 1}


def test_a_request_that_comes_by_drops_is_cut_off(place, monkeypatch):
    """What counts is how long all of it takes."""
    monkeypatch.setattr("imarium.engine.control._PATIENCE", 0.5)
    monkeypatch.chdir(place)
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, pytest.raises(BrokenPipeError):
        connection.connect(CONTROL)
        while time.monotonic() - begun < 10:
            connection.sendall(b" ")
            time.sleep(0.0002)
    assert time.monotonic() - begun < 5


def test_want_of_descriptors_does_not_end_the_answering(place, monkeypatch):
    monkeypatch.chdir(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
        try:
            waiting.connect(CONTROL)
            time.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ask(place, {"command": "echo", "text": 1}, patience=20) == {"got": 1}


def test_want_of_threads_does_not_end_the_answering(place, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr("imarium.engine.control.threading.Thread.start", _no_thread)
        for _ in range(20):
            with pytest.raises(DeviceError, match="broke off"):
                ask(place, {"command": "echo", "text": 1}, patience=20)
    assert "can't start new thread" in caplog.text
    assert ask(place, {"command": "echo", "text": 1}, patience=20) == {"got": 1}


def _no_thread(_thread):
    raise RuntimeError("can't start new thread")


def test_an_engine_that_too_many_ask_is_running(tmp_path):
    """Else another would be started beside it."""
    with contextlib.ExitStack() as stack:
        listener, *asking = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(3))
        listener.bind(str(tmp_path / CONTROL))
        listener.listen(0)
        with pytest.raises(BlockingIOError):
            for one in asking:
                one.setblocking(False)
                one.connect(str(tmp_path / CONTROL))
        with pytest.raises(DeviceError, match="too many"):
            is_running(tmp_path)


def test_others_are_not_answered(place, monkeypatch):
    monkeypatch.setattr("imarium.engine.control.os.geteuid", lambda: 12345)
    monkeypatch.setattr("imarium.engine.control._CREDENTIALS", _Someone())
    with pytest.raises(DeviceError, match="broke off"):
        ask(place, {"command": "echo", "text": 1})


class _Someone:
    size = 12

    def unpack(self, _data):
        return 1, 54321, 0


def test_no_engine(tmp_path):
    with pytest.raises(MissingComponent, match="no engine is running here"):
        ask(tmp_path, {})
    with pytest.raises(MissingComponent, match="ever started"):
        ask(tmp_path / "nowhere", {})


def test_the_socket_of_a_killed_engine_does_not_keep_the_next_from_starting(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / CONTROL))
    with pytest.raises(MissingComponent, match="no engine"):
        ask(tmp_path, {})
    assert not is_running(tmp_path)
    with serving(tmp_path, answer):
        assert is_running(tmp_path)
        assert ask(tmp_path, {"command": "echo", "text": 1}) == {"got": 1}
    assert not (tmp_path / CONTROL).exists()
