"""Binary measurement lists: bytes to records, a block at a time, and back.

A record is ``u32 pcr | template digest | u32 n | name[n] | u32 m | data[m]`` (the kernel's
``ima_measurements_show``); the ``ima`` template has no ``m``. A list says nowhere which digest its records carry nor
its byte order: that is its :class:`ListLayout`.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from imarium.errors import MalformedRecord
from imarium.formats import fields as codec
from imarium.formats.fields import ByteOrder, FieldDigest, MalformedField
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.templates import MAX_TEMPLATE_NAME, FieldKind, Template, template
from imarium.hashes import SHA1, HashAlgorithm

__all__ = [
    "MAX_RECORD_DATA",
    "Frame",
    "ListLayout",
    "Record",
    "RecordFramer",
    "encode_frame",
    "encode_record",
    "frame_size",
    "read_records",
]

MAX_RECORD_DATA = 1 << 26
"""Largest template data accepted, in bytes: far above what the kernel can allocate for one record."""

Frame = tuple[int, bytes, bytes, bytes]
"""A record cut out but not looked into: register, stored template digest, template name, template data."""


@dataclass(frozen=True, slots=True)
class ListLayout:
    """What a list does not say about itself.

    ``digest`` is the algorithm of the template-digest column, ``byte_order`` that of its integers. ``padded`` is set
    for the column of a TPM bank whose algorithm the kernel lacked: SHA-1 digests with zeros behind them.
    """

    digest: HashAlgorithm = SHA1
    byte_order: ByteOrder = "little"
    padded: bool = False

    def template_digest(self, tmpl: Template, data: bytes) -> bytes:
        """The template digest that a record with this data must carry in this list's column."""
        algorithm = SHA1 if self.padded else self.digest
        return algorithm.digest(codec.hash_input(tmpl, data)).ljust(self.digest.size, b"\0")


@dataclass(frozen=True)
class Record:
    """One record of a measurement list, as claimed by the list.

    ``number`` counts from 0, ``offset`` is that of its first byte in the list (of its line, in an ASCII list).
    ``data`` is the template data as stored, with the lengths of its fields.
    """

    number: int
    offset: int
    pcr: PcrIndex
    template_digest: bytes
    template: Template
    data: bytes = field(repr=False)
    layout: ListLayout = field(repr=False)

    @property
    def is_violation(self) -> bool:
        """Whether the record stands for a violation: nothing but an all-zero template digest says so."""
        return not any(self.template_digest)

    @property
    def digest_is_good(self) -> bool:
        """Whether the stored template digest is the one the data gives. True for a violation, which has none."""
        return self.is_violation or self.template_digest == self.layout.template_digest(self.template, self.data)

    @cached_property
    def fields(self) -> tuple[bytes, ...]:
        """The raw bytes of each field of the template. Raises MalformedRecord."""
        try:
            return codec.split_fields(self.template, self.data, self.layout.byte_order)
        except MalformedField as error:
            start = self.offset + self.size - len(self.data)
            raise MalformedRecord(
                record=self.number, offset=start + error.offset, expected=error.expected, found=error.found
            ) from error

    @property
    def name(self) -> bytes | None:
        """The file or event name, without its NUL; None if the template has no name field. Raises MalformedRecord."""
        for spec, raw in zip(self.template.fields, self.fields, strict=True):
            if spec.name in {"n", "n-ng"}:
                return codec.field_name(spec, raw)
        return None

    @property
    def file_digest(self) -> FieldDigest | None:
        """The first digest field; None if there is none or it is empty. Raises MalformedRecord."""
        for spec, raw in zip(self.template.fields, self.fields, strict=True):
            if raw and spec.kind in {
                FieldKind.DIGEST,
                FieldKind.DIGEST_WITH_ALGO,
                FieldKind.DIGEST_WITH_TYPE_AND_ALGO,
            }:
                return codec.field_digest(spec, raw)
        return None

    def in_column(self, layout: ListLayout) -> "Record":
        """The record in a list of ``layout``, whose template digests are another bank's: recomputed from the data.

        A violation stays one. Raises MissingComponent for a digest that cannot be computed here.
        """
        if layout == self.layout:
            return self
        digest = layout.template_digest(self.template, self.data)
        if self.is_violation:
            digest = bytes(layout.digest.size)
        return Record(self.number, self.offset, self.pcr, digest, self.template, self.data, layout)

    @property
    def frame(self) -> Frame:
        """The record as a framer cuts it out."""
        return self.pcr, self.template_digest, self.template.name.encode("ascii"), self.data

    @property
    def size(self) -> int:
        """How many bytes the record takes in a binary list."""
        return frame_size(self.frame)


def encode_record(record: Record) -> bytes:
    """The record as the kernel writes it in a binary list of the record's layout."""
    return encode_frame(record.frame, record.layout.byte_order)


def encode_frame(frame: Frame, order: ByteOrder) -> bytes:
    """The same for a record that was not looked into."""
    pcr, digest, name, data = frame
    length = b"" if name == b"ima" else len(data).to_bytes(4, order)
    return b"".join((pcr.to_bytes(4, order), digest, len(name).to_bytes(4, order), name, length, data))


