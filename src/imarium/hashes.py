"""Hash algorithms by their kernel name and their TCG identifier.

The names are those of the kernel's ``hash_algo_name[]``; the identifiers are the ``TPM_ALG_ID`` values of the TCG
Algorithm Registry, section 5.2. An algorithm the kernel has no name for is called ``tpm_alg_%x``.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from imarium.errors import MissingComponent, UsageError

__all__ = ["ALGORITHMS", "SHA1", "SHA256", "SHA384", "SHA512", "SM3", "HashAlgorithm", "by_name", "by_tcg_id"]


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


@cache
def _constructor(name: str) -> Callable[[bytes], _Hash]:
    try:
        plain: Callable[[bytes], _Hash] = getattr(hashlib, name)
        plain(b"")
    except (AttributeError, ValueError):
        plain = partial(hashlib.new, name, usedforsecurity=False)
    try:
        plain(b"")
    except ValueError:
        raise MissingComponent(f"this machine's OpenSSL cannot compute {name} digests") from None
    return plain


@dataclass(frozen=True, slots=True)
class HashAlgorithm:
    """One hash algorithm. ``size`` is that of its digest, in bytes; ``tcg_id`` is 0 where the TCG has none."""

    name: str
    tcg_id: int
    size: int

    def digest(self, data: bytes) -> bytes:
        """The digest of ``data``. Raises MissingComponent if this machine's OpenSSL cannot compute it."""
        return self.constructor()(data).digest()

    def constructor(self) -> Callable[[bytes], _Hash]:
        """What makes a hash object of some bytes, for loops that hash a great deal. Raises MissingComponent.

        These hashes are compared with registers, whose algorithm is not ours to choose: hence SHA-1 also where a
        policy keeps it from security use.
        """
        return _constructor(_HASHLIB_NAMES.get(self.name, self.name))

    @property
    def computable(self) -> bool:
        """Whether this machine's OpenSSL offers the algorithm."""
        try:
            self.digest(b"")
        except MissingComponent:
            return False
        return True


SHA1 = HashAlgorithm("sha1", 0x0004, 20)
SHA256 = HashAlgorithm("sha256", 0x000B, 32)
SHA384 = HashAlgorithm("sha384", 0x000C, 48)
SHA512 = HashAlgorithm("sha512", 0x000D, 64)
SM3 = HashAlgorithm("sm3", 0x0012, 32)

ALGORITHMS: tuple[HashAlgorithm, ...] = (
    SHA1,
    SHA256,
    SHA384,
    SHA512,
    SM3,
    HashAlgorithm("sha3-256", 0x0027, 32),
    HashAlgorithm("sha3-384", 0x0028, 48),
    HashAlgorithm("sha3-512", 0x0029, 64),
    HashAlgorithm("md4", 0, 16),
    HashAlgorithm("md5", 0, 16),
    HashAlgorithm("sha224", 0, 28),
    HashAlgorithm("rmd128", 0, 16),
    HashAlgorithm("rmd160", 0, 20),
    HashAlgorithm("rmd256", 0, 32),
    HashAlgorithm("rmd320", 0, 40),
    HashAlgorithm("wp256", 0, 32),
    HashAlgorithm("wp384", 0, 48),
    HashAlgorithm("wp512", 0, 64),
    HashAlgorithm("tgr128", 0, 16),
    HashAlgorithm("tgr160", 0, 20),
    HashAlgorithm("tgr192", 0, 24),
    HashAlgorithm("streebog256", 0, 32),
    HashAlgorithm("streebog512", 0, 64),
)

_HASHLIB_NAMES = {
    "rmd160": "ripemd160",
    "sha3-256": "sha3_256",
    "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
}
_ALIASES = {
    "sm3_256": "sm3",
    "sm3-256": "sm3",
    "sha3_256": "sha3-256",
    "sha3_384": "sha3-384",
    "sha3_512": "sha3-512",
}
_BY_NAME = {algorithm.name: algorithm for algorithm in ALGORITHMS}
_BY_TCG_ID = {algorithm.tcg_id: algorithm for algorithm in ALGORITHMS if algorithm.tcg_id}


def by_name(name: str) -> HashAlgorithm:
    """The algorithm called ``name`` by the kernel, or (``sm3_256``) by the TPM tools. Raises UsageError."""
    folded = name.lower()
    try:
        return _BY_NAME[_ALIASES.get(folded, folded)]
    except KeyError:
        known = ", ".join(algorithm.name for algorithm in ALGORITHMS if algorithm.tcg_id)
        raise UsageError(f"unknown hash algorithm {name!r}; register banks are {known}") from None


def by_tcg_id(identifier: int) -> HashAlgorithm | None:
    """The algorithm with this ``TPM_ALG_ID``, or None where imarium has no name for it."""
    return _BY_TCG_ID.get(identifier)
