"""Measurement lists made and replayed the plain way: an independent statement of the formats to compare with.

Nothing here uses the code under test. Follows the kernel's own layout of records, template data and extends.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import strategies as st

__all__ = [
    "BANKS",
    "ORDERS",
    "SIZES",
    "TEMPLATES",
    "Made",
    "ascii_line",
    "binary",
    "flipped",
    "hashed",
    "kexec",
    "made_layouts",
    "made_records",
    "naive_replay",
    "ng",
]

Order = Literal["little", "big"]
ORDERS: tuple[Order, ...] = ("little", "big")

SIZES = {
    "sha1": 20,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "sm3": 32,
    "sha3-256": 32,
    "sha3-384": 48,
    "sha3-512": 64,
}
BANKS = tuple(SIZES)
UNMAPPED = {"sha3-256", "sha3-384", "sha3-512"}

TEMPLATES = {
    "ima": ("d", "n"),
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    "evm-sig": ("d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"),
    "d-ng|n-ng|sig": ("d-ng", "n-ng", "sig"),
    "d|n": ("d", "n"),
}
TEXT_FIELDS = {"n", "n-ng", "xattrnames"}
DIGEST_FIELDS = {"d-ng", "d-ngv2", "d-modsig"}
INTEGERS = {"iuid": 4, "igid": 4, "imode": 2}


def hashed(bank: str, data: bytes) -> bytes:
    """One digest, by the kernel's name of the algorithm."""
    return hashlib.new(bank.replace("sha3-", "sha3_"), data).digest()


@dataclass(frozen=True)
class Made:
    """A record to write: the raw bytes of its fields, in the list's byte order for integers."""

    template: str
    fields: tuple[bytes, ...]
    pcr: int = 10
    violation: bool = False
    forged: bytes | None = None

    def data(self, order: Order) -> bytes:
        """The template data."""
        if self.template == "ima":
            digest, name = self.fields
            return digest + len(name).to_bytes(4, order) + name
        return b"".join(len(raw).to_bytes(4, order) + raw for raw in self.fields)

    def hash_input(self, order: Order) -> bytes:
        """What the template digest is taken over."""
        if self.template == "ima":
            digest, name = self.fields
            return digest + name + bytes(256 - len(name))
        return self.data(order)

    def true_digest(self, bank: str, order: Order, padded: bool = False) -> bytes:
        """The template digest of the data."""
        if padded:
            return hashed("sha1", self.hash_input(order)).ljust(SIZES[bank], b"\0")
        return hashed(bank, self.hash_input(order))

    def digest(self, bank: str, order: Order, padded: bool = False) -> bytes:
        """What stands in the template-digest column."""
        if self.violation:
            return bytes(SIZES[bank])
        return self.forged if self.forged is not None else self.true_digest(bank, order, padded)

    def binary(self, bank: str = "sha1", order: Order = "little", padded: bool = False) -> bytes:
        """The record in a binary list."""
        name, data = self.template.encode(), self.data(order)
        head = self.pcr.to_bytes(4, order) + self.digest(bank, order, padded) + len(name).to_bytes(4, order) + name
        return head + data if self.template == "ima" else head + len(data).to_bytes(4, order) + data


def binary(records: Iterable[Made], bank: str = "sha1", order: Order = "little", padded: bool = False) -> bytes:
    """A binary list."""
    return b"".join(record.binary(bank, order, padded) for record in records)


def ascii_line(record: Made, bank: str = "sha1", order: Order = "little", padded: bool = False) -> bytes:
    """The record's line in an ASCII list."""
    texts = []
    for field, raw in zip(TEMPLATES[record.template], record.fields, strict=True):
        if field in TEXT_FIELDS:
            texts.append(raw.rstrip(b"\0"))
        elif field in INTEGERS:
            texts.append(b"%d" % int.from_bytes(raw, order) if raw else b"")
        elif field in DIGEST_FIELDS:
            prefix, _, digest = raw.partition(b"\0")
            texts.append(prefix + digest.hex().encode())
        else:
            texts.append(raw.hex().encode())
    digest = record.digest(bank, order, padded).hex().encode()
    return b"%2d %s %s %s\n" % (record.pcr, digest, record.template.encode(), b" ".join(texts))


