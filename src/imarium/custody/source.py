"""Where measurement lists come from: the protocol of :class:`imarium.securityfs.ImaDirectory` and of its stand-ins."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from imarium.errors import MissingComponent

__all__ = ["HeldLists", "Lists", "Method", "Source", "WantedMethod", "choose_method", "read_all"]

Method = Literal["prompt", "trim", "follow"]
"""``prompt`` stages, keeps and deletes in one go; ``trim`` keeps, and deletes by number without staging; ``follow``
keeps what is new and deletes nothing."""

WantedMethod = Literal["auto", "prompt", "trim", "follow"]


class Lists(Protocol):
    """Both lists of a source at one moment, to be read as often as is needed. The current one grows meanwhile."""

    def staged(self) -> Iterator[bytes]:
        """The staged records in blocks, from the first."""

    def current(self) -> Iterator[bytes]:
        """The current records in blocks, from the first."""


class HeldLists(Lists, Protocol):
    """Both lists of a source, held so that no one else reads, stages or deletes. Measuring goes on."""

    def stage(self) -> None:
        """Move all current records to the staged list."""

    def delete_staged(self) -> None:
        """Delete the staged records."""

    def delete(self, records: int) -> None:
        """Delete the ``records`` oldest current records."""


class Source(Protocol):
    """A source of lists. Errors are those of :mod:`imarium.securityfs`."""

    @property
    def has_staging(self) -> bool:
        """Whether records can be staged and deleted."""

    def can_delete(self) -> bool:
        """Whether this process may do so."""

    def count(self) -> int:
        """How many records the current list has; staged ones do not count."""

    def hold(self) -> AbstractContextManager[HeldLists]:
        """Lock everyone else out."""

    def snapshot(self) -> AbstractContextManager[Lists]:
        """Both lists at one moment."""


def read_all(lists: Lists) -> Iterator[bytes]:
    """All that the kernel has, in blocks: the staged and then the current records."""
    yield from lists.staged()
    yield from lists.current()


def choose_method(source: Source, wanted: WantedMethod) -> tuple[Method, str]:
    """The method to use, and why. Raises MissingComponent if one is wanted that needs staging where there is none."""
    if wanted == "follow":
        return "follow", "asked for"
    if wanted != "auto":
        if not source.has_staging:
            raise MissingComponent("the kernel has no staging (CONFIG_IMA_STAGING, Linux 7.2); use --method follow")
        return wanted, "asked for"
    if not source.has_staging:
        return "follow", "the kernel has no staging files"
    if not source.can_delete():
        return "follow", "the staging files may not be opened for write"
    return "prompt", "the kernel has staging files"
