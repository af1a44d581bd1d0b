"""A bounded little-endian reader over the bytes of one structure of Intel's or of an event log."""

from imarium.formats.tpm.cursor import Cursor

__all__ = ["LittleEndianCursor"]


class LittleEndianCursor(Cursor):
    """A Cursor whose numbers are little-endian."""

    __slots__ = ()

    def u16(self, name: str) -> int:
        """The next UINT16."""
        return int.from_bytes(self.take(2, name), "little")

    def u32(self, name: str) -> int:
        """The next UINT32."""
        return int.from_bytes(self.take(4, name), "little")

    def u64(self, name: str) -> int:
        """The next UINT64."""
        return int.from_bytes(self.take(8, name), "little")
