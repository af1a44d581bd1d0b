"""An example of a root of trust in a package of its own: a register whose extends are lines of a file."""

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.hashes import SHA256, HashAlgorithm
from imarium.registers import Access, Register
from imarium.rot import Driver, NativeQuote, Values

__all__ = ["DRIVER", "Notebook"]

BOOK = Register("book", SHA256.size, SHA256, Access.RTMR | Access.W)


class Notebook:
    """One register, ``book``: the hash chain over the digests in the file's lines."""

    name = "notebook"
    kind = "notebook"
    default_register = BOOK.name

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.identity = f"notebook-{hashlib.sha256(os.fsencode(self._path)).hexdigest()[:16]}"

    def init(self) -> None:
        """Make the file where it is not there. Raises MissingComponent."""
        self._write(b"")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """SHA-256 alone."""
        return (SHA256,)

    def registers(self) -> tuple[Register, ...]:
        """``book`` alone."""
        return (BOOK,)

    def read(self, registers: Collection[str]) -> Values:
        """The chain's value. Raises UsageError for another register, MalformedInput for lines that are no digests."""
        for name in registers:
            if name != BOOK.name:
                raise UsageError(f"a notebook has no register {name!r}; it has {BOOK.name}")
        value = bytes(SHA256.size)
        for digest in self._digests():
            value = SHA256.digest(value + digest)
        return {name: {SHA256: value} for name in registers}

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """One line more. Raises UsageError."""
        self.read([register])
        if set(digests) != {SHA256} or len(digests[SHA256]) != SHA256.size:
            raise UsageError(f"a notebook takes one sha256 digest of {SHA256.size} bytes")
        self._write(digests[SHA256].hex().encode() + b"\n")

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """Zeros: a notebook measures no boot."""
        return bytes(bank.size)

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """Raises RefusedOperation: paper does not sign."""
        del nonce, registers
        raise RefusedOperation("a notebook cannot quote; use a root of trust that signs")

    def _digests(self) -> list[bytes]:
        try:
            digests = [bytes.fromhex(line) for line in self._path.read_text("ascii").splitlines()]
        except OSError as error:
            raise MissingComponent(f"{self._path}: {error.strerror}; give a file that can be read") from error
        except ValueError as error:
            raise self._malformed() from error
        if any(len(digest) != SHA256.size for digest in digests):
            raise self._malformed()
        return digests

    def _malformed(self) -> MalformedInput:
        expected = "lines of 64 hexadecimal digits"
        return MalformedInput(str(self._path), offset=0, expected=expected, found="something else")

    def _write(self, data: bytes) -> None:
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(data)
        except OSError as error:
            raise MissingComponent(f"{self._path}: {error.strerror}; give a file that can be written") from error


def _make(argument: str) -> Notebook:
    if not argument:
        raise UsageError("name the notebook's file: notebook:FILE")
    return Notebook(Path(argument))


DRIVER = Driver("notebook", "an example: a file of extends, which proves nothing", _make, automatic=False)
