"""The buffer in which a kernel hands its measurement list to the next one at kexec.

A header, ``u16 version | u16 reserved | u32 reserved | u64 buffer_size | u64 count`` (the kernel's
``struct ima_kexec_hdr``), then the binary SHA-1 list. ``buffer_size`` counts the header too.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.fields import ByteOrder

__all__ = ["KEXEC_HEADER_SIZE", "KexecHeader", "list_in_kexec_buffer"]

KEXEC_HEADER_SIZE = 24
KEXEC_VERSION = 1


@dataclass(frozen=True, slots=True)
class KexecHeader:
    """The buffer's header: its size in bytes with the header, and how many records follow."""

    buffer_size: int
    count: int
    byte_order: ByteOrder = "little"

    def encode(self) -> bytes:
        """The header's bytes."""
        mark = "<" if self.byte_order == "little" else ">"
        return struct.pack(f"{mark}HHIQQ", KEXEC_VERSION, 0, 0, self.buffer_size, self.count)

    @classmethod
    def decode(cls, data: bytes) -> "KexecHeader":
        """The header at the start of ``data``. Raises MalformedInput."""
        if len(data) < KEXEC_HEADER_SIZE:
            raise _malformed(0, f"a header of {KEXEC_HEADER_SIZE} bytes", f"{len(data)} bytes")
        order: ByteOrder = "little" if data[0] else "big"
        mark = "<" if order == "little" else ">"
        version, short, word, size, count = struct.unpack_from(f"{mark}HHIQQ", data)
        if version != KEXEC_VERSION or short or word:
            raise _malformed(0, f"version {KEXEC_VERSION} and zeros", data[:8].hex())
        if size < KEXEC_HEADER_SIZE:
            raise _malformed(8, f"a buffer size of at least {KEXEC_HEADER_SIZE}", str(size))
        return cls(size, count, order)


def list_in_kexec_buffer(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The binary list in a kexec buffer that arrives in blocks: without the header and what lies behind the list.

    Raises MalformedInput if the buffer ends before its header says.
    """
    head = b""
    left: int | None = None
    for block in blocks:
        piece = block
        if left is None:
            head += block
            if len(head) < KEXEC_HEADER_SIZE:
                continue
            left = KexecHeader.decode(head).buffer_size - KEXEC_HEADER_SIZE
            piece = head[KEXEC_HEADER_SIZE:]
        yield piece[:left]
        left -= len(piece[:left])
    if left is None:
        KexecHeader.decode(head)
    elif left:
        raise _malformed(8, f"{left} more bytes of the list", "the end of the buffer")


def _malformed(offset: int, expected: str, found: str) -> MalformedInput:
    return MalformedInput("kexec buffer", offset=offset, expected=expected, found=found)
