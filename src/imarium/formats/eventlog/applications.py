"""Application events: what user space extends into a register, in the form of the confidential-containers project.

The attestation agent appends them to the CC event log it hands on (the AAEL): EV_EVENT_TAG events with the tag AAEL,
whose text is a domain, an operation and a content, set apart by single spaces.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.eventlog.kinds import EV_EVENT_TAG, Index
from imarium.formats.eventlog.log import Event
from imarium.formats.tdx.cursor import LittleEndianCursor

__all__ = ["AAEL_TAG", "ApplicationEvent", "TaggedEvent", "application_events", "parse_tagged_event"]

AAEL_TAG = int.from_bytes(b"AAEL", "big")
"""The tag of an application event."""

_WHAT = "TCG_PCClientTaggedEvent"


@dataclass(frozen=True, slots=True)
class TaggedEvent:
    """TCG_PCClientTaggedEvent: TCG PC Client Platform Firmware Profile, section 10.4.2.1."""

    tag: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ApplicationEvent:
    """One application event. ``number`` is that of the event in its log; ``content`` may have spaces."""

    number: int
    domain: str
    operation: str
    content: str


def parse_tagged_event(data: bytes) -> TaggedEvent:
    """The tagged event that the data of an EV_EVENT_TAG event is, to the last byte. Raises MalformedInput."""
    cursor = LittleEndianCursor(data, _WHAT)
    tag = cursor.u32("tag")
    body = cursor.take(cursor.u32("size"), "tagged data")
    cursor.end()
    return TaggedEvent(tag, body)


def application_events(events: Iterable[Event[Index]]) -> Iterator[ApplicationEvent]:
    """The application events among ``events``; EV_EVENT_TAG events that are not marked as such are passed over.

    Raises MalformedInput for one that is marked and broken.
    """
    mark = AAEL_TAG.to_bytes(4, "little")
    for event in events:
        if event.type != EV_EVENT_TAG or not event.data.startswith(mark):
            continue
        text = parse_tagged_event(event.data).data
        expected = "UTF-8 text: a domain, an operation and a content"
        try:
            domain, operation, content = text.decode().split(" ", 2)
        except ValueError as error:
            raise MalformedInput(_WHAT, offset=8, expected=expected, found=repr(text[:60])) from error
        yield ApplicationEvent(event.number, domain, operation, content)
