"""A bounded big-endian reader over the bytes of one TPM structure."""

from imarium.errors import MalformedInput
from imarium.hashes import HashAlgorithm, by_tcg_id

__all__ = ["Cursor"]


class Cursor:
    """Reads the fields of one structure in order; any field that is not there in full raises MalformedInput.

    ``what`` is the structure's name in the TPM 2.0 Library specification, Part 2. Offsets are bytes from the
    start of ``data``.
    """

    __slots__ = ("_data", "_what", "offset")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self.offset = 0

    @property
    def remaining(self) -> int:
        """The number of bytes not read yet."""
        return len(self._data) - self.offset

    def fail(self, expected: str, found: str, *, at: int | None = None) -> MalformedInput:
        """The error for a field that makes no sense, by default at the current offset; the caller raises it."""
        return MalformedInput(self._what, offset=self.offset if at is None else at, expected=expected, found=found)

    def take(self, size: int, name: str) -> bytes:
        """The next ``size`` bytes, which are the field ``name``."""
        if size > self.remaining:
            raise self.fail(f"{size} bytes of {name}", f"{self.remaining}")
        start = self.offset
        self.offset += size
        return self._data[start : self.offset]

    def u8(self, name: str) -> int:
        """The next byte."""
        return self.take(1, name)[0]

    def u16(self, name: str) -> int:
        """The next UINT16."""
        return int.from_bytes(self.take(2, name), "big")

    def u32(self, name: str) -> int:
        """The next UINT32."""
        return int.from_bytes(self.take(4, name), "big")

    def u64(self, name: str) -> int:
        """The next UINT64."""
        return int.from_bytes(self.take(8, name), "big")

    def sized(self, limit: int, name: str) -> bytes:
        """A TPM2B: a UINT16 size of at most ``limit``, and that many bytes."""
        start = self.offset
        size = self.u16(f"the size of {name}")
        if size > limit:
            raise self.fail(f"at most {limit} bytes of {name}", f"a size of {size}", at=start)
        return self.take(size, name)

    def hash_algorithm(self, name: str) -> HashAlgorithm:
        """A TPMI_ALG_HASH. TPM_ALG_NULL and identifiers imarium does not know are errors."""
        start = self.offset
        identifier = self.u16(name)
        algorithm = by_tcg_id(identifier)
        if algorithm is None:
            raise self.fail(f"a known hash algorithm as {name}", f"{identifier:#06x}", at=start)
        return algorithm

    def end(self) -> None:
        """Nothing may follow. Raises MalformedInput if something does."""
        if self.remaining:
            raise self.fail("the end", f"{self.remaining} more bytes")
