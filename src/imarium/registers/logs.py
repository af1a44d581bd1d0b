"""Where the event logs of a provider's registers are kept."""

import os
from dataclasses import dataclass
from pathlib import Path

from imarium.registers.description import Register
from imarium.registers.eventlog import EventLog
from imarium.registers.provider import Provider

__all__ = ["LoggedProvider", "default_directory"]


def default_directory(provider: Provider) -> Path:
    """Where a provider's logs are unless told: below /var/lib for root, else in the user's state directory."""
    if os.geteuid() == 0:
        base = Path("/var/lib/imarium")
    else:
        state = os.environ.get("XDG_STATE_HOME")
        base = (Path(state) if state else Path.home() / ".local" / "state") / "imarium"
    return base / "registers" / provider.identity


@dataclass(frozen=True, slots=True)
class LoggedProvider:
    """A provider and the directory of its registers' logs. ``patience``, in seconds, is that of :class:`EventLog`."""

    provider: Provider
    directory: Path
    patience: float = 10.0

    def log(self, register: Register) -> EventLog:
        """The register's event log. Raises RegisterReadOnly for a register that is not extensible."""
        return EventLog(self.provider, register, self.directory, patience=self.patience)
