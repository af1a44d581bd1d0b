"""Which measurements were made already: the kernel's hash table of template digests.

Whole digests are kept, in buckets by their first bytes, one behind the other. That takes little more than the digests
themselves, and no bucket is ever rebuilt while a measurement waits.
"""

from imarium.formats import PcrIndex

__all__ = ["DigestTable"]

_KEY = 2


class DigestTable:
    """A set of digests of one size, each with the register it was extended into. It does no locking of its own."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, digest: bytes, pcr: PcrIndex) -> bool:
        """Put the digest in; False where it was there for this register."""
        bucket = self._buckets.setdefault(digest[:_KEY], bytearray())
        cell = digest[_KEY:] + bytes([pcr])
        found = bucket.find(cell)
        while found >= 0:
            if found % len(cell) == 0:
                return False
            found = bucket.find(cell, found + 1)
        bucket += cell
        self._count += 1
        return True

    def clear(self) -> None:
        """Forget them all."""
        self._buckets = {}
        self._count = 0
