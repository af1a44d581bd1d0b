"""What a measurement register is: its name, size, hash algorithm, and what may be done with it.

There are two sets of flags for the same facts. :class:`Access` is that of the interface as first proposed (RFC of
September 2024); :class:`MrFlags` that of the kernel since 6.16 (``include/linux/tsm-mr.h``).
"""

import enum
import re
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.hashes import HashAlgorithm

__all__ = ["MAX_SIZE", "Access", "MrFlags", "Register"]

MAX_SIZE = 4096
"""Largest register, in bytes; real ones have 32 to 64."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class MrFlags(enum.IntFlag):
    """``TSM_MR_F_*`` as merged. ``WRITABLE`` means that writing extends; ``LIVE`` that reading asks the device."""

    NOHASH = 1
    WRITABLE = 2
    READABLE = 4
    LIVE = 8
    RTMR = LIVE | WRITABLE


class Access(enum.IntFlag):
    """Flags as first proposed: extensible, writable, readable, live.

    With ``X`` a write to the digest extends, without it a write stores; either only with ``W``. Events can be
    appended with ``X`` alone.
    """

    X = 1
    W = 2
    R = 4
    L = 8
    LIVE = L | R
    RTMR = LIVE | X

    @property
    def letters(self) -> str:
        """Such as ``XWRL``, with ``-`` for what is not set."""
        return "".join(letter if self & Access[letter] else "-" for letter in "XWRL")


@dataclass(frozen=True, slots=True)
class Register:
    """One measurement register. ``size`` is in bytes; ``hash`` is None where the value is not a digest.

    Raises MalformedInput where these do not fit together.
    """

    name: str
    size: int
    hash: HashAlgorithm | None
    access: Access

    def __post_init__(self) -> None:
        what = f"measurement register {self.name!r}"
        if _NAME.fullmatch(self.name) is None:
            raise MalformedInput(what, offset=0, expected="a name of letters, digits, _, - and .", found="another")
        wanted = self.hash.size if self.hash else None
        if not 0 < self.size <= MAX_SIZE or (wanted is not None and wanted != self.size):
            expected = f"{wanted or f'1 to {MAX_SIZE}'} bytes"
            raise MalformedInput(what, offset=0, expected=expected, found=f"{self.size}")
        if self.access & Access.X and self.hash is None:
            raise MalformedInput(what, offset=0, expected="a hash algorithm, since it is extensible", found="none")

    @property
    def key(self) -> str:
        """``NAME:HASH``, or ``NAME`` without a hash: the name of its file in sysfs, and unique in a device."""
        return f"{self.name}:{self.hash.name}" if self.hash else self.name

    @property
    def flags(self) -> MrFlags:
        """The same as :attr:`access`, as the kernel's merged interface would have it."""
        both = Access.X | Access.W
        return (
            (MrFlags(0) if self.hash else MrFlags.NOHASH)
            | (MrFlags.WRITABLE if self.access & both == both else MrFlags(0))
            | (MrFlags.READABLE if self.access & Access.R else MrFlags(0))
            | (MrFlags.LIVE if self.access & Access.L else MrFlags(0))
        )

    @property
    def extensible(self) -> bool:
        """Whether events can be appended."""
        return bool(self.access & Access.X)

    @property
    def writable(self) -> bool:
        """Whether its digest can be written: extended with X, stored without."""
        return bool(self.access & Access.W)

    @property
    def readable(self) -> bool:
        """Whether its value can be read."""
        return bool(self.access & Access.R)
