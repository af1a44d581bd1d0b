"""CCA tokens: a platform token and a realm token in one collection; old VirtCCA has the realm token alone.

Realm Management Monitor specification (DEN0137), section A7.2.1. Parsing gives claims, nothing more: see
:mod:`imarium.verifier.cca`.
"""

from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.cca.cbor import CborValue, Tagged, decode_cbor
from imarium.formats.cca.claims import PlatformClaims, RealmClaims, platform_claims, realm_claims
from imarium.formats.cca.cose import Sign1, parse_sign1

__all__ = ["MAX_TOKEN", "CcaToken", "PlatformToken", "RealmToken", "parse_cca_token"]

MAX_TOKEN = 16384
"""Largest token accepted, in bytes: four times what VirtCCA provides for."""

_COLLECTION_TAG = 399
_PLATFORM, _REALM = 44234, 44241


@dataclass(frozen=True, slots=True)
class RealmToken:
    """The realm's part. ``wrapped`` tells that the payload is a byte string in CBOR around the claims."""

    envelope: Sign1
    claims: RealmClaims
    wrapped: bool


@dataclass(frozen=True, slots=True)
class PlatformToken:
    """The platform's part."""

    envelope: Sign1
    claims: PlatformClaims


@dataclass(frozen=True, slots=True)
class CcaToken:
    """A token. ``platform`` is None in the old form of VirtCCA."""

    realm: RealmToken
    platform: PlatformToken | None


def parse_cca_token(data: bytes) -> CcaToken:
    """The token that ``data`` is, to the last byte. Raises MalformedInput."""
    if len(data) > MAX_TOKEN:
        raise _malformed(f"at most {MAX_TOKEN} bytes", f"{len(data)}")
    collection = decode_cbor(data, "CCA token", tags=frozenset({_COLLECTION_TAG}))
    if not isinstance(collection, Tagged) or not isinstance(collection.value, dict):
        raise _malformed(f"tag {_COLLECTION_TAG} over a map", "something else")
    parts = collection.value
    if unknown := parts.keys() - {_PLATFORM, _REALM}:
        raise _malformed(f"a platform token ({_PLATFORM}) and a realm token ({_REALM})", f"{len(unknown)} others")
    return CcaToken(_realm(parts.get(_REALM)), _platform(parts[_PLATFORM]) if _PLATFORM in parts else None)


def _realm(value: CborValue) -> RealmToken:
    if not isinstance(value, bytes):
        raise _malformed(f"a realm token ({_REALM}) in a byte string", "none")
    envelope = parse_sign1(value, "CCA realm token")
    payload = decode_cbor(envelope.payload, "CCA realm claims")
    wrapped = isinstance(payload, bytes)
    if isinstance(payload, bytes):
        payload = decode_cbor(payload, "CCA realm claims")
    return RealmToken(envelope, realm_claims(payload), wrapped)


def _platform(value: CborValue) -> PlatformToken:
    if not isinstance(value, bytes):
        raise _malformed(f"a platform token ({_PLATFORM}) in a byte string", "something else")
    envelope = parse_sign1(value, "CCA platform token")
    return PlatformToken(envelope, platform_claims(decode_cbor(envelope.payload, "CCA platform claims")))


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("CCA token", offset=0, expected=expected, found=found)
