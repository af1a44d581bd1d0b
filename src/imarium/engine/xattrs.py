"""What a file's security attributes say: which algorithm to measure it with, and the signatures a record carries.

See the kernel's ``security/integrity/integrity.h``: the first byte of ``security.ima`` and ``security.evm`` is a type.
"""

import errno
import os
import struct

from imarium import hashes
from imarium.formats import ByteOrder
from imarium.hashes import HashAlgorithm

__all__ = ["EVM", "IMA", "algorithm_of", "evm_attributes", "evm_signature_field", "read_attribute", "signature_field"]

IMA = "security.ima"
EVM = "security.evm"

_DIGEST = b"\1"
_SIGNATURE = b"\3"
_DIGEST_WITH_ALGORITHM = b"\4"
_PORTABLE_SIGNATURE = b"\5"
_VERITY_SIGNATURE = b"\6"
_SIGNATURE_HEADER = struct.Struct(">BBBIH")
"""Type, version, algorithm, key identifier, length: the kernel's ``signature_v2_hdr``."""

_KERNEL_ORDER = (
    *("md4", "md5", "sha1", "rmd160", "sha256", "sha384", "sha512", "sha224", "rmd128", "rmd256", "rmd320"),
    *("wp256", "wp384", "wp512", "tgr128", "tgr160", "tgr192", "sm3", "streebog256", "streebog512"),
    *("sha3-256", "sha3-384", "sha3-512"),
)
"""Algorithms by their number in attributes (``enum hash_algo``)."""

_PROTECTED = (
    "security.selinux",
    "security.SMACK64",
    "security.SMACK64EXEC",
    "security.SMACK64TRANSMUTE",
    "security.SMACK64MMAP",
    "security.apparmor",
    IMA,
    "security.capability",
)
"""The attributes EVM protects, in its order."""


def read_attribute(descriptor: int, name: str) -> bytes:
    """The value of an extended attribute; empty where the file has none or the file system knows none."""
    try:
        return os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES}:
            return b""
        raise


def algorithm_of(ima: bytes, default: HashAlgorithm) -> HashAlgorithm:
    """The algorithm the value of ``security.ima`` was made with: the file is measured with that one.

    ``default`` where it names none, or one that cannot be computed here.
    """
    number = _algorithm_number(ima)
    if number is None or number >= len(_KERNEL_ORDER):
        return default
    found = hashes.by_name(_KERNEL_ORDER[number])
    return found if found.computable else default


def _algorithm_number(ima: bytes) -> int | None:
    signed = len(ima) > _SIGNATURE_HEADER.size
    kind = ima[:1]
    if kind == _SIGNATURE and signed and ima[1] in {2, 3}:
        return ima[2]
    if kind == _VERITY_SIGNATURE and signed and ima[1] == 3:
        return ima[2]
    if kind == _DIGEST_WITH_ALGORITHM and len(ima) > 1:
        return ima[1]
    if kind == _DIGEST and len(ima) in {17, 21}:  # a bare digest, whose length tells
        return _KERNEL_ORDER.index("sha1" if any(ima[17:]) else "md5")
    return None


def signature_field(ima: bytes, evm: bytes) -> bytes:
    """What the field ``sig`` holds: a signature in ``security.ima``, else a portable one in ``security.evm``."""
    return ima if ima[:1] in {_SIGNATURE, _VERITY_SIGNATURE} else evm_signature_field(evm)


def evm_signature_field(evm: bytes) -> bytes:
    """What the field ``evmsig`` holds: ``security.evm`` where it is a portable signature."""
    return evm if evm[:1] == _PORTABLE_SIGNATURE else b""


def evm_attributes(descriptor: int, order: ByteOrder) -> tuple[bytes, bytes, bytes]:
    """The attributes of a file that EVM protects: names joined by ``|``, a u32 length of each, values in a row."""
    found = [(name, value) for name in _PROTECTED if (value := read_attribute(descriptor, name))]
    names = "|".join(name for name, _ in found).encode()
    lengths = b"".join(len(value).to_bytes(4, order) for _, value in found)
    return names, lengths, b"".join(value for _, value in found)
