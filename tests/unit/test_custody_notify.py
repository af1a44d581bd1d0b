"""sd_notify over real datagram sockets."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from imarium.custody.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The service manager's end: the address it gives to services, and its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(60)
        if request.param == "path":
            address = str(tmp_path / "notify")
            listening.bind(address)
        else:
            address = f"@imarium-test-{os.getpid()}"
            listening.bind("\0" + address[1:])
        yield address, listening


def test_messages_arrive_as_systemd_reads_them(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    assert notifier.ready("keeping 2 sources")
    assert listening.recv(4096) == b"READY=1\nSTATUS=keeping 2 sources"
    assert notifier.alive()
    assert listening.recv(4096) == b"WATCHDOG=1"
    assert notifier.stopping("drains once more")
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=drains once more"


def test_a_status_is_one_line_of_bounded_length(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    notifier = Notifier(address)
    assert notifier.status("a\nREADY=1\n\0b" + "ü" * 5000)
    message = listening.recv(1 << 16)
    assert message.startswith(b"STATUS=a READY=1 \0b")
    assert (message.count(b"\n"), len(message) <= 1024) == (0, True)
    message.decode()


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_or_none(environment: dict[str, str], watchdog: float | None) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/run/n", **environment}).watchdog == watchdog


@pytest.mark.parametrize("address", ["", "relative", "unix:/run/n"])
def test_without_a_manager_nothing_is_sent(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert notifier == Notifier()
    assert not notifier.ready("x")


def test_a_manager_that_is_gone_or_full_stops_nothing(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "none")).alive()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        delivered = [Notifier(str(tmp_path / "deaf")).alive() for _ in range(2000)]
    assert delivered[0]
    assert not delivered[-1]
