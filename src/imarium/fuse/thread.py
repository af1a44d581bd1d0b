"""A mount in a thread of its own, for a process that does other things too."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium.errors import ImariumError, MissingComponent
from imarium.fuse.adapter import mount
from imarium.fuse.place import unmount
from imarium.fuse.tree import FileTree

__all__ = ["Mount", "mounted"]

_PATIENCE = 5.0


class Mount:
    """A tree that is mounted, until it is unmounted or the process is told to end."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether it was unmounted, or a signal asks for that."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, at most so long; whether it came."""
        return self._ended.wait(seconds)

    def end(self) -> None:
        """Let :meth:`wait` return. Unmounting is done where the ``with`` block is left."""
        self._ended.set()


@contextmanager
def mounted(tree: FileTree, place: Path, *, fsname: str, allow_other: bool = False) -> Iterator[Mount]:
    """Serve the tree at ``place`` in a thread while the ``with`` block runs; then unmount.

    Called in the main thread, SIGTERM and SIGHUP end :meth:`Mount.wait`, unless the caller has handlers of its own.
    Raises what :func:`imarium.fuse.mount` raises.
    """
    found, answered = Mount(), threading.Event()
    failures: list[ImariumError] = []

    def serve() -> None:
        try:
            mount(tree, place, fsname=fsname, ready=answered.set, allow_other=allow_other)
        except ImariumError as error:
            failures.append(error)
        finally:
            found.end()
            answered.set()

    with _signals_end(found):
        thread = threading.Thread(target=serve, name=fsname, daemon=True)
        thread.start()
        answered.wait()
        try:
            if failures:
                raise failures[0]
            yield found
        finally:
            _end(thread, place)


def _end(thread: threading.Thread, place: Path) -> None:
    if thread.is_alive():
        try:
            unmount(place)
        except MissingComponent:  # somebody else unmounted it just now, or nobody can
            thread.join(_PATIENCE)
            if thread.is_alive():
                raise
    thread.join()


@contextmanager
def _signals_end(found: Mount) -> Iterator[None]:
    """libfuse takes every signal that has no handler yet, and would then wait for a next request before it looks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.Handlers.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, lambda *_: found.end())
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
