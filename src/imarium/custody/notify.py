"""What a service tells the service manager: the datagrams of sd_notify(3), and nothing where there is none.

See systemd's ``sd_notify(3)`` and ``sd_watchdog_enabled(3)``. A message that cannot be delivered is no reason to stop
keeping records, so nothing here raises; :meth:`Notifier.send` says whether it was delivered.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Notifier"]

_LONGEST = 1 << 10
"""Most bytes of a value: a status is a line for people."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """Talks to the service manager. ``address`` is its socket, empty where there is none.

    ``watchdog`` is in how many seconds it wants to hear that all is well, None if it does not.
    """

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Notifier":
        """As ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` have it."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        microseconds = environment.get("WATCHDOG_USEC", "")
        wanted = microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address, int(microseconds) / 1e6 if wanted and ours else None)

    def ready(self, status: str) -> bool:
        """The service has started."""
        return self.send(READY="1", STATUS=status)

    def stopping(self, status: str) -> bool:
        """The service is about to end."""
        return self.send(STOPPING="1", STATUS=status)

    def alive(self) -> bool:
        """All is well: the watchdog begins to count anew."""
        return self.send(WATCHDOG="1")

    def status(self, status: str) -> bool:
        """What the service does, one line for people."""
        return self.send(STATUS=status)

    def send(self, **assignments: str) -> bool:
        """Send a message; whether it was delivered."""
        if not self.address:
            return False
        lines = [f"{name}={' '.join(value.split())}" for name, value in assignments.items()]
        message = "\n".join(line.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore") for line in lines)
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
                to_manager.setblocking(False)
                to_manager.connect(path)
                to_manager.send(message.encode())
        except OSError:
            return False
        return True
