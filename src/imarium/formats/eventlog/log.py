"""Crypto-agile event logs: a header event, then one event after the other.

TCG PC Client Platform Firmware Profile, section 10.2 (TCG_PCClientPCREvent, TCG_EfiSpecIDEvent, TCG_PCR_EVENT2). The
header lists the hash algorithms and the sizes of their digests, so that an algorithm imarium does not know does no
harm. Everything in a log is a claim until its replay gives the value of a register.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, cast

from imarium.formats.eventlog.kinds import EV_NO_ACTION, Index, LogKind, event_type_name
from imarium.formats.tdx.cursor import LittleEndianCursor
from imarium.hashes import HashAlgorithm, by_tcg_id

__all__ = ["MAX_ALGORITHMS", "MAX_LOG_SIZE", "Event", "EventLog", "parse_event_log"]

MAX_LOG_SIZE = 16 << 20
"""No firmware sets aside an area near this many bytes; longer input is refused before it is looked at."""

MAX_ALGORITHMS = 16
"""The TCG has eight hash algorithms for registers."""

_SIGNATURE = b"Spec ID Event03\0"
_SHA1_SIZE = 20
_MAX_DIGEST = 128
_EMPTY_EVENT = bytes(12)
_END_MARK = b"\xff" * 4


@dataclass(frozen=True, slots=True)
class Event(Generic[Index]):
    """One event. ``number`` counts from 0, without the header; ``offset`` is its first byte in the log.

    ``digests`` are by TPM_ALG_ID, one for each algorithm of the log. ``data`` is what the event says of itself; the
    digest is over it for some types only.
    """

    number: int
    offset: int
    register: Index
    type: int
    digests: Mapping[int, bytes]
    data: bytes

    @property
    def type_name(self) -> str:
        """The name of its type, such as ``EV_SEPARATOR``."""
        return event_type_name(self.type)

    @property
    def extends(self) -> bool:
        """Whether its digests were extended into its register."""
        return self.type != EV_NO_ACTION

    def digest(self, bank: HashAlgorithm) -> bytes | None:
        """Its digest in ``bank``, or None where the log has none."""
        return self.digests.get(bank.tcg_id)

    def hashes_data(self, bank: HashAlgorithm) -> bool:
        """Whether its digest in ``bank`` is the digest of its data. Raises MissingComponent."""
        return self.digest(bank) == bank.digest(self.data)


@dataclass(frozen=True, slots=True)
class EventLog(Generic[Index]):
    """A log of which the header was read. Iterate it for the events; that raises MalformedInput where one is broken.

    ``sizes`` are those of the digests, by TPM_ALG_ID, in the log's order. ``start`` is where the events begin.
    """

    kind: LogKind[Index]
    data: bytes
    sizes: Mapping[int, int]
    vendor: bytes
    start: int

    @property
    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The algorithms of the log that imarium knows."""
        known = (by_tcg_id(identifier) for identifier in self.sizes)
        return tuple(algorithm for algorithm in known if algorithm is not None)

    def __iter__(self) -> Iterator[Event[Index]]:
        cursor = LittleEndianCursor(self.data, self.kind.name)
        cursor.offset = self.start
        number = 0
        while not _ended(cursor, self.data, padded=self.kind.padded):
            yield _event(cursor, self, number)
            number += 1


def parse_event_log(data: bytes, kind: LogKind[Index]) -> EventLog[Index]:
    """Reads the header of a log of ``kind``. Raises MalformedInput, also for a log without header: SHA-1 only."""
    cursor = LittleEndianCursor(data, kind.name)
    if len(data) > MAX_LOG_SIZE:
        raise cursor.fail(f"at most {MAX_LOG_SIZE} bytes", f"{len(data)}")
    _register(cursor, kind)
    at = cursor.offset
    number = cursor.u32("event type")
    cursor.take(_SHA1_SIZE, "digest")
    size = cursor.u32("event size")
    if number != EV_NO_ACTION or data[cursor.offset : cursor.offset + len(_SIGNATURE)] != _SIGNATURE:
        raise cursor.fail("the header of a crypto-agile log", event_type_name(number), at=at)
    header = LittleEndianCursor(cursor.take(size, "specification ID event"), f"{kind.name}, header")
    header.take(len(_SIGNATURE) + 8, "signature, platform class and version")
    sizes = _sizes(header)
    vendor = header.take(header.take(1, "the size of the vendor information")[0], "vendor information")
    header.end()
    return EventLog(kind, data, sizes, vendor, cursor.offset)


def _sizes(header: LittleEndianCursor) -> dict[int, int]:
    at = header.offset
    count = header.u32("number of algorithms")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise header.fail(f"1 to {MAX_ALGORITHMS} algorithms", f"{count}", at=at)
    sizes: dict[int, int] = {}
    for _ in range(count):
        at = header.offset
        identifier, size = header.u16("algorithm"), header.u16("digest size")
        known = by_tcg_id(identifier)
        if identifier in sizes or not 1 <= size <= _MAX_DIGEST or (known is not None and known.size != size):
            raise header.fail("each algorithm once, with its size", f"{identifier:#06x} with {size}", at=at)
        sizes[identifier] = size
    return sizes


def _ended(cursor: LittleEndianCursor, data: bytes, *, padded: bool) -> bool:
    """Whether the log ends here: with its last byte, or with padding of zeros or ones to the end of its area."""
    at = cursor.offset
    if at == len(data):
        return True
    if not padded:
        return False
    for start, byte in ((_END_MARK, b"\xff"), (_EMPTY_EVENT, b"\0")):
        if data.startswith(start[: len(data) - at], at):
            if data.count(byte, at) != len(data) - at:
                raise cursor.fail("padding of one kind up to the end", "other bytes in it")
            return True
    return False


def _register(cursor: LittleEndianCursor, kind: LogKind[Index]) -> Index:
    at = cursor.offset
    number = cursor.u32("register")
    if number >= kind.registers:
        raise cursor.fail(f"a register below {kind.registers}", f"{number}", at=at)
    return cast(Index, number)


def _event(cursor: LittleEndianCursor, log: EventLog[Index], number: int) -> Event[Index]:
    at = cursor.offset
    register = _register(cursor, log.kind)
    type_number = cursor.u32("event type")
    if register == log.kind.fixed and type_number != EV_NO_ACTION:
        found = f"{event_type_name(type_number)} for register {register}"
        raise cursor.fail("a register that can be extended", found, at=at)
    digests = _digests(cursor, log.sizes)
    data = cursor.take(cursor.u32("event size"), "event")
    return Event(number, at, register, type_number, digests, data)


def _digests(cursor: LittleEndianCursor, sizes: Mapping[int, int]) -> dict[int, bytes]:
    """TPML_DIGEST_VALUES: each algorithm of the header, once."""
    at = cursor.offset
    count = cursor.u32("number of digests")
    if count != len(sizes):
        raise cursor.fail(f"{len(sizes)} digests", f"{count}", at=at)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        at = cursor.offset
        identifier = cursor.u16("algorithm")
        if identifier not in sizes or identifier in digests:
            raise cursor.fail("each algorithm of the log's header once", f"{identifier:#06x}", at=at)
        digests[identifier] = cursor.take(sizes[identifier], "digest")
    return digests
