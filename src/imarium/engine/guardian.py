"""A process of its own that ends this one if it stands still, so that the kernel lets everybody go.

A watch stops the machine if its process cannot run: because it was stopped by a signal, or because one thread keeps all
the others from running. No thread of it can help then.
"""

import os
import subprocess
import sys
import threading
from typing import Self

from imarium.errors import MissingComponent

__all__ = ["Guardian"]

_PROGRAM = """
import os, select, signal, sys
process, patience = int(sys.argv[1]), float(sys.argv[2])
engine = os.pidfd_open(process)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.write(1, b"!")
while select.select([0], [], [], patience)[0]:
    if not os.read(0, 4096):
        sys.exit(0)
signal.pidfd_send_signal(engine, signal.SIGKILL)
"""
"""It opens no file any more once it has said that it is ready."""


class Guardian:
    """Watches over this process while the block runs: it must say within ``patience`` seconds that it is alive."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Raises MissingComponent where it cannot be started."""
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid()), str(self._patience)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise MissingComponent(f"cannot start the guardian of the watch: {error.strerror}") from error
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both were asked for
        os.set_blocking(process.stdin.fileno(), False)
        with process.stdout:
            ready = process.stdout.read(1)
        self._process = process
        if ready != b"!":
            self.__exit__()
            raise MissingComponent("the guardian of the watch has ended at once; it takes pidfd_open(2)")
        return self

    def __exit__(self, *_error: object) -> None:
        """It is ended, also where it was stopped."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.kill()
            process.wait()

    @property
    def process(self) -> int | None:
        """Its process, while it runs."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Say that this process is alive; whether the guardian is.

        Never waits: what was said before is enough if it was not taken yet.
        """
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                try:
                    os.write(self._process.stdin.fileno(), b".")
                except BlockingIOError:
                    return True
                except OSError:
                    return False
            return True
