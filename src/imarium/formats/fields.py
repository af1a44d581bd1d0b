"""Fields of a record: out of its template data, into the kernel's ASCII text, and back.

See the kernel's ``Documentation/security/IMA-templates.rst`` and ``ima_template_lib.c``. Everything here works on
claims: that a field is well formed says nothing about whether its record was ever measured.
"""

import binascii
import re
from dataclasses import dataclass
from typing import Literal

from imarium import hashes
from imarium.errors import UsageError
from imarium.formats.templates import FieldKind, FieldSpec, Template

__all__ = [
    "ByteOrder",
    "FieldDigest",
    "MalformedField",
    "check_field",
    "field_digest",
    "field_name",
    "field_text",
    "hash_input",
    "join_fields",
    "parse_field_text",
    "split_fields",
]

ByteOrder = Literal["little", "big"]

LEGACY_DIGEST_SIZE = 20
LEGACY_NAME_SIZE = 256
"""The ``ima`` template hashes its name padded with NULs to this many bytes (IMA_EVENT_NAME_LEN_MAX + 1)."""

DIGEST_TYPES = frozenset({"ima", "verity"})
_UINT_WIDTHS = frozenset({1, 2, 4, 8})
_PREFIX_LIMIT = 64
_UINT = re.compile(rb"0|[1-9][0-9]{0,19}")


class MalformedField(ValueError):
    """A field that cannot be read. Stays inside ``formats``: readers turn it into a MalformedRecord.

    ``offset`` is counted from the start of the template data.
    """

    def __init__(self, offset: int, expected: str, found: str) -> None:
        self.offset = offset
        self.expected = expected
        self.found = found
        super().__init__(f"at byte {offset}: expected {expected}, found {found}")


@dataclass(frozen=True, slots=True)
class FieldDigest:
    """A digest field taken apart. ``type`` is ``ima`` or ``verity`` in the v2 fields and None elsewhere."""

    type: str | None
    algorithm: str
    digest: bytes


def split_fields(template: Template, data: bytes, order: ByteOrder) -> tuple[bytes, ...]:
    """The raw bytes of each field of ``data``. Raises MalformedField if they do not fill it exactly."""
    if template.is_legacy:
        return _split_legacy(data, order)
    fields: list[bytes] = []
    position = 0
    for spec in template.fields:
        start = position + 4
        if start > len(data):
            raise MalformedField(position, f"the 4-byte length of field {spec.name}", f"{len(data) - position} bytes")
        size = int.from_bytes(data[position:start], order)
        end = start + size
        if end > len(data):
            raise MalformedField(position, f"{size} bytes of field {spec.name}", f"{len(data) - start} bytes")
        fields.append(data[start:end])
        check_field(spec, fields[-1], start)
        position = end
    if position != len(data):
        raise MalformedField(position, "the end of the record", f"{len(data) - position} more bytes")
    return tuple(fields)


def _split_legacy(data: bytes, order: ByteOrder) -> tuple[bytes, bytes]:
    start = LEGACY_DIGEST_SIZE + 4
    if len(data) < start:
        raise MalformedField(0, f"a {LEGACY_DIGEST_SIZE}-byte digest and a name length", f"{len(data)} bytes")
    size = int.from_bytes(data[LEGACY_DIGEST_SIZE:start], order)
    if size >= LEGACY_NAME_SIZE or size != len(data) - start:
        raise MalformedField(
            LEGACY_DIGEST_SIZE, f"the length of a name of at most {LEGACY_NAME_SIZE - 1} bytes", str(size)
        )
    name = data[start:]
    if b"\0" in name:
        raise MalformedField(start, "a name without NULs", repr(name))
    return data[:LEGACY_DIGEST_SIZE], name


def join_fields(template: Template, fields: tuple[bytes, ...], order: ByteOrder) -> bytes:
    """Template data from raw field bytes: the inverse of :func:`split_fields`."""
    if template.is_legacy:
        digest, name = fields
        return digest + len(name).to_bytes(4, order) + name
    return b"".join(len(field).to_bytes(4, order) + field for field in fields)


def hash_input(template: Template, data: bytes) -> bytes:
    """The bytes a record's template digest is taken over (the kernel's ``ima_calc_field_array_hash``)."""
    if not template.is_legacy:
        return data
    name = data[LEGACY_DIGEST_SIZE + 4 :]
    return data[:LEGACY_DIGEST_SIZE] + name.ljust(LEGACY_NAME_SIZE, b"\0")


