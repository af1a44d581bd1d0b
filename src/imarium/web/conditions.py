"""Conditional and range requests (RFC 9110, sections 13 and 14), as far as they are honoured. Pure."""

import re
from dataclasses import dataclass

__all__ = ["ByteRange", "Unsatisfiable", "byte_range", "is_known"]

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(ValueError):
    """The range begins behind the end of the body."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` to before ``end`` of a body."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """The Content-Range of an answer."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has the body that ``tag`` names; weak tags are compared as strong ones."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def byte_range(text: str | None, if_range: str | None, tag: str, size: int) -> ByteRange | None:
    """The one range asked for of a body of ``size`` bytes; None where all of it is to be sent.

    That is where no range is asked for, several are, it makes no sense, or the client's part is of another body.
    Raises Unsatisfiable.
    """
    found = _RANGE.fullmatch(text) if text is not None else None
    if found is None or (if_range is not None and if_range.strip() != tag):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise Unsatisfiable(f"the body has {size} bytes")
    return ByteRange(start, end)
