"""Locks on files: one holder, given back at its end, and never opened for reading."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest

from imarium.errors import MissingComponent, RefusedOperation
from imarium.locks import locked

BUSY = RefusedOperation("someone else has it")


def test_one_holds_it_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with locked(path), pytest.raises(RefusedOperation, match="someone else has it"), locked(path, busy=BUSY):
        pytest.fail("two held it")
    with locked(path, busy=BUSY):
        assert path.stat().st_mode & 0o777 == 0o600


def test_it_waits_for_the_holder(tmp_path):
    path, order = tmp_path / "lock", []

    def second():
        with locked(path):
            order.append("second")

    with locked(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


def test_an_error_gives_it_back(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path, busy=BUSY):
        pass


def test_who_inherits_it_holds_it_too(tmp_path):
    path = tmp_path / "lock"
    with locked(path) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    try:
        with pytest.raises(RefusedOperation), locked(path, busy=BUSY):
            pytest.fail("two held it")
    finally:
        child.communicate(b"\n", timeout=60)
    with locked(path, busy=BUSY):
        pass


def test_it_is_not_opened_for_reading(tmp_path):
    with locked(tmp_path / "lock") as descriptor:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        assert not os.get_inheritable(descriptor)


def test_what_cannot_be_opened_is_missing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path, advice in (
        (tmp_path / "none" / "lock", "name a place that is there"),
        (tmp_path / "link", "give access"),
        (tmp_path, "give access"),
    ):
        with pytest.raises(MissingComponent, match=advice), locked(path):
            pytest.fail("it was opened")
    assert not (tmp_path / "elsewhere").exists()
