"""Elliptic-curve public keys as tokens and their users write them: points, COSE keys and JSON Web Keys.

RFC 9053, section 7.1 (COSE_Key); RFC 7518, section 6.2 (JWK); SEC 1, section 2.3.3 (uncompressed points). Whether
the coordinates are a point of the curve is for whoever makes a key of them.
"""

import base64
import binascii
import enum
import json
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.cca.cbor import decode_cbor

__all__ = ["Curve", "EcPoint", "parse_cose_key", "parse_jwk", "parse_point"]

MAX_JWK = 16384
"""Largest JSON Web Key accepted, in bytes."""

UNCOMPRESSED = 4
"""The first byte of an uncompressed point."""

_KTY, _CRV, _X, _Y, _D = 1, -1, -2, -3, -4
_EC2 = 2


class Curve(enum.Enum):
    """The curves imarium knows, by their names in JWK."""

    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"

    @property
    def size(self) -> int:
        """The bytes of a coordinate."""
        return {Curve.P256: 32, Curve.P384: 48, Curve.P521: 66}[self]


_COSE_CURVES = {1: Curve.P256, 2: Curve.P384, 3: Curve.P521}


@dataclass(frozen=True, slots=True)
class EcPoint:
    """A public key; ``x`` and ``y`` are big-endian and have the curve's size."""

    curve: Curve
    x: bytes
    y: bytes


def parse_point(data: bytes) -> EcPoint:
    """The uncompressed point that ``data`` is; its length tells the curve. Raises MalformedInput."""
    for curve in Curve:
        if len(data) == 1 + 2 * curve.size and data[0] == UNCOMPRESSED:
            return EcPoint(curve, data[1 : 1 + curve.size], data[1 + curve.size :])
    expected = "an uncompressed point of P-256, P-384 or P-521"
    raise _malformed("EC public key", expected, f"{len(data)} bytes, the first {data[:1].hex() or 'missing'}")


def parse_cose_key(data: bytes) -> EcPoint:
    """The COSE_Key of type EC2 that ``data`` is. Raises MalformedInput, also for a private key."""
    key = decode_cbor(data, "COSE_Key")
    if not isinstance(key, dict) or key.get(_KTY) != _EC2:
        raise _malformed("COSE_Key", "a map of key type EC2", "something else")
    if _D in key:
        raise _malformed("COSE_Key", "a public key", "a private key")
    identifier, x, y = key.get(_CRV), key.get(_X), key.get(_Y)
    curve = _COSE_CURVES.get(identifier) if isinstance(identifier, int) else None
    if curve is None or not isinstance(x, bytes) or not isinstance(y, bytes):
        raise _malformed("COSE_Key", "P-256, P-384 or P-521 and both coordinates", "something else")
    return _point("COSE_Key", curve, x, y)


def parse_jwk(text: bytes) -> EcPoint:
    """The JSON Web Key of type EC that ``text`` is. Raises MalformedInput, also for a private key."""
    if len(text) > MAX_JWK:
        raise _malformed("JWK", f"at most {MAX_JWK} bytes", f"{len(text)}")
    try:
        key: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed("JWK", "JSON", " ".join(str(error).split())[:80]) from error
    if not isinstance(key, dict) or key.get("kty") != "EC":
        raise _malformed("JWK", 'an object with "kty": "EC"', "something else")
    if "d" in key:
        raise _malformed("JWK", "a public key", "a private key")
    try:
        curve = Curve(key.get("crv"))
    except ValueError:
        raise _malformed("JWK", "P-256, P-384 or P-521 as crv", repr(key.get("crv"))[:40]) from None
    return _point("JWK", curve, _base64url(key.get("x"), "x"), _base64url(key.get("y"), "y"))


def _base64url(value: object, name: str) -> bytes:
    if not isinstance(value, str) or "=" in value:
        raise _malformed("JWK", f"base64url without padding as {name}", repr(value)[:40])
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("JWK", f"base64url as {name}", repr(value)[:40]) from error


def _point(what: str, curve: Curve, x: bytes, y: bytes) -> EcPoint:
    if len(x) != curve.size or len(y) != curve.size:
        raise _malformed(what, f"coordinates of {curve.size} bytes", f"{len(x)} and {len(y)}")
    return EcPoint(curve, x, y)


def _malformed(what: str, expected: str, found: str) -> MalformedInput:
    return MalformedInput(what, offset=0, expected=expected, found=found)
