"""COSE_Sign1: one payload, one signature. RFC 9052, section 4.2; the algorithms are those of RFC 9053 and RFC 8812.

What the signature covers, the protected header and the payload, is kept as the bytes it arrived as.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.cca.cbor import CborKey, CborValue, Tagged, decode_cbor

__all__ = ["CoseAlgorithm", "Sign1", "parse_sign1"]

_SIGN1_TAG = 18
_ALG, _CRIT = 1, 2
_MEMBERS = 4


class CoseAlgorithm(enum.IntEnum):
    """The signature algorithms imarium knows, by COSE identifier."""

    ES256 = -7
    ES384 = -35
    ES512 = -36
    PS256 = -37
    RS256 = -257


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1. ``protected`` holds the header's bytes without the byte string around them.

    ``headers`` is the protected header read; ``unprotected`` is covered by no signature and nothing uses it.
    """

    protected: bytes
    headers: Mapping[CborKey, CborValue]
    unprotected: Mapping[CborKey, CborValue]
    payload: bytes
    signature: bytes
    algorithm: CoseAlgorithm

    @property
    def to_be_signed(self) -> bytes:
        """The Sig_structure (section 4.4): context, protected header, no external data, payload."""
        parts = (_byte_string(self.protected), _byte_string(b""), _byte_string(self.payload))
        return b"\x84\x6aSignature1" + b"".join(parts)


def parse_sign1(data: bytes, what: str) -> Sign1:
    """The tagged COSE_Sign1 that ``data`` is, to the last byte; ``what`` names it in errors.

    Raises MalformedInput, also for an unknown algorithm, a detached payload, critical headers, and a header that is
    both protected and unprotected.
    """
    value = decode_cbor(data, what, tags=frozenset({_SIGN1_TAG}))
    if not isinstance(value, Tagged) or not isinstance(value.value, list) or len(value.value) != _MEMBERS:
        raise _malformed(what, f"tag {_SIGN1_TAG} over an array of {_MEMBERS}", "something else")
    protected, unprotected, payload, signature = value.value
    if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
        raise _malformed(what, "a byte string and a map as headers", "something else")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise _malformed(what, "byte strings as payload and signature", "something else")
    headers = decode_cbor(protected, f"protected header of {what}")
    if not isinstance(headers, dict):
        raise _malformed(what, "a map as protected header", "something else")
    if _CRIT in headers or _CRIT in unprotected:
        raise _malformed(what, "no critical headers", "some")
    if twice := headers.keys() & unprotected.keys():
        raise _malformed(what, "each header once", f"{len(twice)} both protected and not")
    return Sign1(protected, headers, unprotected, payload, signature, _algorithm(headers, what))


def _algorithm(headers: Mapping[CborKey, CborValue], what: str) -> CoseAlgorithm:
    identifier = headers.get(_ALG)
    for algorithm in CoseAlgorithm:
        if identifier == algorithm:
            return algorithm
    known = ", ".join(algorithm.name for algorithm in CoseAlgorithm)
    raise _malformed(what, f"a protected algorithm out of {known}", repr(identifier)[:40])


def _byte_string(data: bytes) -> bytes:
    size = len(data)
    for code, width in ((24, 1), (25, 2), (26, 4)):
        if size < 24:
            return bytes([0x40 | size]) + data
        if size < 1 << 8 * width:
            return bytes([0x40 | code]) + size.to_bytes(width, "big") + data
    raise MalformedInput("Sig_structure", offset=0, expected="less than 4 GiB", found=f"{size} bytes")


def _malformed(what: str, expected: str, found: str) -> MalformedInput:
    return MalformedInput(what, offset=0, expected=expected, found=found)