class RecordFramer:
    """Cuts a binary list that arrives in blocks into frames. Does no I/O and keeps at most one unfinished record.

    Feed it the blocks in order and call :meth:`finish` after the last. Both raise MalformedRecord; the records before
    a broken one are handed out first, wherever the blocks end. Only the framing and the template's name are checked
    here; the fields are checked when a :class:`Record` is asked for them.
    """

    def __init__(self, layout: ListLayout, *, first: int = 0, offset: int = 0) -> None:
        self.layout = layout
        self.number = first
        self.offset = offset
        mark = "<" if layout.byte_order == "little" else ">"
        self._head = struct.Struct(f"{mark}I{layout.digest.size}sI")
        self._length = struct.Struct(f"{mark}I")
        self._rest = bytearray()
        self._need = 0
        self._fault: MalformedRecord | None = None

    def feed(self, block: bytes) -> list[Frame]:
        """The frames that ``block`` completes. ``number`` and ``offset`` then stand after the last of them."""
        self.check()
        if self._rest:
            self._rest += block
            if len(self._rest) < self._need:
                return []
            block = bytes(self._rest)
            self._rest.clear()
        frames: list[Frame] = []
        try:
            consumed = self._cut(block, frames)
        except MalformedRecord as error:
            self._fault = error
            if not frames:
                raise
            consumed = sum(map(frame_size, frames))
        if consumed < len(block):
            self._rest += block[consumed:]
        self.number += len(frames)
        self.offset += consumed
        return frames

    def check(self) -> None:
        """Raise MalformedRecord if the record after the last frame handed out is broken."""
        if self._fault is not None:
            raise self._fault

    def finish(self) -> None:
        """Say that the list ends here. Raises MalformedRecord if it ends within a record."""
        self.check()
        if self._rest:
            raise MalformedRecord(
                record=self.number,
                offset=self.offset,
                expected=f"a record of at least {self._need} bytes",
                found=f"the end of the list after {len(self._rest)}",
            )

    def _cut(self, block: bytes, frames: list[Frame]) -> int:  # noqa: PLR0912 - one loop, for speed
        """Append the frames of ``block`` and return how many bytes they take. The one place that knows the framing."""
        unpack_head, head_size = self._head.unpack_from, self._head.size
        unpack_length = self._length.unpack_from
        append = frames.append
        known: dict[bytes, bool] = {}
        size = len(block)
        start = 0
        while True:
            position = start + head_size
            if position > size:
                return self._pause(start, head_size)
            pcr, digest, length = unpack_head(block, start)
            if pcr >= LIST_PCRS:
                raise self._error(frames, start, f"a register below {LIST_PCRS}", str(pcr))
            if not 0 < length <= MAX_TEMPLATE_NAME:
                wanted = f"a template name of 1 to {MAX_TEMPLATE_NAME} bytes"
                raise self._error(frames, position - 4, wanted, f"a length of {length}")
            end = position + length
            if end + 4 > size:
                return self._pause(start, end + 4 - start)
            name = block[position:end]
            legacy = known.get(name)
            if legacy is None:
                found = template(name)
                if found is None:
                    raise self._error(frames, position, "the name of a known template or its fields", repr(name[:80]))
                legacy = known[name] = found.is_legacy
            if legacy:
                position, end = end, end + codec.LEGACY_DIGEST_SIZE + 4
                if end > size:
                    return self._pause(start, end - start)
                (length,) = unpack_length(block, end - 4)
                if length >= codec.LEGACY_NAME_SIZE:
                    wanted = f"a name of at most {codec.LEGACY_NAME_SIZE - 1} bytes"
                    raise self._error(frames, end - 4, wanted, f"a length of {length}")
                end += length
            else:
                (length,) = unpack_length(block, end)
                if length > MAX_RECORD_DATA:
                    wanted = f"at most {MAX_RECORD_DATA} bytes of template data"
                    raise self._error(frames, end, wanted, f"a length of {length}")
                position = end + 4
                end = position + length
            if end > size:
                return self._pause(start, end - start)
            append((pcr, digest, name, block[position:end]))
            start = end

    def _pause(self, start: int, need: int) -> int:
        self._need = need
        return start

    def _error(self, frames: list[Frame], position: int, expected: str, found: str) -> MalformedRecord:
        return MalformedRecord(
            record=self.number + len(frames), offset=self.offset + position, expected=expected, found=found
        )


def frame_size(frame: Frame) -> int:
    """How many bytes the frame takes in a binary list."""
    _, digest, name, data = frame
    return (8 if name == b"ima" else 12) + len(digest) + len(name) + len(data)


def read_records(blocks: Iterable[bytes], layout: ListLayout, *, first: int = 0, offset: int = 0) -> Iterator[Record]:
    """The records of a binary list that arrives in blocks, numbered from ``first``. Raises MalformedRecord."""
    framer = RecordFramer(layout, first=first, offset=offset)
    for block in blocks:
        number, position = framer.number, framer.offset
        for pcr, digest, name, data in framer.feed(block):
            found = template(name)
            assert found is not None  # noqa: S101 - the framer has looked it up
            record = Record(number, position, PcrIndex(pcr), digest, found, data, layout)
            yield record
            number += 1
            position += record.size
        framer.check()
    framer.finish()