def kexec(records: Sequence[Made], order: Order = "little", slack: bytes = b"") -> bytes:
    """The buffer handed over at kexec: header, SHA-1 list, and whatever lies behind it in memory."""
    body = binary(records, "sha1", order)
    mark = "<" if order == "little" else ">"
    return struct.pack(f"{mark}HHIQQ", 1, 0, 0, 24 + len(body), len(records)) + body + slack


def naive_replay(
    records: Sequence[Made],
    bank: str,
    order: Order = "little",
    *,
    padded: bool = False,
    start: dict[int, bytes] | None = None,
) -> list[dict[int, bytes]]:
    """The values of every register before the first record and after each, one after the other."""
    values = dict(start or {})
    history = [dict(values)]
    size = SIZES[bank]
    for record in records:
        if record.violation:
            extended = (b"\xff" * (20 if padded and bank in UNMAPPED else size)).ljust(size, b"\0")
        else:
            extended = record.true_digest(bank, order, padded)
        initial = (b"\xff" if 17 <= record.pcr <= 22 else b"\0") * size
        values[record.pcr] = hashed(bank, values.get(record.pcr, initial) + extended)
        history.append(dict(values))
    return history


def flipped(data: bytes, step: int = 1) -> Iterator[tuple[int, bytes]]:
    """Each ``step``-th bit's number, and the data with this bit changed."""
    for bit in range(0, 8 * len(data), step):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def ng(name: bytes, pcr: int = 10, *, violation: bool = False, content: bytes | None = None) -> Made:
    """An ordinary ``ima-ng`` record of a file."""
    digest = bytes(32) if violation else hashlib.sha256(name if content is None else content).digest()
    return Made("ima-ng", (b"sha256:\0" + digest, name + b"\0"), pcr, violation)


_NAME_BYTES = st.one_of(
    st.sampled_from([b"/usr/bin/true", b"boot_aggregate", b"/a\nb", b"/\xff\xfe", "/caf\u00e9\u202e".encode()]),
    st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"\0", b"x").replace(b" ", b"_")),
)


@st.composite
def _field(draw: st.DrawFn, field: str, order: Order, legacy: bool) -> bytes:  # noqa: PLR0911 - one for each kind
    if field == "d":
        return draw(st.binary(min_size=20, max_size=20))
    if field in {"n", "n-ng"}:
        return draw(_NAME_BYTES) + (b"" if legacy else b"\0")
    if field == "xattrnames":
        return draw(st.sampled_from([b"", b"security.ima\0", b"security.ima|security.selinux\0"]))
    if field in DIGEST_FIELDS:
        if field == "d-modsig" and draw(st.booleans()):
            return b""
        bank = draw(st.sampled_from(BANKS))
        prefix = draw(st.sampled_from(["ima:", "verity:"])) if field == "d-ngv2" else ""
        size = SIZES[bank]
        return f"{prefix}{bank}:".encode() + b"\0" + draw(st.binary(min_size=size, max_size=size))
    if field in INTEGERS:
        width = INTEGERS[field]
        return draw(st.integers(0, (1 << 8 * width) - 1)).to_bytes(width, order)
    return draw(st.binary(max_size=24))


def made_layouts() -> st.SearchStrategy[tuple[str, Order, bool]]:
    """Digest column, byte order, and whether the column is padded."""
    every = [(bank, order, padded) for bank in BANKS for order in ORDERS for padded in (False, True)]
    return st.sampled_from([layout for layout in every if layout[0] != "sha1" or not layout[2]])


@st.composite
def made_records(draw: st.DrawFn, order: Order = "little", max_size: int = 8) -> list[Made]:
    """Lists of records of every template, for several registers, with violations among them."""
    records = []
    for _ in range(draw(st.integers(0, max_size))):
        name = draw(st.sampled_from(sorted(TEMPLATES)))
        fields = tuple(draw(_field(field, order, name == "ima")) for field in TEMPLATES[name])
        made = Made(name, fields, draw(st.sampled_from([10, 10, 10, 11, 0, 17, 63])))
        records.append(replace(made, violation=draw(st.integers(0, 7)) == 0))
    return records
