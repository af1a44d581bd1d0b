"""Where the event logs of a provider's registers are kept."""

from dataclasses import dataclass
from pathlib import Path

from imarium import durable
from imarium.registers.description import Register
from imarium.registers.eventlog import EventLog
from imarium.registers.provider import Provider

__all__ = ["LoggedProvider", "default_directory"]


def default_directory(provider: Provider) -> Path:
    """Where a provider's logs are unless told. Raises MissingComponent for a user without a home."""
    return durable.state_directory("--log") / "registers" / provider.identity


@dataclass(frozen=True, slots=True)
class LoggedProvider:
    """A provider and the directory of its registers' logs. ``patience``, in seconds, is that of :class:`EventLog`."""

    provider: Provider
    directory: Path
    patience: float = 10.0

    def log(self, register: Register) -> EventLog:
        """The register's event log. Raises RegisterReadOnly for a register that is not extensible."""
        return EventLog(self.provider, register, self.directory, patience=self.patience)
