"""Where the event logs of a provider's registers are kept."""

import os
from dataclasses import dataclass
from pathlib import Path

from imarium.errors import MissingComponent
from imarium.registers.description import Register
from imarium.registers.eventlog import EventLog
from imarium.registers.provider import Provider

__all__ = ["LoggedProvider", "default_directory"]


def default_directory(provider: Provider) -> Path:
    """Where a provider's logs are unless told: below /var/lib for root, else in the user's state directory.

    Raises MissingComponent for a user without a home.
    """
    return _state() / "imarium" / "registers" / provider.identity


def _state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib")
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG Base Directory Specification has others ignored
        return state
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise MissingComponent("you have no home directory to keep logs in; name a directory with --log") from error


@dataclass(frozen=True, slots=True)
class LoggedProvider:
    """A provider and the directory of its registers' logs. ``patience``, in seconds, is that of :class:`EventLog`."""

    provider: Provider
    directory: Path
    patience: float = 10.0

    def log(self, register: Register) -> EventLog:
        """The register's event log. Raises RegisterReadOnly for a register that is not extensible."""
        return EventLog(self.provider, register, self.directory, patience=self.patience)