def check_field(spec: FieldSpec, raw: bytes, offset: int = 0) -> None:
    """Raise MalformedField unless ``raw`` is what the kernel can put into this field. Empty fields are allowed."""
    if not raw:
        return
    match spec.kind:
        case FieldKind.STRING:
            if raw.find(b"\0") != len(raw) - 1:
                raise MalformedField(offset, f"field {spec.name} to be text ended by its only NUL", repr(raw[:40]))
        case FieldKind.UINT:
            if len(raw) not in _UINT_WIDTHS:
                raise MalformedField(offset, f"field {spec.name} to have 1, 2, 4 or 8 bytes", f"{len(raw)} bytes")
        case FieldKind.DIGEST:
            if len(raw) != LEGACY_DIGEST_SIZE:
                raise MalformedField(offset, f"field {spec.name} to have {LEGACY_DIGEST_SIZE} bytes", f"{len(raw)}")
        case FieldKind.DIGEST_WITH_ALGO | FieldKind.DIGEST_WITH_TYPE_AND_ALGO:
            field_digest(spec, raw, offset)
        case FieldKind.HEX:
            pass


def field_digest(spec: FieldSpec, raw: bytes, offset: int = 0) -> FieldDigest:
    """Take a digest field apart. Raises MalformedField on an unknown type or algorithm or a digest of another size."""
    if spec.kind is FieldKind.DIGEST:
        return FieldDigest(None, "sha1", raw)
    prefix, nul, digest = raw.partition(b"\0")
    parts = prefix.split(b":")
    typed = spec.kind is FieldKind.DIGEST_WITH_TYPE_AND_ALGO
    if not nul or len(prefix) > _PREFIX_LIMIT or parts[-1] or len(parts) != (3 if typed else 2):
        wanted = "type:algorithm:" if typed else "algorithm:"
        raise MalformedField(offset, f"field {spec.name} to be '{wanted}', NUL and a digest", repr(raw[:40]))
    kind = parts[0].decode("ascii", "replace") if typed else None
    if kind is not None and kind not in DIGEST_TYPES:
        raise MalformedField(offset, f"field {spec.name} to have the digest type ima or verity", repr(kind))
    name = parts[-2].decode("ascii", "replace")
    try:
        algorithm = hashes.by_name(name)
    except UsageError:
        raise MalformedField(offset, f"field {spec.name} to name a hash algorithm", repr(name)) from None
    if len(digest) != algorithm.size:
        raise MalformedField(
            offset,
            f"field {spec.name} to have a {name} digest of {algorithm.size} bytes",
            f"{len(digest)} bytes",
        )
    return FieldDigest(kind, name, digest)


def field_name(spec: FieldSpec, raw: bytes) -> bytes:
    """The text of a string field without its NUL."""
    return raw.removesuffix(b"\0") if spec.kind is FieldKind.STRING else raw


def field_text(spec: FieldSpec, raw: bytes, order: ByteOrder) -> bytes:
    """The field as the kernel prints it in the ASCII list: nothing at all for an empty one."""
    if not raw:
        return b""
    match spec.kind:
        case FieldKind.STRING:
            return field_name(spec, raw)
        case FieldKind.UINT:
            return str(int.from_bytes(raw, order)).encode()
        case FieldKind.DIGEST_WITH_ALGO | FieldKind.DIGEST_WITH_TYPE_AND_ALGO:
            prefix, _, digest = raw.partition(b"\0")
            return prefix + binascii.hexlify(digest)
        case FieldKind.DIGEST | FieldKind.HEX:
            return binascii.hexlify(raw)


def parse_field_text(spec: FieldSpec, text: bytes, order: ByteOrder, *, legacy: bool = False) -> bytes:
    """Raw field bytes from ASCII text: the inverse of :func:`field_text` for what ASCII can carry.

    Integers get the width the kernel gives the field. Empty text gives an empty field. ``legacy`` names the ``ima``
    template, whose name has no NUL. Raises MalformedField, with the offset counted from the start of ``text``.
    """
    if not text:
        return b""
    match spec.kind:
        case FieldKind.STRING:
            raw = text if legacy else text + b"\0"
        case FieldKind.UINT:
            raw = _parse_uint(spec, text, order)
        case FieldKind.DIGEST_WITH_ALGO | FieldKind.DIGEST_WITH_TYPE_AND_ALGO:
            prefix, colon, digits = text.rpartition(b":")
            raw = prefix + colon + b"\0" + _parse_hex(spec, digits)
        case FieldKind.DIGEST | FieldKind.HEX:
            raw = _parse_hex(spec, text)
    if not (legacy and spec.kind is FieldKind.STRING):
        check_field(spec, raw)
    return raw


def _parse_uint(spec: FieldSpec, text: bytes, order: ByteOrder) -> bytes:
    if not _UINT.fullmatch(text) or int(text) >= 1 << (8 * spec.width):
        raise MalformedField(0, f"field {spec.name} to be an integer of {spec.width} bytes", repr(text[:40]))
    return int(text).to_bytes(spec.width, order)


def _parse_hex(spec: FieldSpec, digits: bytes) -> bytes:
    if digits != digits.lower():
        raise MalformedField(0, f"field {spec.name} in lower-case hexadecimal", repr(digits[:40]))
    try:
        return binascii.unhexlify(digits)
    except (binascii.Error, ValueError):
        raise MalformedField(0, f"field {spec.name} in hexadecimal", repr(digits[:40])) from None
