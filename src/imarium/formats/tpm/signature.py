"""TPMT_SIGNATURE. TPM 2.0 Library specification, Part 2, section 11.3.4."""

import enum
from dataclasses import dataclass

from imarium.formats.tpm.cursor import Cursor
from imarium.hashes import HashAlgorithm

__all__ = [
    "MAX_ECC_BYTES",
    "MAX_RSA_BYTES",
    "EcdsaSignature",
    "RsaSignature",
    "Signature",
    "SignatureScheme",
    "parse_signature",
]

MAX_RSA_BYTES = 512
"""MAX_RSA_KEY_BYTES: RSA keys of at most 4096 bits."""

MAX_ECC_BYTES = 66
"""MAX_ECC_KEY_BYTES: P-521 has the longest coordinates."""


class SignatureScheme(enum.IntEnum):
    """The asymmetric signing schemes imarium knows, by TPM_ALG_ID."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018


@dataclass(frozen=True, slots=True)
class RsaSignature:
    """TPMS_SIGNATURE_RSA: RSASSA or RSAPSS; ``value`` is big-endian, as long as the modulus."""

    scheme: SignatureScheme
    hash: HashAlgorithm
    value: bytes


@dataclass(frozen=True, slots=True)
class EcdsaSignature:
    """TPMS_SIGNATURE_ECC for ECDSA; ``r`` and ``s`` are big-endian numbers, with or without leading zeros."""

    hash: HashAlgorithm
    r: bytes
    s: bytes

    @property
    def scheme(self) -> SignatureScheme:
        """Always ECDSA."""
        return SignatureScheme.ECDSA


Signature = RsaSignature | EcdsaSignature


def parse_signature(data: bytes) -> Signature:
    """The TPMT_SIGNATURE that ``data`` is, to the last byte.

    Raises MalformedInput, also for a scheme other than RSASSA, RSAPSS and ECDSA.
    """
    cursor = Cursor(data, "TPMT_SIGNATURE")
    identifier = cursor.u16("sigAlg")
    try:
        scheme = SignatureScheme(identifier)
    except ValueError:
        raise cursor.fail("RSASSA, RSAPSS or ECDSA as sigAlg", f"{identifier:#06x}", at=0) from None
    algorithm = cursor.hash_algorithm("hash")
    signature: Signature
    if scheme is SignatureScheme.ECDSA:
        r = _number(cursor, MAX_ECC_BYTES, "signatureR")
        signature = EcdsaSignature(algorithm, r, _number(cursor, MAX_ECC_BYTES, "signatureS"))
    else:
        signature = RsaSignature(scheme, algorithm, _number(cursor, MAX_RSA_BYTES, "sig"))
    cursor.end()
    return signature


def _number(cursor: Cursor, limit: int, name: str) -> bytes:
    at = cursor.offset
    number = cursor.sized(limit, name)
    if not number:
        raise cursor.fail(f"at least one byte of {name}", "none", at=at)
    return number
