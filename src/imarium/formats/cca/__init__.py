"""Arm CCA and Huawei VirtCCA attestation tokens: bytes to values, bounded and exact, with no device and no I/O.

Parsed values are claims: only :mod:`imarium.verifier.cca` says whether to believe them.
"""

from imarium.formats.cca.cbor import CborKey, CborValue, Tagged, decode_cbor
from imarium.formats.cca.claims import CHALLENGE_SIZE, PlatformClaims, RealmClaims, SoftwareComponent
from imarium.formats.cca.cose import CoseAlgorithm, Sign1, parse_sign1
from imarium.formats.cca.keys import Curve, EcPoint, parse_cose_key, parse_jwk, parse_point
from imarium.formats.cca.registers import (
    PCR_COLUMN_MAP,
    REMS,
    VIRTCCA_MAP,
    RemIndex,
    RemMap,
    SlotIndex,
    rem_of_slot,
    slot_of_rem,
)
from imarium.formats.cca.token import MAX_TOKEN, CcaToken, PlatformToken, RealmToken, parse_cca_token

__all__ = [
    "CHALLENGE_SIZE",
    "MAX_TOKEN",
    "PCR_COLUMN_MAP",
    "REMS",
    "VIRTCCA_MAP",
    "CborKey",
    "CborValue",
    "CcaToken",
    "CoseAlgorithm",
    "Curve",
    "EcPoint",
    "PlatformClaims",
    "PlatformToken",
    "RealmClaims",
    "RealmToken",
    "RemIndex",
    "RemMap",
    "Sign1",
    "SlotIndex",
    "SoftwareComponent",
    "Tagged",
    "decode_cbor",
    "parse_cca_token",
    "parse_cose_key",
    "parse_jwk",
    "parse_point",
    "parse_sign1",
    "rem_of_slot",
    "slot_of_rem",
]
