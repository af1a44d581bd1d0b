"""Open files of more than one descriptor or process: copied, inherited by fork and by exec, sent over a socket."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, drain, in_process, in_thread, opened, opens, outcome
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

_PATIENCE = 20.0


class _Child:
    """A process with the descriptors of this one, until :meth:`end`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._write)
            os.read(self._read, 1)
            os._exit(0)
        os.close(self._read)

    def end(self) -> None:
        os.close(self._write)
        os.waitpid(self._child, 0)


@check
def the_last_of_two_copies_releases(bench: Bench) -> Any:
    first = os.open(bench.staged, WR)
    second = os.dup(first)
    os.close(first)
    one_left = in_process(lambda: opens(bench.plain, RD))
    os.close(second)
    return [one_left, in_process(lambda: opens(bench.plain, RD))]


@check
def a_forked_child_keeps_the_lock(bench: Bench) -> Any:
    descriptor = os.open(bench.staged, WR)
    child = _Child()
    os.close(descriptor)
    results = [opens(bench.plain, RD), opens(bench.plain, WR), in_process(lambda: opens(bench.plain, WR))]
    child.end()
    return [*results, opens(bench.plain, RD)]


@check
def a_forked_child_keeps_reading(bench: Bench) -> Any:
    descriptor = os.open(bench.plain, RD)
    child = _Child()
    os.close(descriptor)
    results = [opens(bench.staged, WR), opens(bench.plain, RD)]
    child.end()
    return [*results, opens(bench.staged, WR)]


@check
def a_forked_child_is_another_task(bench: Bench) -> Any:
    """It may write through what it inherited, but open nothing."""
    bench.measure(3)
    with opened(bench.staged, WR) as descriptor:

        def inherited() -> str:
            results = [opens(bench.plain, mode) for mode in (RD, WR, RW)]
            return " ".join([*results, outcome(os.write, descriptor, b"A\n")])

        result = in_process(inherited)
        own = opens(bench.plain, WR)
    return [result, own, bench.counters()]


@check
def another_thread_writes_through_the_same_descriptor(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.staged, WR) as descriptor:
        return [in_thread(lambda: outcome(os.write, descriptor, b"A\n")), in_thread(lambda: opens(bench.plain, WR))]


@check
def another_thread_closes(bench: Bench) -> Any:
    descriptor = os.open(bench.staged, WR)
    in_thread(lambda: os.close(descriptor))
    return [in_process(lambda: opens(bench.plain, RD)), in_process(lambda: opens(bench.plain, WR))]


@check
def a_descriptor_survives_exec(bench: Bench) -> Any:
    """The program that follows is the same task: it may open more, and holds what it was given."""
    script = (
        "import os, sys\n"
        "def opens(mode):\n"
        "    try: os.close(os.open(sys.argv[1], mode))\n"
        "    except OSError as error: return str(error.errno)\n"
        "    return 'ok'\n"
        "print(*[opens(mode) for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)])\n"
    )
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.set_inheritable(os.open(bench.staged, WR), True)
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", script, str(bench.plain)])
    os.close(write)
    text = drain(read).decode()
    os.close(read)
    os.waitpid(child, 0)
    return [text.split(), opens(bench.plain, RD)]


@check
def a_descriptor_is_closed_by_exec(bench: Bench) -> Any:
    """With O_CLOEXEC the lock ends as the next program begins."""
    child = os.fork()
    if child == 0:
        os.open(bench.staged, WR | os.O_CLOEXEC)
        os.execv("/bin/sleep", ["sleep", "60"])
    deadline = time.monotonic() + _PATIENCE
    while (result := opens(bench.plain, RD)) != "ok" and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return result


@check
def a_descriptor_sent_over_a_socket(bench: Bench) -> Any:
    """It holds the lock while it is under way, and its new owner is no writer by it."""
    bench.measure(1)
    ours, theirs = socket.socketpair()
    descriptor = os.open(bench.staged, WR)
    socket.send_fds(ours, [b"x"], [descriptor])
    os.close(descriptor)
    under_way = in_process(lambda: opens(bench.plain, RD))

    def receive() -> str:
        _, (received,), _, _ = socket.recv_fds(theirs, 1, 1)
        return " ".join([opens(bench.plain, WR), outcome(os.write, received, b"A\n")])

    result = in_process(receive)
    ours.close()
    theirs.close()
    return [under_way, result, in_process(lambda: opens(bench.plain, RD)), bench.counters()]


@check
def copies_share_the_position(bench: Bench) -> Any:
    bench.measure(3)
    with opened(bench.plain, RD) as first:
        second = os.dup(first)
        parts = [os.read(first, 50), os.read(second, 50), os.read(first, 50)]
        os.close(second)
    with opened(bench.plain, RD) as descriptor:
        return [os.read(descriptor, 150) == b"".join(parts), [len(part) for part in parts]]


@check
def two_opens_have_positions_of_their_own(bench: Bench) -> Any:
    bench.measure(3)
    with opened(bench.plain, RD) as first, opened(bench.plain, RD) as second:
        return [os.read(first, 50) == os.read(second, 50), os.read(first, 50) == os.read(second, 50)]


@check
def a_killed_writer_leaves_no_lock(bench: Bench) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.open(bench.staged, WR)
        os.write(write, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    held = opens(bench.plain, RD)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    return [held, opens(bench.plain, RD), opens(bench.staged, WR)]


@check
def the_lock_of_a_shell(bench: Bench) -> Any:
    """A redirection holds the file for the command that runs below it, which is another task."""
    bench.measure(2)
    script = f'exec 3> "{bench.staged}"; cat "{bench.plain}" | wc -c; echo 1 > "{bench.plain}" && echo done; echo A >&3'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    return [done.stdout.split(), attempt(lambda: len(done.stderr.splitlines())), bench.counters()]
