"""The text of an event log: what becomes of the text of one append, and what each line of a log means.

RFC of September 2024, ``append_event`` and ``event_log``. A log is lines of bytes, each ended by a newline:

* an empty line sets one write off from the one before;
* a line that starts with ``#`` is a comment, in the log only; ``# .EXTEND HEX`` notes an extend without an event;
* ``SYNC ALGO/HEX`` gives the register's value before this very line;
* any line that is not empty and not a comment is an event: the hash of its bytes, without the newline, is extended.
  ``SYNC`` lines are events too.

What a line says is a claim. Only replay to the register's value makes it a fact.
"""

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imarium.errors import MalformedInput, UsageError
from imarium.hashes import HashAlgorithm
from imarium.registers.errors import TextTooLong

__all__ = ["PAGE", "Kind", "Line", "event_lines", "extend_line", "is_comment", "read_lines", "sync_line"]

PAGE = 4096
"""Most bytes of text in one append: one page of x86-64, on every machine."""

_BREAK = re.compile(rb"[\n\r]")
_SPACE = b" \t\v\f"
_EXTEND = b"# .EXTEND "
_SYNC = b"SYNC "


class Kind(enum.Enum):
    """What a line of a log is."""

    BLANK = enum.auto()
    COMMENT = enum.auto()
    EXTENDED = enum.auto()
    SYNC = enum.auto()
    EVENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``number`` counts from 1; ``end`` is the offset just after its newline.

    ``value`` is what a SYNC line claims the register to be, or the digest that an EXTENDED line notes; else empty.
    """

    number: int
    end: int
    text: bytes
    kind: Kind
    value: bytes = b""

    @property
    def hashed(self) -> bool:
        """Whether its hash is extended."""
        return self.kind in (Kind.EVENT, Kind.SYNC)


def event_lines(text: bytes) -> tuple[bytes, ...]:
    """The lines that an append of ``text`` logs: split at newlines and carriage returns, trimmed, none empty.

    Raises TextTooLong beyond one page, UsageError for a NUL, which would end the text for a program in C.
    """
    if len(text) > PAGE:
        raise TextTooLong(f"{len(text)} bytes of text are too long; append at most {PAGE} at a time")
    if b"\0" in text:
        raise UsageError(f"the text has a NUL at byte {text.index(0)}; append text")
    return tuple(filter(None, (line.strip(_SPACE) for line in _BREAK.split(text))))


def is_comment(line: bytes) -> bool:
    """Whether a line is logged and not extended."""
    return line.startswith(b"#")


def sync_line(algorithm: HashAlgorithm, value: bytes) -> bytes:
    """The SYNC line for a register's current value, without newline."""
    return _SYNC + f"{algorithm.name}/{value.hex()}".encode()


def extend_line(digest: bytes) -> bytes:
    """The comment that notes an extend without an event, without newline."""
    return _EXTEND + digest.hex().encode()


def read_lines(
    blocks: Iterable[bytes], algorithm: HashAlgorithm, *, number: int = 1, offset: int = 0, what: str = "event log"
) -> Iterator[Line]:
    """The whole lines of a log. What follows the last newline, if anything, is left out.

    ``number`` and ``offset`` are those of the first line. Raises MalformedInput, about ``what``, for a line of more
    than a page.
    """
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for text in whole:
            _check_length(text, offset, what)
            offset += len(text) + 1
            yield _line(number, offset, text, algorithm)
            number += 1
        _check_length(rest, offset, what)


def _check_length(text: bytes, offset: int, what: str) -> None:
    if len(text) > PAGE:
        raise MalformedInput(what, offset=offset, expected=f"a line of at most {PAGE} bytes", found="a longer one")


def _line(number: int, end: int, text: bytes, algorithm: HashAlgorithm) -> Line:
    if not text:
        return Line(number, end, text, Kind.BLANK)
    if is_comment(text):
        noted = _digest(text.removeprefix(_EXTEND), algorithm) if text.startswith(_EXTEND) else b""
        return Line(number, end, text, Kind.EXTENDED if noted else Kind.COMMENT, noted)
    prefix = _SYNC + algorithm.name.encode() + b"/"
    claimed = _digest(text.removeprefix(prefix), algorithm) if text.startswith(prefix) else b""
    return Line(number, end, text, Kind.SYNC if claimed else Kind.EVENT, claimed)


def _digest(text: bytes, algorithm: HashAlgorithm) -> bytes:
    if re.fullmatch(rb"[0-9a-f]{%d}" % (2 * algorithm.size), text) is None:
        return b""
    return bytes.fromhex(text.decode())
