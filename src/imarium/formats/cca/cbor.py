"""A small, bounded CBOR reader for tokens, whose bytes come from anywhere. RFC 8949.

It knows integers, byte strings, text, arrays, maps, false, true and null, and the tags its caller allows. It wants
the shortest heads (section 4.1) and known lengths, takes each map key once, and reads to the last byte. Nothing in
the input can make it run another parser, recurse deeply or allocate more than the input's own size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from imarium.errors import MalformedInput

__all__ = ["CborKey", "CborValue", "Tagged", "decode_cbor"]

MAX_DEPTH = 8
"""How deep arrays, maps and tags nest, at most."""

MAX_ITEMS = 1024
"""Most items in one piece of CBOR: above any token's, with a dozen software components of five claims each."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_IN_PLACE, _LONGEST = 24, 27
"""Below the first, an argument is in the item's first byte; the second announces one of 8 bytes."""

_SIMPLE_VALUES = {20: False, 21: True, 22: None}


@dataclass(frozen=True, slots=True)
class Tagged:
    """An item under one of the tags that were allowed."""

    tag: int
    value: "CborValue"


CborKey: TypeAlias = int | str
CborValue: TypeAlias = int | bytes | str | bool | list["CborValue"] | dict[CborKey, "CborValue"] | Tagged | None


def decode_cbor(data: bytes, what: str, *, tags: frozenset[int] = frozenset()) -> CborValue:
    """The one item that ``data`` is, to the last byte.

    ``what`` names the structure in errors; ``tags`` are the tag numbers that may occur. Raises MalformedInput.
    """
    reader = _Reader(data, what, tags)
    value = reader.item(MAX_DEPTH)
    if reader.offset < len(data):
        raise reader.fail("the end", f"{len(data) - reader.offset} more bytes")
    return value


class _Reader:
    __slots__ = ("_data", "_items", "_tags", "_what", "offset")

    def __init__(self, data: bytes, what: str, tags: frozenset[int]) -> None:
        self._data = data
        self._what = what
        self._tags = tags
        self._items = 0
        self.offset = 0

    def fail(self, expected: str, found: str, *, at: int | None = None) -> MalformedInput:
        return MalformedInput(self._what, offset=self.offset if at is None else at, expected=expected, found=found)

    def item(self, depth: int) -> CborValue:
        at = self.offset
        if not depth:
            raise self.fail(f"at most {MAX_DEPTH} levels", "more")
        self._items += 1
        if self._items > MAX_ITEMS:
            raise self.fail(f"at most {MAX_ITEMS} items", "more")
        major, argument = self._head()
        if major == _SIMPLE:
            if argument not in _SIMPLE_VALUES:
                raise self.fail("false, true or null", f"simple value {argument}", at=at)
            return _SIMPLE_VALUES[argument]
        readers: dict[int, Callable[[int, int], CborValue]] = {
            _UNSIGNED: lambda number, _: number,
            _NEGATIVE: lambda number, _: -1 - number,
            _BYTES: lambda size, _: self._take(size),
            _TEXT: lambda size, _: self._text(size),
            _ARRAY: self._array,
            _MAP: self._map,
            _TAG: self._tagged,
        }
        return readers[major](argument, depth)

    def _head(self) -> tuple[int, int]:
        at = self.offset
        first = self._take(1)[0]
        major, information = first >> 5, first & 31
        if information < _IN_PLACE:
            return major, information
        if information > _LONGEST or major == _SIMPLE:
            raise self.fail("an item of known length", f"the initial byte {first:#04x}", at=at)
        size = 1 << information - _IN_PLACE
        argument = int.from_bytes(self._take(size), "big")
        if argument < _IN_PLACE or argument >> 4 * size == 0:
            raise self.fail("the shortest form of a head", f"{argument} in {size} bytes", at=at)
        return major, argument

    def _take(self, size: int) -> bytes:
        left = len(self._data) - self.offset
        if size > left:
            raise self.fail(f"{size} bytes", f"{left}: it is cut short")
        start = self.offset
        self.offset += size
        return self._data[start : self.offset]

    def _text(self, size: int) -> str:
        at = self.offset
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise self.fail("UTF-8 text", "other bytes", at=at) from error

    def _array(self, count: int, depth: int) -> CborValue:
        self._check_count(count)
        return [self.item(depth - 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> CborValue:
        self._check_count(count)
        result: dict[CborKey, CborValue] = {}
        for _ in range(count):
            at = self.offset
            key = self.item(depth - 1)
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise self.fail("an integer or text as a map's key", "another item", at=at)
            if key in result:
                raise self.fail("each key of a map once", f"{str(key)[:40]!r} again", at=at)
            result[key] = self.item(depth - 1)
        return result

    def _check_count(self, count: int) -> None:
        if count > MAX_ITEMS:
            raise self.fail(f"at most {MAX_ITEMS} items", f"{count}")

    def _tagged(self, tag: int, depth: int) -> CborValue:
        if tag not in self._tags:
            allowed = ", ".join(map(str, sorted(self._tags))) or "none"
            raise self.fail(f"tags: {allowed}", f"tag {tag}")
        return Tagged(tag, self.item(depth - 1))
