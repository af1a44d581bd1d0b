"""A closed log's list, compressed: a Zstandard file that can be read from any byte on.

It has a frame for each 256 KiB of the list and, behind them, a table of the frames' sizes in a skippable frame, as the
Zstandard seekable format has it: ``zstd -d`` gives the list back, and a read looks at the frames it needs alone.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from types import ModuleType

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent

__all__ = ["PACKED_FILE", "PackedList", "pack"]

PACKED_FILE = "list.zst"

_FRAME = 1 << 18
"""How many bytes of the list a frame has; the last has what is left."""

_MAX_FRAMES = 1 << 22
_MAX_PACKED = _FRAME + (_FRAME >> 7) + 64
"""More than a frame can take, even of what cannot be compressed."""

_LEVEL = 9
_SKIPPABLE = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_SKIPPABLE_MAGIC, _SEEKABLE_MAGIC = 0x184D2A5E, 0x8F92EAB1


def pack(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The compressed file of a list that arrives in blocks. Raises MissingComponent where Zstandard is not there."""
    compressor = _zstandard().ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
    entries: list[bytes] = []
    for piece in _pieces(blocks):
        frame: bytes = compressor.compress(piece)
        entries.append(_ENTRY.pack(len(frame), len(piece)))
        yield frame
    table = b"".join(entries)
    yield _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(table) + _FOOTER.size) + table
    yield _FOOTER.pack(len(entries), 0, _SEEKABLE_MAGIC)


class PackedList:
    """A compressed list: ``size`` is that of the list. Opening raises MalformedInput, MissingComponent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        have = durable.size_of(path)
        count, descriptor, magic = _FOOTER.unpack(self._at(max(0, have - _FOOTER.size), _FOOTER.size))
        table_size = count * _ENTRY.size
        begin = have - _FOOTER.size - table_size - _SKIPPABLE.size
        if magic != _SEEKABLE_MAGIC or descriptor or count > _MAX_FRAMES or begin < 0:
            raise self._malformed(have - _FOOTER.size, "the end of a table of frames")
        if _SKIPPABLE.unpack(self._at(begin, _SKIPPABLE.size)) != (_SKIPPABLE_MAGIC, table_size + _FOOTER.size):
            raise self._malformed(begin, "the beginning of a table of frames")
        entries = list(_ENTRY.iter_unpack(self._at(begin + _SKIPPABLE.size, table_size)))
        sizes = [size for _, size in entries]
        if any(size != _FRAME for size in sizes[:-1]) or (sizes and not 0 < sizes[-1] <= _FRAME):
            raise self._malformed(begin, f"frames of {_FRAME} bytes of the list each")
        self._starts = array("Q", accumulate((packed for packed, _ in entries), initial=0))
        if self._starts[-1] != begin or any(not 0 < packed <= _MAX_PACKED for packed, _ in entries):
            raise self._malformed(begin, "the sizes of the frames before it")
        self.size = sum(sizes)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The list's bytes from ``start`` to before ``end``. Raises MalformedInput, MissingComponent."""
        if end > self.size:
            raise MissingComponent(f"{self.path}: ends at byte {self.size}, but {end} were kept; restore it")
        for number in range(start // _FRAME, -(-end // _FRAME)) if start < end else ():
            begin = number * _FRAME
            yield self._frame(number)[max(0, start - begin) : end - begin]

    def _frame(self, number: int) -> bytes:
        zstandard = _zstandard()
        at = self._starts[number]
        packed = self._at(at, self._starts[number + 1] - at)
        wanted = min(_FRAME, self.size - number * _FRAME)
        try:
            if zstandard.frame_content_size(packed) != wanted:
                raise self._malformed(at, f"a frame of {wanted} bytes of the list")
            data: bytes = zstandard.ZstdDecompressor(max_window_size=1 << 23).decompress(
                packed, max_output_size=wanted, read_across_frames=False, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise self._malformed(at, "a whole Zstandard frame") from error
        return data

    def _at(self, start: int, size: int) -> bytes:
        data = durable.read_at(self.path, start, size)
        if len(data) != size:
            raise self._malformed(start, f"{size} bytes")
        return data

    def _malformed(self, offset: int, expected: str) -> MalformedInput:
        return MalformedInput(str(self.path), offset=offset, expected=expected, found="something else; restore it")


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = bytearray()
    for block in blocks:
        rest += block
        while len(rest) >= _FRAME:
            yield bytes(rest[:_FRAME])
            del rest[:_FRAME]
    if rest:
        yield bytes(rest)


def _zstandard() -> ModuleType:
    try:
        import zstandard  # noqa: PLC0415 - needed for compressed logs alone
    except ImportError as error:
        raise MissingComponent("compressed logs need Zstandard: pip install 'imarium[service]'") from error
    return zstandard
